"""A sample of all kinds of data: ``python -m tests.support.sample_database DIRECTORY``.

What it writes there, ``version-N.db.gz`` for the format N that this Motoko writes, stays as it is
when the format changes: tests/integration/test_old_databases.py opens it ever after.
"""

from __future__ import annotations

import gzip
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from motoko.core.changes import EditRun, PushQuantities, RecordFiring, SetVariable
from motoko.core.edits import (
    ApplyOutbox,
    Cancel,
    Claim,
    EndAttempt,
    MarkStarted,
    SetFields,
    SetLabel,
)
from motoko.core.states import Lifecycle
from motoko.server.lifecycle import stop_server
from motoko.server.state_dir import StateDir
from motoko.storage.backup import copy_database
from motoko.storage.schema import SCHEMA_VERSION, create_database
from motoko.storage.session import Session, run_transaction
from motoko.storage.store import WorkflowStore
from motoko.testing import add_run

if TYPE_CHECKING:
    from motoko.core.records import RunKey

VARIABLES = {
    "number": 3,
    "tolerance": 1e-6,
    "text": "Größe",
    "nothing": None,
    "nested": {"todo": [1, 2, {"deep": True}], "pair": (1, "b")},
    "names": {"a", "b"},
    "raw": b"\x00\xff",
    "moment": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
}


def fill(store: WorkflowStore) -> None:
    """Store every kind of data in the studies ``mult`` and ``add``."""
    session = Session(store.database)
    done, failed, going, cancelled, waiting = [
        add_run(session, "mult", {"x": float(n), "mesh": "fine"}, run_name="first", at=n, y=0)
        for n in range(5)
    ]
    other = add_run(session, "mult", {"x": 0.0, "mesh": "fine"}, run_name="second", at=9.0)
    joined = add_run(session, "add", {"values": [1.5, 2.5]}, run_name="first", at=10.0)
    edits = [
        EditRun(done, Claim("launcher", "t1", 11.0, "digest")),
        EditRun(done, MarkStarted("t1", 12.0, "launcher", (4, 5, "boot"))),
        EditRun(done, ApplyOutbox("t1", 40, 13.0, {"y": 4.5, "path": [1, 2]})),
        EditRun(done, EndAttempt("t1", Lifecycle.FINISHED, 14.0, "launcher", 0)),
        EditRun(done, SetLabel("FORWARDED", 15.0, "event main.join")),
        EditRun(failed, Claim("launcher", "t2", 11.0)),
        EditRun(failed, MarkStarted("t2", 12.0, "launcher")),
        EditRun(failed, EndAttempt("t2", Lifecycle.FAILED, 13.0, "launcher", 3, "no luck")),
        EditRun(going, Claim("launcher", "t3", 11.0)),
        EditRun(going, MarkStarted("t3", 12.0, "launcher", (6, 7, "boot"))),
        EditRun(cancelled, Cancel(11.0, "user")),
        EditRun(waiting, SetFields({"note": "later"})),
        EditRun(other, SetFields({"y": 1})),
    ]
    for edit in edits:
        session.add(edit)
    points = tuple((step, [step * 0.5, -1.0]) for step in range(3))
    session.add(PushQuantities(going, "t3", 60, "residual", points))
    for name, value in VARIABLES.items():
        session.add(SetVariable(None, name, value))
    session.add(SetVariable("first", "rounds", 2))
    _fire(session, done, joined)
    store.database.submit(session.commit).result()
    session.close()
    run_transaction(
        store.database, lambda tables: tables.write_lease("orchestrator:first", "t", {})
    )


def _fire(session: Session, done: RunKey, joined: RunKey) -> None:
    for key, status, once in (("k1", "open", False), ("k1", "done", True), ("k2", "open", False)):
        firing = ("first", "main.join", key)
        runs = (done, joined) if key == "k1" else (joined,)
        session.add(RecordFiring(firing, "open" if status == "open" else "done", "mult", runs, 16.0,
                                 once=once))  # fmt: skip


def write(directory: Path) -> Path:
    """Write the compressed database unless it exists; return its path."""
    target = directory / f"version-{SCHEMA_VERSION}.db.gz"
    if target.exists():
        raise SystemExit(f"{target} exists: it stays as it was written")
    with tempfile.TemporaryDirectory() as place:
        state = StateDir.of(Path(place))
        create_database(state, ("add", "mult"))
        store = WorkflowStore(state, {})
        fill(store)
        store.database.pack()
        store.close()
        stop_server(state)
        copy = Path(place) / "copy"
        copy_database(state.database, copy)
        target.write_bytes(gzip.compress(copy.read_bytes(), 9, mtime=0))
    return target


if __name__ == "__main__":
    path = write(Path(sys.argv[1]))
    print(f"{path}: {path.stat().st_size} bytes")
