"""Explain why an event does not fire under a run name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Final

from motoko.core.event_reasons import (
    Firings,
    Population,
    StudyDiagnosis,
    allowed_states,
    diagnose_study,
    event_reasons,
)
from motoko.core.records import RunKey
from motoko.errors import ConstraintError, UnknownNameError
from motoko.storage.newest_runs import newest

if TYPE_CHECKING:
    from motoko.api.workflow import Workflow
    from motoko.core.constraints import Constraint
    from motoko.core.orchestrator_status import EventStatus
    from motoko.core.reasons import Reason
    from motoko.core.records import RunRecord
    from motoko.operations.orchestrator_facts import OrchestratorFacts
    from motoko.runtime.ports import Clock
    from motoko.storage.study_table import StudyTable
    from motoko.storage.tables import Tables

MAX_FIRINGS: Final = 200  # open firings of an event that are read
BATCH: Final = 50  # runs read at a time


@dataclass(frozen=True, slots=True)
class Limits:
    """How many runs are examined: all up to ``runs``, but after ``seconds`` no more than ``least``.

    A study with more runs is not examined completely: its newest runs are.
    """

    runs: int = 5_000
    least: int = 300
    seconds: float = 0.04


@dataclass(frozen=True, slots=True)
class EventAnswer:
    """Why an event does not fire. ``diagnoses``: of its constraint, one for each study.

    ``invalid``: by study, why its constraint cannot be read any more.
    """

    event: EventStatus
    facts: OrchestratorFacts
    reasons: tuple[Reason, ...]
    diagnoses: tuple[StudyDiagnosis, ...]
    invalid: tuple[tuple[str, str], ...] = ()


def explain_event(
    workflow: Workflow,
    tables: Tables,
    event: EventStatus,
    facts: OrchestratorFacts,
    limits: Limits = Limits(),
) -> EventAnswer:
    """Return why an event does not fire; ``facts``: of the orchestrator that registered it."""
    if facts.holder is None:  # it fires nothing now
        event = replace(event, in_flight=0, cooling=0)
    diagnoses: list[StudyDiagnosis] = []
    invalid: list[tuple[str, str]] = []
    for study, text in event.constraints.items():
        try:
            constraint = workflow.task_manager(study).parse(text)
        except (ConstraintError, UnknownNameError) as error:
            invalid.append((study, error.message.partition("\n")[0]))
            continue
        population = _population(
            tables, study, facts.run_name, constraint, limits, workflow.store.clock
        )
        diagnoses.append(diagnose_study(study, constraint, population))

    def is_done(key: RunKey) -> bool:
        return tables.fired_once(facts.run_name, event.id, key)

    firings = _firings(tables, facts.run_name, event.id)
    running = facts.holder is not None
    reasons = event_reasons(event, diagnoses, firings, is_done, running=running)
    return EventAnswer(event, facts, reasons, tuple(diagnoses), tuple(invalid))


def _population(
    tables: Tables,
    study: str,
    run_name: str,
    constraint: Constraint,
    limits: Limits,
    clock: Clock,
) -> Population:
    if study not in tables.study_names():
        return Population({}, examined=(), complete=True)
    table = tables.study(study)
    counts = table.counts(run_name)
    if sum(counts.values()) <= limits.runs:
        states = None  # read all, so that each clause is counted
    else:
        states = allowed_states(constraint, counts) or None
    examined, complete = _examine(table, run_name, constraint, states, limits, clock)
    return Population(counts, examined, complete)


def _examine(
    table: StudyTable,
    run_name: str,
    constraint: Constraint,
    states: frozenset[str] | None,
    limits: Limits,
    clock: Clock,
) -> tuple[list[RunRecord], bool]:
    """Return the newest runs in these states in id order, and whether these are all."""
    plan = constraint.plan()
    low, high = (None, None) if states is None else (plan.id_min, plan.id_max)
    ids = newest(table, run_name, states=states, id_min=low, id_max=high)
    first = next(ids, None)
    # If the ids exclude all runs, the nearest is among the others.
    ids = newest(table, run_name, states=states) if first is None else chain([first], ids)
    deadline = clock.monotonic() + limits.seconds
    found: list[RunRecord] = []
    while batch := list(islice(ids, min(BATCH, limits.runs - len(found)))):
        found += table.records(batch, keep=False)
        if len(found) >= limits.least and clock.monotonic() > deadline:
            break
    return found[::-1], next(ids, None) is None


def _firings(tables: Tables, run_name: str, event: str) -> Firings:
    open_firings = tables.open_firings(run_name, event)
    stored = [tables.firing(one) or {} for one in open_firings[:MAX_FIRINGS]]
    runs = tuple(RunKey(*key) for firing in stored for key in firing.get("runs", ()))
    since = min((firing["opened"] for firing in stored if "opened" in firing), default=None)
    return Firings(len(open_firings), runs, since)
