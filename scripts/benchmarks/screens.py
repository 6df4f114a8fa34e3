"""The page and the terminal screen at 100,000 runs: first screen, lag, CPU, and what they cost.

Run it with ``scripts/bench screens [--directory D]``; D keeps the database for the next time.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from latency import TWENTY, latency
from motoko.core.changes import EditRun
from motoko.core.edits import Claim, EndAttempt
from motoko.core.records import RunKey
from motoko.core.states import Lifecycle
from motoko.workflow import Workflow
from scale.client import RUN_NAME
from scale.place import CREATED, Place
from support import Row, noise

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNS = 100_000
STUDY = "mult"
SECONDS = 60.0
RATE = 200  # changes a second
COMMITS = 20  # a second: a launcher writes outcomes in batches
SAMPLES = 1_000
ROUNDS = 3
TICKS = os.sysconf("SC_CLK_TCK")


def main(arguments: list[str]) -> int:
    """Measure and print; the exit status is the number of rows over their limits."""
    parser = argparse.ArgumentParser(prog="scripts/bench screens")
    parser.add_argument("--directory", type=Path, help="where databases are kept")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--change", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--react", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.change is not None:
        print(json.dumps(change(args.change, args.seconds)))
        return 0
    if args.react is not None:
        print(json.dumps(react(args.react)))
        return 0
    print(noise())
    with tempfile.TemporaryDirectory() as temporary:
        base = args.directory or Path(temporary)
        place = Place(base / str(args.runs), args.runs, budget=600.0, smallest=True)
        place.directory.mkdir(parents=True, exist_ok=True)
        rows = [*first_screen(place), *load(place, args.seconds), *reaction(place)]
    for row in rows:
        print(f"{row.what:58} {row.figure:34} {row.limit:14} {'' if row.holds else 'TOO MUCH'}")
    print(noise())
    return sum(not row.holds for row in rows)


# -- the page ------------------------------------------------------------------------------------


@contextmanager
def page(directory: Path) -> Iterator[tuple[int, httpx.Client]]:
    """Serve the page; yield the pid and a client with a session."""
    command = [sys.executable, "-m", "motoko", "serve", "--port", "0"]
    server = subprocess.Popen(command, cwd=directory, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        link = ""
        while not link:
            found = re.search(r"http://\S+token=\S+", server.stdout.readline())
            link = found.group() if found else ""
        with httpx.Client(follow_redirects=True, timeout=60) as client:
            client.get(link).raise_for_status()
            client.base_url = httpx.URL(link).copy_with(path="/", query=None)
            yield server.pid, client
    finally:
        server.terminate()
        server.wait()


def first_screen(place: Place) -> Iterator[Row]:
    """Measure the first answer of a new server, and the first campaign of a new process."""
    with place.copy(CREATED) as directory:
        answers = []
        for _ in range(ROUNDS):
            command = [sys.executable, "-c", FIRST, str(directory), RUN_NAME]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            answers.append(json.loads(done.stdout) * 1000)
        figure = f"{min(answers):.0f} to {max(answers):.0f} ms"
        yield Row("first campaign after the imports", figure, "500 ms", max(answers) <= 500)
        with page(directory) as (_, client):
            begin = time.perf_counter()
            client.get("/runs", params={"run_name": RUN_NAME}).raise_for_status()
            seconds = (time.perf_counter() - begin) * 1000
            yield Row("first page of runs", f"{seconds:.0f} ms", "500 ms", seconds <= 500)


FIRST = """
import json, sys, time
from pathlib import Path
from motoko.api.workflow import Workflow
from motoko.views.connection import ReadConnection
from motoko.views.reader import CampaignReader
import motoko.storage.database, motoko.server.client
begin = time.perf_counter()
workflow = Workflow(Path(sys.argv[1]) / "motoko.yaml", read_only=True)
campaign = CampaignReader(ReadConnection(workflow), sys.argv[2]).read()
assert campaign.total.known
print(json.dumps(time.perf_counter() - begin))
"""


def load(place: Place, seconds: float) -> Iterator[Row]:
    """Measure how far the page is behind, and the CPU of its server, while runs change."""
    with place.copy(CREATED) as directory, page(directory) as (pid, client):
        client.get("/", params={"run_name": RUN_NAME})
        command = [sys.executable, "-m", "screens", "--change", str(directory)]
        with client.stream("GET", "/", params={"run_name": RUN_NAME, "live": "1"}) as answer:
            lines = answer.iter_lines()
            _next(lines)
            idle, begin = cpu(pid), time.time()
            while time.time() - begin < 10:
                _next(lines)
            idle = (cpu(pid) - idle) / (time.time() - begin)
            changes = subprocess.Popen(
                [*command, "--seconds", str(seconds)], stdout=subprocess.PIPE, text=True,
                env={**os.environ, "PYTHONPATH": ":".join(sys.path)}, cwd=Path(__file__).parent,
            )  # fmt: skip
            used, begin = cpu(pid), time.time()
            shown: list[tuple[float, int]] = []
            while changes.poll() is None:
                news = _next(lines)
                number = _finished(news)
                if number is not None:
                    shown.append((time.time(), number))
            share = (cpu(pid) - used) / (time.time() - begin)
            assert changes.stdout is not None
            made = json.loads(changes.stdout.read())
    behind = [_behind(made, number, until) for (_, number), (until, _) in itertools.pairwise(shown)]
    worst, middle = max(behind), statistics.median(behind)
    figure = f"{worst:.2f} s (median {middle:.2f} s)"
    yield Row(f"{RATE} changes/s for {seconds:.0f} s: page behind by", figure, "1 s", worst <= 1)
    yield Row("  CPU of the page's server", f"{share:.1%} of a core", "5 %", share <= 0.05)
    yield Row("  the same without changes, one page open", f"{idle:.1%}", "", True)
    rate = len(made) and made[-1][1] / (made[-1][0] - made[0][0])
    yield Row("  changes in fact", f"{2 * rate:.0f}/s", "", True)


def _next(lines: Iterator[str]) -> Any:
    """Return the next message of a stream."""
    for line in lines:
        if line.startswith("data: "):
            return json.loads(line.removeprefix("data: "))
    raise EOFError


def _finished(news: Any) -> int | None:
    """Return the number of ended runs that the summary shows, None if it did not change."""
    for name, html in news["parts"]:
        found = re.search(r"<b>([\d,]+)</b> of", html) if name == "summary" else None
        if found:
            return int(found[1].replace(",", ""))
    return None


def _behind(made: list[tuple[float, int]], number: int, until: float) -> float:
    """Return how far a page was behind that showed ``number`` ended runs ``until`` a time."""
    later = next((when for when, total in made if total > number), until)
    return max(0.0, until - later)


def cpu(pid: int) -> float:
    """Return the CPU seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def change(directory: Path, seconds: float) -> list[tuple[float, int]]:
    """Claim and end runs at RATE; return the time of each commit and the ended runs until then."""
    workflow = Workflow(directory)
    scope = workflow.store.autocommit_scope
    with scope.read() as session:
        ids = session.tables.study(STUDY).ids(RUN_NAME, lifecycles=[Lifecycle.CREATED])
    size = RATE // COMMITS // 2
    made: list[tuple[float, int]] = []
    begin = time.time()
    for step in range(int(seconds * COMMITS)):
        edits = []
        now = time.time()
        for run_id in ids[step * size : (step + 1) * size]:
            key, token = RunKey(STUDY, run_id), f"t{run_id}"
            edits.append(EditRun(key, Claim("bench", token, now)))
            edits.append(EditRun(key, EndAttempt(token, Lifecycle.FINISHED, now, "bench", 0)))
        scope.write(*edits)
        made.append((time.time(), (step + 1) * size))
        time.sleep(max(0.0, begin + (step + 1) / COMMITS - time.time()))
    workflow.close()
    return made


# -- the orchestrator ----------------------------------------------------------------------------


def reaction(place: Place) -> Iterator[Row]:
    """Compare FINISHED -> action without a page and with one, in turns."""
    alone, beside = [], []
    for _ in range(ROUNDS):
        with place.copy(CREATED) as directory:
            alone.append(_reaction(directory))
        with place.copy(CREATED) as directory, page(directory) as (_, client):
            parameters = {"run_name": RUN_NAME, "live": "1"}
            with client.stream("GET", "/", params=parameters) as answer:
                _next(answer.iter_lines())
                beside.append(_reaction(directory))
    for position, name in enumerate(("median", "99 %")):
        without = statistics.median(found[position] for found in alone)
        with_page = statistics.median(found[position] for found in beside)
        figure = f"{with_page:.2f} / {without:.2f} ms = {with_page / without:.2f}"
        limit = f"{1.2 * without:.2f} ms"
        yield Row(
            f"FINISHED -> action beside a page, {name}", figure, limit, with_page <= 1.2 * without
        )


def _reaction(directory: Path) -> tuple[float, float]:
    done = subprocess.run(
        [sys.executable, "-m", "screens", "--react", str(directory)],
        check=True, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent,
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    median, high = json.loads(done.stdout)
    return median * 1000, high * 1000


def react(directory: Path) -> tuple[float, float]:
    """Run an orchestrator with 20 actions; return median and 99 % in seconds."""
    workflow = Workflow(directory)
    workflow.run_name = RUN_NAME
    found = latency(workflow, TWENTY, samples=SAMPLES)
    workflow.close()
    return found.median, found.high


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
