"""The check that sweeps hold what passed to Mailchimp's contract with: it fails on what does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import contract
import pytest
import trials

pytestmark = contract.needs_contracts
MEMBER = {"email_address": "ann@shop.example", "status_if_new": "subscribed", "tags": ["mixpanel_a"]}


def passed(*members: dict[str, Any], status: int = 200, **answered: Any) -> dict[str, Any]:
    """A batch subscribe as the local Mailchimp records it."""
    answer = {"new_members": [], "updated_members": [], "errors": [], "total_created": 0, "total_updated": 0,
              "error_count": 0, **answered}
    return {"method": "POST", "path": "/3.0/lists/1a2b3c4d5e", "query": "skip_merge_validation=true", "status": status,
            "body": json.dumps({"members": members, "update_existing": False}), "type": "application/json",
            "answer": json.dumps(answer)}


def test_what_fits_passes() -> None:
    contract.check_recorded(passed(MEMBER))


@pytest.mark.parametrize("line", [
    passed(MEMBER | {"status_if_new": "gone"}), passed(MEMBER | {"tags": "mixpanel_a"}),
    passed(MEMBER, total_created="many"), passed(MEMBER, errors=[{"error_code": "ERROR_NEVER_HEARD_OF"}]),
    passed(MEMBER, status=418), passed(MEMBER) | {"path": "/3.0/lists/1a2b3c4d5e/people"}])
def test_what_does_not_fit_fails_however_often_its_like_has_passed(line: dict[str, Any]) -> None:
    for _ in range(contract.ENOUGH + 1):
        contract.check_recorded(passed(MEMBER))
    with pytest.raises(Exception, match=line["path"]):
        contract.check_recorded(line)


def test_one_misfit_among_what_passed_fails_the_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in trials.FAST.items():
        monkeypatch.setenv(f"COHORTSYNC_{name}", value)
    with trials.opened(tmp_path, (2,)) as place:
        trials.Trial(place, 1, 2).sync_until_done()
        place.check_contract()
        trials.Trial(place, 2, 2).sync_until_done()
        with (place.folder / "exchanges.ndjson").open("a") as kept:
            kept.write(json.dumps(passed(MEMBER, total_created="many")) + "\n")
        with pytest.raises(AssertionError, match="200"):
            place.check_contract()
