"""Random ``kill -9`` and SIGSTOP of everything that Motoko runs, and what has to hold afterwards.

``python -m tests.support.chaos --kills 1000 --seed 7`` (``scripts/chaos``).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from motoko.errors import MotokoError
from motoko.runtime.daemons import PidFile
from motoko.runtime.processes import is_alive
from motoko.storage.address import StateDirectory
from motoko.storage.server import ensure_server, stop_server
from motoko.testing import invariants
from motoko.workflow import Workflow
from tests.support import victims
from tests.support.tally import Hits, Starts, Tally, time_recoveries
from tests.support.workloads import (
    ROOT,
    Workload,
    arithmetic,
    fan_out,
    make_arithmetic,
    make_fan_out,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LEASE = 1.5
KINDS = {"orchestrator": 3, "launcher": 3, "server": 2, "script": 2}
PAUSE = (0.1, 0.4)
CALM, CALM_SECONDS = 0.06, 2.5  # now and then it is left alone for long enough to recover
STOPS = 0.2  # the share of SIGSTOP among all hits
LONG_STOPS = 0.25  # of which so many last longer than a lease
TICK = 0.02
REFUSED_PAUSE = 0.3
ROUND_SECONDS = 240.0
POINTS = "points"
DUPLICATES = ("one identity", "times for", "lines 'start'", "lines 'end'", "repeated", "went on")
REFUSALS = ("already", "taken over", "replaced while it slept")


@dataclass
class Instance:
    """A process that the supervisor started."""

    kind: str
    popen: subprocess.Popen[bytes]
    output: Path
    started: float
    abandoned: bool = False


class Supervisor:
    """Starts orchestrator, launcher and server again until the workflow has finished."""

    def __init__(self, work: Workload, tally: Tally, scratch: Path) -> None:
        self.work = work
        self.tally = tally
        self.state = StateDirectory.of(work.directory)
        self.instances: list[Instance] = []
        self.lock = threading.Lock()
        self.over = threading.Event()
        self.points = scratch / POINTS
        self.hits: Hits = []
        self.started: Starts = {}
        self._scratch = scratch
        self._not_before: dict[str, float] = {}
        self._thread = threading.Thread(target=self._keep_going)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._thread.join()

    def _keep_going(self) -> None:
        while not self.over.is_set():
            with self.lock:
                for instance in [i for i in self.instances if i.popen.poll() is not None]:
                    self.instances.remove(instance)
                    self._ended(instance)
                for kind in ("orchestrator", "launcher"):
                    self._ensure(kind)
            with contextlib.suppress(MotokoError):  # killed while it started: again
                ensure_server(self.state)
            self.over.wait(TICK)

    def _ensure(self, kind: str) -> None:
        due = time.monotonic() > self._not_before.get(kind, 0.0)
        there = any(i.kind == kind and not i.abandoned for i in self.instances)
        if due and not there and not self.over.is_set():
            self.tally.starts[kind] += 1
            instance = self._start(kind)
            self.instances.append(instance)
            self.started.setdefault(kind, []).append((instance.popen.pid, instance.started))

    def _start(self, kind: str) -> Instance:
        arguments = {
            "orchestrator": ["orchestrator", "start", "--workflow", str(self.work.directory),
                             "--run_name", self.work.run_name, *self.work.arguments],
            "launcher": ["launcher", str(self.work.directory), "--lease", str(LEASE)],
        }  # fmt: skip
        output = self._scratch / f"{kind}-{self.work.run_name}-{self.tally.starts[kind]}.log"
        environment = {**os.environ, "MOTOKO_TEST_LEASE": str(LEASE)}
        with output.open("wb") as file:
            popen = subprocess.Popen(
                [sys.executable, "-m", "tests.support.process", *arguments[kind]],
                cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                start_new_session=True,
            )  # fmt: skip
        return Instance(kind, popen, output, time.time())

    def _ended(self, instance: Instance) -> None:
        status = instance.popen.returncode
        if status < 0:
            return
        text = instance.output.read_text(errors="replace")
        if instance.kind == "orchestrator" and status == 0:
            self.over.set()
        elif any(refusal in text for refusal in REFUSALS):
            self.tally.refused[instance.kind] += 1
            self._not_before[instance.kind] = time.monotonic() + REFUSED_PAUSE
        else:
            self.tally.problems.append(
                f"{instance.kind} ended with status {status}:\n{text[-3000:]}"
            )
            self.over.set()

    def stop_all(self) -> None:
        """End what was started, gently."""
        for instance in self.instances:
            victims.send(instance.popen.pid, signal.SIGCONT)
            victims.send(instance.popen.pid, signal.SIGTERM)
        for instance in self.instances:
            try:
                instance.popen.wait(20)
            except subprocess.TimeoutExpired:
                self.tally.problems.append(f"{instance.kind} did not end on TERM")
                instance.popen.kill()
                instance.popen.wait()


class Monkey:
    """Kills and stops, at random."""

    def __init__(self, supervisor: Supervisor, rng: random.Random, tally: Tally) -> None:
        self._supervisor = supervisor
        self._rng = rng
        self._tally = tally
        self._wake: list[tuple[float, Callable[[], object]]] = []
        self.killed: set[str] = set()
        self._deadline = time.monotonic() + ROUND_SECONDS

    def play(self, kills: int) -> None:
        """Hit until so many were killed in all, or the workflow is over; then only look on."""
        while not self._supervisor.over.is_set():
            self._wake_sleepers()
            if time.monotonic() > self._deadline:
                name = self._supervisor.work.run_name
                self._tally.problems.append(f"{name} did not end in {ROUND_SECONDS:g} s")
                return
            if self._tally.kills.total() < kills:
                self._hit()
                calm = self._rng.random() < CALM
                self._rest(CALM_SECONDS if calm else self._rng.uniform(*PAUSE))
            else:
                self._rest(TICK)

    def _rest(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self._supervisor.over.is_set():
            self._wake_sleepers()
            time.sleep(TICK)

    def _wake_sleepers(self, *, everybody: bool = False) -> None:
        now = time.monotonic()
        for item in list(self._wake):
            if everybody or item[0] <= now:
                self._wake.remove(item)
                item[1]()

    def finish(self) -> None:
        """Wake whatever was stopped."""
        self._wake_sleepers(everybody=True)

    def _hit(self) -> None:
        kind = self._rng.choices(list(KINDS), list(KINDS.values()))[0]
        kill = self._rng.random() >= STOPS
        if kind == "script":
            self._hit_script(kill)
        elif kind == "server":
            self._hit_server(kill)
        else:
            self._hit_service(kind, kill)

    def _count(self, kind: str, *, kill: bool, busy: bool) -> None:
        (self._tally.kills if kill else self._tally.stops)[kind] += 1
        if kill and busy:
            self._tally.busy[kind] += 1
        self._supervisor.hits.append((time.time(), f"kill {kind}" if kill else f"stop {kind}"))

    def _hit_script(self, kill: bool) -> None:
        found: list[tuple[int, str]] = []
        for _ in range(20):  # they are short: look often
            found = victims.wrappers(self._supervisor.work.directory)
            if found or self._supervisor.over.is_set():
                break
            time.sleep(TICK / 4)
        if not found:
            return
        pid, token = self._rng.choice(found)
        self.killed.add(token)
        if kill and victims.send_group(pid, signal.SIGKILL):
            self._count("script", kill=True, busy=True)
        elif not kill and victims.send_group(pid, signal.SIGSTOP):
            self._count("script", kill=False, busy=True)
            self.killed.discard(token)
            self._later(lambda: victims.send_group(pid, signal.SIGCONT), long=False)

    def _later(self, wake: Callable[[], object], *, long: bool) -> None:
        seconds = LEASE + self._rng.uniform(0.3, 1.5) if long else self._rng.uniform(0.05, 0.3)
        self._wake.append((time.monotonic() + seconds, wake))

    def _hit_server(self, kill: bool) -> None:
        record = PidFile(self._supervisor.state.server_record).read()
        if record is None or not is_alive(record.process):
            return
        pid = record.process.pid
        busy = victims.becomes_busy(pid, 0.1)
        if kill and victims.send(pid, signal.SIGKILL):
            self._count("server", kill=True, busy=busy)
        elif not kill and victims.send(pid, signal.SIGSTOP):
            self._count("server", kill=False, busy=busy)
            self._later(lambda: victims.send(pid, signal.SIGCONT), long=False)

    def _hit_service(self, kind: str, kill: bool) -> None:
        age = self._rng.uniform(0, 1.5)  # or starting ones, always busy, would get most of it
        with self._supervisor.lock:
            now = time.time()
            chosen = [
                i
                for i in self._supervisor.instances
                if i.kind == kind and not i.abandoned and now - i.started > age
            ]
        if not chosen:
            return
        instance = chosen[0]
        busy = victims.becomes_busy(instance.popen.pid, 0.1)
        with self._supervisor.lock:
            if instance.popen.poll() is not None:
                return
            self._count(kind, kill=kill, busy=busy)
            if kill:
                instance.popen.kill()
                return
            long = self._rng.random() < LONG_STOPS
            instance.abandoned = long  # another one takes over when its lease has run out
            victims.send(instance.popen.pid, signal.SIGSTOP)
        self._later(lambda: victims.send(instance.popen.pid, signal.SIGCONT), long=long)


def play(work: Workload, rng: random.Random, tally: Tally, kills: int, scratch: Path) -> None:
    """Execute one workflow under fire until it has finished, and check everything."""
    supervisor = Supervisor(work, tally, scratch)
    monkey = Monkey(supervisor, rng, tally)
    with supervisor:
        try:
            monkey.play(kills)
        finally:
            monkey.finish()
    supervisor.stop_all()
    tally.rounds += 1
    _look(work, tally, monkey.killed)
    time_recoveries(supervisor.points, supervisor.started, supervisor.hits, tally)


def _look(work: Workload, tally: Tally, killed: set[str]) -> None:
    ensure_server(StateDirectory.of(work.directory))
    workflow = Workflow(work.directory)
    workflow.run_name = work.run_name
    try:
        found = invariants.check(
            workflow, work.run_name,
            once=work.once, expected=work.expected, log=work.log, killed=killed,
        )  # fmt: skip
        tally.problems += [f"{work.run_name}: {line}" for line in found]
        tally.duplicates += sum(any(word in line for word in DUPLICATES) for line in found)
        bad = 0
        for study, expected in work.runs.items():
            runs = workflow.task_manager(study).select().runs
            tally.runs += len(runs)
            tally.lost += max(0, expected - len(runs))
            if len(runs) != expected:
                tally.problems.append(f"{work.run_name}: {len(runs)} runs of {study}: {expected}")
            bad += sum(m.state in ("LOST", "FAILED", "TIMEOUT") for r in runs for m in r.history)
        tally.bad_attempts += bad
        if bad > len(killed):
            tally.problems.append(f"{bad} attempts ended badly, {len(killed)} were killed")
    finally:
        workflow.close()


def chaos(
    kills: int,
    seed: int,
    place: Path,
    *,
    count: int = 200,
    tell: Callable[[Tally], None] = lambda _: None,
) -> Tally:
    """Kill so many processes of both workloads in turn, and return what came of it.

    ``tell`` is called after each workflow.
    """
    rng, tally = random.Random(seed), Tally()
    fans, sums = place / "fan out", place / "arithmetic"
    make_fan_out(fans)
    make_arithmetic(sums)
    scratch = place / "scratch"
    scratch.mkdir()
    number = 0
    try:
        with _environment("MOTOKO_FAULT_LOG", str(scratch / POINTS)):
            while not tally.problems and (tally.kills.total() < kills or number < 2):
                number += 1
                if number % 2:
                    work = fan_out(fans, f"fan-{number}", count)
                else:
                    inputs = round(rng.uniform(-5, 5), 3), round(rng.uniform(-5, 5), 3)
                    work = arithmetic(sums, f"sum-{number}", *inputs)
                limit = kills if number != 1 else kills - kills // 5  # some are for the other one
                play(work, rng, tally, limit, scratch)
                tell(tally)
    finally:
        for directory in (fans, sums):
            stop_server(StateDirectory.of(directory))
    tally.problems += [f"left: {line}" for line in victims.left(place)]
    return tally


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    former = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
        if former is not None:
            os.environ[name] = former


def main() -> int:
    """Play; the exit status says whether all held."""
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=chaos.__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = random.randrange(10**6) if options.seed is None else options.seed
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        begin = time.monotonic()

        def tell(tally: Tally) -> None:
            done = f"{tally.kills.total()} of {options.kills} kills"
            line = f"{time.monotonic() - begin:.0f} s: {done}, {tally.rounds} workflows"
            print(line, file=sys.stderr, flush=True)

        tally = chaos(options.kills, seed, Path(name), tell=tell)
        print(f"seed {seed}, {time.monotonic() - begin:.0f} s\n{tally.report()}")
    return 1 if tally.problems else 0


if __name__ == "__main__":
    sys.exit(main())
