"""Latency from a commit of FINISHED in one process to the action in another."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from floors import bare_latency
from motoko.core.changes import EditRun
from motoko.core.edits import Claim, EndAttempt, MarkStarted
from motoko.core.records import RunKey
from motoko.core.states import Lifecycle
from motoko.storage.database import Database
from motoko.storage.session import Session
from motoko.workflow import Workflow, event
from support import Row, make_workflow, opened

RUNS = 10_000
SAMPLES = 1_000


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


def measure() -> list[Row]:
    """Measure with 10,000 runs, 20 actions of all kinds and 3 processes."""
    with tempfile.TemporaryDirectory() as name:
        directory = make_workflow(Path(name), ("mult", "add"), "async def main(workflow): pass\n")
        with opened(directory) as workflow:
            workflow.mult.create_task(x=[float(i) for i in range(RUNS)])
            return _measure(workflow)


def _measure(workflow: Workflow) -> list[Row]:
    fired: dict[int, float] = {}
    process = subprocess.Popen(
        [sys.executable, __file__, str(workflow.store.state.socket())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout
    latencies: list[float] = []
    after: list[float] = []

    @event
    async def seen(workflow: Workflow, runs: object) -> None:
        now = time.time()
        for run, _ in runs:  # type: ignore[attr-defined]
            fired[run.id] = now
            run.state = "SEEN"

    async def main(workflow: Workflow) -> None:
        workflow.add_action("seen", "mult", "state = FINISHED", f=seen)
        for n in range(5):
            workflow.add_action(f"c{n}", "mult", f"state = NEVER and x > {n}")
            workflow.add_action(f"f{n}", "mult", lambda run, job: False)
            workflow.add_action(f"w{n}", "mult", lambda workflow, task_manager: False)
            if n < 4:
                workflow.add_action(f"p{n}", event=lambda: False)
        await asyncio.sleep(3)
        for run_id in range(1, SAMPLES + 1):
            stdin.write(f"{run_id}\n")
            stdin.flush()
            line = await asyncio.to_thread(stdout.readline)
            _, begin, end = line.split()
            while run_id not in fired:  # noqa: ASYNC110 - an event would change what is measured
                await asyncio.sleep(0.002)
            latencies.append(fired[run_id] - float(begin))
            after.append(fired[run_id] - float(end))
            await asyncio.sleep(0.01)
        workflow.finished = True

    workflow.orchestrator_function = main
    workflow.config = replace(workflow.config, safety_poll=float("inf"))
    workflow.execute()
    stdin.close()
    process.wait()
    latencies.sort()
    median, high = statistics.median(latencies), latencies[int(len(latencies) * 0.99)]
    print(f"  after the commit returned: median {statistics.median(after) * 1000:.1f} ms")
    bare, bare_high = bare_latency()
    text = (
        f"median {median * 1000:.1f} ms, 99 % {high * 1000:.1f} ms (bare ZEO, one object: "
        f"{bare * 1000:.1f}, {bare_high * 1000:.1f}; {median / bare:.1f} times)"
    )
    return [
        Row(
            f"commit called -> action, {RUNS} runs, 20 actions, {len(latencies)} samples",
            text,
            "median <= 10 ms, 99 % <= 50 ms",
            median <= 0.010 and high <= 0.050,
        )
    ]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        writer(sys.argv[1])
    else:
        for row in measure():
            print(row)
