"""``motoko retry``, ``cancel``, ``history`` and ``--retry-failed`` on the command line."""

from __future__ import annotations

import contextlib
import os
import pty
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from motoko.cli.selection_arguments import retry_failed
from motoko.errors import RunFailed
from motoko.operations import bulk_edit
from motoko.operations.bulk_edit import RunSelection
from motoko.testing.fake_launcher import failing
from tests.support.command_line import MODULE, Shell
from tests.support.orchestrating import execute, memory_workflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from motoko.workflow import Workflow

pytestmark = pytest.mark.integration


def make(place: Path) -> Path:
    """A workflow with one study that fails while the file ``mended`` is missing."""
    (place / "half").mkdir(parents=True)
    (place / "motoko.yaml").write_text("task_managers: {half: }\norchestrator: steps.main\n")
    (place / "half" / "bd.yaml").write_text("job: {x: int}\n")
    (place / "half" / "launch.sh").write_text(
        'if [ "$MOTOKO_JOB_X" = 2 ] && [ ! -e ../../../mended ]; then exit 3; fi\n'
    )
    (place / "steps.py").write_text(
        "async def main(workflow):\n    await workflow.half.create_task(x=[1, 2])\n"
    )
    return place


def motoko(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return Shell(place).run(*arguments)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    place = make(tmp_path / "a workflow")
    yield place
    Shell(place).close()


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same after a failed run, with no running process."""
    place = make(tmp_path_factory.mktemp("executed") / "w")
    assert motoko(place, "run", "-n", "a").returncode == 3
    return place


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Callable[[Path], Path]]:
    place = tmp_path / "a workflow"

    def made(original: Path) -> Path:
        return shutil.copytree(original, place)

    yield made
    Shell(place).close()


def test_a_failed_run_is_retried_on_request(directory: Path) -> None:
    first = motoko(directory, "run", "-n", "a")
    assert first.returncode == 3
    assert "run half.2 ended FAILED with exit code 3" in first.stderr
    assert "--retry-failed" in first.stderr
    assert motoko(directory, "run", "-n", "a").returncode == 3
    (directory / "mended").touch()
    again = motoko(directory, "run", "-n", "a", "--retry-failed")
    assert again.returncode == 0, again.stderr
    assert "1 run to retry (1 FAILED)\n" in again.stderr
    history = motoko(directory, "history", "half.2").stdout
    states = [line.split()[2] for line in history.splitlines()[1:]]
    assert states == [
        "CREATED", "SUBMITTED", "START", "FAILED", "CREATED", "SUBMITTED", "START", "FINISHED",
    ]  # fmt: skip


def test_retried_runs_are_counted_by_state(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def main(workflow: Workflow) -> None:
        with contextlib.suppress(RunFailed):
            await workflow.s.create_task(x=[1.0, 2.0, 3.0])

    with memory_workflow(tmp_path, ("s",)) as workflow:
        execute(workflow, main, {"s": lambda job: failing("no luck", 7)})
        cancelled = RunSelection.parse_texts(["s.2"])
        bulk_edit.retry(workflow, cancelled.find(workflow), "test")
        bulk_edit.cancel(workflow, cancelled.find(workflow), "test")
        retry_failed(workflow, "a")
        retry_failed(workflow, "a")
    assert capsys.readouterr().err == "3 runs to retry (2 FAILED, 1 CANCELLED)\n0 runs to retry\n"


def test_retry_names_the_runs_and_changed_selects_outdated_ones(directory: Path) -> None:
    (directory / "mended").touch()
    assert motoko(directory, "run", "-n", "a").returncode == 0
    assert motoko(directory, "retry", "half").stdout.startswith("0 runs to retry")
    assert motoko(directory, "retry", "--changed").stdout.startswith("0 runs")
    script = directory / "half" / "launch.sh"
    script.write_text(script.read_text() + "# mended\n")
    changed = motoko(directory, "retry", "--changed", "--constraints", "x = 2")
    assert changed.stdout.splitlines()[0] == "half.2 is CREATED again"
    assert motoko(directory, "run", "-n", "a").returncode == 0
    assert motoko(directory, "retry", "--changed").stdout.splitlines() == [
        "half: 1 FINISHED",
        "1 run would go back to CREATED",
        "add --yes to send them back, or select some with RUNS or --where C",
    ]
    assert motoko(directory, "retry", "--changed", "--yes").stdout.splitlines() == [
        "half.1 is CREATED again",
        "1 run to retry; `motoko run` or a launcher executes them",
    ]


def nothing_runs(place: Path) -> bool:
    found = Shell(place).info()
    return found["server"] is None and not found["launchers"]


@pytest.mark.parametrize(
    "command",
    [
        ("retry", "half"),
        ("cancel", "--all", "--yes"),
        ("clean", "--delete", "--constraints", "x = 1"),
    ],
    ids=["retry", "cancel", "clean"],
)
def test_a_server_that_was_started_for_a_command_is_stopped(
    copy: Callable[[Path], Path], executed: Path, command: tuple[str, ...]
) -> None:
    directory = copy(executed)
    assert nothing_runs(directory)
    done = motoko(directory, *command)
    assert done.returncode == 0, done.stderr
    assert nothing_runs(directory)
    assert motoko(directory, "launcher").returncode == 0
    assert motoko(directory, *command).returncode == 0
    assert not nothing_runs(directory)


@pytest.fixture(scope="module")
def executed_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a second study; both declare fields and have a failed run."""
    place = make(tmp_path_factory.mktemp("executed") / "w")
    (place / "motoko.yaml").write_text("task_managers: {half: , other: }\n"
                                       "orchestrator: steps.main\n")  # fmt: skip
    (place / "half" / "bd.yaml").write_text("job: {x: int}\nrun: {damping: float}\n")
    (place / "other").mkdir()
    (place / "other" / "bd.yaml").write_text("job: {y: int}\nrun: {q: float}\n")
    (place / "other" / "launch.sh").write_text("exit 1\n")
    (place / "steps.py").write_text(
        "async def main(workflow):\n"
        "    workflow.half.create_task(x=2)\n    workflow.other.create_task(y=1)\n"
        "    for study in (workflow.half, workflow.other):\n"
        "        await study.select().all('state = FAILED')\n"
    )
    assert motoko(place, "run", "-n", "a").returncode == 3
    return place


@pytest.fixture
def two(copy: Callable[[Path], Path], executed_two: Path) -> Path:
    return copy(executed_two)


@pytest.mark.parametrize("command", ["clean", "retry", "cancel"])
def test_a_misspelt_column_is_reported_with_the_nearest_name_of_any_study(
    two: Path, command: str
) -> None:
    done = motoko(two, command, "--constraints", "dampin > 1")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0].startswith("error: study 'half': bad constraint")
    assert "Did you mean 'damping'?" in done.stderr


def test_a_column_of_one_study_selects_only_its_runs(two: Path) -> None:
    done = motoko(two, "retry", "--constraints", "x = 2")
    assert done.stdout.splitlines()[0] == "half.1 is CREATED again", done.stderr
    done = motoko(two, "cancel", "--constraints", "x = 2")
    assert done.stdout.splitlines() == ["half.1 ended CANCELLED", "1 run cancelled"]
    done = motoko(two, "clean", "--delete", "--yes", "--constraints", "y = 1")
    assert done.stdout.splitlines() == ["deleted other.1", "1 run deleted"]


def test_retries_in_an_action_are_limited(directory: Path) -> None:
    (directory / "steps.py").write_text(
        "from motoko import event\n"
        "@event\n"
        "async def again(workflow, runs):\n"
        "    for run, job in runs:\n"
        "        run.retry()\n"
        "async def main(workflow):\n"
        "    workflow.add_action('again', task='half',\n"
        "                        event='state = FAILED and attempt < 2', f=again)\n"
        "    workflow.half.create_task(x=[1, 2])\n"
        "    await workflow.half.select('x = 2').all('state = FAILED', 'attempt = 2')\n"
        "    workflow.finished = True\n"
    )
    done = motoko(directory, "run", "-n", "a")
    assert done.returncode == 3, done.stderr
    history = motoko(directory, "history", "half.2").stdout
    states = [line.split()[2] for line in history.splitlines()[1:]]
    assert [state for state in states if state != "SUBMITTED"] == [
        "CREATED", "START", "FAILED", "CREATED", "START", "FAILED",
    ]  # fmt: skip


def test_cancel_requires_a_selection(directory: Path) -> None:
    assert motoko(directory, "create").returncode == 0
    code = (
        "from motoko import Workflow\n"
        "workflow = Workflow('.')\nworkflow.run_name = 'a'\nworkflow.half.create_task(x=[1, 2])"
    )
    subprocess.run([sys.executable, "-c", code], cwd=directory, check=True, timeout=60)
    refused = motoko(directory, "cancel")
    assert refused.returncode == 2
    assert "--where" in refused.stderr
    done = motoko(directory, "cancel", "--constraints", "x = 2")
    assert done.stdout.splitlines() == ["half.2 ended CANCELLED", "1 run cancelled"]
    assert motoko(directory, "history", "half.2").stdout.rstrip().endswith("motoko cancel")
    assert "CANCELLED" not in motoko(directory, "history", "half.1").stdout


def in_terminal(place: Path, *command: str, answer: str) -> tuple[int, str]:
    """Run a command whose input and output are a terminal; type an answer."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [*MODULE, *command], cwd=place, stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    os.write(controller, answer.encode())
    output = b""
    with contextlib.suppress(OSError):  # EIO: the process has closed the terminal
        while piece := os.read(controller, 4096):
            output += piece
    os.close(controller)
    return process.wait(60), output.decode()


def test_a_change_of_several_runs_requires_consent(
    copy: Callable[[Path], Path], executed: Path
) -> None:
    directory = copy(executed)

    def runs() -> dict[str, int]:
        return Shell(directory).counts("half", "a")

    refused = motoko(directory, "clean", "--delete")
    assert refused.returncode == 2
    assert refused.stderr.splitlines() == [
        "error: 2 runs would be deleted, and there is no terminal to ask",
        "  Add --yes to continue, or --dry-run to see the runs.",
    ]
    status, output = in_terminal(directory, "clean", "--delete", answer="n\n")
    assert status == 1
    assert "half: 1 FINISHED, 1 FAILED" in output
    assert "runs: half.1, half.2" in output
    assert "2 directories would be removed" in output
    assert "2 runs would be deleted" in output
    assert "nothing was changed" in output
    status, _ = in_terminal(directory, "clean", "--delete", answer="\x04")  # end of the input
    assert status == 1
    assert runs() == {"FINISHED": 1, "FAILED": 1}
    status, output = in_terminal(directory, "clean", "--delete", answer="y\n")
    assert status == 0, output
    assert runs() == {}


def test_a_dry_run_changes_and_starts_nothing(two: Path) -> None:
    def files() -> dict[str, bytes]:
        place = two / ".wf"
        return {str(f): f.read_bytes() for f in place.rglob("*") if f.is_file()}

    before = files()
    for command in (
        ("retry", "half", "other", "--dry-run", "--yes"),
        ("retry",),
        ("clean", "--delete", "--dry-run", "half.1", "other"),
    ):
        lines = motoko(two, *command).stdout.splitlines()
        assert any("half: 1 FAILED; other: 1 FAILED" in line for line in lines), lines
        assert any(line.startswith("2 runs would ") for line in lines), lines
    assert "0 runs would be cancelled" in motoko(two, "cancel", "half.1", "--dry-run").stdout
    assert "1 FAILED" in motoko(two, "cancel", "half.1", "--dry-run").stdout
    assert "would be replaced by" in motoko(two, "restore", ".wf/wf.db", "--dry-run").stdout
    assert "would salvage" in motoko(two, "restore", "--salvage", "--dry-run").stdout
    assert motoko(two, "kill", "--stop-runs", "--dry-run").stdout.splitlines() == [
        "no process would be stopped",
        "0 runs would be stopped and return to CREATED",
    ]
    assert files() == before
    assert nothing_runs(two)


@pytest.mark.parametrize(
    ("arguments", "first", "hint"),
    [
        (("halve",), "no study 'halve'", "Did you mean 'half'?"),
        (("half.7",), "study 'half' has no run 7", "The nearest is half.1. Ids are 1."),
        (("half.2-9",), "study 'half' has no runs 2 to 9", "The nearest is half.1. Ids are 1."),
        (("half.x",), "'half.x' names no runs", "Write STUDY"),
        (("-n", "b"), "no run has the run name 'b'", "Known: a."),
        (("half", "-bd", "half"), "name runs either as arguments or with --bd_study", ""),
    ],
)
def test_runs_that_do_not_exist_are_errors(
    executed_two: Path, arguments: tuple[str, ...], first: str, hint: str
) -> None:
    for command in (("retry", "--dry-run"), ("cancel", "--all", "--dry-run"), ("clean",)):
        done = motoko(executed_two, *command, *arguments)
        assert done.returncode == 2, done.stdout
        assert first in done.stderr.splitlines()[0]
        assert hint in done.stderr
