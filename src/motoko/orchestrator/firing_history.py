"""What the database remembers of an event from earlier starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from motoko.core.records import RunKey

if TYPE_CHECKING:
    from motoko.orchestrator.actions import Action
    from motoko.storage.session import Session

FiringId = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class FiringHistory:
    """An event's open firings with their recorded runs, and what ``once`` has done already."""

    event: str
    open_firings: list[tuple[FiringId, tuple[RunKey, ...]]]
    done_runs: list[RunKey]
    done: bool


def load_history(session: Session, run_name: str, action: Action) -> FiringHistory:
    """Return what is on record of an action under a run name."""
    tables = session.tables
    open_firings = []
    for firing_id in tables.open_firings(run_name, action.id):
        stored = tables.firing(firing_id) or {}
        runs = tuple(RunKey(*key) for key in stored.get("runs", ()))
        open_firings.append((firing_id, runs))
    done = tables.once_records(run_name, action.id) if action.once else set()
    done_runs = [RunKey(study, run_id) for study, run_id in sorted(done) if run_id]
    return FiringHistory(action.id, open_firings, done_runs, ("", 0) in done)
