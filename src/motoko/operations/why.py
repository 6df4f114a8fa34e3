"""Explain a run, an event, a selection of runs, or what the whole workflow waits for."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from motoko.core.reason_groups import ReasonGroup, failure, group_reasons
from motoko.core.records import RunKey
from motoko.core.run_targets import RunTarget
from motoko.core.states import FAILURES, NON_TERMINAL
from motoko.errors import UnknownNameError, UnknownRunError, nearest, suggestion
from motoko.operations.bulk_edit import RunSelection
from motoko.operations.explain import LauncherCoverage, ReasonFinder
from motoko.operations.orchestrator_facts import OrchestratorFacts, known_run_names
from motoko.operations.why_event import EventAnswer, Limits, explain_event
from motoko.operations.why_run import RunAnswer, explain_run
from motoko.orchestrator.run_ends import EndKind, last_ends
from motoko.storage.newest_runs import newest
from motoko.storage.query import check_run_name_exists

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from motoko.api.workflow import Workflow
    from motoko.core.orchestrator_status import AwaitStatus, EventStatus
    from motoko.core.reasons import Reason
    from motoko.core.records import RunRecord
    from motoko.orchestrator.run_ends import RunEnd
    from motoko.storage.session import Session

MAX_RUNS: Final = 5_000  # runs of a study whose reasons are grouped
BRIEF: Final = Limits(runs=1_000, least=100, seconds=0.02)  # for each of many events
EXPLAINED: Final = NON_TERMINAL | FAILURES


@dataclass(frozen=True, slots=True)
class SelectionAnswer:
    """Why the selected runs that wait, are active or failed do so.

    ``number``: how many runs were examined; ``left_out``: how many older ones were not.
    """

    groups: tuple[ReasonGroup, ...]
    number: int
    left_out: int


@dataclass(frozen=True, slots=True)
class AwaitedRun:
    """A run that an await waits for, and what happens to it next."""

    run: RunKey
    state: str
    next: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class RunNameAnswer:
    """What the workflow waits for under one run name.

    ``counts``: runs by study and state. ``awaits``: with the first of their runs.
    """

    facts: OrchestratorFacts
    last_end: RunEnd | None
    counts: Mapping[str, Mapping[str, int]]
    runs: SelectionAnswer
    events: tuple[EventAnswer, ...]
    awaits: tuple[tuple[AwaitStatus, tuple[AwaitedRun, ...]], ...]


@dataclass(frozen=True, slots=True)
class WorkflowAnswer:
    """What a workflow waits for, by run name; ``quiet``: run names that wait for nothing."""

    run_names: tuple[RunNameAnswer, ...]
    quiet: tuple[str, ...]


Answer = RunAnswer | EventAnswer | SelectionAnswer | WorkflowAnswer


class Explainer:
    """Answers questions about one snapshot of a workflow."""

    def __init__(self, workflow: Workflow, session: Session) -> None:
        self.workflow = workflow
        self.session = session
        self.tables = tables = session.tables
        self.coverage = LauncherCoverage.read(tables, workflow.config, workflow.store)
        self.finder = ReasonFinder(tables, self.coverage)

    # -- questions -------------------------------------------------------------------------

    def word(self, word: str, run_name: str | None) -> list[Answer]:
        """Explain what a word names: events, a run, or the runs of a study.

        Raise UnknownRunError or UnknownNameError, with the nearest names.
        """
        self.check_run_name(run_name)
        found: list[Answer] = [*self.event(word, run_name)]
        study = word.partition(".")[0]
        if study not in self._studies():
            if not found:
                raise self._unknown(word, run_name)
            return found
        try:
            target = RunTarget.parse(word)
        except UnknownRunError:
            if found:
                return found
            raise
        selection = RunSelection([target], (), run_name)
        selection.check_exists(self.workflow)
        return [*found, *self.selection(selection)]

    def check_run_name(self, run_name: str | None) -> None:
        """Raise RunNameError if a run name never had a run, an orchestrator or a firing."""
        if run_name is not None:
            check_run_name_exists(self.session, run_name)

    def selection(self, selection: RunSelection) -> list[Answer]:
        """Explain one run, or group the reasons of several."""
        ranges = [r for target in selection.targets for r in target.ranges]
        single = len(selection.targets) == len(ranges) == 1 and ranges[0][0] == ranges[0][1]
        if single and not selection.constraints:
            name = self.workflow.task_manager(selection.targets[0].study).name
            record = self.tables.study(name).run(ranges[0][0])
            if selection.run_name not in (None, record.run_name):
                raise UnknownRunError(
                    f"run {record.key} belongs to run name {record.run_name!r}, not to "
                    f"{selection.run_name!r}"
                )
            return [explain_run(self.workflow, self.tables, record, self.finder)]
        if ranges or selection.constraints:
            return [self.runs(selection.find(self.workflow), 0)]
        return [self._studies_answer(selection)]

    def event(self, word: str, run_name: str | None) -> list[EventAnswer]:
        """Explain the events of this name: under one run name, or all where it is registered.

        Running orchestrators come first.
        """
        names = known_run_names(self.tables) if run_name is None else [run_name]
        found = []
        for name in names:
            facts = OrchestratorFacts.read(self.workflow, self.tables, name)
            found += [(event, facts) for event in _registered(facts) if _matches(event, word)]
        found.sort(key=lambda pair: pair[1].holder is None)
        return [explain_event(self.workflow, self.tables, *pair) for pair in found]

    def workflow_answer(self, run_name: str | None) -> WorkflowAnswer:
        """Explain what the workflow waits for."""
        self.check_run_name(run_name)
        ends = last_ends(self.workflow.store.state, self.workflow.store.clock)
        names = known_run_names(self.tables) if run_name is None else [run_name]
        answers, quiet = [], []
        for name in names:
            answer = self._run_name(name, ends.get(name))
            if run_name is None and _is_quiet(answer):
                quiet.append(name)
            else:
                answers.append(answer)
        answers.sort(key=lambda answer: (answer.facts.holder is None, not _waiting(answer)))
        return WorkflowAnswer(tuple(answers), tuple(quiet))

    # -- parts -----------------------------------------------------------------------------

    def runs(self, records: Iterable[RunRecord], left_out: int) -> SelectionAnswer:
        """Group the reasons of runs that wait or failed."""
        pairs, number = [], 0
        for record in records:
            number += 1
            if record.lifecycle in EXPLAINED:
                pairs.append((record, self._reason(record)))
        return SelectionAnswer(group_reasons(pairs), number, left_out)

    def _reason(self, record: RunRecord) -> Reason:
        if record.lifecycle.is_failure:
            return failure(record)
        return self.finder.next(record)[0]

    def _studies_answer(self, selection: RunSelection) -> SelectionAnswer:
        studies = [*selection.studies(self.workflow)]
        return self._unfinished(studies, selection.run_name)

    def _unfinished(self, studies: Sequence[str], run_name: str | None) -> SelectionAnswer:
        records: list[RunRecord] = []
        left_out = 0
        for study in studies:
            if study in self.tables.study_names():
                table = self.tables.study(study)
                number = table.count(run_name, lifecycles=EXPLAINED)
                left_out += max(0, number - MAX_RUNS)
                ids = list(islice(newest(table, run_name, lifecycles=EXPLAINED), MAX_RUNS))
                records += table.records(reversed(ids), keep=False)
        return self.runs(records, left_out)

    def _run_name(self, run_name: str, end: RunEnd | None) -> RunNameAnswer:
        facts = OrchestratorFacts.read(self.workflow, self.tables, run_name)
        studies = [s for s in self.tables.study_names() if s in self.workflow.task_managers]
        counts = {s: self.tables.study(s).counts(run_name) for s in studies}
        events = [
            explain_event(self.workflow, self.tables, event, facts, BRIEF)
            for event in _registered(facts)
        ]
        awaits = [(one, self._awaited(one)) for one in _awaits(facts)]
        runs = self._unfinished(studies, run_name)
        return RunNameAnswer(facts, end, counts, runs, tuple(events), tuple(awaits))

    def _awaited(self, status: AwaitStatus) -> tuple[AwaitedRun, ...]:
        keys = [RunKey.parse(run) for run in status.runs]
        found = []
        for key in keys:
            table = self.tables.study(key.study)
            if table.has_run(key.id):
                record = table.run(key.id)
                found.append(AwaitedRun(key, record.state, self.finder.next(record)))
        return tuple(found)

    def _studies(self) -> set[str]:
        return {*self.workflow.task_managers, *self.workflow.aliases}

    def _unknown(self, word: str, run_name: str | None) -> UnknownNameError:
        """Return the error for a word that names nothing, with the nearest name of any kind."""
        study, dot, rest = word.partition(".")
        names = sorted(self._studies())
        near_study = nearest(study, names)
        known = [*names, *self._event_names(run_name)]
        if dot and near_study is not None and rest[:1].isdecimal():
            known.append(f"{near_study}.{rest}")
        return UnknownNameError(
            f"{word!r} names no run, event or study", hint=suggestion(word, known)
        )

    def _event_names(self, run_name: str | None) -> list[str]:
        names = known_run_names(self.tables) if run_name is None else [run_name]
        facts = [OrchestratorFacts.read(self.workflow, self.tables, name) for name in names]
        ids = {event.id for one in facts for event in _registered(one)}
        return sorted(ids | {event_id.rpartition(".")[2] for event_id in ids})


def _waiting(answer: RunNameAnswer) -> bool:
    """Return whether runs of a run name wait or are active."""
    return any(group.lifecycle not in FAILURES for group in answer.runs.groups)


def _is_quiet(answer: RunNameAnswer) -> bool:
    """Return whether nothing is left to do under a run name."""
    if answer.facts.holder is not None or _waiting(answer):
        return False
    end = answer.last_end
    return not answer.runs.groups if end is None else end.kind is EndKind.FINISHED


def _registered(facts: OrchestratorFacts) -> tuple[EventStatus, ...]:
    return facts.status.events if facts.status is not None and facts.is_current else ()


def _awaits(facts: OrchestratorFacts) -> tuple[AwaitStatus, ...]:
    return facts.status.awaits if facts.status is not None and facts.is_current else ()


def _matches(event: EventStatus, word: str) -> bool:
    return word in (event.id, event.id.rpartition(".")[2])
