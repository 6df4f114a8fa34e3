"""What new processes do and measure: ``client.py WORK DIRECTORY ...`` prints JSON.

The time starts after the imports. It is elapsed time, or, if $SCALE_CLOCK is "cpu", the CPU time of
this process and of the server: on a busy machine it says more. An older Motoko can run it, too.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from motoko.workflow import Workflow

if TYPE_CHECKING:
    from collections.abc import Callable

RUN_NAME = "bench"
COLUMNS = ["id", "x", "y", "name", "state"]
GROUP = 1_000
CHANGED = 100
# The edits of runs, and their names in format 1.
EDITS = {"ApplyOutbox": "Harvest", "Claim": "Claim", "EndAttempt": "End", "MarkStarted": "Started"}


def opened(directory: str) -> Workflow:
    """Open the workflow and connect to its server."""
    workflow = Workflow(directory)
    workflow.run_name = RUN_NAME
    workflow.is_empty()
    return workflow


def reader(directory: str) -> Workflow:
    """Open the workflow and load the parser of constraints, which is imported at its first use."""
    workflow = opened(directory)
    workflow.mult.parse("id = 1")
    return workflow


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that ``work`` takes, and its result."""
    begin = clock()
    result = work()
    return clock() - begin, result


def clock(directory: str = "") -> float:
    """Return the time in seconds: elapsed, or used on the processors.

    The latter is the time of this process, its children that have ended, and the server.
    """
    if os.environ.get("SCALE_CLOCK") != "cpu":
        return time.perf_counter()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = time.process_time() + used.ru_utime + used.ru_stime
    with contextlib.suppress(OSError):
        record = Path(directory or sys.argv[2]) / ".wf" / "server.json"
        tasks = Path(f"/proc/{json.loads(record.read_text())['process']['pid']}/task").iterdir()
        seconds += sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
    return seconds


# -- filling -----------------------------------------------------------------------------------


def create(directory: str, runs: str, batch: str) -> object:
    """Create runs in batches; return the seconds of each and the largest size of the file."""
    workflow = Workflow(directory)
    workflow.create(validated=True)
    workflow.run_name = RUN_NAME
    file = Path(directory) / ".wf" / "wf.db"
    seconds, largest = [], 0
    for start in range(0, int(runs), int(batch)):
        values = [float(number) for number in range(start, start + int(batch))]
        seconds.append(timed(lambda x=values: len(workflow.mult.create_task(x=x)))[0])  # type: ignore[misc]
        largest = max(largest, file.stat().st_size)
    workflow.close()
    return {"batches": seconds, "largest": largest}


def end(directory: str, first: str, last: str) -> object:
    """End runs as a launcher does, a tenth of them FAILED: a commit for each step of a thousand."""
    from motoko.core import edits
    from motoko.core.changes import EditRun
    from motoko.core.records import RunKey
    from motoko.core.states import Lifecycle

    apply_outbox, claim, end_attempt, mark_started = (
        getattr(edits, new, None) or getattr(edits, old) for new, old in EDITS.items()
    )
    workflow = opened(directory)
    write = workflow.store.scope().write
    file = Path(directory) / ".wf" / "wf.db"
    largest, begin = 0, clock()
    for start in range(int(first), int(last) + 1, GROUP):
        ids = range(start, min(start + GROUP, int(last) + 1))
        keys = [(RunKey("mult", number), f"t{number}") for number in ids]
        write(*(EditRun(key, claim("bench", token, 1.0)) for key, token in keys))
        write(*(EditRun(key, mark_started(token, 2.0, "bench")) for key, token in keys))
        ends = []
        for key, token in keys:
            fields = {"y": value_of(key.id), "name": f"n{key.id}", "ok": True}
            failed = key.id % 10 == 0
            outcome = Lifecycle.FAILED if failed else Lifecycle.FINISHED
            ends.append(EditRun(key, apply_outbox(token, 9, 3.0, fields)))
            ends.append(EditRun(key, end_attempt(token, outcome, 4.0, "bench", int(failed))))
        write(*ends)
        largest = max(largest, file.stat().st_size)
    seconds = clock() - begin
    workflow.close()
    return {"seconds": seconds, "largest": largest}


def value_of(run_id: int) -> float:
    """Return the field ``y`` that a run ends with."""
    return run_id / 2


# -- reading -----------------------------------------------------------------------------------


def connect(directory: str) -> object:
    """Return the milliseconds until the first answer of the server."""
    return timed(lambda: opened(directory))[0] * 1000


def counts(directory: str) -> object:
    """Return the milliseconds that counting by state takes."""
    workflow = opened(directory)

    def count() -> dict[str, int]:
        with workflow.store.autocommit_scope.read() as session:
            return dict(session.tables.study("mult").counts(RUN_NAME))

    return timed(count)[0] * 1000


def length(directory: str) -> object:
    """Return the milliseconds that the length of a selection by state takes."""
    workflow = reader(directory)
    return timed(lambda: len(workflow.mult.select("state = FINISHED")))[0] * 1000


def first(directory: str) -> object:
    """Return the milliseconds that the first 20 runs of a selection take."""
    selection = reader(directory).mult.select("state = FINISHED")
    seconds, found = timed(lambda: [run.id for run, _ in itertools.islice(selection, 20)])
    assert len(found) == 20, found
    return seconds * 1000


def one(directory: str, column: str, runs: str) -> object:
    """Return the milliseconds that finding a run by a value takes, cold and then warm."""
    workflow = reader(directory)
    found = []
    for share in (0.5, 0.2, 0.7, 0.3, 0.6, 0.4):
        run_id = int(int(runs) * share) + 1
        value = float(run_id - 1) if column == "x" else value_of(run_id)
        query = f"{column} = {value!r}"
        seconds, ids = timed(lambda q=query: [run.id for run, _ in workflow.mult.select(q)])  # type: ignore[misc]
        assert ids == [run_id], (query, ids)
        found.append(seconds * 1000)
        if sum(found) > 60_000:
            break
    return found


def table(directory: str, runs: str) -> object:
    """Return the milliseconds that a frame of one run by a field takes, cold and then warm."""
    import pandas as pd

    assert pd.__version__
    workflow = reader(directory)
    found = []
    for share in (0.5, 0.2, 0.7):
        run_id = int(int(runs) * share) + 1
        query = f"y = {value_of(run_id)!r}"
        seconds, rows = timed(lambda q=query: workflow.mult.frame(q, columns=["id"]))  # type: ignore[misc]
        assert rows["id"].tolist() == [run_id], query
        found.append(seconds * 1000)
    return found


def frame(directory: str, runs: str) -> object:
    """Return the seconds of a data frame, of another one after some changes, and of its memory.

    The last is the time to write as much new memory, the least that any frame takes. A virtual
    machine may need much longer for it than a processor does.
    """
    import numpy as np
    import pandas as pd

    assert pd.__version__
    workflow = opened(directory)
    cold, found = timed(lambda: workflow.mult.frame(columns=COLUMNS))
    assert found.shape == (int(runs), len(COLUMNS)), found.shape
    with workflow.transaction():
        for run_id in range(1, CHANGED + 1):
            workflow.mult.base.runs[run_id]["name"] = "changed"
    changed, found = timed(lambda: workflow.mult.frame(columns=COLUMNS))
    size = int(found.memory_usage(deep=True).sum())
    memory, _ = timed(lambda: np.ones(size, np.uint8))
    assert (found["name"] == "changed").sum() == CHANGED
    return [cold, changed, memory]


# -- writing -----------------------------------------------------------------------------------


def label(directory: str, run_id: str, times: str) -> object:
    """Label one run many times; return the seconds and the bytes written, packs left out."""
    run = opened(directory).mult.base.runs[int(run_id)]
    file = Path(directory) / ".wf" / "wf.db"
    written = 0

    def work() -> None:
        nonlocal written
        for number in range(int(times)):
            before = file.stat().st_size
            run.state = f"LABEL{number % 7}"
            written += max(0, file.stat().st_size - before)

    return [timed(work)[0], written]


def probe(directory: str) -> object:
    """Commit one small change every 5 ms until the input ends; return [when, seconds] of each."""
    import threading

    workflow = opened(directory)
    run = workflow.mult.base.runs[1]
    ended = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    found = []
    while not ended.is_set():
        begin = time.time()
        run["y"] = begin
        found.append((begin, time.time() - begin))
        time.sleep(0.005)
    return found


WORK = {
    work.__name__: work
    for work in (create, end, connect, counts, length, first, one, table, frame, label, probe)
}  # fmt: skip

if __name__ == "__main__":
    print(json.dumps(WORK[sys.argv[1]](*sys.argv[2:])))
