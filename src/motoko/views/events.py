"""The events of a run name: what each waits for, and when it last fired."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from motoko.operations.reason_text import reason_text
from motoko.operations.why_event import Limits, explain_event
from motoko.printable import one_line
from motoko.views.campaign import EventView, Need

if TYPE_CHECKING:
    from collections.abc import Iterator

    from motoko.api.workflow import Workflow
    from motoko.core.orchestrator_status import EventStatus
    from motoko.operations.orchestrator_facts import OrchestratorFacts
    from motoko.storage.tables import Tables

LIMITS: Final = Limits(runs=500, least=50, seconds=0.005)
LINE: Final = 300  # characters
MOST: Final = 50  # events that are explained


def event_views(
    workflow: Workflow, tables: Tables, facts: OrchestratorFacts
) -> tuple[EventView, ...]:
    """Return the events that the last orchestrator of a run name registered."""
    if facts.status is None or not facts.is_current:
        return ()
    return tuple(
        _view(workflow, tables, event, facts, explained=number < MOST)
        for number, event in enumerate(facts.status.events)
    )


def _view(
    workflow: Workflow,
    tables: Tables,
    event: EventStatus,
    facts: OrchestratorFacts,
    *,
    explained: bool,
) -> EventView:
    waits = ""
    if explained:
        found = explain_event(workflow, tables, event, facts, LIMITS)
        now = workflow.store.now()
        texts = [reason_text(one, now) for one in found.reasons]
        texts += [
            f"{study}: its constraint is no longer valid: {why}" for study, why in found.invalid
        ]
        waits = one_line("; ".join(texts), limit=LINE)
    conditions = [text or "every run" for text in dict.fromkeys(event.constraints.values())]
    return EventView(
        event.id,
        ", ".join(event.studies),
        " | ".join(conditions) or event.condition or event.kind,
        event.action,
        event.once,
        event.fired,
        event.matching,
        0 if facts.holder is None else event.in_flight,
        waits,
    )


def event_needs(facts: OrchestratorFacts) -> Iterator[Need]:
    """Yield the conditions that raised an exception when they were last asked."""
    if facts.status is None or not facts.is_current:
        return
    for event in facts.status.events:
        errors = [answer.error for answer in event.answers.values() if answer.error]
        if errors:
            text = f"its condition raised {one_line(errors[0], limit=LINE)}"
            yield Need(1, 0, f"event {event.id}", text, f"motoko why {event.id}")
