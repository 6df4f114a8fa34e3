"""Executors: the base class of the local and the batch executor, and the set of a launcher's."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Protocol

from motoko.core.states import Lifecycle
from motoko.errors import Fenced, LauncherError, ServerError
from motoko.launcher import attempt_files
from motoko.launcher.attempt_outcome import AttemptOutcome
from motoko.launcher.attempts import AttemptEnd
from motoko.launcher.harvest import failure_before
from motoko.launcher.preparation import (
    DIRECTORY_IN_USE,
    REQUEUE_SECONDS,
    SHORTAGE_SECONDS,
    RunNotStartable,
    is_resource_shortage,
)
from motoko.launcher.run_directory import AttemptSuperseded
from motoko.launcher.source_files import SourceFiles

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from anyio.abc import TaskGroup

    from motoko.config import QueueLimits
    from motoko.launcher.attempts import Attempt, PendingUpdates, SlotPool
    from motoko.launcher.claiming import Load
    from motoko.launcher.start_notes import StartNotes
    from motoko.runtime.processes import ProcessIdentity
    from motoko.storage.store import WorkflowStore

log = logging.getLogger(__name__)


class ProcessHandle(Protocol):
    """The process group of a started attempt; ``pid`` leads it."""

    pid: int
    has_ended: bool

    @property
    def identity(self) -> ProcessIdentity | None:
        """The identity of the process, None if it ended before anyone read it."""

    async def wait(self) -> int | None:
        """Wait for the end; return the exit status, negative for a signal, None if unknown."""

    def notify(self, on_end: Callable[[int | None], object]) -> bool:
        """Call ``on_end`` with that status at the end; return False if that is impossible."""

    async def stop(self, grace: float) -> None:
        """Terminate the group, kill it after ``grace`` seconds, and wait for the end."""

    def is_alone(self) -> bool:
        """Return whether its group has no other member, once it has ended."""

    def reuse(self) -> bool:
        """Let the process run another attempt, after one that left none; return whether it can."""

    async def stop_remaining(self, grace: float) -> list[int]:
        """Stop the remaining members of the group; return those that do not end."""

    def forget(self) -> None:
        """Stop watching the process, which continues."""


class Executor(ABC):
    """Executes the attempts of one pool, and reports what happens to them as updates."""

    def __init__(
        self, store: WorkflowStore, pool: SlotPool, updates: PendingUpdates, starts: StartNotes
    ) -> None:
        self.pool = pool
        self._store = store
        self._updates = updates
        self._starts = starts
        self._files = SourceFiles(store.clock)

    @abstractmethod
    def start(self, tasks: TaskGroup) -> None:
        """Start the executor's tasks."""

    @abstractmethod
    async def adopt(self, attempt: Attempt, *, restarted: bool = False) -> None:
        """Adopt an abandoned attempt; ``restarted``: the machine has restarted since the claim."""

    @abstractmethod
    def _on_slots_changed(self) -> None:
        """Start the waiting attempts that have slots, after the current step of the event loop."""

    @abstractmethod
    def _stop_started(self, attempt: Attempt) -> None:
        """Stop a cancelled attempt, if it has started."""

    @abstractmethod
    def _abandon(self, attempt: Attempt) -> None:
        """Stop an attempt whose run belongs to another launcher."""

    @abstractmethod
    def _unwatch(self, attempt: Attempt) -> bool:
        """Stop watching an attempt; return False if it was not started."""

    # -- the launcher's requests -----------------------------------------------------------

    def submit(self, attempt: Attempt) -> None:
        """Queue an attempt. It starts as soon as slots are free."""
        self.pool.add(attempt)
        self._on_slots_changed()

    def cancel(self, attempt: Attempt, reason: Lifecycle) -> None:
        """Stop an attempt. The first reason counts; CREATED requeues the run."""
        ended = attempt.already_ended or not self.pool.contains(attempt)
        if ended or attempt.stop_reason is not None:
            return
        attempt.stop_reason = reason
        if self.pool.is_waiting(attempt):
            self._end_waiting(attempt)
        self._stop_started(attempt)

    def detach(self, attempt: Attempt) -> None:
        """Stop an attempt whose run belongs to another launcher, and record nothing."""
        self._abandon(attempt)
        self.pool.remove(attempt)
        self._on_slots_changed()

    def release(self) -> list[Attempt]:
        """Stop watching all attempts; return those that were not started."""
        idle = [attempt for attempt in self.pool.attempts() if not self._unwatch(attempt)]
        return [a for a in idle if a.started_at is None and not a.already_ended]

    def set_limits(self, slots: int, limits: QueueLimits) -> None:
        """Apply changed limits."""
        self.pool.slots = slots
        self._on_slots_changed()

    # -- shared by the executors -----------------------------------------------------------

    def _end_waiting(self, attempt: Attempt) -> None:
        """End an attempt that waits for slots."""
        self._end(attempt, None)

    def _fail_start(self, attempt: Attempt, problem: Exception) -> None:
        """Requeue or fail an attempt that cannot be started; raise an error of the launcher."""
        if isinstance(problem, AttemptSuperseded):
            log.warning("run %s: %s", attempt.key, problem)
            self._requeue(attempt, DIRECTORY_IN_USE, REQUEUE_SECONDS)
        elif is_resource_shortage(problem):
            log.warning("run %s has to wait: %s", attempt.key, problem)
            self._requeue(
                attempt, f"resources are too scarce to start it: {problem}", SHORTAGE_SECONDS
            )
        elif isinstance(problem, RunNotStartable):
            reason = f"it cannot be started: {problem}"
            self._end(attempt, None, outcome=AttemptOutcome(Lifecycle.FAILED, None, reason))
        elif isinstance(problem, (Fenced, ServerError)):
            raise problem
        else:
            raise LauncherError(
                f"run {attempt.key} cannot be started: {problem}",
                hint="It stays CREATED. Correct this, then start the launcher again.",
            ) from problem

    def _restore(self, attempt: Attempt) -> None:
        """Read an earlier launcher's knowledge of an attempt from its files. Blocks."""
        attempt.stop_reason = attempt_files.read_stop_reason(attempt.paths)
        attempt.reported_failure = failure_before(attempt.paths.outbox, attempt.outbox_offset)

    def _end(
        self,
        attempt: Attempt,
        status: int | None,
        time: float | None = None,
        *,
        outcome: AttemptOutcome | None = None,
        fault: str | None = None,
    ) -> None:
        attempt.already_ended = True
        self.pool.record_end()
        end = AttemptEnd(
            attempt, status, self._store.now() if time is None else time, outcome, fault
        )
        self._updates.ended.append(end)
        self._leave(attempt)

    def _requeue(self, attempt: Attempt, cause: str, delay: float = 0.0) -> None:
        self._updates.requeued.append((attempt, cause, delay))
        self._leave(attempt)

    def _leave(self, attempt: Attempt) -> None:
        self.pool.release(attempt)
        self._updates.wake()
        self._on_slots_changed()


class ExecutorSet(dict[str, Executor]):
    """The executors of a launcher, by generator."""

    def start(self, tasks: TaskGroup) -> None:
        """Start all executors."""
        for executor in self.values():
            executor.start(tasks)

    def executor_of(self, attempt: Attempt) -> Executor:
        """Return the executor of an attempt."""
        owners = (executor for executor in self.values() if executor.pool.contains(attempt))
        return next(owners, self[attempt.options.generator])

    def attempts(self) -> list[Attempt]:
        """Return all attempts that are not finalized."""
        return [a for executor in self.values() for a in executor.pool.attempts()]

    def waiting(self) -> list[Attempt]:
        """Return the attempts that wait for slots."""
        return [a for a in self.attempts() if self.executor_of(a).pool.is_waiting(a)]

    def remove(self, attempt: Attempt) -> None:
        """Remove a finalized attempt."""
        self.executor_of(attempt).pool.remove(attempt)

    def release(self) -> list[Attempt]:
        """Stop watching all attempts; return those that were not started."""
        return [a for executor in self.values() for a in executor.release()]

    def set_limits(self, slots: Mapping[str, int], limits: QueueLimits) -> None:
        """Apply changed limits; ``slots`` by generator."""
        for name, executor in self.items():
            executor.set_limits(slots[name], limits)

    def loads(self) -> dict[str, Load]:
        """Return the loads that limit further claims, by generator."""
        return {name: executor.pool.load() for name, executor in self.items()}
