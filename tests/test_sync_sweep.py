"""Many syncs and undos under faults, and killed anywhere: nobody lost, nobody twice, no status changed.

`make sweep` runs all of them; a seed that fails is named, and alone it fails again:
`make sweep ARGS="tests/test_sync_sweep.py -k seed17"`.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import pytest
import trials
from trials import Place, Trial

from cohortsync.emails import member_hash
from cohortsync.errors import BadInput

pytestmark = pytest.mark.timeout(900)
SYNCS, AT_ONCE = 1000, 4  # seeded syncs, and how many of them are one test
UNDONE = 0.3  # the share of them that is taken back before the next
SAMPLE = (0, 77)  # of those tests, the ones that always run


def some(numbers: range, always: tuple[int, ...]) -> list[object]:
    mark = pytest.mark
    return [pytest.param(number, id=f"seed{number}", marks=mark.sample if number in always else mark.sweep)
            for number in numbers]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with trials.opened(tmp_path_factory.mktemp("place")) as place:
        yield place


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in trials.FAST.items():
        monkeypatch.setenv(f"COHORTSYNC_{name}", value)


@pytest.mark.parametrize("number", some(range(SYNCS // AT_ONCE), SAMPLE))
def test_syncs_under_faults_converge(place: Place, number: int) -> None:
    for seed in range(number * AT_ONCE, (number + 1) * AT_ONCE, 2):
        trial = Trial(place, seed)
        for _ in range(2):  # the first export, and one after people edited the segment by hand
            place.set(faults="all", fault_rate=trial.chance.choice([0.05, 0.15, 0.3]), fault_seed=seed,
                      refused_share=trial.chance.choice([0, 0, 0.1]))
            receipt = trial.sync_until_done()
            if receipt["segment_id"] and trial.chance.random() < UNDONE:
                trial.undo_until_done(receipt["run_id"])
            place.set(fault_rate=0)
            receipt = trial.sync_until_done()
            trial.assert_converged(receipt)
            trial.edit_by_hand(receipt["segment_id"])
    place.check_contract()


def test_a_run_that_made_no_segment_has_nothing_to_undo(place: Place) -> None:
    trial = Trial(place, 198)  # its one person has bounced
    receipt = trial.sync_until_done()
    assert (receipt["refusals"], receipt["segment_id"]) == ({"cleaned": 1}, None)
    with pytest.raises(BadInput, match="put nobody on a segment and took nobody off: nothing to undo"):
        trial.undo(receipt["run_id"])


# killed anywhere

KILLS, UNDO_KILLS, CONSENT_KILLS = 200, 50, 20
PAST = 21  # the seed of the audience to which every killed sync goes


@dataclass(frozen=True)
class Undisturbed:
    """How a sync of the same cohort to the same audience ends when nothing happens to it, and how long it takes."""

    seconds: float
    members: dict[str, str]
    on_segment: dict[str, str]


@pytest.fixture(scope="module")
def undisturbed(place: Place) -> Undisturbed:
    trial = Trial(place, PAST, size=1100)
    seconds = trial.killed_at(None)
    receipt = trial.sync_until_done()
    return Undisturbed(seconds, trial.members(), trial.on_segment(receipt["segment_id"]))


@pytest.mark.parametrize("number", some(range(KILLS), (50, 101)))
def test_a_sync_killed_anywhere_is_finished_by_the_next(place: Place, undisturbed: Undisturbed, number: int) -> None:
    trial, chance = Trial(place, PAST, size=1100), random.Random(number)
    for _ in range(1 + number % 2):  # every other one is killed once more while it takes up where it was
        trial.killed_at(chance.uniform(0, 1.05) * undisturbed.seconds)
    receipt = trial.sync_until_done()
    trial.assert_converged(receipt)
    assert trial.members() == undisturbed.members
    assert trial.on_segment(receipt["segment_id"]) == undisturbed.on_segment
    place.check_contract()


@pytest.mark.parametrize("number", some(range(CONSENT_KILLS), (3,)))
def test_who_takes_their_consent_back_after_a_kill_is_off_the_segment_with_the_next(
        place: Place, undisturbed: Undisturbed, number: int) -> None:
    trial, chance = Trial(place, number, size=160, asks=True), random.Random(number)
    agree(trial, range(120))
    trial.sync_until_done()
    agree(trial, range(40, 160))
    trial.killed_at(chance.uniform(0.3, 1) * undisturbed.seconds)
    agree(trial, chance.sample(range(160), 100))
    trial.assert_converged(trial.sync_until_done())
    place.check_contract()


def agree(trial: Trial, people: Collection[int]) -> None:
    """Who of the trial's cohort consents from now on; nobody else does."""
    everyone = {n: n for n in range(max(trials.SIZES))}
    trial.place.workspace.load(profiles=[trials.profiles_file(trial.place.folder, everyone, set(people))])
    trial.agreed = {member_hash(trials.at(n)) for n in people}


@pytest.fixture(scope="module")
def leaving(place: Place) -> Trial:
    """A trial whose next sync puts people back on the segment and takes others off it."""
    trial = Trial(place, PAST, size=1100, strangers=300)
    trial.edit_by_hand(trial.sync_until_done()["segment_id"])
    return trial


@pytest.fixture(scope="module")
def taken_back(leaving: Trial) -> Undisturbed:
    """How an undo of that sync ends when nothing happens to it: whoever can be mailed is where they were before."""
    before = leaving.on_segment(leaving.receipts[-1]["segment_id"])
    run = leaving.sync_until_done()
    assert run["added"] > 100 and run["removed"] > 100
    seconds = leaving.killed_at(None, undoing=run["run_id"])
    after = leaving.on_segment(run["segment_id"])
    assert mailable(after) == mailable(before)
    return Undisturbed(seconds, leaving.members(), after)


def mailable(people: dict[str, str]) -> set[str]:
    return {key for key, status in people.items() if status not in trials.UNREACHABLE}


@pytest.mark.parametrize("number", some(range(UNDO_KILLS), (7,)))
def test_an_undo_killed_anywhere_is_finished_by_the_next(place: Place, leaving: Trial, taken_back: Undisturbed,
                                                         number: int) -> None:
    run, chance = leaving.sync_until_done(), random.Random(number)
    for _ in range(1 + number % 2):
        leaving.killed_at(chance.uniform(0, 1.05) * taken_back.seconds, undoing=run["run_id"])
    receipt = leaving.undo_until_done(run["run_id"])
    assert receipt["accounted"] == receipt["size"]
    assert leaving.members() == taken_back.members
    assert leaving.on_segment(run["segment_id"]) == taken_back.on_segment
    place.check_contract()
