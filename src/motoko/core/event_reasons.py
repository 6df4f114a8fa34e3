"""Why an event does not fire: its condition, runs and firings in, reasons out."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from motoko.core.constraints.diagnosis import clauses_of, diagnose
from motoko.core.firing import ConditionKind
from motoko.core.reasons import SHOWN, Code, Reason, reason
from motoko.core.values import MISSING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from motoko.core.constraints.constraint import Constraint
    from motoko.core.constraints.diagnosis import Clause, Diagnosis, Miss, Nearest
    from motoko.core.orchestrator_status import Answer, EventStatus
    from motoko.core.records import RunKey, RunRecord
    from motoko.core.states import Lifecycle


@dataclass(frozen=True, slots=True)
class Population:
    """The runs of a study and run name by state, and those of them that were examined.

    ``complete``: all runs in a state that the constraint allows were examined; otherwise
    ``examined`` are the newest of them, in id order.
    """

    counts: Mapping[str, int]
    examined: Sequence[RunRecord]
    complete: bool

    @property
    def total(self) -> int:
        """The number of runs."""
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class ClauseCount:
    """The runs that satisfy a clause and all clauses before it.

    ``examined``: of the examined runs only.
    """

    clause: str
    survivors: int
    examined: bool


@dataclass(frozen=True, slots=True)
class StudyDiagnosis:
    """The result of a constraint for one study. ``nearest``: the nearest run if none matches."""

    study: str
    constraint: str
    total: int
    examined: int
    complete: bool
    clauses: tuple[ClauseCount, ...]
    broken: str | None
    values: Mapping[str, int]
    nearest: Mapping[str, Any] | None
    matching: tuple[RunKey, ...]


# -- constraints -----------------------------------------------------------------------------


def allowed_states(constraint: Constraint, states: Iterable[str]) -> frozenset[str]:
    """Return the states that the clauses about states allow."""
    clauses = [clause for clause in clauses_of(constraint) if clause.of_state]
    return frozenset(state for state in states if all(_holds(c, state) for c in clauses))


def _holds(clause: Clause, state: str) -> bool:
    return clause.holds(cast("RunRecord", SimpleNamespace(state=state)))


def diagnose_study(study: str, constraint: Constraint, population: Population) -> StudyDiagnosis:
    """Return which clause of a constraint excludes the runs of a study."""
    clauses = clauses_of(constraint)
    counts = population.counts
    complete = population.complete and len(population.examined) == population.total
    if not complete:  # the clauses that indexes answer come first
        clauses = tuple(sorted(clauses, key=lambda clause: not clause.of_state))
    found = diagnose(clauses, population.examined)
    rows = [
        ClauseCount(result.clause.text, result.survivors, examined=not complete)
        for result in found.clauses
    ]
    broken = found.broken
    if not complete:
        remaining = set(counts)
        for n, clause in enumerate(clauses):
            if not clause.of_state:
                break
            before, remaining = remaining, {s for s in remaining if _holds(clause, s)}
            rows[n] = ClauseCount(clause.text, sum(counts[s] for s in remaining), examined=False)
            if before and not remaining and not (broken is not None and clauses[broken].of_state):
                broken = n
    return StudyDiagnosis(
        study,
        constraint.text,
        population.total,
        len(population.examined),
        complete,
        tuple(rows),
        None if broken is None else clauses[broken].text,
        _values(clauses, broken, found, counts),
        _nearest(clauses, found.nearest),
        found.matching,
    )


def _values(
    clauses: Sequence[Clause], broken: int | None, found: Diagnosis, counts: Mapping[str, int]
) -> dict[str, int]:
    """Return the number of runs by value of the broken clause's column, if that is no number."""
    if broken is None:
        return {}
    if clauses[broken].of_state:
        return dict(counts)
    return {str(value): number for value, number in found.values.items()}


def _nearest(clauses: Sequence[Clause], found: Nearest | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "run": str(found.run),
        "lifecycle": found.lifecycle.value,
        "failed": [clauses[n].text for n in found.failed],
        "misses": [_miss(miss, found.lifecycle) for miss in found.misses],
    }


def _miss(miss: Miss, lifecycle: Lifecycle) -> dict[str, Any]:
    missing = miss.value is MISSING
    return {
        "column": miss.column,
        "value": None if missing else miss.value,
        "missing": missing,
        "ended": lifecycle.is_terminal,
        "needs": miss.needs,
        "distance": miss.distance,
    }


# -- events ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Firings:
    """The unfinished firings of an event: their number, their runs, the start of the first."""

    number: int = 0
    runs: tuple[RunKey, ...] = ()
    since: float | None = None


def event_reasons(
    event: EventStatus,
    diagnoses: Sequence[StudyDiagnosis],
    firings: Firings,
    is_done: Callable[[RunKey], bool],
    *,
    running: bool = True,
) -> tuple[Reason, ...]:
    """Return why an event does not fire, or that it will.

    ``diagnoses``: of its constraint, one for each study. ``is_done``: whether ``once`` is done for
    a run. ``running``: whether the orchestrator is.
    """
    found: list[Reason] = []
    if firings.number or event.in_flight:
        found.append(_firing(event, firings, running=running))
    for diagnosis in diagnoses:
        found += _of_constraint(event, diagnosis, set(firings.runs), is_done)
    if not event.constraints:
        studies = ("",) if event.kind == ConditionKind.NO_ARGUMENTS.value else event.studies
        found += [_of_answer(study, event.answers.get(study)) for study in studies]
    if event.cooling:
        found.append(reason(Code.COOLING, number=event.cooling))
    return tuple(found)


def _firing(event: EventStatus, firings: Firings, *, running: bool) -> Reason:
    runs, number = _shown(firings.runs)
    return reason(
        Code.FIRING,
        runs=runs,
        number=number,
        firings=max(firings.number, event.in_flight if not number else 0),
        since=firings.since,
        running=running,
    )


def _shown(runs: Sequence[RunKey]) -> tuple[list[str], int]:
    return [str(key) for key in runs[:SHOWN]], len(runs)


def _of_constraint(
    event: EventStatus,
    diagnosis: StudyDiagnosis,
    firing: set[RunKey],
    is_done: Callable[[RunKey], bool],
) -> list[Reason]:
    if not diagnosis.total:
        return [reason(Code.NO_RUNS, study=diagnosis.study)]
    if diagnosis.broken is not None:
        return [
            reason(
                Code.CLAUSE_FAILS,
                study=diagnosis.study,
                clause=diagnosis.broken,
                values=dict(diagnosis.values),
                nearest=diagnosis.nearest,
                examined=None if diagnosis.complete else diagnosis.examined,
            )
        ]
    free = [key for key in diagnosis.matching if key not in firing]
    done = [key for key in free if event.once and is_done(key)]
    left = [key for key in free if key not in set(done)]
    found = []
    for code, keys in ((Code.FIRED_ONCE, done), (Code.MATCHES, left)):
        if keys:
            runs, number = _shown(keys)
            found.append(reason(code, study=diagnosis.study, runs=runs, number=number))
    return found


def _of_answer(study: str, answer: Answer | None) -> Reason:
    if answer is None:
        return reason(Code.CONDITION_NOT_ASKED, study=study)
    fields: dict[str, Any] = {
        "study": study,
        "asked": answer.asked,
        "seconds": answer.seconds,
        "reads": list(answer.reads),
    }
    if answer.error:
        return reason(Code.CONDITION_RAISED, **fields, error=answer.error)
    fields["evaluated"] = answer.evaluated
    if answer.matching:
        runs = list(answer.runs[:SHOWN])
        return reason(Code.CONDITION_SELECTS, **fields, runs=runs, number=answer.matching)
    return reason(Code.CONDITION_TRUE if answer.holds else Code.CONDITION_FALSE, **fields)
