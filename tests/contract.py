"""Holds real requests and answers to the vendors' published contracts, where those are at hand.

The environment variable COHORTSYNC_CONTRACTS names the folder of the contract files; `needs_contracts`
marks the tests that are skipped without it.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import requests
from openapi_core import Config, OpenAPI
from openapi_core.contrib.requests import RequestsOpenAPIRequest, RequestsOpenAPIResponse

MAILCHIMP = "mailchimp-marketing.strict.openapi.json"

needs_contracts = pytest.mark.skipif(
    not os.environ.get("COHORTSYNC_CONTRACTS"),
    reason="COHORTSYNC_CONTRACTS does not name the folder of the vendors' contracts",
)


@functools.cache
def load_contract(name: str = MAILCHIMP) -> OpenAPI:
    """A contract by file name, read once a session; checking the contract itself would be slow."""
    path = Path(os.environ["COHORTSYNC_CONTRACTS"]) / name
    problems: dict[str, Callable[[bytes], Any]] = {"application/problem+json": json.loads}
    return OpenAPI.from_file_path(
        str(path), config=Config(spec_validator_cls=None, extra_media_type_deserializers=problems)
    )


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
    assert request_errors(request, name) == [], f"{request.method} {request.path_url}"
    assert response_errors(request, response, name) == [], f"{request.method} {request.path_url}"
