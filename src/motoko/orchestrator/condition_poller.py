"""When Python conditions are asked: each by a task of its own, so that none delays another."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from motoko.core.firing import ConditionKind
from motoko.orchestrator.actions import location
from motoko.orchestrator.calling import is_normal_exit
from motoko.orchestrator.conditions import Matches, Truth, evaluate_function, evaluate_run_filter
from motoko.orchestrator.scopes import ReadOnlyScope
from motoko.storage.scope import entered

if TYPE_CHECKING:
    from motoko.core.firing import EventSpec
    from motoko.core.records import RunKey, RunRecord
    from motoko.orchestrator.actions import Action
    from motoko.orchestrator.change_listener import ChangeSet
    from motoko.orchestrator.execution import WorkflowExecution

FULL_SHARE: Final = 0.02  # of the time, at most, goes into asking a run filter of all runs


class _Evaluation:
    """One (event, study) to be asked: of some runs, or altogether."""

    def __init__(self, action: str, study: str, kind: ConditionKind) -> None:
        self.action = action
        self.study = study
        self.kind = kind
        self.keys: set[RunKey] = set()
        self.fully = True
        self.asking = False
        self.fully_at: float | None = None
        self.cost = 0.0

    @property
    def open(self) -> bool:
        return self.fully or bool(self.keys)


class ConditionPoller:
    """Knows which Python conditions are to be asked again, and asks them."""

    def __init__(self, execution: WorkflowExecution, poll_interval: float) -> None:
        self._execution = execution
        self._poll_interval = poll_interval
        self._questions: dict[tuple[str, str], _Evaluation] = {}
        self.scope = ReadOnlyScope(execution.store.database)

    def close(self) -> None:
        """Give back the session that conditions read through."""
        self.scope.close()

    def registered(self, event: EventSpec) -> None:
        """Ask a new event's condition about everything."""
        for key in [key for key in self._questions if key[0] == event.name]:
            del self._questions[key]
        if event.kind is ConditionKind.CONSTRAINT:
            return
        studies = ("",) if event.kind is ConditionKind.PLAIN else event.studies
        for study in studies:
            self._questions[event.name, study] = _Evaluation(event.name, study, event.kind)
        self.ask_open()

    def news(self, news: ChangeSet) -> None:
        """Note what a pass found: run filters are asked of the runs touched at once.

        As they may read more than their run, they are asked of all runs of a touched study too:
        after the poll interval, and so rarely that this takes at most a small share of the time.
        """
        studies = {key.study for touched in news.touched for key in touched.runs}
        any_touch = bool(studies) or any(touched.variables for touched in news.touched)
        for question in self._questions.values():
            if news.everything:
                question.fully = True
            elif question.kind is ConditionKind.WORKFLOW_FILTER:
                question.fully = question.fully or any_touch
            elif question.kind is ConditionKind.RUN_FILTER and question.study in studies:
                question.keys |= {k for k in news.records if k.study == question.study}
                if question.fully_at is None:
                    wait = max(self._poll_interval, question.cost / FULL_SHARE)
                    question.fully_at = time.monotonic() + wait

    def tick(self, now: float) -> None:
        """Ask what is due by time, and nothing else: what news opened may have to wait a little."""
        for question in self._questions.values():
            if question.fully_at is not None and question.fully_at <= now:
                question.fully, question.fully_at = True, None
                self._begin(question)

    def next_time(self) -> float | None:
        """Return when something is to be asked by time, in monotonic seconds."""
        times = [q.fully_at for q in self._questions.values() if q.fully_at is not None]
        return min(times, default=None)

    @property
    def idle(self) -> bool:
        """Whether every condition was asked since the last news."""
        return not any(q.open or q.asking for q in self._questions.values())

    def ask_again(self, names: set[str]) -> None:
        """Ask the conditions of these events about everything."""
        for question in self._questions.values():
            if question.action in names:
                question.fully = True
        self.ask_open()

    def idle_about(self, names: set[str]) -> bool:
        """Return whether nothing is open about these events."""
        mine = [q for q in self._questions.values() if q.action in names]
        return not any(q.open or q.asking for q in mine)

    def ask_open(self) -> None:
        """Ask whatever is to be asked and is not being asked."""
        for question in self._questions.values():
            if question.open:
                self._begin(question)

    def _begin(self, question: _Evaluation) -> None:
        if not question.asking and not self._execution.ending:
            question.asking = True
            about = f"the condition of event {question.action!r}"
            self._execution.start_soon(self._ask, question, about=about)

    async def _ask(self, question: _Evaluation) -> None:
        try:
            while (
                question.open and self._questions.get((question.action, question.study)) is question
            ):
                keys, question.keys = question.keys, set()
                fully, question.fully = question.fully, False
                if fully:
                    question.fully_at = None
                await self._ask_once(question, keys, fully=fully)
        finally:
            question.asking = False
        if question.kind is ConditionKind.PLAIN:
            question.fully_at = time.monotonic() + self._poll_interval
        self._execution.pump_soon()

    async def _ask_once(self, question: _Evaluation, keys: set[RunKey], *, fully: bool) -> None:
        execution = self._execution
        action = execution.actions[question.action]
        try:
            with entered(self.scope):
                if question.kind is ConditionKind.RUN_FILTER:
                    answer = await self._run_filter(action, question, keys, fully=fully)
                    execution.answered(answer)
                    return
                manager = (
                    execution.host.task_manager(question.study)
                    if question.kind is ConditionKind.WORKFLOW_FILTER
                    else None
                )
                found = await evaluate_function(action, execution.host, manager, question.study)
                self._take(question, found)
        except BaseException as error:
            if isinstance(error, SystemExit) and is_normal_exit(error):
                execution.finish()
                return
            where = location(action.condition)
            error.add_note(f"in the condition of event {action.name!r}, {where}")
            raise

    def _take(self, question: _Evaluation, found: object) -> None:
        execution = self._execution
        if isinstance(found, Truth):
            execution.answered(found)
            execution.answered(Matches(found.event, found.study, frozenset()))
        else:
            assert isinstance(found, Matches)
            execution.answered(Truth(found.event, question.study, holds=False))
            execution.answered(found)

    async def _run_filter(
        self, action: Action, question: _Evaluation, keys: set[RunKey], *, fully: bool
    ) -> Matches:
        begin = time.monotonic()
        store, scope, run_name = self._execution.store, self.scope, self._execution.run_name

        def records() -> list[RunRecord]:
            with scope.view() as session:
                table = session.tables.study(question.study)
                ids = table.ids(run_name) if fully else sorted(key.id for key in keys)
                return [r for r in table.records(ids) if r.run_name == run_name]

        matching = await evaluate_run_filter(action.condition, store, records)
        if fully:
            question.cost = time.monotonic() - begin
            return Matches(action.id, question.study, matching)
        return Matches(action.id, frozenset(keys), matching)
