"""Executing one firing: confirm its trigger, call the action, commit stretch by stretch."""

from __future__ import annotations

import logging
import secrets
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio

from motoko.core.changes import RecordFiring
from motoko.core.firing import ConditionKind
from motoko.core.replay import NOTHING, Journal
from motoko.errors import ConflictError
from motoko.handles.run import pairs
from motoko.orchestrator.actions import is_event, location
from motoko.orchestrator.awaiting import existing_records
from motoko.orchestrator.calling import is_normal_exit
from motoko.orchestrator.conditions import Truth, evaluate_function, evaluate_run_filter
from motoko.orchestrator.right_of_way import FiringPriority
from motoko.orchestrator.scopes import ActionScope, RerunAction
from motoko.runtime import fault_points
from motoko.storage.run_requests import RequestOrigin
from motoko.storage.scope import entered
from motoko.storage.threads import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from motoko.core.firing import Firing
    from motoko.core.records import RunKey, RunRecord
    from motoko.orchestrator.actions import Action
    from motoko.orchestrator.execution import WorkflowExecution
    from motoko.storage.session import Session

MAX_CALLS: Final = 50  # of one firing in a row that all meet conflicts

logger = logging.getLogger("motoko.orchestrator")


class _FiringState:
    """What is known of one firing across its calls: its record and its runs."""

    def __init__(self, run_name: str, action: Action, firing: Firing) -> None:
        self.action = action
        self.firing = firing
        self.id = (run_name, action.id, f"{time.time_ns():020d}-{secrets.token_hex(4)}")
        self.recorded = False
        self.attempts = 0  # since something was committed
        self.runs: tuple[RunKey, ...] = firing.runs
        self.records: list[RunRecord] = []
        self.origin = RequestOrigin(f"event {action.id}")

    @property
    def owner(self) -> str:
        return f"firing {self.firing.number}"


class FiringExecutor:
    """Runs firings; each in its own session, so none commits half of another's work."""

    def __init__(self, execution: WorkflowExecution) -> None:
        self._execution = execution
        self._ids: set[tuple[str, str, str]] = set()
        self._flying: dict[str, Firing] = {}

    def knows(self, firing_id: tuple[str, str, str]) -> bool:
        """Return whether this process is executing the recorded firing."""
        return firing_id in self._ids

    def flying(self) -> list[tuple[str, Firing]]:
        """Return the firings under way, with the name each has as an owner of awaits."""
        return list(self._flying.items())

    def take(
        self, firing: Firing, recorded: tuple[str, str, str] | None
    ) -> Callable[[], Awaitable[None]]:
        """Take a firing for one under way; returns what executes it, again on conflict.

        That ends when it is done or nothing is left of it.
        """
        execution = self._execution
        progress = _FiringState(execution.run_name, execution.actions[firing.event], firing)
        if recorded is not None:
            progress.id, progress.recorded = recorded, True
        self._ids.add(progress.id)
        self._flying[progress.owner] = firing
        return partial(self._fire, progress)

    async def _fire(self, progress: _FiringState) -> None:
        execution, firing = self._execution, progress.firing
        scope = self._scope(progress)
        try:
            with FiringPriority(execution.store.state.right_of_way) as right_of_way:
                while True:
                    await right_of_way.wait(conflicts=progress.attempts)
                    progress.attempts += 1
                    if await self._attempt(progress, scope):
                        break
                    scope = self._scope(progress)
        except BaseException:
            execution.engine.ended(firing, scope, time.monotonic(), scope.since)
            raise
        finally:
            self._ids.discard(progress.id)
            self._flying.pop(progress.owner, None)
            scope.end()
            progress.origin.end()
        if progress.runs or firing.study is not None:
            execution.bad_ends.fired_with(progress.records)
            execution.bad_ends.owner_ended(progress.owner)
            execution.engine.ended(firing, scope, time.monotonic(), scope.since)
        else:
            execution.engine.dropped(firing)
        if scope.finish_requested:
            execution.finish()
        execution.pump()

    def _scope(self, progress: _FiringState) -> ActionScope:
        execution = self._execution
        scope = ActionScope(
            execution.store.database,
            cause=progress.origin.name,
            event_name=getattr(progress.action.callback, "__name__", progress.action.name),
            guard=execution.lease.guard,
            origin=progress.origin,
            repeatable=is_event(progress.action.callback),
            on_commit=lambda: self._stretch_committed(progress, scope),
        )
        scope.owner = progress.owner
        scope.before_commit = lambda session, last: self._record(
            progress, scope, session, last=last
        )
        return scope

    def _stretch_committed(self, progress: _FiringState, scope: ActionScope) -> None:
        progress.recorded = True
        if scope.advanced:
            progress.attempts = 1
        if scope.finish_requested:
            self._execution.finish()

    async def _attempt(self, progress: _FiringState, scope: ActionScope) -> bool:
        """Call the action once; returns False where a conflict calls for another time."""
        action = progress.action
        problem: Exception | RerunAction | None = None
        with anyio.CancelScope() as unwinding:
            scope.unwind = unwinding.cancel
            try:
                await self._call_and_commit(progress, scope)
            except (ConflictError, RerunAction) as error:
                if not is_event(action.callback):
                    raise
                problem = scope.problem = error
            except Exception as error:
                if scope.problem is None:
                    raise
                problem = error
        if scope.problem is None:
            return True
        if not scope.to_rerun:
            raise scope.problem
        logger.info("fire again: event %s met a conflict (%r)", action.id, problem)
        scope.close()
        if progress.attempts >= MAX_CALLS:
            raise ConflictError(
                f"the action of event {action.name!r} met conflicts {MAX_CALLS} times in a row",
                hint="Does it write from threads of its own? Let those only compute.",
            )
        return False

    async def _call_and_commit(self, progress: _FiringState, scope: ActionScope) -> None:
        action = progress.action
        try:
            with entered(scope):
                if not await self._confirmed(progress, scope):
                    progress.runs = ()
                    return
                fault_points.point("orchestrator.confirmed")
                self._log(progress)
                scope.start_lane()
                try:
                    await self._call(progress)
                except SystemExit as error:
                    if not is_normal_exit(error):
                        raise
                    scope.request_finish()
            await scope.finish(last=True)
        except BaseException as error:
            error.add_note(f"in the action of event {action.name!r}, {action.where}")
            raise

    def _log(self, progress: _FiringState) -> None:
        runs = ", ".join(str(key) for key in progress.runs[:10])
        if len(progress.runs) > 10:
            runs += f", ... ({len(progress.runs)} runs)"
        trigger = f"runs {runs}" if progress.runs else f"study {progress.firing.study or '-'}"
        logger.info(
            "fire: event %s, action %s, %s", progress.action.id, location(progress.action.callback),
            trigger,
        )  # fmt: skip

    async def _call(self, progress: _FiringState) -> None:
        from motoko.orchestrator.calling import call

        execution, action = self._execution, progress.action
        offered: dict[str, Any] = {**execution.params, "workflow": execution.host}
        if progress.runs:
            offered["runs"] = pairs(execution.store, progress.records)
        if action.get_params is not None:
            offered["params"] = action.get_params()
        else:
            offered.setdefault("params", None)
        await call(action.callback, offered)

    # -- the trigger -----------------------------------------------------------------------

    async def _confirmed(self, progress: _FiringState, scope: ActionScope) -> bool:
        """Look at the trigger in the firing's own snapshot; drop runs that no longer match."""
        if progress.recorded:
            await run_in_thread(lambda: _resume(scope, progress))
            return True
        firing, action = progress.firing, progress.action
        if not firing.runs:
            return await self._plain_confirmed(progress)
        if action.kind is ConditionKind.CONSTRAINT:
            records = await run_in_thread(lambda: _matching(scope, action, firing.runs))
        else:
            matching = await self._still_matching(action, scope, firing.runs)
            kept = tuple(key for key in firing.runs if key in matching)
            records = await run_in_thread(lambda: _relied_on(scope, _records(scope, kept)))
        progress.records = records
        progress.runs = tuple(record.key for record in records)
        return bool(records)

    async def _still_matching(
        self, action: Action, scope: ActionScope, keys: tuple[RunKey, ...]
    ) -> frozenset[RunKey]:
        execution = self._execution
        if action.kind is ConditionKind.RUN_FILTER:
            return await evaluate_run_filter(
                action.condition, execution.store, lambda: _records(scope, keys)
            )
        if action.kind is ConditionKind.PLAIN:
            return frozenset(keys)
        found: set[RunKey] = set()
        for study in sorted({key.study for key in keys} | set(action.studies)):
            manager = execution.host.task_manager(study)
            answer = await evaluate_function(action, execution.host, manager, study)
            if not isinstance(answer, Truth):
                found |= answer.matching
        return frozenset(found)

    async def _plain_confirmed(self, progress: _FiringState) -> bool:
        action, study = progress.action, progress.firing.study
        if action.kind is not ConditionKind.WORKFLOW_FILTER or not study:
            return True
        host = self._execution.host
        answer = await evaluate_function(action, host, host.task_manager(study), study)
        return isinstance(answer, Truth) and answer.holds

    # -- the record ------------------------------------------------------------------------

    def _record(
        self, progress: _FiringState, scope: ActionScope, session: Session, *, last: bool
    ) -> None:
        """Add the firing's record to a stretch's commit; one that changed nothing has none."""
        once = progress.action.once
        if last and not (session.pending or progress.recorded or once):
            return
        if not last and progress.recorded and not session.pending:
            return  # nothing that a rerun could do twice
        trigger = progress.firing.study or ""
        if last:
            fault_points.point("orchestrator.before_done")
        session.add(
            RecordFiring(
                id=progress.id,
                status="done" if last else "open",
                trigger=trigger,
                runs=progress.runs,
                at=self._execution.store.now(),
                once=once,
                entries=NOTHING if last else scope.entries(),
                handled=self._execution.bad_ends.handled_by(progress.owner, progress.records)
                if last
                else (),
            )
        )


def _resume(scope: ActionScope, progress: _FiringState) -> None:
    """Learn what is committed of a firing, and read its runs as they are now."""
    with scope.view() as session:
        entries = session.tables.journal(progress.id)
    name = f"the action of event {progress.action.id!r}, {progress.action.where},"
    scope.journal = Journal(name, entries.calls, entries.written)
    progress.records = _records(scope, progress.runs)


def _records(scope: ActionScope, keys: tuple[RunKey, ...]) -> list[RunRecord]:
    with scope.view() as session:
        return existing_records(session, keys)


def _matching(scope: ActionScope, action: Action, keys: tuple[RunKey, ...]) -> list[RunRecord]:
    assert action.constraints is not None
    constraints = action.constraints
    records = [r for r in _records(scope, keys) if constraints[r.study].matches(r)]
    return _relied_on(scope, records)


def _relied_on(scope: ActionScope, records: list[RunRecord]) -> list[RunRecord]:
    with scope.view() as session:
        session.rely_on(record.key for record in records)
    return records
