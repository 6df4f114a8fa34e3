"""Random kills of all processes of Motoko, and checks of the invariants afterwards.

``python -m tests.support.chaos --kills 1000 --seed 7`` (``scripts/chaos``).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from motoko.launcher.control import stop_launcher
from motoko.server.lifecycle import ensure_server, stop_server
from motoko.server.state_dir import StateDir
from motoko.workflow import Workflow
from tests.support import invariants, workflow_processes
from tests.support.chaos_clock import Clock
from tests.support.chaos_commands import Commands
from tests.support.chaos_monkey import Monkey, Tools
from tests.support.chaos_observer import Observer
from tests.support.chaos_simultaneous import play_simultaneous_kills
from tests.support.chaos_supervisor import POINTS, Supervisor
from tests.support.tally import Tally, time_recoveries
from tests.support.workloads import (
    Workload,
    arithmetic,
    fan_out,
    make_arithmetic,
    make_fan_out,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

TOGETHER = 14  # runs of a workflow whose processes are killed simultaneously
KINDS = {"orchestrator", "launcher", "server", "script", "command", "packer", "everything"}
MOST_FOR_KINDS = 30  # workflows, after which not every kind must have been hit
MOMENT = 6  # minimum number of processes
DUPLICATES = (
    "one identity",
    "times for",
    "lines 'start'",
    "lines 'end'",
    "repeated",
    "went on",
    "at once",
)


def play(
    work: Workload, rng: random.Random, tally: Tally, kills: int, scratch: Path, tools: Tools
) -> None:
    """Execute one workflow under random kills until it has finished, and check everything."""
    jumps = tally.jumps
    tools.commands.add_runs()
    supervisor = Supervisor(work, tally, scratch)
    monkey = Monkey(supervisor, rng, tally, tools)
    with supervisor, Observer(work.directory, tally):
        try:
            monkey.play(kills)
        finally:
            monkey.finish()
    supervisor.stop_all()
    tally.problems += tools.commands.finish()
    tally.rounds += 1
    _look(work, tally, monkey.killed)
    if tally.jumps == jumps:
        time_recoveries(supervisor.points, supervisor.started, supervisor.hits, tally)


def _look(work: Workload, tally: Tally, killed: set[str]) -> None:
    ensure_server(StateDir.of(work.directory))
    workflow = Workflow(work.directory)
    workflow.run_name = work.run_name
    try:
        found = invariants.check(
            workflow, work.run_name,
            once=work.once, expected=work.expected, log=work.log, killed=killed,
        )  # fmt: skip
        tally.problems += [f"{work.run_name}: {line}" for line in found]
        tally.duplicates += sum(any(word in line for word in DUPLICATES) for line in found)
        lost = list(invariants.lost_output(workflow, work.run_name, killed))
        tally.problems += lost
        tally.lost += len(lost)
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
    jumps: bool = False,
    tell: Callable[[Tally], None] = lambda _: None,
) -> Tally:
    """Kill so many processes of both workloads in turn; return the results.

    ``jumps``: the time of day is set, too. ``tell`` is called after each workflow.
    """
    rng, tally = random.Random(seed), Tally()
    fans, sums, together = place / "fan out", place / "arithmetic", place / "together"
    make_fan_out(fans, keep="packed")
    make_arithmetic(sums)
    make_fan_out(together, seconds=0.05, database=False, keep="packed")
    scratch = place / "scratch"
    scratch.mkdir()
    clock = Clock(scratch / "clock", jumping=jumps)
    tools = {
        directory: Tools(Commands(directory, study, scratch, rng), clock)
        for directory, study in ((fans, "src"), (sums, "mult"))
    }
    number = 0
    try:
        with _environment({"MOTOKO_FAULT_LOG": str(scratch / POINTS), **clock.environment}):
            while not tally.problems and _to_do(tally, kills, number):
                number += 1
                most = max(kills, tally.kills.total() + MOMENT)
                if number % 3 == 0:
                    work = fan_out(together, f"run-{number}", TOGETHER)
                    with Observer(together, tally):
                        killed = play_simultaneous_kills(work, rng, tally, scratch, most + MOMENT)
                    tally.rounds += 1
                    _look(work, tally, killed)
                elif number % 3 == 1:
                    work = fan_out(fans, f"fan-{number}", count)
                    limit = most if number != 1 else most - most // 3  # some for the others
                    play(work, rng, tally, limit, scratch, tools[fans])
                else:
                    inputs = round(rng.uniform(-5, 5), 3), round(rng.uniform(-5, 5), 3)
                    work = arithmetic(sums, f"sum-{number}", *inputs)
                    play(work, rng, tally, most, scratch, tools[sums])
                tell(tally)
    finally:
        for directory in (fans, sums, together):
            stop_launcher(StateDir.of(directory), stop_runs=True)
            stop_server(StateDir.of(directory))
    tally.problems += [f"left: {line}" for line in workflow_processes.left(place)]
    return tally


def _to_do(tally: Tally, kills: int, number: int) -> bool:
    """Return whether the number of kills, or of any kind, is too small after these workflows."""
    every_kind = set(tally.kills) >= KINDS or number >= MOST_FOR_KINDS
    return tally.kills.total() < kills or not every_kind


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    former = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(former)


def main() -> int:
    """Run the chaos test; the exit status is 0 if no invariant is violated."""
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=chaos.__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--jumps", action="store_true", help="also change the time of day")
    options = parser.parse_args()
    seed = random.randrange(10**6) if options.seed is None else options.seed
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        begin = time.monotonic()

        def tell(tally: Tally) -> None:
            done = f"{tally.kills.total()} of {options.kills} kills"
            line = f"{time.monotonic() - begin:.0f} s: {done}, {tally.rounds} workflows"
            print(line, file=sys.stderr, flush=True)

        tally = chaos(options.kills, seed, Path(name), jumps=options.jumps, tell=tell)
        print(f"seed {seed}, {time.monotonic() - begin:.0f} s\n{tally.report()}")
    return 1 if tally.problems else 0


if __name__ == "__main__":
    sys.exit(main())
