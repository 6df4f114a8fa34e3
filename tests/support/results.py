"""A workflow with results of every kind, some of them hostile."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from motoko.core.changes import EditRun, PushQuantities
from motoko.core.edits import ApplyOutbox, Claim, EndAttempt, MarkStarted, SetLabel
from motoko.core.states import Lifecycle
from motoko.storage.session import Session
from motoko.testing import add_run
from motoko.testing.memory import commit

if TYPE_CHECKING:
    from pathlib import Path

    from motoko.core.changes import Change
    from motoko.core.records import RunKey
    from motoko.storage.database import Database

HOSTILE = 'no\x1b[2J "convergence",\r\nat \u202estep'
BOOT = "boot-1"
FILES = {
    "motoko.yaml": "task_managers: {solve: , order: , empty: }\n"
    "aliases: {best: solve}\norchestrator: steps.main\n",
    "steps.py": "async def main(workflow): pass\n",
    "solve/bd.yaml": "job: {x: float, name: str}\nrun: {y: float, note: str, noon: datetime, "
    "v: list}\n",
    "order/bd.yaml": "job: {x: int}\n",
    "empty/bd.yaml": "job: {x: float}\nrun: {y: float}\n",
}
STUDIES = ("solve", "order", "empty")
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def write_workflow(directory: Path) -> Path:
    """Write the files of the workflow."""
    for name, text in FILES.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    for study in STUDIES:
        (directory / study / "launch.sh").write_text("true\n")
    return directory


def fill(database: Database) -> None:
    """Create runs: of ``solve`` 1 and 3 FINISHED, 2 FAILED, 4 LOST, 5 CREATED; 4 and 5 of "b"."""
    session = Session(database)
    for number in range(1, 6):
        job = {"x": number / 2, "name": f"n{number}"}
        add_run(session, "solve", job, run_name="a" if number < 4 else "b", at=100.0)
    add_run(session, "order", {"x": 7}, run_name="a", free="text")
    keys = {n: session.tables.study("solve").run(n).key for n in range(1, 6)}
    fields = {"y": 0.5, "note": HOSTILE, "noon": NOON, "v": [1.5, 2]}
    _end(session, keys[1], Lifecycle.FINISHED, fields)
    _end(session, keys[2], Lifecycle.FAILED, {}, HOSTILE)
    _end(session, keys[3], Lifecycle.FINISHED, {"y": 0.25})
    _end(session, keys[4], Lifecycle.LOST, {"y": 9.0}, "its host was rebooted")
    session.add(EditRun(keys[3], SetLabel("[red]NOTED", 400.0, "test")))
    commit(database, session)
    session.close()


def _end(
    session: Session,
    key: RunKey,
    outcome: Lifecycle,
    fields: dict[str, Any],
    reason: str | None = None,
) -> None:
    token = f"t{key.id}"
    points = tuple((step, key.id + step / 10) for step in range(3))
    process = (1, 2, BOOT, 3, f"node{key.id}")
    changes: list[Change] = [
        EditRun(key, Claim("launcher", token, 200.0)),
        EditRun(key, MarkStarted(token, 210.0, "launcher", process)),
        PushQuantities(key, token, 5, "energy", points),
        PushQuantities(key, token, 6, "force", ((1, [0.5, 1.5]),)),
        EditRun(key, ApplyOutbox(token, 10, 220.0, fields)),
        EditRun(
            key,
            EndAttempt(token, outcome, 240.5, "launcher", int(outcome != "FINISHED"), reason),
        ),
    ]
    for change in changes:
        session.add(change)
