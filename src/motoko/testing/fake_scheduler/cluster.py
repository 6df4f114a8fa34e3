"""Jobs, the tasks of arrays, and what happens to them, with a clock given from outside."""

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
KILL: Final = 9


@dataclass(eq=False, slots=True)
class FakeJob:
    """One submission. ``limit`` is in seconds, ``throttle``: how many tasks may run at a time."""

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

    @property
    def array(self) -> bool:
        """Whether it is an array."""
        return self.tasks[0].index is not None


@dataclass(eq=False, slots=True)
class FakeTask:
    """A job that is no array (``index`` None), or one task of an array.

    ``code`` and ``signal`` are those of its script. ``listed``: squeue and scontrol know it;
    ``accounted``: sacct does. ``wont_start``: it waits for its reason to go.
    """

    job: FakeJob
    index: int | None
    id: str
    state: str = PENDING
    reason: str = "None"
    code: int = 0
    signal: int = 0
    restarts: int = 0
    submitted: float = 0.0
    started: float | None = None
    ended: float | None = None
    suspended: float | None = None
    wont_start: bool = False
    listed: bool = True
    accounted: bool = True

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.ended is not None

    @property
    def going(self) -> bool:
        """Whether it is on a node."""
        return self.started is not None and not self.over

    def named(self, name: str) -> bool:
        """Return whether a command that says ``name`` means this task."""
        own = self.job.id if self.index is None else f"{self.job.id}_{self.index}"
        return name in (own, self.job.id)


class JobRunner(Protocol):
    """What runs the scripts of tasks."""

    def begin(self, task: FakeTask) -> None:
        """Have a task's script begin."""
        ...

    def ended(self, task: FakeTask) -> tuple[int, int] | None:
        """Return exit code and signal of a task's script, None while it runs."""
        ...

    def end(self, task: FakeTask) -> None:
        """End a task's script now."""
        ...


class Cluster:
    """Takes jobs, has them executed and keeps account of them.

    ``slots``: tasks that run at a time; ``remembered``: seconds for which ended jobs are listed.
    """

    def __init__(
        self,
        executor: JobRunner,
        clock: Callable[[], float],
        *,
        slots: int = 16,
        remembered: float = 300.0,
        max_array_size: int = 10001,
        accounting: bool = False,
    ) -> None:
        self.jobs: list[FakeJob] = []
        self.now = clock
        self.slots = slots
        self.remembered = remembered
        self.max_array_size = max_array_size
        self.accounting = accounting
        self._executor = executor
        self._ids: Iterator[int] = itertools.count(1)

    # -- jobs ------------------------------------------------------------------------------

    def tasks(self, name: str | None = None) -> Iterator[FakeTask]:
        """Return all tasks, or those that a command means by ``name``, forgotten ones too."""
        for job in self.jobs:
            for task in job.tasks:
                if name is None or task.named(name):
                    yield task

    def submit(
        self, job: FakeJob, indexes: Iterable[int] | None = None, *, held: bool = False
    ) -> FakeJob:
        """Take a job, whose ``id`` is given here."""
        job.id = str(next(self._ids))
        for index in [None] if indexes is None else indexes:
            job.tasks.append(FakeTask(job, index, job.id, submitted=self.now()))
        if held:
            for task in job.tasks:
                self.hold(task, "JobHeldUser")
        self.jobs.append(job)
        return job

    def reuse_ids(self) -> None:
        """Give the ids of forgotten jobs again, as a site does that has used all of them."""
        for job in self.jobs:
            if not any(task.listed for task in job.tasks):
                self._ids = itertools.chain([int(job.id)], self._ids)
                self.jobs.remove(job)
                return

    # -- time goes on ----------------------------------------------------------------------

    def advance(self) -> None:
        """Have happen what is due: ends, limits, starts, ended jobs forgotten."""
        for task in list(self.tasks()):
            if task.going and task.state != SUSPENDED:
                self._follow(task)
            elif task.over and self.now() - (task.ended or 0.0) > self.remembered:
                task.listed = False
        free = self.slots - sum(1 for task in self.tasks() if task.going)
        for task in list(self.tasks()):
            if free <= 0:
                break
            if task.state == PENDING and not task.wont_start and self._may_start(task):
                self.start(task)
                free -= 1

    def _follow(self, task: FakeTask) -> None:
        result = self._executor.ended(task)
        if result is not None:
            self._ended(task, *result)
        elif task.job.limit is not None and self.now() - (task.started or 0.0) > task.job.limit:
            self.finish(task, "TIMEOUT", "TimeLimit", signal=TERM)

    def _ended(self, task: FakeTask, code: int, signal: int) -> None:
        if signal:
            self._over(task, "FAILED", "JobLaunchFailure", 0, signal)
        elif code:
            self._over(task, "FAILED", "NonZeroExitCode", code, 0)
        else:
            self._over(task, "COMPLETED", "None", 0, 0)

    def _may_start(self, task: FakeTask) -> bool:
        throttle = task.job.throttle
        return throttle is None or sum(1 for t in task.job.tasks if t.going) < throttle

    # -- what happens to tasks -------------------------------------------------------------

    def start(self, task: FakeTask) -> None:
        """Start a task."""
        if task.index is not None and task.id == task.job.id and self._others_wait(task):
            task.id = str(next(self._ids))
        task.state, task.reason = RUNNING, "None"
        task.started = self.now()
        self._executor.begin(task)

    def _others_wait(self, task: FakeTask) -> bool:
        # The last task of an array to start keeps the array's own id.
        return any(t is not task and t.state == PENDING and t.listed for t in task.job.tasks)

    def finish(self, task: FakeTask, state: str, reason: str = "None", *, signal: int = 0) -> None:
        """End a task from outside, in this state."""
        if task.over:
            return
        if task.going:
            self._executor.end(task)
        self._over(task, state, reason, 0, signal)

    def _over(self, task: FakeTask, state: str, reason: str, code: int, signal: int) -> None:
        task.state, task.reason, task.code, task.signal = state, reason, code, signal
        task.ended = self.now()

    def cancel(self, name: str) -> bool:
        """Cancel a job or a task; returns whether there is one."""
        found = list(self.tasks(name))
        for task in found:
            if task.over:
                continue
            if task.going:
                self.finish(task, "CANCELLED", signal=TERM)
            else:
                self._over(task, "CANCELLED", task.reason, 0, 0)
                # A task that waits is listed nowhere once it alone is cancelled.
                task.listed = task.index is None or name == task.job.id
        return bool(found)

    def requeue(self, task: FakeTask, reason: str = "BeginTime", *, held: bool = False) -> None:
        """Put a running task back into the queue."""
        if task.going:
            self._executor.end(task)
        task.state, task.reason, task.started = PENDING, reason, None
        task.wont_start = held
        task.restarts += 1

    def hold(self, task: FakeTask, reason: str) -> None:
        """Keep a waiting task from starting, for this reason."""
        if task.state == PENDING:
            task.reason, task.wont_start = reason, True

    def release(self, task: FakeTask) -> None:
        """Let a waiting task start."""
        if task.state == PENDING:
            task.reason, task.wont_start = "None", False

    def suspend(self, task: FakeTask) -> None:
        """Suspend a running task; its script is taken to make no progress."""
        if task.state == RUNNING:
            task.state, task.suspended = SUSPENDED, self.now()

    def resume(self, task: FakeTask) -> None:
        """Resume a suspended task."""
        if task.state == SUSPENDED:
            task.state = RUNNING

    def forget(self, task: FakeTask) -> None:
        """Lose a task: it ends, and squeue, scontrol and sacct know nothing of it."""
        if task.going:
            self._executor.end(task)
        if not task.over:
            self._over(task, "CANCELLED", "None", 0, 0)
        task.listed = task.accounted = False


__all__ = ["PENDING", "RUNNING", "SUSPENDED", "Cluster", "FakeJob", "FakeTask", "JobRunner"]
