"""Creating a workflow's state: an empty database, and former run directories moved aside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from motoko.errors import StorageError
from motoko.launcher.attempt_files import find_process_in
from motoko.storage.ownership import check, claim
from motoko.storage.schema import create_database

if TYPE_CHECKING:
    from pathlib import Path

    from motoko.storage.store import WorkflowStore


def create_workflow(store: WorkflowStore, *, replace: bool) -> None:
    """Make the database; DatabaseExistsError where there are results and not ``replace``.

    SharedStudyError where a study's run directories are another workflow's, StorageError where a
    run still works in one: its files would end up aside.
    """
    roots = [store.runs_root(study) for study in store.studies]
    for runs in roots:
        check(store.state, runs)
        if replace or not store.state.database.exists():
            _check_unused(runs)
    create_database(store.state, store.studies, replace=replace, runtime=store.runtime)
    for runs in roots:
        claim(store.state, runs)
        move_aside(runs)


def _check_unused(runs: Path) -> None:
    for run in runs.glob("run-*"):
        process = find_process_in(str(run))
        if process is not None:
            raise StorageError(
                f"process {process.pid} still works in {run}, which would be moved aside",
                hint="Wait until it has ended. Or end it: with `motoko kill --stop-runs` where "
                f"the workflow has its database, otherwise with `kill -- -{process.pid}`.",
            )


def move_aside(runs: Path) -> Path | None:
    """Rename a directory of run directories that has any to the next free ``NAME.old-N``."""
    if not runs.is_dir() or not any(runs.iterdir()):
        return None
    number = 1
    while (target := runs.with_name(f"{runs.name}.old-{number}")).exists():
        number += 1
    runs.rename(target)
    return target
