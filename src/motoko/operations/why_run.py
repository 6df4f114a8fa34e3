"""Explain one run: who created it, why it is in its state, and what happens next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from motoko.core.reasons import Code, Reason, origin_reason, parent_of, reason, state_reasons
from motoko.core.records import RunKey
from motoko.core.states import Lifecycle
from motoko.errors import ConstraintError, UnknownNameError, UnknownRunError
from motoko.operations.orchestrator_facts import OrchestratorFacts
from motoko.runtime.packed_files import locate, read_end

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from motoko.api.workflow import Workflow
    from motoko.core.orchestrator_status import EventStatus
    from motoko.core.records import RunRecord
    from motoko.operations.explain import ReasonFinder
    from motoko.storage.tables import Tables

MAX_ORIGINS: Final = 20  # runs in a chain of origins
MAX_FIRINGS: Final = 200  # open firings of one event that are examined
STDERR_LINES: Final = 10
STDERR_BYTES: Final = 20_000


@dataclass(frozen=True, slots=True)
class Origin:
    """A run and who created it."""

    run: RunKey
    reason: Reason


@dataclass(frozen=True, slots=True)
class RunAnswer:
    """Why a run exists, why it is in its state, and what happens next.

    ``origins``: the run itself, then the run that led to it, and so on; ``complete``: to the first
    one. ``stderr``: the last lines of a run that is active, or whose last attempt failed.
    """

    record: RunRecord
    because: tuple[Reason, ...]
    next: tuple[Reason, ...]
    origins: tuple[Origin, ...]
    complete: bool
    directory: str
    stderr: tuple[str, ...] = ()


def explain_run(
    workflow: Workflow, tables: Tables, record: RunRecord, finder: ReasonFinder
) -> RunAnswer:
    """Return the explanation of one run."""
    origins, complete = _origins(tables, record)
    directory = locate(workflow.store.run_directory(record.study, record.id))
    facts = OrchestratorFacts.read(workflow, tables, record.run_name)
    failed = record.lifecycle.is_failure or (not record.lifecycle.is_terminal and record.reason)
    shown = record.lifecycle is Lifecycle.START or failed
    return RunAnswer(
        record,
        state_reasons(record, finder.facts),
        (*finder.next(record), *_uses(workflow, tables, record, facts)),
        origins,
        complete,
        str(directory),
        _last_lines(read_end(directory / "stderr", STDERR_BYTES).text) if shown else (),
    )


def _last_lines(text: str) -> tuple[str, ...]:
    lines = [line for line in text.rstrip().splitlines() if line.strip()]
    return tuple(lines[-STDERR_LINES:])


# -- who created it --------------------------------------------------------------------------


def _origins(tables: Tables, record: RunRecord) -> tuple[tuple[Origin, ...], bool]:
    """Return the chain of origins, and whether it is complete."""
    found: list[Origin] = []
    current: RunRecord | None = record
    key = record.key
    while len(found) < MAX_ORIGINS:
        if current is None:
            return (*found, Origin(key, reason(Code.DELETED))), True
        origin = origin_reason(current, _firing(tables, current))
        found.append(Origin(current.key, origin))
        parent = parent_of(origin)
        if parent is None:
            return tuple(found), True
        key = RunKey.parse(parent)
        current = _record(tables, key)
    return tuple(found), False


def _firing(tables: Tables, record: RunRecord) -> Mapping[str, Any] | None:
    if not record.firing or not record.history:
        return None
    event = record.history[0].cause.partition(" ")[2]
    return tables.firing((record.run_name, event, record.firing))


def _record(tables: Tables, key: RunKey) -> RunRecord | None:
    try:
        return tables.study(key.study).run(key.id)
    except (UnknownRunError, UnknownNameError):
        return None


# -- who uses it -----------------------------------------------------------------------------


def _uses(
    workflow: Workflow, tables: Tables, record: RunRecord, facts: OrchestratorFacts
) -> Iterable[Reason]:
    """Yield the awaits that wait for a run, and the events that select it."""
    if facts.status is None or not facts.is_current:
        return
    name = str(record.key)
    if not record.lifecycle.is_terminal:
        owners = [one.owner for one in facts.status.awaits if name in one.runs]
        yield from (reason(Code.AWAITED, owner=owner) for owner in dict.fromkeys(owners))
        return
    events = [event for event in facts.status.events if record.study in event.studies]
    selected = 0
    for event in events:
        if _selects(workflow, event, record):
            selected += 1
            yield reason(
                Code.SELECTED,
                event=event.id,
                firing=_is_firing(tables, record, event),
                running=facts.holder is not None,
                once_done=event.once and tables.fired_once(record.run_name, event.id, record.key),
            )
    if not selected:
        yield reason(Code.NOT_SELECTED, events=len(events))


def _selects(workflow: Workflow, event: EventStatus, record: RunRecord) -> bool:
    text = event.constraints.get(record.study)
    if text is None:
        return any(str(record.key) in answer.runs for answer in event.answers.values())
    try:
        return workflow.task_manager(record.study).parse(text).matches(record)
    except (ConstraintError, UnknownNameError):  # bd.yaml has changed since
        return False


def _is_firing(tables: Tables, record: RunRecord, event: EventStatus) -> bool:
    firings = tables.open_firings(record.run_name, event.id)[-MAX_FIRINGS:]
    own = tuple(record.key)
    return any(own in (tables.firing(one) or {}).get("runs", ()) for one in firings)
