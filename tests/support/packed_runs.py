"""A study with ended runs, and the content of their directories, packed or not."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from motoko.core.changes import EditRun
from motoko.core.edits import Claim, EndAttempt, MarkStarted
from motoko.core.records import RunKey
from motoko.core.states import Lifecycle
from motoko.launcher.attempt_paths import AttemptPaths
from motoko.launcher.packing import loose_runs
from motoko.launcher.run_directory import create_run_directory
from motoko.runtime.packs import PACKED, list_packs, open_pack
from motoko.storage.session import Session
from motoko.testing.memory import add_run, memory_store, study_config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from motoko.core.changes import Change
    from motoko.core.records import RunRecord
    from motoko.storage.store import WorkflowStore

Content = dict[str, tuple[int, bytes]]


def store_with_ended_runs(tmp_path: Path) -> Iterator[WorkflowStore]:
    """A store with five runs: the last one is CREATED, the fourth FAILED, others FINISHED."""
    # The path contains the name of the packs' directory.
    study = study_config("a", {"x": "int"}, directory=tmp_path / PACKED)
    made = memory_store({"a": study}, directory=tmp_path)
    session = Session(made.database)
    for x in range(5):
        add_run(session, "a", {"x": x})
    session.commit()
    session.close()
    for run_id in (1, 2, 3, 4):
        execute(made, run_id, "FAILED" if run_id == 4 else "FINISHED")
    yield made
    made.close()


def execute(store: WorkflowStore, run_id: int, outcome: str) -> None:
    """Simulate an attempt of a run."""
    key, token = RunKey("a", run_id), f"token{run_id}-{record_of(store, run_id).attempt + 1}"
    edit(store, EditRun(key, Claim("me", token, 1.0)))
    paths = AttemptPaths.for_record(root_of(store), record_of(store, run_id))
    create_run_directory(paths, b"{}\n", [])
    Path(paths.outbox).write_text(f"process 1 - - - - -\n\nexit {run_id}\n")
    Path(paths.run_directory, "stdout").write_text(f"out {run_id} {token}\n")
    edit(store, EditRun(key, MarkStarted(token, 2.0, "me")))
    status = None if outcome == "LOST" else 0
    end = EndAttempt(token, Lifecycle(outcome), 3.0, "me", status, None)
    edit(store, EditRun(key, end))


def edit(store: WorkflowStore, *changes: Change) -> None:
    with contextlib.closing(Session(store.database)) as session:
        for change in changes:
            session.add(change)
        session.commit()


def record_of(store: WorkflowStore, run_id: int) -> RunRecord:
    with store.autocommit_scope.read() as session:
        return session.run(RunKey("a", run_id))


def root_of(store: WorkflowStore) -> Path:
    return store.runs_root("a")


def on_disk(root: Path) -> dict[str, Content]:
    """Return the content of all directories outside of packs."""
    return {name: content(root / name) for names in loose_runs(root).values() for name in names}


def content(top: Path) -> Content:
    found: Content = {}
    for path in top.rglob("*"):
        mode = path.lstat().st_mode
        data = b""
        if stat.S_ISLNK(mode):
            data = os.readlink(path).encode()
        elif stat.S_ISREG(mode):
            data = path.read_bytes()
        found[str(path.relative_to(top))] = (mode, data)
    return found


def visible(root: Path) -> dict[str, Content]:
    """Return the content of all directories, from packs if they are missing outside of them."""
    found: dict[str, Content] = {}
    for pack in list_packs(root):
        with open_pack(root, pack) as archive:
            held: dict[str, Content] = {}
            for info in archive.infolist():
                top, _, name = info.filename.rstrip("/").partition("/")
                files = held.setdefault(top, {})
                if name:
                    files[name] = (info.external_attr >> 16, archive.read(info))
            found = held | found  # the latest pack comes first
    for name, files in on_disk(root).items():
        if ".motoko" in files or name not in found:
            found[name] = files
    return found
