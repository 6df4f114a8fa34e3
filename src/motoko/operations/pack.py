"""Pack the directories of ended runs on request."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from motoko.launcher.packing import PackResult, loose_runs, pack_runs
from motoko.operations import bulk_edit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from motoko.api.workflow import Workflow
    from motoko.core.records import RunKey
    from motoko.operations.bulk_edit import RunSelection
    from motoko.operations.preview import Preview


def preview_packing(workflow: Workflow, selection: RunSelection) -> Preview:
    """Return the selected runs in a terminal state that have directories outside of packs."""
    found = bulk_edit.preview_selected(workflow, selection, lambda r: r.lifecycle.is_terminal)
    loose = {
        study: loose_runs(workflow.store.runs_root(study))
        for study in {record.study for record in found.runs}
    }
    return replace(found, runs=[r for r in found.runs if r.id in loose[r.study]])


def pack(workflow: Workflow, keys: Iterable[RunKey]) -> dict[str, PackResult]:
    """Pack the directories of these runs; return the outcome by study."""
    ids: dict[str, set[int]] = {}
    for key in keys:
        ids.setdefault(key.study, set()).add(key.id)
    return {study: pack_runs(workflow.store, study, chosen) for study, chosen in ids.items()}
