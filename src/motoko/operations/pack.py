"""Pack the directories of ended runs on request."""

from __future__ import annotations

import contextlib
import errno
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from motoko.errors import StorageError
from motoko.launcher.packing import PackResult, loose_runs, pack_runs
from motoko.operations import bulk_edit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from motoko.api.workflow import Workflow
    from motoko.core.records import RunKey
    from motoko.operations.bulk_edit import RunSelection
    from motoko.operations.preview import Preview

FULL: Final = (errno.ENOSPC, errno.EDQUOT)


def preview_packing(workflow: Workflow, selection: RunSelection) -> Preview:
    """Return the selected runs in a terminal state that have directories outside of packs.

    Raise StorageError if the directories of a study cannot be listed.
    """
    found = bulk_edit.preview_selected(workflow, selection, lambda r: r.lifecycle.is_terminal)
    loose = {}
    for study in {record.study for record in found.runs}:
        with _described_errors(study):
            loose[study] = loose_runs(workflow.store.runs_root(study))
    return replace(found, runs=[r for r in found.runs if r.id in loose[r.study]])


def pack(
    workflow: Workflow, keys: Iterable[RunKey], *, dry_run: bool = False
) -> dict[str, PackResult]:
    """Pack the directories of these runs; return the outcome by study.

    With ``dry_run``, change nothing. Raise StorageError if packs of a study cannot be written; its
    other directories stay.
    """
    ids: dict[str, set[int]] = {}
    for key in keys:
        ids.setdefault(key.study, set()).add(key.id)
    results = {}
    for study, chosen in ids.items():
        with _described_errors(study):
            results[study] = pack_runs(workflow.store, study, chosen, dry_run=dry_run)
    return results


@contextlib.contextmanager
def _described_errors(study: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        action = "Free disk space" if error.errno in FULL else "Correct this"
        raise StorageError(
            f"directories of runs of {study} stay: {place}{error.strerror or error}",
            hint=f"{action}, then run this command again: nothing is lost.",
        ) from error
