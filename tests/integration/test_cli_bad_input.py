"""Bad input: one line names the error and its location, and no data is lost."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from motoko.cli import main
from tests.support.command_line import MAIN, Shell, finish, small_workflow, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

pytestmark = pytest.mark.integration

RUN = ("run", "--run_name", "a")
WORKFLOW = "task_managers:\n  s:\norchestrator: steps.main\n"


@dataclass(frozen=True)
class Row:
    """Changed files (None: removed), a command, its exit status, its first line.

    ``fresh``: run the command in a new Python process.
    """

    files: Mapping[str, str | None] = field(default_factory=dict)
    command: tuple[str, ...] = RUN
    status: int = 2
    first: tuple[str, ...] = ()
    anywhere: tuple[str, ...] = ()
    fresh: bool = False


def creating(**values: str) -> dict[str, str | None]:
    given = ", ".join(f"{name}={value}" for name, value in values.items())
    return {"steps.py": f"async def main(workflow):\n    await workflow.s.create_task({given})\n"}


ROWS = {
    "no motoko.yaml": Row({"motoko.yaml": None}, first=("no motoko.yaml in",)),
    "no such directory": Row(
        command=("info", "--workflow", "nowhere"), first=("nowhere has no motoko.yaml",)
    ),
    "empty motoko.yaml": Row({"motoko.yaml": ""}, first=("motoko.yaml", "empty")),
    "unparsable motoko.yaml": Row(
        {"motoko.yaml": WORKFLOW + "aliases: [\n"}, first=("motoko.yaml:",)
    ),
    "unknown key": Row(
        {"motoko.yaml": WORKFLOW + "max_concurent: 3\n"},
        first=("motoko.yaml:4:", "max_concurent"),
        anywhere=("Did you mean 'max_concurrent'?",),
        fresh=True,
    ),
    "no bd.yaml": Row({"s/bd.yaml": None}, first=("motoko.yaml:2:", "bd.yaml")),
    "unparsable bd.yaml": Row({"s/bd.yaml": "job: {x\n"}, first=("s/bd.yaml:",)),
    "misspelt type": Row(
        {"s/bd.yaml": "job: {x: flot}\n"},
        first=("s/bd.yaml:1:", "'flot'"),
        anywhere=("Did you mean 'float'?",),
    ),
    "no study directory": Row(
        {"motoko.yaml": "task_managers:\n  t:\norchestrator: steps.main\n"},
        first=("motoko.yaml:2:", "'t'"),
    ),
    "no script": Row({"s/launch.sh": None}, first=("s/bd.yaml:", "launch.sh")),
    "alias to nothing": Row(
        {"motoko.yaml": WORKFLOW + "aliases: {t: u}\n"}, first=("motoko.yaml:4:", "'u'")
    ),
    "host": Row(
        {"motoko.yaml": "task_managers:\n  s: {host: zeo:///x}\norchestrator: steps.main\n"},
        first=("motoko.yaml:2:", "remote studies are not supported yet"),
    ),
    "orchestrator without a dot": Row(
        {"motoko.yaml": "task_managers: {s: }\norchestrator: main\n"},
        first=("motoko.yaml:2:", "module.function"),
    ),
    "no module": Row({"steps.py": None}, first=("motoko.yaml:3: ", "steps.py")),
    "no function": Row(
        {"steps.py": "async def mian(workflow): pass\n"},
        first=("motoko.yaml:3: ", "steps.py has no function 'main'"),
        anywhere=("Did you mean 'mian'?",),
    ),
    "not async": Row({"steps.py": "\ndef main(workflow): pass\n"},
                     first=("motoko.yaml:3: ", "function main (", "steps.py:2) is not async")),
    "async generator": Row(
        {"steps.py": "\nasync def main(workflow):\n    yield 1\n"},
        first=("motoko.yaml:3: ", "function main (", "steps.py:2) is an async generator"),
        anywhere=("Remove the `yield`",),
    ),
    "import error": Row({"steps.py": "\nimport nothing_of_this_name\n" + MAIN},
                        first=("steps.py:2:", "nothing_of_this_name")),
    "syntax error": Row({"steps.py": "async def main(:\n"}, first=("steps.py:1:", "SyntaxError")),
    "option of Motoko's": Row(
        {"steps.py": "def populate_arg_parser(parser):\n    parser.add_argument('--run_name')\n"
                     + MAIN},
        first=("steps.py:2: populate_arg_parser", "--run_name"),
    ),
    "options that cannot be added": Row(
        {"steps.py": "def populate_arg_parser(parser):\n    parser.add_argument('--y', tipe=int)\n"
                     + MAIN},
        first=("steps.py:2: populate_arg_parser: TypeError: ", "'tipe'"),
    ),
    "unknown parameter": Row(
        creating(x="1", z="2"), status=1, first=("in the orchestrator function main", "'z'"),
        anywhere=("steps.py:2",),
        fresh=True,
    ),
    "missing parameter": Row(creating(), status=1, first=("'x'",)),
    "wrong type": Row(creating(x="'one'"), status=1, first=("x", "'one'")),
    "nan": Row(creating(x="float('nan')"), status=1, first=("x", "nan")),
    "None": Row(creating(x="None"), status=1, first=("x", "None")),
    "bad constraint": Row(
        {"steps.py": "async def main(workflow):\n    workflow.s.select('stat = FINISHED')\n",
         "s/bd.yaml": "job: {x: int}\nrun: {y: float}\n"},
        status=1,
        first=("in the orchestrator function main", "'stat'"),
        anywhere=("Did you mean 'state'?",),
    ),
    "bad constraint of an event": Row(
        {"steps.py": "async def main(workflow):\n"
                     "    workflow.add_action('e', task='s', event='state == 1')\n"},
        status=1,
        first=("state == 1",),
    ),
    "bad constraint on the command line": Row(
        {"s/bd.yaml": "job: {x: int}\nrun: {y: float}\n"},
        command=("clean", "--delete", "--where", "stat = FINISHED"), first=("'stat'",)
    ),
    "unknown study": Row(command=("info", "--bd_study", "t"), first=("'t'",)),
    "unknown generator": Row(command=("launcher", "--generator", "bsh"), first=("'bsh'",)),
    "empty run name": Row(command=("run", "--run_name", ""), first=("the run name is empty",)),
    "long run name": Row(command=("run", "--run_name", "n" * 101), first=("101 characters",)),
    "unprintable run name": Row(command=("run", "-n", "a\nb"), first=("unprintable",)),
    "slash in a run name": Row(command=("run", "-n", "a/b"), first=("slash",)),
    "no run name": Row(command=("run",), first=("--run_name",)),
    "unknown command": Row(
        command=("rnu",), first=("'rnu'",), anywhere=("Did you mean 'run'?",), fresh=True
    ),
    "unknown option": Row(
        command=("info", "--jsn"), first=("'--jsn'",), anywhere=("Did you mean '--json'?",)
    ),
    "create over results": Row(
        command=("create",), status=1, first=("already has results",), anywhere=("--validated",)
    ),
    "init over files": Row(command=("init",), status=1, first=("motoko.yaml", "exist")),
    "nobody to stop": Row(
        command=("orchestrator", "stop", "-n", "zz"), status=1, first=("'zz' has no orchestrator",)
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workflow with results and no running process."""
    directory = tmp_path_factory.mktemp("original") / "w"
    shell = small_workflow(directory)
    shell.ok("run", "-n", "before")
    return directory


@pytest.fixture(scope="module")
def results(original: Path) -> Any:
    return Shell(original).info("--verbose")["studies"]


@pytest.fixture
def shell(original: Path, tmp_path: Path) -> Iterator[Shell]:
    """A copy of the workflow, in a directory with a space."""
    directory = tmp_path / "with space"
    shutil.copytree(original, directory)
    yield Shell(directory)
    for name in ("motoko.yaml", "s/bd.yaml"):
        shutil.copy(original / name, directory / name)
    Shell(directory).close()


def restore_files(original: Path, shell: Shell) -> None:
    for name in ("motoko.yaml", "steps.py", "s/bd.yaml", "s/launch.sh"):
        shutil.copy(original / name, shell.directory / name)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_the_first_line_names_the_error_and_no_data_is_lost(
    row: Row, shell: Shell, original: Path, results: Any
) -> None:
    for name, text in row.files.items():
        if text is None:
            (shell.directory / name).unlink()
        else:
            (shell.directory / name).write_text(text, encoding="utf-8")
    done = shell.run_fresh(*row.command) if row.fresh else shell.run(*row.command)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    for text in row.first:
        assert text in lines[0]
    for text in row.anywhere:
        assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == row.status
    restore_files(original, shell)
    after = shell.info("--verbose")
    assert after["studies"] == results
    assert after["server"] is None


def test_commands_without_orchestrator_do_not_import_it(shell: Shell) -> None:
    shell.write({"steps.py": "raise SystemExit('imported')\n"})
    for command in (("info",), ("clean",), ("kill",), ("orchestrator", "status")):
        shell.ok(*command)


def test_help_works_if_the_orchestrator_cannot_be_imported(shell: Shell) -> None:
    shell.write({"steps.py": "import nothing_of_this_name\n"})
    out = shell.ok("run", "--help")
    assert "--run_name" in out
    assert "nothing_of_this_name" in out


def test_verbose_shows_the_traceback(shell: Shell) -> None:
    shell.write({"steps.py": "import nothing_of_this_name\n"})
    for command in (("--verbose", *RUN), (*RUN, "--verbose")):
        err = shell.run(*command).stderr
        assert err.startswith("error: ")
        assert "Traceback" in err


def test_a_second_orchestrator_reports_the_holder_of_the_run_name(shell: Shell) -> None:
    # Without a launcher, the first orchestrator waits for its runs.
    first = shell.start("orchestrator", "start", "-n", "a")
    wait_until(lambda: shell.info()["orchestrators"], "the first one holds the run name")
    before = shell.info("--verbose")["studies"]
    for command in (RUN, ("orchestrator", "start", "-n", "a"),
                    ("orchestrator", "start", "--detach", "-n", "a")):  # fmt: skip
        done = shell.run(*command)
        assert done.returncode == 1
        line = next(line for line in done.stderr.splitlines() if line.startswith("error: "))
        assert "'a' already has an orchestrator" in line
        assert f"process {first.pid}" in line
    assert shell.info("--verbose")["studies"] == before
    shell.ok("orchestrator", "stop", "-n", "a")
    assert finish(first).returncode == 143


def test_results_in_use_are_not_replaced(shell: Shell) -> None:
    shell.ok("launcher")
    before = shell.info("--verbose")["studies"]
    done = shell.run("create", "--validated")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "in use by a launcher" in done.stderr
    assert shell.info("--verbose")["studies"] == before


def test_a_server_that_cannot_start_is_reported_and_keeps_its_file(shell: Shell) -> None:
    database = shell.directory / ".wf" / "wf.db"
    (shell.directory / ".wf" / "wf.db.index").unlink(missing_ok=True)
    database.write_bytes(b"this is no database")
    for command in (RUN, ("launcher",), ("clean", "--delete", "--yes")):
        done = shell.run(*command)
        assert done.returncode == 1, command
        assert done.stderr.startswith("error: ")
        assert done.stderr.startswith(f"error: {database} is not a Motoko database\n")
        assert "server.log" in done.stderr
    assert database.read_bytes() == b"this is no database"


def test_a_launcher_that_cannot_start_reports_the_reason_and_stops_the_server(
    shell: Shell, tmp_path: Path
) -> None:
    shell.write({"motoko.yaml": WORKFLOW + "generator: slurm\n"})
    shell.environment["PATH"] = str(tmp_path)
    for options in ([], ["--do_not_detach"]):
        done = shell.run("launcher", *options)
        assert done.returncode == 1, done.stderr
        problem = "error: study 's' has the generator 'slurm', but sbatch is not on PATH"
        assert problem in done.stderr.splitlines()
        assert shell.info()["server"] is None
    assert done.stderr.startswith("error: ")


@pytest.mark.parametrize("command", ["info", "kill", "create", "launcher"])
def test_a_file_with_the_name_of_the_state_directory_is_reported(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_workflow(tmp_path)
    (tmp_path / ".wf").touch()
    assert main([command, "--workflow", str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        f"error: {tmp_path}/.wf is not a directory\n  Move it out of the way.\n"
    )


def test_parameters_reach_the_script_unchanged_and_are_never_executed(shell: Shell) -> None:
    nasty = [
        """quotes " and ' and \\""",
        "$(touch pwned) `touch pwned`; touch pwned",
        "two\nlines\n",
        "\N{SNOWMAN} \N{GREEK SMALL LETTER PI} [red]x[/red]",
        " blanks  ",
    ]
    shell.write(
        {
            "s/bd.yaml": "job: {x: str}\n",
            "s/launch.sh": 'motoko-worker set y "$MOTOKO_JOB_X" || exit 1\n'
            "python3 -c 'from motoko.worker import job, run; run.z = job.x'\n",
            "steps.py": "async def main(workflow):\n"
            f"    await workflow.s.create_task(x={json.dumps(nasty)})\n",
        }
    )
    shell.environment["PATH"] = _path_with_motoko_worker(shell)
    shell.ok("create", "--validated")
    shell.ok("run", "-n", "a")
    runs = shell.info("--verbose")["studies"][0]["runs"]
    assert [run["job"]["x"] for run in runs] == nasty
    assert [run["fields"]["z"] for run in runs] == nasty
    assert [run["fields"]["y"] for run in runs] == nasty
    assert not list(shell.directory.rglob("pwned"))


def _path_with_motoko_worker(shell: Shell) -> str:
    import os
    import sys

    programs = shell.directory / "bin"
    programs.mkdir()
    worker = programs / "motoko-worker"
    worker.write_text(
        f"#!{sys.executable}\n"
        "import sys\nfrom motoko.worker import command_line\nsys.exit(command_line())\n"
    )
    worker.chmod(0o755)
    return f"{programs}{os.pathsep}{os.environ['PATH']}"
