"""Create a workflow's state: an empty database, with earlier run directories moved aside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from motoko.errors import StorageError
from motoko.launcher.attempt_processes import find_process_in
from motoko.storage.run_directory_owner import check_owner, claim_run_directories
from motoko.storage.schema import create_database

if TYPE_CHECKING:
    from pathlib import Path

    from motoko.storage.store import WorkflowStore


def create_workflow(store: WorkflowStore, *, replace: bool) -> None:
    """Create the database; DatabaseExistsError if one exists, unless ``replace``.

    SharedStudyError if another workflow owns a study's run directories, StorageError if a run is
    still running in one.
    """
    roots = [store.runs_root(study) for study in store.studies]
    for runs in roots:
        check_owner(store.state, runs)
        if replace or not store.state.database.exists():
            _check_unused(runs)
    create_database(store.state, store.studies, replace=replace, runtime=store.runtime)
    for runs in roots:
        claim_run_directories(store.state, runs)
        _move_aside(runs)


def _check_unused(runs: Path) -> None:
    for run in runs.glob("run-*"):
        process = find_process_in(str(run))
        if process is not None:
            raise StorageError(
                f"process {process.pid} is still running in {run}, which would be moved aside",
                hint="Wait until it has ended, or end it: with `motoko kill --stop-runs` if the "
                f"workflow has its database, otherwise with `kill -- -{process.pid}`.",
            )


def _move_aside(runs: Path) -> None:
    """Rename a directory with run directories to the next free ``NAME.old-N``."""
    if runs.is_dir() and any(runs.iterdir()):
        number = 1
        while (target := runs.with_name(f"{runs.name}.old-{number}")).exists():
            number += 1
        runs.rename(target)
