"""Claims of a launcher; evidence and outcomes of attempts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from motoko.core.records import RunRecord
from motoko.core.run_options import RunOptions
from motoko.core.states import Lifecycle
from motoko.launcher.attempt_outcome import (
    AttemptOutcome,
    Evidence,
    Finding,
    judge,
    outcome_of_exit,
)
from motoko.launcher.claiming import Capacity, ClaimPlan, Load, ServedQueue, choose_claims

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.unit

NOW = 1000.0


def created(study: str, *ids: int, **options: Any) -> tuple[str, list[RunRecord]]:
    records = [RunRecord(study, n, n, "name", b"", {}, **options) for n in ids]
    return study, records


def claimed(plan: ClaimPlan) -> list[str]:
    return [str(record.key) for record, _ in plan.claims]


def decide(
    *queues: tuple[str, list[RunRecord]],
    slots: int = 4,
    load: Load | None = None,
    **capacity: Any,
) -> ClaimPlan:
    def options_of(record: RunRecord) -> RunOptions | None:
        options = RunOptions.resolve({}, record.options)
        return options if options.machine_name is None else None

    return choose_claims(queues, options_of, Capacity(slots, **capacity), load or Load(), NOW)


def test_free_slots_are_filled_in_the_order_of_ids() -> None:
    assert claimed(decide(created("a", 3, 5, 7), slots=2)) == ["a.3", "a.5"]


def test_used_slots_are_not_claimed() -> None:
    load = Load(used_slots=3, runs_by_study={"a": 3})
    assert claimed(decide(created("a", 1, 2), load=load)) == ["a.1"]
    assert claimed(decide(created("a", 1, 2), load=Load(used_slots=4))) == []


def test_studies_are_claimed_in_turn() -> None:
    queues = created("a", 1, 2, 3, 4, 5), created("b", 1, 2)
    assert claimed(decide(*queues, slots=6)) == ["a.1", "b.1", "a.2", "b.2", "a.3", "a.4"]


def test_a_full_study_does_not_block_others() -> None:
    queues = created("a", 1, 2, 3), created("b", 1, 2, 3)
    plan = decide(*queues, per_study={"a": 2}, load=Load(used_slots=1, runs_by_study={"a": 1}))
    assert claimed(plan) == ["a.1", "b.1", "b.2"]


def test_runs_of_other_launchers_are_skipped() -> None:
    elsewhere = created("a", 1, options={"machine_name": "elsewhere"})[1]
    plan = decide(("a", elsewhere + created("a", 2)[1]), slots=1)
    assert claimed(plan) == ["a.2"]


def test_delayed_runs_set_the_next_wakeup() -> None:
    _, later = created("a", 1, not_before=NOW + 5)
    _, sooner = created("a", 2, not_before=NOW + 2)
    _, due = created("a", 3, not_before=NOW)
    plan = decide(("a", [*later, *sooner, *due]))
    assert claimed(plan) == ["a.3"]
    assert plan.next_wakeup == NOW + 2


def test_a_large_run_is_not_overtaken_forever() -> None:
    large = created("a", 1, options={"nproc": 3})[1]
    queue = "a", large + created("a", 2)[1]
    assert claimed(decide(queue, load=Load(used_slots=2))) == []
    assert claimed(decide(queue, load=Load(used_slots=1))) == ["a.1"]


def test_a_run_larger_than_all_slots_runs_alone() -> None:
    queue = created("a", 1, 2, options={"nproc": 9})
    assert claimed(decide(queue)) == ["a.1"]
    assert claimed(decide(queue, load=Load(used_slots=1))) == []


@pytest.mark.parametrize(
    ("most", "lately", "waiting", "number"),
    [(0, 9, 0, 0), (3, 9, 0, 3), (3, 9, 2, 1), (3, 1, 0, 1), (3, 0, 0, 0)],
)
def test_short_runs_are_claimed_ahead(most: int, lately: int, waiting: int, number: int) -> None:
    load = Load(used_slots=4 + waiting, waiting=waiting, recently_ended=lately)
    plan = decide(created("a", *range(1, 10)), max_ahead=most, load=load)
    assert len(plan.claims) == number


def test_the_queue_is_read_only_as_far_as_needed() -> None:
    read: list[int] = []

    def queue() -> Iterator[RunRecord]:
        for record in created("a", *range(1, 100))[1]:
            read.append(record.id)
            yield record

    choose_claims([("a", queue())], lambda record: RunOptions(), Capacity(2), Load(), NOW)
    assert len(read) == 3


def test_options_of_the_run_override_others() -> None:
    study = {"nproc": 2, "retries": 1, "timeout": 10.0, "bash_options": ("-e",)}
    options = RunOptions.resolve(study, {"nproc": 4, "timeout": 2.5, "machine_name": "here"})
    assert options == RunOptions("here", 4, 2.5, 1, 0.0, "bash", ("-e",))
    assert RunOptions.resolve({}, {}) == RunOptions()


@pytest.mark.parametrize(
    ("options", "served"),
    [
        (RunOptions(), True),
        (RunOptions(machine_name="localhost"), True),
        (RunOptions(machine_name="other"), False),
        (RunOptions(generator="slurm"), False),
    ],
)
def test_a_queue_serves_its_generators_and_machines(options: RunOptions, served: bool) -> None:
    assert (
        ServedQueue(frozenset({"bash"}), frozenset({"localhost", "me"})).serves(options) is served
    )


# -- evidence ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "known", "expected"),
    [
        (0, {}, AttemptOutcome(Lifecycle.FINISHED, 0)),
        (0, {"failed": "oh"}, AttemptOutcome(Lifecycle.FAILED, 0, "oh")),
        (3, {}, AttemptOutcome(Lifecycle.FAILED, 3, "exit code 3")),
        (3, {"failed": "oh"}, AttemptOutcome(Lifecycle.FAILED, 3, "oh")),
        (
            3,
            {"fault": "x is a FIFO"},
            AttemptOutcome(
                Lifecycle.FAILED, 3, "exit code 3; its results cannot be read: x is a FIFO"
            ),
        ),
        (128, {}, AttemptOutcome(Lifecycle.FAILED, 128, "exit code 128")),
        (137, {}, AttemptOutcome(Lifecycle.FAILED, -9, "killed by SIGKILL")),
        (192, {}, AttemptOutcome(Lifecycle.FAILED, -64, "killed by SIGRTMAX")),
        (193, {}, AttemptOutcome(Lifecycle.FAILED, 193, "exit code 193")),
        (255, {}, AttemptOutcome(Lifecycle.FAILED, 255, "exit code 255")),
        (
            None,
            {},
            AttemptOutcome(Lifecycle.LOST, None, "its process ended without an exit record"),
        ),
        (
            143,
            {"stopped": Lifecycle.TIMEOUT, "timeout": 90.0},
            AttemptOutcome(Lifecycle.TIMEOUT, -15, "it ran longer than its timeout of 90 s"),
        ),
        (
            None,
            {"stopped": Lifecycle.CANCELLED, "failed": "oh"},
            AttemptOutcome(Lifecycle.CANCELLED, None, "cancelled on request"),
        ),
    ],
)
def test_outcome_of_an_exit(
    status: int | None, known: dict[str, Any], expected: AttemptOutcome
) -> None:
    assert outcome_of_exit(status, **known) == expected


@pytest.mark.parametrize(
    ("evidence", "finding"),
    [
        (Evidence(), Finding.NEVER_STARTED),
        (Evidence(started=True), Finding.UNCLEAR),
        (Evidence(started=True, reclaimed=True), Finding.RECLAIMED),
        (Evidence(started=True, process_known=True), Finding.LOST),
        (Evidence(started=True, process_known=True, alive=True), Finding.RUNNING),
    ],
)
def test_findings_from_evidence(evidence: Evidence, finding: Finding) -> None:
    assert judge(evidence) is finding
    # An exit record counts once the process has exited.
    ended = Finding.RUNNING if evidence.alive else Finding.ENDED
    assert judge(replace(evidence, status=0)) is ended
