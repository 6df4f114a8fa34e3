"""Execute one firing: confirm its trigger, call the action, commit each segment."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio

from motoko.core.changes import RecordFiring
from motoko.core.firing import ConditionKind
from motoko.core.reasons import EVENT_CAUSE
from motoko.core.records import RunKey
from motoko.core.replay import NO_ENTRIES, Journal
from motoko.core.run_sets import RunSet
from motoko.errors import ConflictError
from motoko.handles.run import run_job_pairs
from motoko.orchestrator.actions import call, is_event, is_normal_exit, location
from motoko.orchestrator.conditions import Truth, evaluate_function, evaluate_run_filter
from motoko.orchestrator.scopes import ActionScope, RerunAction
from motoko.runtime import fault_points
from motoko.storage.contention import FiringPriority
from motoko.storage.query import read_records
from motoko.storage.run_requests import RequestOrigin
from motoko.storage.scope import use_scope
from motoko.storage.tables import NO_RUN
from motoko.storage.threads import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from motoko.core.firing import Firing
    from motoko.core.records import RunRecord
    from motoko.orchestrator.actions import Action
    from motoko.orchestrator.execution_context import ExecutionContext
    from motoko.orchestrator.failures import FailureTracker
    from motoko.storage.session import Session

FiringId = tuple[str, str, str]
MAX_CALLS: Final = 50  # of one firing in a row that all meet conflicts
SHOWN: Final = 10  # runs in a log message
FRESH_SECONDS: Final = 0.05  # in which a firing is expected to commit

logger = logging.getLogger("motoko.orchestrator")


@dataclass(frozen=True, slots=True)
class FiringHistory:
    """An event's recorded open firings with their runs, and the runs of done ``once`` firings."""

    event: str
    open_firings: list[tuple[FiringId, tuple[RunKey, ...]]]
    done_runs: RunSet
    done: bool


def load_history(session: Session, run_name: str, action: Action) -> FiringHistory:
    """Return the recorded firings of an action under a run name."""
    tables = session.tables
    open_firings = []
    for firing_id in tables.open_firings(run_name, action.id):
        stored = tables.firing(firing_id) or {}
        runs = tuple(RunKey(*key) for key in stored.get("runs", ()))
        open_firings.append((firing_id, runs))
    found = RunSet(tables.once_records(run_name, action.id) if action.once else ())
    done = NO_RUN in found
    found.discard(NO_RUN)
    return FiringHistory(action.id, open_firings, found, done)


class _FiringState:
    """One firing across its calls.

    ``calls``: since its last commit that recorded something.
    """

    def __init__(self, action: Action, firing: Firing, firing_id: FiringId) -> None:
        self.action = action
        self.firing = firing
        self.id = firing_id
        self.recorded = False
        self.started = 0.0
        self.calls = 0
        self.runs: tuple[RunKey, ...] = firing.runs
        self.records: list[RunRecord] = []
        self.origin = RequestOrigin(f"{EVENT_CAUSE}{action.id}")
        self.owner = f"firing {firing.number}"


class FiringExecutor:
    """Executes firings, each in a session that commits no other firing's writes.

    ``on_end`` is called after each, ``on_commit`` after each segment but the last.
    """

    def __init__(
        self,
        context: ExecutionContext,
        failures: FailureTracker,
        *,
        on_end: Callable[[], None],
        on_commit: Callable[[], None],
    ) -> None:
        self._context = context
        self._failures = failures
        self._on_end = on_end
        self._notify_commit = on_commit
        self._states: dict[FiringId, _FiringState] = {}
        self._fresh: dict[FiringId, _FiringState] = {}  # without a commit, oldest first

    def is_executing(self, firing_id: FiringId) -> bool:
        """Return whether this process executes the recorded firing."""
        return firing_id in self._states

    def has_fresh(self) -> bool:
        """Return whether a firing started a moment ago and has not committed yet."""
        now = self._context.clock.monotonic()
        while self._fresh:
            state = next(iter(self._fresh.values()))
            if now - state.started < FRESH_SECONDS:
                return True
            del self._fresh[state.id]
        return False

    def in_flight(self) -> list[tuple[str, Firing]]:
        """Return the unfinished firings, each with its name as an owner of awaits."""
        return [(state.owner, state.firing) for state in self._states.values()]

    def start(self, firing: Firing, firing_id: FiringId | None) -> Callable[[], Awaitable[None]]:
        """Register a firing, and return the function that executes it.

        ``firing_id``: that of a recorded open firing.
        """
        context, action = self._context, self._context.actions[firing.event]
        runtime = context.store.runtime
        stamp = f"{int(runtime.clock.now() * 1e9):020d}-{runtime.rng.token(4)}"
        state = _FiringState(action, firing, firing_id or (context.run_name, action.id, stamp))
        state.recorded = firing_id is not None
        state.started = runtime.clock.monotonic()
        self._states[state.id] = self._fresh[state.id] = state
        return partial(self._execute, state)

    async def _execute(self, state: _FiringState) -> None:
        """Call the action until it meets no conflict, or no run of its trigger matches."""
        context, firing = self._context, state.firing
        scope = self._scope(state)
        try:
            with FiringPriority(context.store.state.firing_lock, context.store.runtime) as priority:
                while True:
                    await priority.wait(conflicts=state.calls)
                    state.calls += 1
                    if await self._try(state, scope):
                        break
                    scope = self._scope(state)
        except BaseException:
            context.engine.on_finished(
                firing, scope, context.clock.monotonic(), scope.snapshot_number
            )
            raise
        finally:
            del self._states[state.id]
            self._fresh.pop(state.id, None)
            scope.end()
            state.origin.end()
        if state.runs or firing.study is not None:
            self._failures.on_owner_completed(state.owner, state.records)
            context.engine.on_finished(
                firing, scope, context.clock.monotonic(), scope.snapshot_number
            )
        else:
            context.engine.on_dropped(firing)
        if scope.finish_requested:
            context.tasks.finish()
        self._on_end()

    def _scope(self, state: _FiringState) -> ActionScope:
        callback = state.action.callback
        scope = ActionScope(
            self._context.store.database,
            cause=state.origin.name,
            event_name=getattr(callback, "__name__", state.action.name),
            guard=self._context.lease.guard,
            origin=state.origin,
            owner=state.owner,
            repeatable=is_event(callback),
            firing=state.id[2],
            on_commit=lambda: self._on_commit(state, scope),
        )
        scope.before_commit = lambda session, last: self._record(state, scope, session, last=last)
        return scope

    def _on_commit(self, state: _FiringState, scope: ActionScope) -> None:
        state.recorded = True
        self._fresh.pop(state.id, None)
        if scope.advanced:
            state.calls = 1
        self._notify_commit()
        if scope.finish_requested:
            self._context.tasks.finish()

    async def _try(self, state: _FiringState, scope: ActionScope) -> bool:
        """Call the action once; return False if a conflict requires another call."""
        action = state.action
        problem: Exception | RerunAction | None = None
        with anyio.CancelScope() as unwinding:
            scope.unwind = unwinding.cancel
            try:
                await self._call_and_commit(state, scope)
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
        logger.info("fire again: event %s had a conflict (%r)", action.id, problem)
        scope.close()
        if state.calls >= MAX_CALLS:
            raise ConflictError(
                f"the action of event {action.name!r} had conflicts {MAX_CALLS} times in a row",
                hint="Does it write from its own threads? Let those only compute.",
            )
        return False

    async def _call_and_commit(self, state: _FiringState, scope: ActionScope) -> None:
        try:
            with use_scope(scope):
                if not await self._confirm(state, scope):
                    state.runs = ()
                    return
                fault_points.point("orchestrator.confirmed")
                self._log(state)
                scope.start_lane()
                try:
                    await self._call(state)
                except SystemExit as error:
                    if not is_normal_exit(error):
                        raise
                    scope.request_finish()
            await scope.finish(last=True)
        except BaseException as error:
            error.add_note(f"in the action of event {state.action.name!r}, {state.action.where}")
            raise

    def _log(self, state: _FiringState) -> None:
        runs = ", ".join(str(key) for key in state.runs[:SHOWN])
        if len(state.runs) > SHOWN:
            runs += f", ... ({len(state.runs)} runs)"
        trigger = f"runs {runs}" if state.runs else f"study {state.firing.study or '-'}"
        logger.info(
            "fire: event %s, action %s, %s",
            state.action.id, location(state.action.callback), trigger,
        )  # fmt: skip

    async def _call(self, state: _FiringState) -> None:
        context, action = self._context, state.action
        offered: dict[str, Any] = {**context.params, "workflow": context.host}
        if state.runs:
            offered["runs"] = run_job_pairs(context.store, state.records)
        if action.get_params is not None:
            offered["params"] = action.get_params()
        else:
            offered.setdefault("params", None)
        await call(action.callback, offered)

    # -- the trigger -----------------------------------------------------------------------

    async def _confirm(self, state: _FiringState, scope: ActionScope) -> bool:
        """Check the trigger in the firing's own snapshot; drop runs that no longer match."""
        if state.recorded:
            await run_in_thread(lambda: _load_journal(scope, state))
            return True
        firing, action = state.firing, state.action
        if not firing.runs:
            return await self._confirm_truth(state)
        if action.kind is ConditionKind.CONSTRAINT:
            records = await run_in_thread(lambda: _rely_on_matching(scope, action, firing.runs))
        else:
            matching = await self._still_matching(action, scope, firing.runs)
            kept = tuple(key for key in firing.runs if key in matching)
            records = await run_in_thread(lambda: _rely_on(scope, read_records(scope, kept)))
        state.records = records
        state.runs = tuple(record.key for record in records)
        return bool(records)

    async def _still_matching(
        self, action: Action, scope: ActionScope, keys: tuple[RunKey, ...]
    ) -> frozenset[RunKey]:
        context = self._context
        if action.kind is ConditionKind.RUN_FILTER:
            return await evaluate_run_filter(
                action.condition, context.store, lambda: read_records(scope, keys)
            )
        if action.kind is ConditionKind.NO_ARGUMENTS:
            return frozenset(keys)
        found: set[RunKey] = set()
        for study in sorted({key.study for key in keys} | set(action.studies)):
            manager = context.host.task_manager(study)
            result = await evaluate_function(action, context.host, manager, study)
            if not isinstance(result, Truth):
                found |= result.matching
        return frozenset(found)

    async def _confirm_truth(self, state: _FiringState) -> bool:
        action, study, host = state.action, state.firing.study, self._context.host
        if action.kind is not ConditionKind.TASK_MANAGER_FILTER or not study:
            return True
        result = await evaluate_function(action, host, host.task_manager(study), study)
        return isinstance(result, Truth) and result.holds

    # -- the record ------------------------------------------------------------------------

    def _record(
        self, state: _FiringState, scope: ActionScope, session: Session, *, last: bool
    ) -> None:
        """Add the firing's record to a segment's commit, unless nothing changed."""
        once = state.action.once
        if last and not (session.pending or state.recorded or once):
            return
        if not last and state.recorded and not session.pending:
            return  # a rerun repeats nothing
        if last:
            fault_points.point("orchestrator.before_done")
        handled = self._failures.handled_by(state.owner, state.records) if last else ()
        session.add(
            RecordFiring(
                id=state.id,
                status="done" if last else "open",
                trigger=state.firing.study or "",
                runs=state.runs,
                at=self._context.store.now(),
                once=once,
                entries=NO_ENTRIES if last else scope.entries(),
                handled=handled,
                code=state.action.code,
            )
        )


def _load_journal(scope: ActionScope, state: _FiringState) -> None:
    """Load the committed segments of a firing, and read its runs' current records."""
    with scope.read() as session:
        entries = session.tables.journal(state.id)
    name = f"the action of event {state.action.id!r}, {state.action.where},"
    scope.journal = Journal(name, entries.calls, entries.written)
    state.records = read_records(scope, state.runs)


def _rely_on_matching(
    scope: ActionScope, action: Action, keys: tuple[RunKey, ...]
) -> list[RunRecord]:
    assert action.constraints is not None
    constraints = action.constraints
    records = [r for r in read_records(scope, keys) if constraints[r.study].matches(r)]
    return _rely_on(scope, records)


def _rely_on(scope: ActionScope, records: list[RunRecord]) -> list[RunRecord]:
    with scope.read() as session:
        session.rely_on(record.key for record in records)
    return records
