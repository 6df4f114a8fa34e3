"""Jobs and array tasks of the fake scheduler, on a clock that the test provides."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

PENDING: Final = "PENDING"
RUNNING: Final = "RUNNING"
SUSPENDED: Final = "SUSPENDED"
TERM: Final = 15


@dataclass(eq=False, slots=True)
class FakeJob:
    """One submission. ``limit`` is in seconds; ``throttle`` limits the concurrent tasks."""

    id: str
    script: str
    name: str
    comment: str = ""
    directory: str = "/"
    output: str = "/dev/null"
    cpus: int = 1
    limit: float | None = None
    throttle: int | None = None
    requeue: bool = True
    tasks: list[FakeTask] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class FakeTask:
    """One task of an array, or a single job (``index`` None).

    ``code`` and ``signal`` are the exit status of its script. ``listed``: squeue and scontrol
    report it; ``accounted``: sacct does. ``is_held``: it starts only after its release.
    """

    job: FakeJob
    index: int | None
    id: str
    state: str = PENDING
    reason: str = "None"
    code: int = 0
    signal: int = 0
    restarts: int = 0
    submit_time: float = 0.0
    start_time: float | None = None
    end_time: float | None = None
    suspend_time: float | None = None
    is_held: bool = False
    listed: bool = True
    accounted: bool = True

    @property
    def has_ended(self) -> bool:
        """Whether the task has ended."""
        return self.end_time is not None

    @property
    def is_running(self) -> bool:
        """Whether the task occupies a node."""
        return self.start_time is not None and not self.has_ended

    def matches(self, name: str) -> bool:
        """Return whether ``name``, as an argument of a command, includes this task."""
        own = self.job.id if self.index is None else f"{self.job.id}_{self.index}"
        return name in (own, self.job.id)


class JobRunner(Protocol):
    """Runs the scripts of tasks."""

    def start(self, task: FakeTask) -> None:
        """Start a task's script."""

    def poll(self, task: FakeTask) -> tuple[int, int] | None:
        """Return exit code and signal of a task's script, None while it runs."""

    def stop(self, task: FakeTask) -> None:
        """Stop a task's script now."""


class Cluster:
    """Accepts jobs, runs them and keeps account of them.

    ``slots`` tasks run at a time. Ended jobs are listed for ``retention`` seconds.
    """

    def __init__(
        self,
        runner: JobRunner,
        clock: Callable[[], float],
        *,
        slots: int = 16,
        retention: float = 300.0,
        max_array_size: int = 10001,
        accounting: bool = False,
    ) -> None:
        self.jobs: list[FakeJob] = []
        self.now = clock
        self.slots = slots
        self.retention = retention
        self.max_array_size = max_array_size
        self.accounting = accounting
        self._runner = runner
        self._ids: Iterator[int] = itertools.count(1)

    # -- jobs ------------------------------------------------------------------------------

    def tasks(self, name: str | None = None) -> Iterator[FakeTask]:
        """Yield all tasks that ``name`` includes (None: all), forgotten ones too."""
        for job in self.jobs:
            yield from (task for task in job.tasks if name is None or task.matches(name))

    def submit(
        self, job: FakeJob, indexes: Iterable[int] | None = None, *, held: bool = False
    ) -> FakeJob:
        """Accept a job and give it an ``id``."""
        job.id = str(next(self._ids))
        for index in [None] if indexes is None else indexes:
            job.tasks.append(FakeTask(job, index, job.id, submit_time=self.now()))
        if held:
            for task in job.tasks:
                self.hold(task, "JobHeldUser")
        self.jobs.append(job)
        return job

    def reuse_ids(self) -> None:
        """Reuse the id of a forgotten job, like a site that has used all ids."""
        for job in self.jobs:
            if not any(task.listed for task in job.tasks):
                self._ids = itertools.chain([int(job.id)], self._ids)
                self.jobs.remove(job)
                return

    # -- time ------------------------------------------------------------------------------

    def advance(self) -> None:
        """Apply everything that is due: ends, time limits, starts, forgotten jobs."""
        for task in list(self.tasks()):
            if task.is_running and task.state != SUSPENDED:
                self._update(task)
            elif task.has_ended and self.now() - (task.end_time or 0.0) > self.retention:
                task.listed = False
        free = self.slots - sum(1 for task in self.tasks() if task.is_running)
        for task in list(self.tasks()):
            if free <= 0:
                break
            if task.state == PENDING and not task.is_held and self._may_start(task):
                self.start(task)
                free -= 1

    def _update(self, task: FakeTask) -> None:
        result = self._runner.poll(task)
        if result is not None:
            code, signal = result
            if signal:
                self._end(task, "FAILED", "JobLaunchFailure", signal=signal)
            elif code:
                self._end(task, "FAILED", "NonZeroExitCode", code=code)
            else:
                self._end(task, "COMPLETED")
        elif task.job.limit is not None and self.now() - (task.start_time or 0.0) > task.job.limit:
            self.finish(task, "TIMEOUT", "TimeLimit", signal=TERM)

    def _may_start(self, task: FakeTask) -> bool:
        throttle = task.job.throttle
        return throttle is None or sum(1 for t in task.job.tasks if t.is_running) < throttle

    # -- tasks -----------------------------------------------------------------------------

    def start(self, task: FakeTask) -> None:
        """Start a task."""
        if task.index is not None and task.id == task.job.id and self._others_wait(task):
            task.id = str(next(self._ids))
        task.state, task.reason = RUNNING, "None"
        task.start_time = self.now()
        self._runner.start(task)

    def _others_wait(self, task: FakeTask) -> bool:
        # The last task of an array to start keeps the array's own id.
        return any(t is not task and t.state == PENDING and t.listed for t in task.job.tasks)

    def finish(self, task: FakeTask, state: str, reason: str = "None", *, signal: int = 0) -> None:
        """End a task from outside, in this state."""
        if task.has_ended:
            return
        if task.is_running:
            self._runner.stop(task)
        self._end(task, state, reason, signal=signal)

    def _end(
        self, task: FakeTask, state: str, reason: str = "None", *, code: int = 0, signal: int = 0
    ) -> None:
        task.state, task.reason, task.code, task.signal = state, reason, code, signal
        task.end_time = self.now()

    def cancel(self, name: str) -> bool:
        """Cancel a job or a task; return whether it exists."""
        found = list(self.tasks(name))
        for task in found:
            if task.is_running:
                self.finish(task, "CANCELLED", signal=TERM)
            elif not task.has_ended:
                self._end(task, "CANCELLED", task.reason)
                # Slurm does not list a pending task that was cancelled alone.
                task.listed = task.index is None or name == task.job.id
        return bool(found)

    def requeue(self, task: FakeTask, reason: str = "BeginTime", *, held: bool = False) -> None:
        """Return a running task to the queue."""
        if task.is_running:
            self._runner.stop(task)
        task.state, task.reason, task.start_time = PENDING, reason, None
        task.is_held = held
        task.restarts += 1

    def hold(self, task: FakeTask, reason: str) -> None:
        """Prevent the start of a pending task, for this reason."""
        if task.state == PENDING:
            task.reason, task.is_held = reason, True

    def release(self, task: FakeTask) -> None:
        """Allow the start of a pending task."""
        if task.state == PENDING:
            task.reason, task.is_held = "None", False

    def suspend(self, task: FakeTask) -> None:
        """Suspend a running task. Its script makes no progress."""
        if task.state == RUNNING:
            task.state, task.suspend_time = SUSPENDED, self.now()

    def resume(self, task: FakeTask) -> None:
        """Resume a suspended task."""
        if task.state == SUSPENDED:
            task.state = RUNNING

    def forget(self, task: FakeTask) -> None:
        """Lose a task: it ends, and no command reports it."""
        self.finish(task, "CANCELLED")
        task.listed = task.accounted = False
