"""What has happened: the moves of a run, and the firings of an event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from motoko.core.records import RunKey
from motoko.errors import UnknownNameError, UnknownRunError, suggestion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from motoko.core.records import RunRecord
    from motoko.workflow import Workflow


@dataclass(frozen=True, slots=True)
class PastFiring:
    """A recorded firing. Times are in seconds since the epoch; ``done`` is None while open."""

    run_name: str
    event: str
    opened: float
    done: float | None
    runs: Sequence[RunKey]


def run_record(workflow: Workflow, uri: str) -> RunRecord:
    """Return the record of the run called ``study.id``; UnknownRunError if there is none."""
    study, _, number = uri.rpartition(".")
    if not study or not number.isdecimal():
        raise UnknownRunError(f"{uri!r} does not name a run", hint="Write STUDY.ID, such as add.1.")
    key = RunKey(workflow.task_manager(study).name, int(number))
    with workflow.store.script.view() as session:
        return session.run(key)


def past_firings(
    workflow: Workflow, *, event: str | None = None, run_name: str | None = None
) -> list[PastFiring]:
    """Return the recorded firings in order of time; UnknownNameError for an event without any."""
    with workflow.store.script.view() as session:
        found = [
            PastFiring(
                firing_id[0],
                firing_id[1],
                stored["opened"],
                stored.get("done"),
                [RunKey(*key) for key in stored["runs"]],
            )
            for firing_id, stored in session.tables.firings(run_name)
        ]
    if event is not None:
        names = sorted({firing.event for firing in found})
        found = [f for f in found if event in (f.event, f.event.rpartition(".")[2])]
        if not found:
            raise UnknownNameError(f"no firing of event {event!r}", hint=suggestion(event, names))
    return sorted(found, key=lambda firing: firing.opened)
