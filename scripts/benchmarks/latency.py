"""Latency from a commit of FINISHED in one process to the action in another."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from floors import bare_latency
from motoko.core.changes import EditRun
from motoko.core.edits import Claim, EndAttempt, MarkStarted
from motoko.core.records import RunKey
from motoko.core.states import Lifecycle
from motoko.storage.database import Database
from motoko.storage.session import Session
from motoko.workflow import Workflow, event
from support import Row, make_workflow, opened

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNS = 10_000
SAMPLES = 1_000
BATCH = 10_000  # runs that one call creates
PAUSE = 0.01  # seconds between samples
BUSY = 0.3  # the share of a core above which the first evaluations are not finished
LONGEST_START = 300.0  # seconds


@dataclass(frozen=True)
class Actions:
    """The numbers of registered actions by the kind of their condition; one more fires."""

    constraints: int = 5
    run_filters: int = 5
    task_manager_filters: int = 5
    functions: int = 4

    @property
    def text(self) -> str:
        """The numbers in words."""
        numbers = (
            self.constraints + 1, self.run_filters, self.task_manager_filters, self.functions
        )  # fmt: skip
        return "+".join(map(str, numbers)) + " actions"


TWENTY = Actions()
THOUSAND_CONSTRAINTS = Actions(999, 0, 0, 0)
MANY_OF_EACH = Actions(249, 250, 250, 250)


@dataclass(frozen=True)
class Latency:
    """Seconds from the call of a commit to the action, and from its return."""

    samples: int
    median: float
    high: float
    after: float
    start: float

    @property
    def text(self) -> str:
        """The figures in milliseconds."""
        return f"median {self.median * 1000:.1f} ms, 99 % {self.high * 1000:.1f} ms"


def writer(socket: str) -> None:
    """End runs one after another in a separate process; print the time of each commit."""
    database = Database.connect(socket)
    session = Session(database)
    for line in sys.stdin:
        run_id = int(line)
        session.refresh()
        key, token = RunKey("mult", run_id), f"t{run_id}"
        session.add(EditRun(key, Claim("bench", token, 1.0)))
        session.add(EditRun(key, MarkStarted(token, 1.0, "bench")))
        session.add(EditRun(key, EndAttempt(token, Lifecycle.FINISHED, 1.0, "bench", 0)))
        begin = time.time()
        database.submit(session.commit).result()
        print(run_id, begin, time.time(), flush=True)
    session.close()
    database.close()


def constraint(number: int) -> str:
    """Return a constraint that no run of the benchmark satisfies, of one of several forms."""
    forms = (
        f"state = NEVER and x > {number}",
        f"state = FINISHED and x = -{number}",
        f"state = FINISHED and x > 1e9 and x < {10**9 + number}",
        f"id = {10**8 + number}",
        f"state in (SEEN, FINISHED) and note = never{number}",
        f"(state = FAILED or x < -{number}) and exit_code = {number + 1}",
    )
    return forms[number % len(forms)]


@contextlib.contextmanager
def prepared(runs: int) -> Iterator[Workflow]:
    """Create and open a workflow with runs that nothing executes."""
    with tempfile.TemporaryDirectory() as name:
        directory = make_workflow(Path(name), ("mult", "add"), "async def main(workflow): pass\n")
        with opened(directory) as workflow:
            for first in range(0, runs, BATCH):
                workflow.mult.create_task(
                    x=[float(i) for i in range(first, min(runs, first + BATCH))]
                )
            yield workflow


def latency(
    workflow: Workflow, actions: Actions = TWENTY, *, samples: int = SAMPLES, first: int = 1
) -> Latency:
    """End ``samples`` runs from the id ``first`` on, and measure when the action starts."""
    process = subprocess.Popen(
        [sys.executable, __file__, str(workflow.store.state.socket())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout
    fired: dict[int, float] = {}
    latencies: list[float] = []
    after: list[float] = []
    start = time.monotonic()

    @event
    async def seen(workflow: Workflow, runs: object) -> None:
        now = time.time()
        for run, _ in runs:  # type: ignore[attr-defined]
            fired[run.id] = now
            run.state = "SEEN"

    async def main(workflow: Workflow) -> None:
        nonlocal start
        workflow.add_action("seen", "mult", "state = FINISHED", f=seen)
        _register(workflow, actions)
        await _evaluated()
        start = time.monotonic() - start
        for run_id in range(first, first + samples):
            stdin.write(f"{run_id}\n")
            stdin.flush()
            line = await asyncio.to_thread(stdout.readline)
            _, begin, end = line.split()
            while run_id not in fired:  # noqa: ASYNC110 - an event would change what is measured
                await asyncio.sleep(0.002)
            latencies.append(fired[run_id] - float(begin))
            after.append(fired[run_id] - float(end))
            await asyncio.sleep(PAUSE)
        workflow.finished = True

    workflow.orchestrator_function = main
    workflow.config = workflow.config.model_copy(update={"safety_poll": math.inf})
    workflow.execute()
    stdin.close()
    process.wait()
    latencies.sort()
    high = latencies[int(len(latencies) * 0.99)]
    middle = statistics.median(latencies)
    return Latency(len(latencies), middle, high, statistics.median(after), start)


def _register(workflow: Workflow, actions: Actions) -> None:
    for n in range(actions.constraints):
        workflow.add_action(f"c{n}", "mult", constraint(n))
    for n in range(actions.run_filters):
        workflow.add_action(f"f{n}", "mult", lambda run, job: False)
    for n in range(actions.task_manager_filters):
        workflow.add_action(f"w{n}", "mult", lambda workflow, task_manager: False)
    for n in range(actions.functions):
        workflow.add_action(f"p{n}", event=lambda: False)


async def _evaluated() -> None:
    """Wait until this process has done most of its first evaluations."""
    await asyncio.sleep(2)
    deadline = time.monotonic() + LONGEST_START
    while time.monotonic() < deadline:
        used = _demand()
        await asyncio.sleep(1)
        if _demand() - used < BUSY:
            return


def _demand() -> float:
    """Return the seconds that the threads ran or waited for a processor, on a busy machine."""
    found = 0
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # it has ended
            found += sum(map(int, (task / "schedstat").read_text().split()[:2]))
    return found / 1e9


def measure() -> list[Row]:
    """Measure with 10,000 runs and 3 processes, and with more actions beside 20 of all kinds."""
    with prepared(RUNS) as workflow:
        base = latency(workflow, TWENTY)
        print(f"  after the commit returned: median {base.after * 1000:.1f} ms")
        bare, bare_high = bare_latency()
        rows = [
            Row(
                f"commit called -> action, {RUNS} runs, {TWENTY.text}, {base.samples} samples",
                f"{base.text} (bare ZEO, one object: {bare * 1000:.1f}, {bare_high * 1000:.1f}; "
                f"{base.median / bare:.1f} times)",
                "median <= 10 ms, 99 % <= 50 ms",
                base.median <= 0.010 and base.high <= 0.050,
            )
        ]
        first = 1 + base.samples
        for actions in (THOUSAND_CONSTRAINTS, MANY_OF_EACH):
            found = latency(workflow, actions, samples=SAMPLES, first=first)
            first += found.samples
            rows.append(_compared(f"the same, {actions.text}", found, base, 2.0))
    return rows


def _compared(what: str, found: Latency, base: Latency, limit: float) -> Row:
    ratios = (found.median / base.median, found.high / base.high)
    text = f"{found.text} ({ratios[0]:.1f} and {ratios[1]:.1f} times)"
    return Row(what, text, f"<= {limit:g} times", max(ratios) <= limit)


def table(runs: int, samples: int, repeats: int) -> None:
    """Print the latencies of all mixtures of actions, one line each."""
    for _ in range(repeats):
        with prepared(runs) as workflow:
            first = 1
            for actions in (TWENTY, THOUSAND_CONSTRAINTS, MANY_OF_EACH):
                found = latency(workflow, actions, samples=samples, first=first)
                first += samples
                print(
                    f"{runs} runs, {actions.text}: {found.text}, after {found.after * 1000:.1f}, "
                    f"start {found.start:.1f} s, load {os.getloadavg()[0]:.1f}",
                    flush=True,
                )


if __name__ == "__main__":
    if len(sys.argv) == 2:
        writer(sys.argv[1])
    elif len(sys.argv) == 4:
        table(*map(int, sys.argv[1:]))
    else:
        for row in measure():
            print(row)
