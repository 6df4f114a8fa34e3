"""Evaluate the constraints of all events after a change.

An index finds the constraints that a changed run may satisfy. Constraints that need all runs share
one pass over them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from motoko.core.constraints.candidate_index import ConstraintIndex
from motoko.orchestrator.conditions import Matches
from motoko.storage.query import select_runs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from motoko.core.constraints import Constraint, IndexPlan
    from motoko.core.records import RunKey
    from motoko.orchestrator.actions import Action
    from motoko.orchestrator.change_listener import ChangeSet
    from motoko.storage.session import Session


@dataclass(frozen=True, slots=True)
class ConstraintResults:
    """The results of one evaluation.

    ``matches``: of constraints that were evaluated for all runs. ``satisfied``: for each evaluated
    run, the events whose constraints it satisfies.
    """

    matches: list[Matches]
    satisfied: Mapping[RunKey, list[str]]


class ConstraintEvaluator:
    """The constraints of all events of one run name, by study and event.

    One thread at a time may use it.
    """

    def __init__(self, run_name: str) -> None:
        self._run_name = run_name
        self._constraints: dict[str, dict[str, Constraint]] = {}
        self._indexes: dict[str, ConstraintIndex[str]] = {}

    def register(self, action: Action) -> None:
        """Add the constraint of an action, or replace the one of this event."""
        for study, constraints in self._constraints.items():
            if constraints.pop(action.id, None) is not None:
                self._indexes[study].discard(action.id)
        for study, constraint in (action.constraints or {}).items():
            self._constraints.setdefault(study, {})[action.id] = constraint
            self._indexes.setdefault(study, ConstraintIndex()).add(action.id, constraint)

    def evaluate(
        self, session: Session, changes: ChangeSet, new: Iterable[str]
    ) -> ConstraintResults:
        """Evaluate all constraints for the changed runs, and those of ``new`` events for all."""
        matches: list[Matches] = []
        if changes.everything:
            for study, constraints in self._constraints.items():
                matches += self._evaluate_for_all(session, study, constraints)
            return ConstraintResults(matches, {})
        for study, constraints in self._constraints.items() if new else ():
            chosen = {event: constraints[event] for event in new if event in constraints}
            matches += self._evaluate_for_all(session, study, chosen)
        satisfied: dict[RunKey, list[str]] = {key: [] for key in changes.removed}
        for key, record in changes.records.items():
            index = self._indexes.get(key.study)
            if record.run_name == self._run_name and index is not None:
                satisfied[key] = index.matching(record)
        return ConstraintResults(matches, satisfied)

    def _evaluate_for_all(
        self, session: Session, study: str, constraints: Mapping[str, Constraint]
    ) -> list[Matches]:
        """Evaluate constraints for all runs of a study: those with one plan in one pass."""
        found: dict[str, frozenset[RunKey]] = {}
        passes: dict[IndexPlan, dict[str, Constraint]] = {}
        for event, constraint in constraints.items():
            plan = constraint.plan()
            passes.setdefault(plan, {})[event] = constraint
        for plan, of_plan in passes.items():
            if plan.exact or len(of_plan) == 1:
                keys = frozenset(
                    select_runs(session, study, self._run_name, next(iter(of_plan.values())))
                )
                found.update(dict.fromkeys(of_plan, keys))
            else:
                found.update(self._pass(session, study, plan, of_plan))
        return [Matches(event, study, found[event]) for event in constraints]

    def _pass(
        self, session: Session, study: str, plan: IndexPlan, constraints: Mapping[str, Constraint]
    ) -> dict[str, frozenset[RunKey]]:
        index: ConstraintIndex[str] = ConstraintIndex()
        for event, constraint in constraints.items():
            index.add(event, constraint)
        found: dict[str, set[RunKey]] = {event: set() for event in constraints}
        table = session.tables.study(study)
        ids = table.ids(self._run_name, states=plan.states, id_min=plan.id_min, id_max=plan.id_max)
        for record in table.records(ids, keep=False):  # often every run, and rarely read again
            for event in index.matching(record):
                found[event].add(record.key)
        return {event: frozenset(keys) for event, keys in found.items()}
