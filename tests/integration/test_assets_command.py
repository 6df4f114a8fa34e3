"""``motoko assets``: arguments, output, exit status."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from motoko.assets.command import main, run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

APPLICATION = '''
import sys
from motoko.assets import asset, external, log, task, tasks

@task
def one(x, y=2):
    """
    Do one thing.

    Quite well.
    """
    yield f"one {x!r} {y!r}"
    yield asset(1, lambda: "never" != x)
    yield None

@tasks
def both():
    yield "both"
    yield [one(1), one(2)]

@task
def broken():
    yield "broken"

@task
def interrupted():
    yield "interrupted"
    yield asset(1, lambda: False)
    yield None
    raise KeyboardInterrupt

@task
def inner():
    yield "inner"
    raise OSError('no disk')
    yield

@tasks
def outer():
    yield "outer"
    yield inner()

@task
def often():
    yield "often"
    yield asset(1, lambda: False)
    yield None
    yield "more"

@task
def failing():
    yield "failing"
    yield asset(1, lambda: False)
    yield None
    raise ValueError("it failed")

def plain():
    raise AssertionError

_hidden = one
'''


@pytest.fixture
def application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write an application named like another module; enter its directory."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "json.py"
    path.write_text(APPLICATION)
    return path


def log_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [f"{one.levelname} {one.getMessage()}" for one in caplog.records]


@pytest.fixture(autouse=True)
def _info_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["1"], "one 1 2"),
        (["hello", "42"], "one 'hello' 42"),
        (['{"a": [1, null]}', "true"], "one {'a': [1, None]} True"),
        (["40.1672", "-105.1091"], "one 40.1672 -105.1091"),
        # Neither value is JSON.
        (['say "x"', "C:\\n"], "one 'say \"x\"' 'C:\\\\n'"),
    ],
)
def test_arguments_are_json_or_text(
    arguments: list[str], name: str, application: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert run([str(application), "one", *arguments], "motoko assets") == 0
    assert log_lines(caplog) == [f"INFO {name}: Ready"]


def test_a_relative_path_and_an_asset_that_is_not_ready(
    application: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert run(["json.py", "one", "never"], "motoko assets") == 0
    assert log_lines(caplog)[-1] == "WARNING one 'never' 2: Not ready"
    assert str(application.parent) == sys.path[-1]


def test_show(application: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["-s", "json.py", "ignored"], "motoko assets") == 0
    assert capsys.readouterr().out.splitlines() == [
        "Tasks in json.py:",
        "  both",
        "  broken",
        "  failing",
        "  inner",
        "  interrupted",
        "  often",
        "  one",
        "    Do one thing.",
        "  outer",
    ]


def test_a_task_name_is_required(application: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([str(application)], "motoko assets") == 1
    assert capsys.readouterr().out == "Specify task name\n"


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (["json.py", "broken"], ["Failed to get assets: Check yield statements."]),
        (["json.py", "botch"], ["json.py has no task 'botch'", "  Did you mean 'both'?"]),
        (
            ["json.py", "plain"],
            ["json.py has no task 'plain': it is not a task function"],
        ),
        (["json.py", "one"], ["one: missing a required argument: 'x'", "  It takes (x, y=2)."]),
        (["no.such.module", "x"], ["The module 'no.such.module' does not exist"]),
        (["notes.txt", "x"], ["notes.txt is not a Python module"]),
        (["./nosuch.py", "x"], ["The file ./nosuch.py does not exist"]),
        (["nosuch.py", "x"], ["The file nosuch.py does not exist"]),
        (["here/nosuch", "x"], ["The file here/nosuch does not exist"]),
    ],
)
def test_bad_input_is_reported_with_exit_status_one(
    arguments: list[str],
    messages: list[str],
    application: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (application.parent / "notes.txt").touch()
    assert run(arguments, "motoko assets") == 1
    found = [one.getMessage() for one in caplog.records if one.levelname == "ERROR"]
    assert found[0].endswith(messages[0])
    assert found[1 : len(messages)] == messages[1:]
    assert len(found) > 1


def test_a_failing_import_in_a_module_is_not_hidden(
    application: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = application.parent / "importing.py"
    path.write_text("\nimport no_such_thing\n")
    error = "ModuleNotFoundError: No module named 'no_such_thing'"
    assert run(["importing.py", "x"], "motoko assets") == 1
    assert "importing" not in sys.modules
    assert log_lines(caplog) == [
        f"ERROR importing.py cannot be imported: {error}",
        f"ERROR   at {path}:2, in <module>",
    ]


def test_a_module_with_a_syntax_error(application: Path, caplog: pytest.LogCaptureFixture) -> None:
    (application.parent / "broken.py").write_text("\nit is no Python\n")
    assert run(["./broken.py", "x"], "motoko assets") == 1
    (line,) = log_lines(caplog)
    assert line.startswith("ERROR ./broken.py cannot be imported: SyntaxError: ")
    assert line.endswith("(broken.py, line 2)")


def test_an_exception_before_the_last_yield_names_the_task(
    application: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert run([str(application), "outer"], "motoko assets") == 1
    line = 1 + application.read_text().splitlines().index("    raise OSError('no disk')")
    assert log_lines(caplog) == [
        "ERROR in the task 'inner' (json.inner): OSError: no disk",
        f"ERROR   at {application}:{line}, in inner",
    ]


def test_a_task_that_yields_too_often_fails(
    application: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert run([str(application), "often"], "motoko assets") == 1
    assert "Task 'often' yields too often" in caplog.text
    assert run([str(application), "failing"], "motoko assets") == 0
    assert "failing: Task failed: it failed" in caplog.text


def test_required_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(["-d"], "motoko assets")
    assert capsys.readouterr().err.endswith("the following arguments are required: module\n")


def test_an_interrupt_is_reported_as_a_failure(
    application: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert run([str(application), "interrupted"], "motoko assets") == 130
    assert log_lines(caplog)[-1] == "INFO Interrupted"


@pytest.mark.parametrize("threads", ["-1", "x", "1.5"])
def test_invalid_numbers_of_threads_are_refused(
    threads: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        run(["-t", threads, "json.py", "one"], "motoko assets")
    assert caught.value.code == 2
    assert "is not a number of threads" in capsys.readouterr().err


def test_main_uses_the_arguments_of_the_process(
    application: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["my-app", "-s", str(application)])
    main()
    assert capsys.readouterr().out.startswith(f"Tasks in {application}:")
    monkeypatch.setattr(sys, "argv", ["my-app", "--version"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("my-app version ")
    with pytest.raises(SystemExit) as caught:
        main([str(application)])
    assert caught.value.code == 1


@pytest.mark.parametrize("command", [["motoko", "assets"], ["motoko.assets"]])
def test_the_command_in_a_shell(command: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command, "-g", "motoko.assets.demo", "cup", "tea"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert [line.partition("] ")[2] for line in done.stderr.splitlines()] == [
        "INFO    The cup: Executing",
        "INFO    The cup: Getting cup",
        "INFO    The cup: Ready",
    ]
    assert done.stdout.startswith("digraph g {\n  _")
    assert (tmp_path / "tea" / "cup").is_dir()


def test_assets_has_its_own_help(capsys: pytest.CaptureFixture[str]) -> None:
    from motoko.cli import main as motoko

    with pytest.raises(SystemExit) as caught:
        run(["-h"], "motoko assets")
    assert caught.value.code == 0
    assert "[-d] [-g] [-h] [-s] [-t N] [-v] [--version]" in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        motoko(["assets", "--help"])
    assert "application module name or path" in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        motoko(["--help"])
    assert "build the assets" in capsys.readouterr().out


def test_the_command_imports_no_heavy_module() -> None:
    code = "import sys, motoko.assets; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    heavy = {"ZODB", "ZEO", "pydantic", "anyio", "asyncio", "argparse", "logging", "rich"}
    assert "motoko" in loaded
    assert not loaded & heavy
