"""Collect the statuses of all events, anew only for those that changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from motoko.core.firing import ConditionKind
from motoko.core.orchestrator_status import EventStatus
from motoko.orchestrator.actions import location

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from motoko.core.firing import FiringEngine
    from motoko.core.orchestrator_status import Answer
    from motoko.orchestrator.actions import Action
    from motoko.orchestrator.condition_poller import ConditionPoller


@dataclass(frozen=True, slots=True)
class _Collected:
    """A status, and the versions of the event's activity and answers that it shows."""

    action: Action
    activity: int
    answers: int
    status: EventStatus


class EventStatuses:
    """The statuses of the registered events of one execution."""

    def __init__(
        self, actions: Mapping[str, Action], engine: FiringEngine, poller: ConditionPoller
    ) -> None:
        self._actions = actions
        self._engine = engine
        self._poller = poller
        self._collected: dict[str, _Collected] = {}

    def collect(self, *, times: bool) -> Iterator[EventStatus]:
        """Iterate over the current statuses in order of registration.

        Unless ``times``, conditions that repeat their answers keep the times of an earlier one.
        """
        for action in list(self._actions.values()):  # other threads may add some
            if self._engine.has_event(action.id):
                yield self._status(action, times=times)

    def _status(self, action: Action, *, times: bool) -> EventStatus:
        activity = self._engine.version(action.id)
        answers = self._poller.answer_version(action.id)
        found = self._collected.get(action.id)
        renewed = times and action.kind is not ConditionKind.CONSTRAINT
        if (
            found is None
            or renewed
            or found.action is not action
            or (found.activity, found.answers) != (activity, answers)
        ):
            status = _status(action, self._engine, self._poller.answers(action.id))
            found = self._collected[action.id] = _Collected(action, activity, answers, status)
        return found.status


def _status(action: Action, engine: FiringEngine, answers: Mapping[str, Answer]) -> EventStatus:
    is_constraint = action.kind is ConditionKind.CONSTRAINT
    in_flight, cooling = engine.activity(action.id)
    return EventStatus(
        action.id,
        action.studies,
        action.kind.value,
        action.once,
        action.where,
        "" if is_constraint else location(action.condition),
        {study: parsed.text for study, parsed in (action.constraints or {}).items()},
        engine.fired(action.id),
        len(engine.matching(action.id)),
        in_flight,
        cooling,
        answers,
    )
