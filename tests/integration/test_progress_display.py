"""The progress of a run name, read from a database and shown on a terminal or in a log."""

from __future__ import annotations

import io
import re
import sys
from typing import TYPE_CHECKING, Any

import pytest

from motoko.cli.progress import progress
from motoko.core.progress import StudyProgress, TimeLeft
from motoko.core.records import RunKey
from motoko.core.states import Lifecycle
from motoko.operations.progress import Failure, Progress, ProgressReader
from motoko.storage.query import query_database
from motoko.testing.fake_launcher import FakeOutcome, failing
from tests.support.orchestrating import execute, memory_workflow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from motoko.workflow import Workflow

pytestmark = pytest.mark.integration

OUTCOMES = {
    0: failing("exit code 7", 7),
    1: FakeOutcome(outcome=Lifecycle.TIMEOUT, reason="the time limit of 3 s was exceeded"),
    2: FakeOutcome(outcome=Lifecycle.CANCELLED),
}
SCRIPTS = {"s": lambda job: OUTCOMES.get(job["x"])}


@pytest.fixture
def workflow(tmp_path: Path) -> Iterator[Workflow]:
    with memory_workflow(tmp_path, ["s", "t"]) as made:
        yield made


def read(reader: ProgressReader, workflow: Workflow) -> Progress:
    return query_database(workflow.store.database, reader.read)


def test_the_ends_since_the_last_look_are_found_and_failures_described(workflow: Workflow) -> None:
    reader = ProgressReader(workflow.store, workflow.config, "a")
    stderr = workflow.store.run_directory("s", 1) / "stderr"
    stderr.parent.mkdir(parents=True)
    stderr.write_bytes(b"x" * 10_000 + b"\n\x1b[2Jno \xff convergence\n\n")
    before = read(reader, workflow)

    async def main(workflow: Workflow) -> None:
        await workflow.s.create_task(x=[0, 1, 2, 3, 4]).settled()

    execute(workflow, main, SCRIPTS)
    found = read(reader, workflow)
    again = read(reader, workflow)

    assert (before.total.known, before.failed) == (0, 0)
    assert (found.total.known, found.total.done, found.total.failed) == (5, 5, 3)
    assert found.studies["s"].mean is not None
    assert found.failed == 2  # a cancelled run is no news
    assert list(found.failures) == [
        Failure(RunKey("s", 1), Lifecycle.FAILED, 7, "\\x1b[2Jno \ufffd convergence"),
        Failure(RunKey("s", 2), Lifecycle.TIMEOUT, 0, "the time limit of 3 s was exceeded"),
    ]
    assert (again.failed, list(again.failures)) == (0, [])


def test_many_failures_are_counted_and_few_described(workflow: Workflow) -> None:
    reader = ProgressReader(workflow.store, workflow.config, "a")
    read(reader, workflow)

    async def main(workflow: Workflow) -> None:
        await workflow.s.create_task(x=[0.5 + x for x in range(100)]).settled()

    execute(workflow, main, {"s": lambda _: failing()})
    found = read(reader, workflow)

    assert (found.failed, len(found.failures)) == (100, 3)


def test_the_reasons_of_waiting_runs_are_counted(workflow: Workflow) -> None:
    reader = ProgressReader(workflow.store, workflow.config, "a")
    with workflow.transaction():
        workflow.s.create_task(x=[1, 2])
        workflow.t.create_task(x=3)
    found = read(reader, workflow)

    assert [(wait.runs, wait.text) for wait in found.waits] == [(3, "no launcher is running")]


# -- the display ------------------------------------------------------------------------------


class ManualClock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.time = 0.0

    def monotonic(self) -> float:
        return self.time


class Screen(io.StringIO):
    """A terminal, or a file."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


def sample(done: int, failed: int = 0) -> Progress:
    counts = {"CREATED": 40_000 - done, "FINISHED": done - failed, "FAILED": failed}
    found = StudyProgress(
        {state: number for state, number in counts.items() if number},
        40_000, done, failed, 17.0, 2.1, TimeLeft(4560, 3900, 5400),
    )  # fmt: skip
    failures = [
        Failure(RunKey("solve", n), Lifecycle.FAILED, 7, "bad") for n in range(min(3, failed))
    ]
    return Progress(found, {"solve": found}, failures, failed)


def show(screen: Screen, monkeypatch: pytest.MonkeyPatch, samples: dict[float, Progress]) -> str:
    clock: Any = ManualClock()
    monkeypatch.setattr(sys, "stderr", screen)
    with progress(clock) as (show_one, _):
        for clock.time, found in samples.items():
            show_one(found)
    return screen.getvalue()


def test_a_terminal_shows_a_table_of_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    text = show(Screen(terminal=True), monkeypatch, {0.0: sample(0), 3700.0: sample(24_310, 100)})
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)

    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", text)  # no colour
    assert max(map(len, plain.splitlines())) <= 80
    assert "1:01:40 60 % of 40,000 runs, 100 failed, 2.1/s, about 1 h 16 min left" in plain
    assert re.search(r"solve +15690 +24210 +100 +17 s +2.1/s +1 h 16 min", plain)
    assert plain.count("ended FAILED with exit code 7: bad") == 3
    assert "1:01:40 ... and 97 more failed" in plain


def test_a_log_gets_few_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = {float(second): sample(second) for second in range(1000)}
    lines = show(Screen(terminal=False), monkeypatch, samples).splitlines()

    assert lines[0] == (
        "00:00 0 % of 40,000 runs, 2.1/s, about 1 h 16 min left (1 h 5 min to 1 h 30 min); "
        "solve: 40000 CREATED"
    )
    assert [line[:5] for line in lines[1:7]] == [
        "00:01",
        "00:03",
        "00:07",
        "00:15",
        "00:31",
        "01:03",
    ]
    assert len(lines) < 25


def test_a_log_without_changes_gets_no_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = {float(second): sample(7) for second in range(1000)}

    assert len(show(Screen(terminal=False), monkeypatch, samples).splitlines()) == 1


def test_new_failures_are_printed_at_once_and_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = {0.0: sample(0), 100.0: sample(10), 101.0: sample(20), 102.5: sample(200, 100)}
    lines = show(Screen(terminal=False), monkeypatch, samples).splitlines()

    assert [line for line in lines if line.startswith("01:42")] == [
        *(f"01:42 solve.{n} ended FAILED with exit code 7: bad" for n in range(3)),
        next(line for line in lines if "100 failed" in line),
        "01:42 ... and 97 more failed",
    ]
