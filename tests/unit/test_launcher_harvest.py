"""Reading of outboxes and the resulting changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from motoko.core.changes import EditRun, PushQuantities
from motoko.core.edits import ApplyOutbox
from motoko.core.records import RunKey
from motoko.core.states import Lifecycle
from motoko.errors import ServerError
from motoko.launcher import attempt_changes, harvest, store_sync
from motoko.launcher.attempt_outcome import AttemptOutcome
from motoko.launcher.attempt_paths import OUTBOX
from motoko.launcher.attempts import Attempt, AttemptEnd, PendingUpdates
from motoko.launcher.claiming import Capacity, Load, ServedQueue
from motoko.launcher.harvest import (
    OutboxUpdate,
    convert_fields,
    drop_oversized_fields,
    failure_before,
    fold_records,
    read_updates,
)
from motoko.storage.launcher_leases import LauncherRegistration
from motoko.storage.session import Session
from motoko.testing.memory import add_run, memory_store, study_config

if TYPE_CHECKING:
    from motoko.core.changes import Change
    from motoko.storage.store import WorkflowStore

pytestmark = pytest.mark.unit

START = b"process 1 - - - - -\n"

KEY = RunKey("a", 1)


def line(op: str, **content: Any) -> bytes:
    return b"\n" + json.dumps({"t": 1.0, "op": op, **content}).encode() + b"\n"


def test_the_last_value_of_a_field_counts_and_quantities_keep_order() -> None:
    update = fold_records(
        [
            {"op": "set", "field": "y", "value": 1},
            {"op": "push", "name": "e", "step": 2, "value": 0.5},
            {"op": "state", "label": "HALF"},
            {"op": "push", "name": "e", "step": 1, "value": [1, 2]},
            {"op": "set", "field": "y", "value": 2},
            {"op": "start"},
            {"op": "damaged", "line": "x"},
        ],
        100,
    )
    assert update == OutboxUpdate(
        100, {"y": 2}, "HALF", {"e": ((2, 0.5), (1, [1, 2]))}, damaged_lines=("x",)
    )


@pytest.mark.parametrize(
    ("said", "failed", "finished"),
    [
        ([], None, False),
        (["fail"], "no luck", False),
        (["fail", "finish"], None, True),
        (["finish", "fail"], "no luck", False),
    ],
)
def test_the_last_of_finish_and_fail_counts(
    said: list[str], failed: str | None, finished: bool
) -> None:
    update = fold_records([{"op": op, "reason": "no luck"} for op in said], 1)
    assert (update.failure, update.finished) == (failed, finished)


def test_fields_are_converted_to_declared_types_if_possible() -> None:
    given = {"n": 7.0, "m": 1.5, "y": 3, "z": None, "free": None}
    types = {"n": "int", "m": "int", "y": "float", "z": "float", "unset": "str"}
    fields, misfits = convert_fields(given, types, "run a.1")
    assert fields == {"n": 7, "m": 1.5, "y": 3.0, "z": None, "free": None}
    assert [type(fields[name]) for name in ("n", "y")] == [int, float]
    assert misfits == {"m": "run a.1: field 'm' = 1.5 is a float, not of type int"}


def test_a_failure_without_a_reason_gets_a_default() -> None:
    assert (
        fold_records([{"op": "fail", "reason": ""}], 1).failure == "its script reported a failure"
    )


def test_the_offset_advances_after_the_quantities() -> None:
    update = OutboxUpdate(9, {"y": 1}, "OK", {"e": ((0, 1),), "f": ((0, 2),)})
    assert update.changes(KEY, "token", 5.0) == [
        PushQuantities(KEY, "token", 9, "e", ((0, 1),)),
        PushQuantities(KEY, "token", 9, "f", ((0, 2),)),
        EditRun(KEY, ApplyOutbox("token", 9, 5.0, {"y": 1}, "OK")),
    ]
    assert OutboxUpdate(9).changes(KEY, "token", 5.0) == []


def test_an_outbox_is_read_from_its_offset(tmp_path: Path) -> None:
    box = tmp_path / "outbox"
    assert read_updates(str(box), 0) == OutboxUpdate(0)
    first = line("set", field="y", value=1)
    box.write_bytes(first)
    assert read_updates(str(box), 0) == OutboxUpdate(len(first), {"y": 1})
    second = line("set", field="z", value=2)
    with box.open("ab") as file:
        file.write(second[:-5])
    # The incomplete record is not read; the blank line before it is.
    assert read_updates(str(box), len(first)) == OutboxUpdate(len(first) + 1)
    with box.open("ab") as file:
        file.write(second[-5:])
    assert read_updates(str(box), len(first)) == OutboxUpdate(len(first + second), {"z": 2})
    assert read_updates(str(box), len(first + second)) == OutboxUpdate(len(first + second))


def test_a_long_outbox_is_read_in_parts(tmp_path: Path) -> None:
    box = tmp_path / "outbox"
    records = [line("push", name="e", step=n, value=n) for n in range(50)]
    records[20] = line("set", field="long", value="x" * 5000)  # longer than one part
    box.write_bytes(b"".join(records))
    offset, parts = 0, 0
    points: list[tuple[int, Any]] = []
    fields: dict[str, Any] = {}
    while True:
        update = read_updates(str(box), offset, chunk=300)
        points += update.points.get("e", ())
        fields |= update.fields
        parts += 1
        offset = update.end_offset
        if not update.has_more:
            break
    assert [step for step, _ in points] == [n for n in range(50) if n != 20]
    assert fields == {"long": "x" * 5000}
    assert (offset, update.damaged_lines) == (box.stat().st_size, ())
    assert parts > 5


def test_an_oversized_record_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harvest, "MAX_RECORD", 1000)
    monkeypatch.setattr(harvest, "MAX_SEARCH", 4000)
    box = tmp_path / "outbox"
    box.write_bytes(b"y" * 3000 + b"\n" + line("set", field="z", value=3))
    large = read_updates(str(box), 0, chunk=300)
    assert (large.end_offset, large.damaged_lines) == (3001, ("y" * 200,))
    rest = read_updates(str(box), large.end_offset, chunk=300)
    assert (rest.fields, rest.damaged_lines, rest.has_more) == ({"z": 3}, (), False)
    box.write_bytes(b"y" * 9000 + line("set", field="z", value=3))  # its end is not searched for
    endless = read_updates(str(box), 0, chunk=300)
    assert (endless.end_offset, len(endless.damaged_lines)) == (box.stat().st_size, 1)


def test_oversized_fields_are_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harvest, "MAX_FIELD_CHARACTERS", 100)
    known = {"a": "x" * 60, "b": 1}
    said = fold_records([{"op": "set", "field": "c", "value": "y" * 60}], 200)
    found = drop_oversized_fields(said, known)
    assert found.fields == {}
    assert found.damaged_lines == ("field 'c' is too large",)
    assert drop_oversized_fields(said, {"a": "x" * 60, "c": 1}).fields == {}
    assert drop_oversized_fields(said, {"c": "x" * 60}).fields == {"c": "y" * 60}
    assert drop_oversized_fields(
        fold_records([{"op": "set", "field": "c", "value": 1}], 200), known
    ).fields == {"c": 1}


def test_the_size_of_a_commit_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt_changes, "MAX_COMMIT_BYTES", 500)
    sync, left, store = claimed(tmp_path, 3)
    for attempt in left:
        attempt.paths.file(OUTBOX).write_bytes(START + line("set", field="y", value="z" * 600))
    rounds = []
    while left:
        result = sync.sync_once(PendingUpdates([AttemptEnd(a, 0, 1.0) for a in left]))
        rounds.append(len(left) - len(result.unfinished))
        left = list(result.unfinished)
    assert rounds == [1, 1, 1]
    sync.session.refresh()
    runs = sync.session.tables.study("a").records([1, 2, 3])
    assert [(run.state, run.fields) for run in runs] == [("FINISHED", {"y": "z" * 600})] * 3
    sync.close()
    store.close()


def test_a_start_a_result_and_an_end_in_one_commit_are_all_recorded(tmp_path: Path) -> None:
    sync, left, store = claimed(tmp_path, 2)
    for attempt in left:
        attempt.started_at = 0.5
        said = line("push", name="e", step=1, value=2), line("set", field="y", value=attempt.key.id)
        attempt.paths.file(OUTBOX).write_bytes(START + b"".join(said))
    sync.sync_once(PendingUpdates([AttemptEnd(a, 0, 1.0) for a in left]))
    sync.session.refresh()
    for run in sync.session.tables.study("a").records([1, 2]):
        history = [(entry.state, entry.time) for entry in run.history[-2:]]
        assert history == [("START", 0.5), ("FINISHED", 1.0)]
        assert run.fields == {"y": run.id}
        assert sync.session.tables.study("a").quantity(run.id, "e") == [(1, 2)]
    sync.close()
    store.close()


def test_a_start_a_result_and_an_end_in_one_commit_are_one_edit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, left, store = claimed(tmp_path, 2)
    for attempt in left:
        attempt.started_at = 0.5
        attempt.paths.file(OUTBOX).write_bytes(START + line("set", field="y", value=1))
    edited: list[RunKey] = []
    add = Session.add

    def recording(session: Session, change: Change) -> None:
        if isinstance(change, EditRun):
            edited.append(change.key)
        add(session, change)

    monkeypatch.setattr(Session, "add", recording)
    sync.sync_once(PendingUpdates([AttemptEnd(a, 0, 1.0) for a in left]))
    assert sorted(edited) == [RunKey("a", 1), RunKey("a", 2)]
    sync.close()
    store.close()


def test_a_cancelled_attempt_ends_before_its_outbox_is_fully_read(tmp_path: Path) -> None:
    sync, (attempt,), store = claimed(tmp_path, 1)
    attempt.stop_reason = Lifecycle.CANCELLED
    said = line("set", field="y", value=1)
    attempt.paths.file(OUTBOX).write_bytes(START + said * (2 * harvest.CHUNK_BYTES // len(said)))
    result = sync.sync_once(PendingUpdates([AttemptEnd(attempt, 143, 1.0)]))
    assert result.unfinished == ()
    sync.session.refresh()
    run = sync.session.tables.study("a").run(1)
    assert (run.state, run.fields) == ("CANCELLED", {"y": 1})
    assert run.reason == "cancelled on request; its outbox was not read completely"
    sync.close()
    store.close()


@pytest.mark.parametrize(
    "end",
    [{"status": 0}, {"status": 1}, {"status": None}, {"status": 0, "fault": "it is missing"},
     {"status": None, "outcome": AttemptOutcome(Lifecycle.FAILED, None, "it cannot be started")}],
)  # fmt: skip
def test_no_end_is_recorded_after_a_move(tmp_path: Path, end: dict[str, Any]) -> None:
    (tmp_path / "w" / ".wf").mkdir(parents=True)
    sync, (attempt,), store = claimed(tmp_path / "w", 1)
    (tmp_path / "w").rename(tmp_path / "moved")
    updates = PendingUpdates([AttemptEnd(attempt, time=1.0, **end)])
    with pytest.raises(ServerError, match="it was moved or removed"):
        sync.sync_once(updates)
    sync.session.refresh()
    assert sync.session.tables.study("a").run(1).lifecycle is Lifecycle.SUBMITTED
    # A launcher that cannot start an attempt may still requeue it.
    sync.sync_once(PendingUpdates(requeued=[(attempt, "a move", 0.0)]))
    sync.session.refresh()
    assert sync.session.tables.study("a").run(1).lifecycle is Lifecycle.CREATED
    sync.close()
    store.close()


def claimed(tmp_path: Path, runs: int) -> tuple[store_sync.StoreSync, list[Attempt], WorkflowStore]:
    """Return a launcher's session, and claimed attempts with directories."""
    store = memory_store(
        {"a": study_config("a", {"x": "int"}, directory=tmp_path)}, directory=tmp_path
    )
    me = LauncherRegistration.here(
        0.0,
        generator="bash",
        studies=("a",),
        machines=("localhost",),
        lease=30.0,
        rng=store.runtime.rng,
    )
    served = ServedQueue(frozenset({"bash"}), frozenset({"localhost"}))
    sync = store_sync.StoreSync(store, me, served, {"bash": Capacity(9)}, {"a": {}})
    session = Session(store.database)
    for x in range(runs):
        add_run(session, "a", {"x": x})
    session.commit()
    session.close()
    sync.open()
    left = list(sync.sync_once(PendingUpdates(), loads={"bash": Load()}).claimed)
    for attempt in left:
        Path(attempt.paths.run_directory).mkdir(parents=True)
    return sync, left, store


def test_an_earlier_failure_is_reread(tmp_path: Path) -> None:
    box = tmp_path / "outbox"
    first, second = line("fail", reason="no luck"), line("finish")
    box.write_bytes(first + second)
    assert failure_before(str(box), 0) is None
    assert failure_before(str(box), len(first)) == "no luck"
    assert failure_before(str(box), len(first + second)) is None
