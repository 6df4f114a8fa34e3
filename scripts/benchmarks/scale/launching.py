"""Start of orchestrator and launcher, and the memory of the three processes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from footprint import cpu, daemons, pss
from motoko.core.records import RunKey
from motoko.server.lifecycle import ensure_server
from motoko.server.state_dir import StateDir
from scale.client import RUN_NAME, opened
from scale.figures import Figure, Missing, at_most
from scale.place import CREATED, ENDED, KILLED, TooSlowError, kill_server, say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from scale.place import Place

MOTOKO = [sys.executable, "-m", "motoko"]
POLL = 0.05
STARTING = """
import time

async def main(workflow):
    tasks = workflow.mult.create_task(x=[float(n) for n in range({first}, {last})])
    async for run in tasks.as_completed():
        print(time.time(), file=open("first", "w"), flush=True)
        break
    workflow.finished = True
"""
AWAITING = """
async def main(workflow):
    tasks = workflow.mult.create_task(x=[float(n) for n in range({runs})])
    print(len(tasks), file=open("first", "w"), flush=True)
    await tasks
"""


def start(place: Place) -> Iterator[Figure | Missing]:
    """Measure from the start of both to the first claim, with 1,000 runs CREATED."""
    text = STARTING.format(first=place.ended, last=place.runs)
    for what, kind in (("start", ENDED), ("start after SIGKILL of the server", KILLED)):
        with place.copy(kind, orchestrator=text, serve=False) as directory:
            if kind == KILLED:  # while it serves the file that no server has closed
                ensure_server(StateDir.of(directory))
                kill_server(StateDir.of(directory))
            begin = time.time()
            launcher = subprocess.Popen([*MOTOKO, "launcher"], cwd=directory, stdout=sys.stderr)
            with orchestrating(directory):
                first = _read_when_written(directory, place.budget)
            launcher.wait()
            claim = first_claim(directory, place)
        limit = at_most(3, "3 s")
        yield Figure(f"{what}: first claim of 1,000", claim - begin, "s", limit)
        yield Figure(f"{what}: first completed run awaited", first - begin, "s")


def memory(place: Place) -> Iterator[Figure | Missing]:
    """Measure the PSS of server, launcher and orchestrator that awaits all runs."""
    text = AWAITING.format(runs=place.runs)
    with place.copy(CREATED, orchestrator=text) as directory:
        subprocess.run([*MOTOKO, "hold", "--all"], cwd=directory, check=True, stdout=sys.stderr)
        subprocess.run([*MOTOKO, "launcher"], cwd=directory, check=True, stdout=sys.stderr)
        with orchestrating(directory) as orchestrator:
            _read_when_written(directory, place.budget)
            pids = [orchestrator.pid, *daemons(directory)]
            assert len(pids) == 3, pids
            _wait_until_idle(pids, place.budget)
            each = [pss(pid) for pid in pids]
    say("orchestrator, daemons: " + ", ".join(f"{one:.0f} MB" for one in each))
    yield Figure("memory, all awaited (PSS of 3)", sum(each), "MB", at_most(300, "300 MB"))
    yield Figure("  of it the orchestrator", each[0], "MB")


@contextmanager
def orchestrating(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the orchestrator; stop it at the end."""
    command = [*MOTOKO, "orchestrator", "start", "--run_name", RUN_NAME]
    process = subprocess.Popen(command, cwd=directory, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.terminate()
        _, errors = process.communicate()
        if b"Traceback" in errors:
            say(errors.decode(errors="replace")[-2000:])


def _read_when_written(directory: Path, budget: float) -> float:
    """Wait for the file that main writes; return its number."""
    file = directory / "first"
    wait_until(lambda: file.exists() and file.read_text().endswith("\n"), budget)
    return float(json.loads(file.read_text()))


def first_claim(directory: Path, place: Place) -> float:
    """Wait until a waiting run is claimed; return the earliest time of such a claim."""
    workflow = opened(str(directory))
    found: list[float] = []

    def claimed() -> bool:
        with workflow.store.autocommit_scope.read() as session:
            for run_id in range(place.ended + 1, place.runs + 1):
                history = session.run(RunKey("mult", run_id)).history
                found.extend([move.time for move in history if move.state == "SUBMITTED"][:1])
        return bool(found)

    wait_until(claimed, place.budget)
    workflow.close()
    return min(found)


def _wait_until_idle(pids: list[int], budget: float, rest: float = 2.0) -> None:
    """Wait until the processes use less than 5 % of a core."""

    def idle() -> bool:
        before = sum(map(cpu, pids))
        time.sleep(rest)
        return sum(map(cpu, pids)) - before < 0.05 * rest

    wait_until(idle, budget)


def wait_until(condition: Callable[[], bool], budget: float) -> None:
    """Poll until a condition holds; TooSlowError after the budget."""
    deadline = time.monotonic() + budget
    while not condition():
        if time.monotonic() > deadline:
            raise TooSlowError(f"nothing happened for {budget:.0f} s")
        time.sleep(POLL)
