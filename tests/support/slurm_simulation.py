"""A simulation of launchers and a scheduler with random faults, on a virtual clock.

No script runs: `Wrapper` plans the executions and writes their files. Each step advances the clock.
All random choices come from one seed.
"""

from __future__ import annotations

import logging
import os
from collections import Counter, defaultdict, deque
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar
from unittest.mock import patch

import anyio
import anyio.lowlevel

from motoko.config import QueueLimits
from motoko.core.changes import EditRun
from motoko.core.edits import Cancel
from motoko.core.run_options import BASH, SLURM
from motoko.core.states import Lifecycle
from motoko.errors import Fenced
from motoko.launcher.claiming import Capacity, ServedQueue
from motoko.launcher.composition import assemble_launcher
from motoko.launcher.executors.batch.executor import BatchExecutor
from motoko.launcher.executors.process_spawner import ProcessSpawner
from motoko.launcher.launcher import Launcher, LauncherOptions
from motoko.launcher.schedulers.slurm.scheduler import SlurmScheduler
from motoko.runtime.ports import COMMAND_SECONDS, CommandResult, Runtime
from motoko.storage.commit import run_transaction
from motoko.storage.launcher_leases import machine_names
from motoko.storage.session import Session
from motoko.testing import add_run, memory_store, study_config
from motoko.testing.fake_scheduler.cluster import PENDING, RUNNING, SUSPENDED, Cluster
from motoko.testing.fake_scheduler.commands import FakeCommands
from motoko.testing.fake_scheduler.failure_modes import FailureMode
from tests.support.slurm_verdict import LIMIT, Truth, Verdict
from tests.support.slurm_wrapper import Time, Wrapper

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
    from random import Random

    from motoko.core.records import RunKey, RunRecord
    from motoko.runtime.processes import ProcessIdentity
    from motoko.storage.store import WorkflowStore
    from motoko.testing.fake_scheduler.cluster import FakeTask

T = TypeVar("T")
STUDY = "study"
LEASE = 30.0
LAG = 60.0
MACHINE_ENDS = ("NODE_FAIL", "BOOT_FAIL", "PREEMPTED")
POINTS = (
    "launcher.claimed", "launcher.prepared", "launcher.before_commit", "launcher.after_commit",
    "launcher.reclaimed", "launcher.submission_written", "launcher.submitted",
    "launcher.job_recorded",
)  # fmt: skip
FAILURES = {
    program: tuple(FailureMode[name] for name in names.split())
    for program, names in {
        "sbatch": "PRINTS_NOTHING TIMED_OUT UNREACHABLE HANGS HANGS_IGNORED FAILS_SILENTLY "
        "TRUNCATED REFUSED REFUSED_BUT_LISTED RETRY_LATER QUEUE_FULL DUPLICATES "
        "SUBMITTED_LATE",
        "squeue": "TIMED_OUT UNREACHABLE HANGS FAILS_SILENTLY TRUNCATED CUTS_LISTS UNKNOWN_STATES "
        "LISTS_NOTHING DUPLICATES",
        "scancel": "TIMED_OUT UNREACHABLE HANGS HANGS_IGNORED FAILS_SILENTLY",
        "scontrol": "TIMED_OUT UNREACHABLE HANGS FAILS_SILENTLY TRUNCATED",
        "sacct": "TIMED_OUT UNREACHABLE HANGS FAILS_SILENTLY TRUNCATED",
    }.items()
}


class KilledError(BaseException):
    """The launcher was killed."""


def _by_time(_: ProcessIdentity, *, renewed: bool) -> bool:
    return renewed


class Commands:
    """Runs the commands of the fake scheduler in this process."""

    def __init__(self, world: Simulation) -> None:
        self._world = world

    async def run(
        self,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        directory: str | None = None,
        seconds: float = COMMAND_SECONDS,
    ) -> CommandResult:
        world = self._world
        for _ in range(world.random.choice((0, 0, 1, 3))):
            await anyio.lowlevel.checkpoint()
        printed = world.commands.call(argv, list_length=0)
        world.time.seconds += 0.01
        if printed.status is None:
            world.time.seconds += seconds
            world.wrapper.deliver()
        for _ in range(world.random.choice((0, 0, 1, 3))):
            await anyio.lowlevel.checkpoint()
        problem = f"no answer within {seconds} s" if printed.status is None else None
        return CommandResult(printed.status, printed.stdout, printed.stderr, problem)


@dataclass
class Simulation:
    """One workflow, one scheduler, and launchers that start and end."""

    random: Random
    directory: Path
    fault_rate: float = 0.25  # probability of a fault
    pace: tuple[float, ...] = (0.1, 0.5, 1.0, 5.0, 10.0, 30.0)  # seconds from step to step
    faults: Counter[str] = field(default_factory=Counter)
    truths: defaultdict[tuple[int, int], Truth] = field(default_factory=lambda: defaultdict(Truth))
    problems: list[str] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    planned: defaultdict[str, deque[FailureMode]] = field(
        default_factory=lambda: defaultdict(deque)
    )

    def __post_init__(self) -> None:
        self.time = Time()
        self.wrapper = Wrapper(self.random, self.time)
        self.cluster = Cluster(
            self.wrapper, self.time.now, slots=self.random.choice((3, 30)),
            retention=self.random.choice((20.0, 300.0)), accounting=self.random.random() < 0.5,
        )  # fmt: skip
        self.commands = FakeCommands(self.cluster, self._next_failure)
        study = self.directory / STUDY
        study.mkdir(parents=True)
        for name in ("launch.sh", "bd.yaml"):
            (study / name).write_text("")
        (self.directory / ".wf").mkdir()
        config = study_config(STUDY, {"x": "int"}, directory=self.directory)
        self.store: WorkflowStore = memory_store(
            {STUDY: config},
            directory=self.directory,
            runtime=Runtime(clock=self.time),
        )
        self.keys: list[RunKey] = []
        self.launcher: Launcher | None = None
        self.asleep: list[Launcher] = []
        self.to_kill: str | None = None
        self.polls = 0
        self._stack = ExitStack()

    # -- the stage -------------------------------------------------------------------------

    def __enter__(self) -> Self:
        for module in ("executors.batch.executor", "executors.batch.submit", "launcher"):
            self._stack.enter_context(patch(f"motoko.launcher.{module}.run_in_thread", _here))
        self._stack.enter_context(patch("motoko.launcher.launcher.run_in_committer", _committed))
        self._stack.enter_context(patch("motoko.runtime.fault_points.point", self._point))
        # All launchers are in this process: a sleeping one counts as stopped.
        self._stack.enter_context(patch("motoko.runtime.processes.keeps_lease", _by_time))
        logging.disable(logging.CRITICAL)
        return self

    def __exit__(self, *_: object) -> None:
        logging.disable(logging.NOTSET)
        self._stack.close()
        self.store.close()

    def _point(self, name: str) -> None:
        if name == self.to_kill:
            self.to_kill = None
            raise KilledError(name)

    def _by_chance(self, often: float = 1.0) -> bool:
        return self.random.random() < self.fault_rate * often

    def _next_failure(self, program: str) -> FailureMode | None:
        if self.planned[program]:
            return self.planned[program].popleft()
        if not self._by_chance():
            return None
        found = self.random.choice(FAILURES[program])
        self.commands.delay = self.random.choice((5.0, 25.0, 100.0))
        self.faults[f"{program} {found.name}"] += 1
        return found

    # -- runs ------------------------------------------------------------------------------

    def create(self, count: int) -> None:
        session = Session(self.store.database)
        for _ in range(count):
            number = len(self.keys)
            resources = self.random.choice(({}, {"timeout": LIMIT}, {"retries": 1}))
            self.keys.append(
                add_run(session, STUDY, {"x": number}, at=self.time.now(), options=resources)
            )
        self.store.database.submit(session.commit).result()
        session.close()

    def record(self, key: RunKey) -> RunRecord:
        with self.store.autocommit_scope.read() as session:
            return session.run(key)

    def records(self) -> list[RunRecord]:
        with self.store.autocommit_scope.read() as session:
            return [session.run(key) for key in self.keys]

    def truth(self, task: FakeTask) -> Truth:
        """Return the simulated events of a task's attempt."""
        directory = task.job.script.rpartition("/")[0]
        try:
            path = Path(os.readlink(f"{directory}/tasks/{task.index or 0}"))
        except FileNotFoundError:
            return Truth()  # the submission was removed
        run = path.parent
        for place in run.parent.glob(f"{run.name}*/.motoko"):
            number, _, token = place.read_text().split("\n")[0].split()
            if path.name != f".motoko-{token}":
                continue
            return self.truths[int(run.name.removeprefix("run-")), int(number)]
        return Truth()

    # -- launchers -------------------------------------------------------------------------

    def _new(self) -> Launcher:
        options = LauncherOptions(
            studies=(STUDY,),
            served=ServedQueue(frozenset({BASH, SLURM}), machine_names(None)),
            capacities={BASH: Capacity(4), SLURM: Capacity(1000)},
            limits=QueueLimits(array_size=self.random.choice((1, 4, 40)), submit_rate=1e9),
            defaults={STUDY: {"generator": SLURM}},
            lease=LEASE,
            files_lag=LAG,
        )
        return assemble_launcher(
            self.store, options, ProcessSpawner(), SlurmScheduler(), Commands(self)
        )

    async def open(self) -> None:
        launcher = self._new()
        await _committed(self.store.database, launcher._sync.open)
        launcher._start_notes.open()
        self.launcher = launcher
        await self._run_until_killed(launcher._recover)

    async def _run_until_killed(self, work: Callable[[], Awaitable[Any]]) -> None:
        """Await the launcher's work, which a fault may kill."""
        launcher = self.launcher
        assert launcher is not None
        try:
            await work()
        except BaseExceptionGroup as group:
            if group.split(KilledError)[1] is not None:
                raise
            await self._discard_launcher(launcher)
        except KilledError:
            await self._discard_launcher(launcher)

    async def _discard_launcher(self, launcher: Launcher) -> None:
        database = self.store.database
        await _committed(database, launcher._sync.session.close)
        transact_here = lambda: run_transaction(  # noqa: E731
            database, lambda tables: tables.drop_lease(launcher.me.key)
        )
        await _committed(database, transact_here)
        self.launcher = None

    def executor(self, launcher: Launcher) -> BatchExecutor:
        executor = launcher._executors[SLURM]
        assert isinstance(executor, BatchExecutor)
        return executor

    async def _cycle(self, launcher: Launcher) -> None:
        """Run each of the launcher's loops once."""
        executor = self.executor(launcher)

        async def poll() -> None:
            before = self.commands.calls["squeue"]
            await executor.poll_once()
            self.polls += 1
            if self.commands.calls["squeue"] - before > 1:
                self.problems.append("more than one squeue in a poll")

        parts: list[Callable[[], Coroutine[Any, Any, Any]]] = [
            launcher._sync_once,
            executor.submit_fitting,
            poll,
        ]
        self.random.shuffle(parts)
        if self.random.random() < 0.5:
            for part in parts:
                await part()
        else:
            async with anyio.create_task_group() as tasks:
                for part in parts:
                    tasks.start_soon(part)

    # -- a step ----------------------------------------------------------------------------

    async def step(self) -> None:
        self._advance(self.random.choice(self.pace))
        for _ in range(3):
            if self._by_chance():
                self._inject_fault()
        if self.launcher is None:
            await self.open()
        elif self._by_chance(0.5):
            await self._change_launchers()
        if self.launcher is not None:
            launcher = self.launcher
            if self._by_chance(0.2):
                self.to_kill = self.random.choice(POINTS)
                self.faults["killed"] += 1
            await self._run_until_killed(lambda: self._cycle(launcher))
        for old in list(self.asleep):
            if self.random.random() < 0.5:
                await self._wake(old)

    def _advance(self, seconds: float) -> None:
        self.time.seconds += seconds
        self.wrapper.deliver()
        self.cluster.advance()

    async def _change_launchers(self) -> None:
        launcher = self.launcher
        assert launcher is not None
        kind = self.random.choice(("stopped", "asleep", "recall", "safety"))
        self.faults[f"launcher: {kind}"] += 1
        match kind:
            case "stopped":
                await self._run_until_killed(lambda: launcher._finish(fenced=False))
                self.launcher = None
            case "asleep":
                self.asleep.append(launcher)
                self._advance(LEASE + 1)
                self.launcher = None
            case "recall":
                executor = self.executor(launcher)
                for active in executor.pool.attempts():
                    if self.random.random() < 0.3:
                        self.truths[active.key.id, active.record.attempt].asked_to_end = True
                        executor.cancel(active, Lifecycle.CREATED)
            case "safety":
                await self._run_until_killed(launcher._recover)
        if self.launcher is None:
            await self.open()

    async def _wake(self, old: Launcher) -> None:
        """Let a replaced launcher continue until it notices."""
        database = self.store.database
        try:
            await self._cycle(old)
            if self.random.random() < 0.5:
                await _committed(database, old._sync.renew)
        except (Fenced, KilledError):
            pass
        except BaseExceptionGroup as group:
            if group.split((Fenced, KilledError))[1] is not None:
                raise
        else:
            return
        self.asleep.remove(old)
        await _committed(database, old._sync.session.close)

    def _inject_fault(self) -> None:
        """Inject a fault into a task or a run."""
        if self.random.random() < 0.15:
            key = self.random.choice(self.keys)
            record = self.record(key)
            if not record.lifecycle.is_terminal:
                self.faults["cancel asked for"] += 1
                self.truths[key.id, record.attempt].asked_to_end = True
                cancel = EditRun(key, Cancel(self.time.now(), "cancelled"), blind=True)
                self.store.autocommit_scope.write(cancel)
            return
        if self.random.random() < 0.05:
            self.faults["ids repeated"] += 1
            self.cluster.reuse_ids()
        tasks = [task for task in self.cluster.tasks() if not task.has_ended and task.listed]
        if not tasks:
            return
        task = self.random.choice(tasks)
        kinds = {
            PENDING: ("cancel", "drop", "hold", "hold", "start", "release", "release"),
            RUNNING: ("cancel", "drop", "machine", "machine", "limit", "memory", "requeue",
                      "suspend", "requeue, hold"),
            SUSPENDED: ("resume", "cancel"),
        }[task.state]  # fmt: skip
        kind = self.random.choice(kinds)
        self.faults[f"task: {kind}"] += 1
        self.hit(task, kind)

    def hit(self, task: FakeTask, kind: str) -> None:
        cluster, truth = self.cluster, self.truth(task)
        match kind:
            case "cancel":
                truth.cancelled = True
                name = task.job.id if task.index is None else f"{task.job.id}_{task.index}"
                cluster.cancel(name)
            case "drop":
                truth.dropped = True
                cluster.forget(task)
            case "hold":
                cluster.hold(task, self.random.choice(("JobHeldUser", "JobHeldAdmin")))
            case "release":
                cluster.release(task)
            case "start":
                if not task.is_held:
                    cluster.start(task)
            case "machine":
                truth.machine = True
                cluster.finish(task, self.random.choice(MACHINE_ENDS), "NodeDown", signal=15)
            case "limit":
                truth.limit = True
                cluster.finish(task, "TIMEOUT", "TimeLimit", signal=15)
            case "memory":
                truth.memory = True
                cluster.finish(task, "OUT_OF_MEMORY", "OutOfMemory", signal=9)
            case "requeue":
                truth.machine = True
                cluster.requeue(task, self.random.choice(("BeginTime", "None")))
            case "requeue, hold":
                truth.machine = True
                cluster.requeue(task, "job requeued in held state", held=True)
            case "suspend":
                cluster.suspend(task)
            case "resume":
                cluster.resume(task)

    # -- the end ---------------------------------------------------------------------------

    async def finish(self, steps: int = 60) -> None:
        """Run to the end without further faults."""
        self.fault_rate = 0.0
        self.to_kill = None
        for task in self.cluster.tasks():
            self.cluster.resume(task)
            if task.reason == "JobHeldUser":
                self.cluster.release(task)
        for _ in range(steps):
            await self.step()
            self._advance(30.0)
            if not self.asleep and all(r.lifecycle.is_terminal for r in self.records()):
                break
        for _ in range(4):
            await self.step()

    def check(self) -> list[str]:
        """Return all violated expectations."""
        self.faults["files late"] += self.wrapper.late
        records = self.records()
        self.outcomes.update(record.lifecycle.value for record in records)
        verdict = Verdict(self.wrapper.executions, self.truths, self.cluster.retention, LAG)
        self.problems += verdict.problems(records, self.cluster.tasks())
        return self.problems


async def _here(work: Callable[[], T]) -> T:
    await anyio.lowlevel.checkpoint()
    return work()


async def _committed(database: Any, work: Callable[[], T]) -> T:
    result: T = database.submit(work).result()
    return result
