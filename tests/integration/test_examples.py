"""The examples run through the command line, on a real server and real processes."""

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from motoko.workflow import Workflow
from tests.support.command_line import Shell

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

EXAMPLES = Path(__file__).parents[2] / "examples"


def run_motoko(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command without a terminal."""
    return Shell(cwd, {"COLUMNS": "160"}).run(*arguments)


def motoko(*arguments: str, cwd: Path) -> str:
    """Run a command that must succeed; return its output."""
    done = run_motoko(*arguments, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def copy_of(name: str, tmp_path: Path) -> Iterator[Path]:
    """Copy an example to a directory with spaces; stop its processes afterwards."""
    directory = tmp_path / "a directory with spaces" / name
    shutil.copytree(EXAMPLES / name, directory, ignore=shutil.ignore_patterns(".wf", "BD-*"))
    try:
        yield directory
    finally:
        motoko("kill", cwd=directory)


@pytest.fixture
def arithmetic(tmp_path: Path) -> Iterator[Path]:
    yield from copy_of("arithmetic", tmp_path)


@pytest.fixture
def active_learning(tmp_path: Path) -> Iterator[Path]:
    yield from copy_of("active_learning", tmp_path)


def numbers(first: float, second: float) -> tuple[float, float]:
    """Return the expected results of the arithmetic example."""
    sums = [first * 0.342 + 0.56, first * -2.31 + 0.56, second * 0.342 + 0.56]
    square = sum((a - b) ** 2 for a, b in zip(sums, (3.3, 2.34, 0.148), strict=True))
    return square, math.sqrt(square)


def read(directory: Path, run_name: str) -> Workflow:
    """Open a workflow read-only, without a server."""
    workflow = Workflow(directory / "motoko.yaml", read_only=True)
    workflow.run_name = run_name
    return workflow


def states(workflow: Workflow) -> dict[str, list[str]]:
    """Return the states of all runs of the run name, by study."""
    managers = workflow.task_managers.items()
    return {name: sorted(run.state for run, _ in manager.select()) for name, manager in managers}


ALL_ENDED = {
    "mult": ["FINISHED", "FINISHED", "FORWARDED", "FORWARDED"],
    "add": ["FORWARDED"] * 3,
    "norm": ["FORWARDED"],
}


def check_arithmetic(directory: Path, run_name: str, first: float, second: float) -> None:
    """Check every run of a run name and its result against the same arithmetic done here."""
    workflow = read(directory, run_name)
    try:
        assert states(workflow) == ALL_ENDED
        added = sorted(job.x for _, job in workflow.add.select())
        assert added == pytest.approx(sorted([first * 0.342, first * -2.31, second * 0.342]))
        results = sorted(job.x for _, job in workflow.mult.select("role = result"))
        assert results == pytest.approx(sorted(numbers(first, second)), rel=1e-12)
        assert workflow.run_vars.result == pytest.approx(numbers(first, second), rel=1e-12)
    finally:
        workflow.close()


def test_arithmetic_prints_the_documented_numbers(arithmetic: Path) -> None:
    assert numbers(2.1, 3.2) == pytest.approx((50.3270772, 7.0941580), abs=5e-8)

    printed = motoko("run", "--run_name", "test", cwd=arithmetic)

    assert "50.3270772" in printed
    assert "7.0941580" in printed
    check_arithmetic(arithmetic, "test", 2.1, 3.2)


def test_arithmetic_with_several_run_names_in_one_directory(arithmetic: Path) -> None:
    motoko("run", "--run_name", "first", cwd=arithmetic)
    motoko("run", "--run_name", "it's the second", cwd=arithmetic)
    motoko("run", "--run_name", "third", "--inputs", "-1.5", "4", cwd=arithmetic)
    # Two of the three values are equal: still three sums.
    motoko("run", "--run_name", "fourth", "--inputs", "2", "2", cwd=arithmetic)

    check_arithmetic(arithmetic, "first", 2.1, 3.2)
    check_arithmetic(arithmetic, "it's the second", 2.1, 3.2)
    check_arithmetic(arithmetic, "third", -1.5, 4.0)
    check_arithmetic(arithmetic, "fourth", 2.0, 2.0)


def test_a_second_start_of_arithmetic_repeats_nothing(arithmetic: Path) -> None:
    first = motoko("run", "--run_name", "test", cwd=arithmetic)
    again = motoko("run", "--run_name", "test", cwd=arithmetic)

    line = f"{numbers(2.1, 3.2)[0]:.7f}"
    assert line in first
    assert line in again
    check_arithmetic(arithmetic, "test", 2.1, 3.2)
    workflow = read(arithmetic, "test")
    try:
        runs = [run for manager in workflow.task_managers.values() for run, _ in manager.select()]
        assert {run.attempt for run in runs} == {1}
    finally:
        workflow.close()


def test_arithmetic_fails_if_a_run_fails(arithmetic: Path) -> None:
    (arithmetic / "norm" / "doIt.py").write_text("raise SystemExit('no norm today')")

    done = run_motoko("run", "--run_name", "test", cwd=arithmetic)

    assert done.returncode == 3
    assert "norm.1 ended FAILED with exit code 1" in done.stderr
    assert "no norm today" in done.stderr


def test_active_learning_finds_the_known_potential(active_learning: Path) -> None:
    printed = motoko("run", "--run_name", "h2", cwd=active_learning)

    # From reference/doIt.py; the fits never use these numbers.
    distance = re.search(r"equilibrium distance ([0-9.]+)", printed)
    depth = re.search(r"well depth ([0-9.]+)", printed)
    assert distance is not None
    assert depth is not None
    assert float(distance[1]) == pytest.approx(0.7414, abs=0.002)
    assert float(depth[1]) == pytest.approx(4.7467, abs=0.005)

    workflow = read(active_learning, "h2")
    try:
        fits = sorted((len(job.r), run.spread) for run, job in workflow.fit.select())
        assert len(fits) > 1, "the first fit was good enough, so nothing was learnt"
        # One more sample after each insufficient fit, none after the first sufficient one.
        assert [count for count, _ in fits] == list(range(5, 5 + len(fits)))
        assert all(spread > 0.005 for _, spread in fits[:-1])
        assert fits[-1][1] <= 0.005
        assert len(workflow.reference.select("state = FITTED")) == fits[-1][0]
        (report,) = workflow.report.select().runs
        picture = (report.directory / report.picture).read_bytes()
    finally:
        workflow.close()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(picture) > 10_000


def test_active_learning_reports_that_it_gives_up(active_learning: Path) -> None:
    done = run_motoko("run", "--run_name", "few", "--max_samples", "6", cwd=active_learning)

    assert done.returncode != 0
    assert "6 samples, and the fits still disagree by" in done.stderr + done.stdout


@pytest.fixture
def extrapolation(tmp_path: Path) -> Iterator[Path]:
    yield from copy_of("extrapolation", tmp_path)


def built(output: str) -> set[str]:
    """Return the reported nodes that were built."""
    lines = re.findall(r"^(\w+): (built|fresh)$", output, re.MULTILINE)
    assert {name for name, _ in lines} == {"grid", "coarse", "fine", "result"}
    return {name for name, status in lines if status == "built"}


def test_a_graph_repeats_only_runs_that_depend_on_a_change(
    extrapolation: Path,
) -> None:
    def go(*options: str) -> str:
        return motoko("run", "--run_name", "a", *options, cwd=extrapolation)

    first = go()
    assert built(first) == {"grid", "coarse", "fine", "result"}
    found = re.search(r"^integral (\S+)$", first, re.MULTILINE)
    assert found is not None
    # Richardson extrapolation leaves an error of fourth order in the step.
    assert abs(float(found[1]) - 2.0) < (math.pi / 8) ** 4 / 100
    runs = len(list(extrapolation.glob("*/BD-*-runs/run-*")))
    assert runs == 2
    assert built(go()) == set()
    assert built(go("--weight", "3")) == {"result"}
    assert len(list(extrapolation.glob("*/BD-*-runs/run-*"))) == runs
    assert built(go("--points", "10")) == {"grid", "coarse", "fine", "result"}
    assert len(list(extrapolation.glob("*/BD-*-runs/run-*"))) == runs + 2
