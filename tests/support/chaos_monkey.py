"""Random kills, suspensions, removals and clock jumps."""

from __future__ import annotations

import shutil
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from motoko.runtime.daemons import PidFile
from motoko.runtime.processes import is_alive
from tests.support import workflow_processes
from tests.support.chaos_supervisor import LEASE, TICK, Supervisor

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from tests.support.chaos_clock import Clock
    from tests.support.chaos_commands import Commands
    from tests.support.tally import Tally

# Relative frequencies.
KINDS = {
    "orchestrator": 3, "launcher": 3, "server": 2, "script": 2, "command": 2, "packer": 1.5,
    "directory": 1, "clock": 0.5,
}  # fmt: skip
PAUSE = (0.1, 0.4)
CALM, CALM_SECONDS = 0.06, 2.5  # sometimes it gets enough time to recover
STOPS = 0.2  # the share of SIGSTOP among all hits
LONG_STOPS = 0.25  # the share of these that last longer than a lease
ROUND_SECONDS = 900.0


@dataclass(frozen=True)
class Tools:
    """Tools other than signals."""

    commands: Commands
    clock: Clock


class Monkey:
    """Kills and suspends processes at random."""

    def __init__(
        self, supervisor: Supervisor, rng: random.Random, tally: Tally, tools: Tools
    ) -> None:
        self._supervisor = supervisor
        self._tools = tools
        self._rng = rng
        self._tally = tally
        self._wake: list[tuple[float, Callable[[], object]]] = []
        self.killed: set[str] = set()
        self._deadline = time.monotonic() + ROUND_SECONDS

    def play(self, kills: int) -> None:
        """Hit until the number of kills is reached or the workflow has ended; then only observe."""
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
        """Resume all suspended processes."""
        self._wake_sleepers(everybody=True)

    def _hit(self) -> None:
        kind = self._rng.choices(list(KINDS), list(KINDS.values()))[0]
        kill = self._rng.random() >= STOPS
        if kind == "script":
            self._hit_script(kill)
        elif kind == "directory":
            self._remove_directory()
        elif kind == "clock":
            self._tally.jumps += self._tools.clock.jump(self._rng)
        elif kind == "command":
            if self._tools.commands.kill_one():
                self._count("command", kill=True, busy=True)
        elif kind == "packer":
            if self._tools.commands.kill_packer():
                self._count("packer", kill=True, busy=True)
        elif kind == "server":
            self._hit_server(kill)
        else:
            self._hit_service(kind, kill)

    def _count(self, kind: str, *, kill: bool, busy: bool) -> None:
        (self._tally.kills if kill else self._tally.stops)[kind] += 1
        if kill and busy:
            self._tally.busy[kind] += 1
        self._supervisor.hits.append((time.time(), f"kill {kind}" if kill else f"stop {kind}"))

    def _executing(self) -> workflow_processes.Attempt | None:
        """Return an active attempt."""
        for _ in range(20):  # they are short: poll often
            found = workflow_processes.attempts(self._supervisor.work.directory)
            if found:
                return self._rng.choice(found)
            if self._supervisor.over.is_set():
                break
            time.sleep(TICK / 4)
        return None

    def _hit_script(self, kill: bool) -> None:
        found = self._executing()
        if found is None:
            return
        self.killed.add(found.token)
        if kill and workflow_processes.send_group(found.pid, signal.SIGKILL):
            self._count("script", kill=True, busy=True)
        elif not kill and workflow_processes.send_group(found.pid, signal.SIGSTOP):
            self._count("script", kill=False, busy=True)
            self.killed.discard(found.token)
            self._later(
                lambda: workflow_processes.send_group(found.pid, signal.SIGCONT), long=False
            )

    def _remove_directory(self) -> None:
        """Remove the directory of an active run, which loses only that attempt."""
        found = self._executing()
        if found is not None:
            self.killed.add(found.token)
            shutil.rmtree(found.directory, ignore_errors=True)
            self._tally.removed += 1

    def _later(self, wake: Callable[[], object], *, long: bool) -> None:
        seconds = LEASE + self._rng.uniform(0.3, 1.5) if long else self._rng.uniform(0.05, 0.3)
        self._wake.append((time.monotonic() + seconds, wake))

    def _hit_server(self, kill: bool) -> None:
        record = PidFile(self._supervisor.state.server_record).read()
        if record is None or not is_alive(record.process):
            return
        pid = record.process.pid
        busy = workflow_processes.becomes_busy(pid, 0.1)
        if kill and workflow_processes.send(pid, signal.SIGKILL):
            self._count("server", kill=True, busy=busy)
        elif not kill and workflow_processes.send(pid, signal.SIGSTOP):
            self._count("server", kill=False, busy=busy)
            self._later(lambda: workflow_processes.send(pid, signal.SIGCONT), long=False)

    def _hit_service(self, kind: str, kill: bool) -> None:
        # Without a minimum age, starting processes, which are always busy, would be hit most.
        age = self._rng.uniform(0, 1.5)
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
        busy = workflow_processes.becomes_busy(instance.popen.pid, 0.1)
        with self._supervisor.lock:
            if instance.popen.poll() is not None:
                return
            self._count(kind, kill=kill, busy=busy)
            if kill:
                instance.popen.kill()
                return
            long = self._rng.random() < LONG_STOPS
            instance.abandoned = long  # another one takes over when its lease expires
            workflow_processes.send(instance.popen.pid, signal.SIGSTOP)
        self._later(lambda: workflow_processes.send(instance.popen.pid, signal.SIGCONT), long=long)
