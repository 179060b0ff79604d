"""Holds real requests and answers to the vendors' published contracts, where those are at hand.

The environment variable COHORTSYNC_CONTRACTS names the folder of the contract files; `needs_contracts`
marks the tests that are skipped without it.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
import requests
import yaml
from openapi_core import Config, OpenAPI
from openapi_core.contrib.requests import RequestsOpenAPIRequest, RequestsOpenAPIResponse

MAILCHIMP = "mailchimp-marketing.strict.openapi.json"
# Mixpanel's contracts, and where a local server has each of its APIs.
MIXPANEL = {"query.openapi.yaml": "/api/query", "export.openapi.yaml": "/api/2.0", "ingestion.openapi.yaml": "/",
            "service-accounts.openapi.yaml": "/api/app"}  # fmt: skip

needs_contracts = pytest.mark.skipif(
    not os.environ.get("COHORTSYNC_CONTRACTS"),
    reason="COHORTSYNC_CONTRACTS does not name the folder of the vendors' contracts",
)


@functools.cache
def load_contract(name: str = MAILCHIMP) -> OpenAPI:
    """A contract by file name, read once a session; checking the contract itself would be slow."""
    path = Path(os.environ["COHORTSYNC_CONTRACTS"]) / name
    problems: dict[str, Callable[..., Any]] = {"application/problem+json": json.loads}
    if name == "ingestion.openapi.yaml":
        problems["text/plain"] = lambda text, **_: json.loads(text)  # 1 or 0
    config = Config(spec_validator_cls=None, extra_media_type_deserializers=problems)
    if name in MIXPANEL:
        return OpenAPI.from_dict(mixpanel_contract(path), config=config)
    return OpenAPI.from_dict(json.loads(path.read_text(encoding="utf-8")), config=config)  # as YAML it takes seconds


def mixpanel_contract(path: Path) -> dict[str, Any]:
    """One of Mixpanel's contracts as it holds for one local server.

    Its one slip is mended: it calls `$distinct_id` a number. Of the operations on one path, which it tells apart by
    what follows a `#`, the first is taken.
    """
    text = re.sub(r"(\$distinct_id:\s+type:) integer", r"\1 string", path.read_text(encoding="utf-8"))
    contract: dict[str, Any] = yaml.safe_load(text)
    contract["servers"] = [{"url": MIXPANEL[path.name]}]
    paths: dict[str, Any] = {}
    for written, operations in contract["paths"].items():
        paths.setdefault(written.partition("#")[0], operations)
    return contract | {"paths": paths}


def request_errors(request: requests.PreparedRequest, name: str = MAILCHIMP) -> list[str]:
    """What the contract has against a request."""
    return described(load_contract(name).iter_request_errors(RequestsOpenAPIRequest(request)))


def response_errors(request: requests.PreparedRequest, response: requests.Response, name: str = MAILCHIMP) -> list[str]:
    """What the contract has against an answer to a request."""
    found = load_contract(name).iter_response_errors(RequestsOpenAPIRequest(request), RequestsOpenAPIResponse(response))
    return described(found)


def described(errors: Iterable[Exception]) -> list[str]:
    """Each error with the schema's own words, which openapi-core keeps in the cause."""
    return [
        "; ".join([str(error), *(each.message for each in getattr(error.__cause__, "schema_errors", []))])
        for error in errors
    ]


def check_exchange(request: requests.PreparedRequest, response: requests.Response, name: str = MAILCHIMP) -> None:
    """Fail unless both the request and the answer to it keep to the contract."""
    errors = request_errors(request, name) + response_errors(request, response, name)
    assert errors == [], f"{request.method} {request.path_url} {request.body!r}: {errors}"


SEEN: Counter[str] = Counter()
ENOUGH = 20
WORDS = {"status", "status_if_new", "type", "email_type", "error_code", "fields", "update_existing", "sync_tags",
         "skip_merge_validation", "skip_duplicate_check", "include_cleaned", "include_unsubscribed",
         "include_transactional"}  # fmt: skip


def check_recorded(line: dict[str, Any]) -> None:
    """Fail unless an exchange that the local Mailchimp recorded keeps to the contract.

    Of a long list three members are looked at, and of exchanges of one shape twenty. What does not come as JSON
    comes from in front of Mailchimp, and has no contract; what Mailchimp refuses need not have kept to it.
    """
    if line["answer"] and "json" not in line["type"]:
        return
    body, answer = shortened(line["body"]), shortened(line["answer"])
    path = re.sub("[0-9a-f]{10,}|[0-9]{5,}", "*", line["path"])
    asked = shape(dict(parse_qsl(line["query"]))), shape(body)
    key = f"{line['method']} {path} {line['status']} {asked} {shape(answer)}"
    SEEN[key] += 1
    if SEEN[key] > ENOUGH:
        return
    url = f"http://127.0.0.1{line['path']}?{line['query']}"
    request = requests.Request(line["method"], url, json=body, auth=("any", "key")).prepare()
    response = requests.Response()
    response.status_code, response.headers["Content-Type"] = line["status"], line["type"]
    response._content = json.dumps(answer).encode() if line["answer"] else b""
    said = f"{line['method']} {line['path']} {line['status']}"
    if line["status"] < 400:
        assert request_errors(request) == [], said
    assert response_errors(request, response) == [], said


def shortened(text: str) -> Any:
    """A JSON text's value with at most three members of every list: the first, the middle and the last."""
    def short(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: short(each) for name, each in value.items()}
        if isinstance(value, list):
            return [short(value[n]) for n in sorted({0, len(value) // 2, len(value) - 1})] if value else []
        return value

    return short(json.loads(text)) if text else None


def shape(value: Any) -> str:
    """What a value is made of: names, types, and what it says where that is one of a few words."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{name}:{each if name in WORDS else shape(each)}"
                              for name, each in sorted(value.items())) + "}"
    if isinstance(value, list):
        return "[" + ",".join(sorted({shape(each) for each in value})) + "]"
    return type(value).__name__
