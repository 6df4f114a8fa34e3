"""Completion of command lines, as shells request it and in real shells."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from motoko.workflow import Workflow
from tests.support.command_line import PATIENCE, Shell, small_workflow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

ORCHESTRATOR = """\
raise SystemExit("completion must not execute this module")

def populate_arg_parser(parser):
    parser.add_argument("--inputs", "-i", nargs="+")
"""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = small_workflow(tmp_path / "w", main=ORCHESTRATOR)
    made.write(
        {
            "motoko.yaml": "task_managers: {solve: , s: , prepare: }\naliases: {old: solve}\n"
            "orchestrator: steps.main\n",
            "solve/bd.yaml": "job: {x: int}\n",
            "solve/launch.sh": "true\n",
            "prepare/bd.yaml": "job: {x: int}\n",
            "prepare/launch.sh": "true\n",
        }
    )
    yield made
    made.close()


def environment(line: str, output: Path) -> dict[str, str]:
    """Return the variables with which a shell requests completions of a line."""
    return {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(output),
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
    }


def completions(shell: Shell, line: str) -> list[str]:
    """Return the completions of a line."""
    output = shell.directory.parent / "completions"
    shell.environment = environment(line, output)
    done = shell.run()
    shell.environment = {}
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return output.read_text().splitlines()


def options(found: list[str]) -> set[str]:
    return {word for word in found if word.startswith("-")}


def values(found: list[str]) -> list[str]:
    return [word for word in found if not word.startswith("-")]


def test_names_come_from_the_files_of_the_workflow(shell: Shell) -> None:
    everything = completions(shell, "motoko ")
    assert {"run", "info", "doctor", "assets", "completion"} <= set(everything)
    assert completions(shell, "motoko doc") == ["doctor"]
    assert completions(shell, "motoko orchestrator st") == ["start", "stop", "status"]
    assert completions(shell, "orchestrator sto") == ["stop"]
    assert "--scrub" in options(completions(shell, "motoko doctor "))
    assert completions(shell, "motoko completion z") == ["zsh"]

    assert values(completions(shell, "motoko retry ")) == ["solve", "s", "prepare", "old"]
    assert completions(shell, "motoko info --bd_study s") == ["solve", "s"]
    assert completions(shell, "motoko info --bd_study=so") == ["--bd_study=solve"]
    outside = f"motoko --workflow {shell.directory} retry pr"
    assert completions(Shell(shell.directory.parent), outside) == ["prepare"]
    assert "--inputs" in options(completions(shell, "motoko run --"))
    assert not (shell.directory / ".wf").exists()


def test_names_come_from_the_database_without_a_server(shell: Shell) -> None:
    shell.write({"steps.py": "async def main(workflow): pass\n"})
    with contextlib.closing(Workflow(shell.directory)) as workflow:
        workflow.create()
        for name in ("first", "second try"):
            workflow.run_name = name
            workflow.solve.create_task(x=list(range(6)))
    shell.ok("kill")

    assert completions(shell, "motoko retry solve.1") == [f"solve.{n}" for n in (1, 10, 11, 12)]
    assert completions(shell, "motoko retry old.2") == ["old.2"]
    assert completions(shell, "motoko retry --run_name ") == ["first", "second\\ try"]
    assert completions(shell, "motoko retry --run_name 's") == ["second try"]
    assert completions(shell, "motoko retry --where 'state = FA") == ["state = FAILED"]
    assert completions(shell, "motoko why solve.1") == [f"solve.{n}" for n in (1, 10, 11, 12)]
    assert completions(shell, "motoko why pre") == ["prepare"]
    assert completions(shell, "motoko why nothing.x") == []
    assert shell.info()["server"] is None


@pytest.mark.parametrize("text", ["", "task_managers: [", "\tx", "task_managers: 3\n", "[1]"])
def test_an_invalid_workflow_gives_no_completions_and_no_errors(shell: Shell, text: str) -> None:
    shell.write({"motoko.yaml": text})
    assert values(completions(shell, "motoko retry ")) == []
    assert completions(shell, "motoko retry s.1") == []
    assert completions(shell, "motoko retry --run_name ") == []


def test_a_study_name_needs_no_slow_import(shell: Shell, tmp_path: Path) -> None:
    output = tmp_path / "completions"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "motoko"],
        cwd=shell.directory,
        env={**os.environ, **environment("motoko retry so", output)},
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )

    assert output.read_text().split() == ["solve"]
    modules = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "yaml" in modules
    assert not modules & {"pydantic", "ZODB", "ZEO", "anyio", "rich", "asyncio", "lark"}
    assert not {name for name in modules if name.startswith(("motoko.api", "motoko.operations"))}


# -- real shells ------------------------------------------------------------------------------

BASH = """
eval "$(motoko completion bash)"
COMP_LINE='motoko retry pre' COMP_POINT=16 COMP_TYPE=9 COMP_CWORD=2 COMP_WORDS=(motoko retry pre)
$(complete -p motoko | sed 's/.*-F \\([^ ]*\\).*/\\1/') motoko 2> /dev/null
printf '%s\\n' "${COMPREPLY[@]}"
"""
FISH = "motoko completion fish | source; complete -C 'motoko retry pre'"


def in_shell(shell: Shell, *command: str) -> str:
    """Run a shell in which ``motoko`` is this one; skip the test without this shell."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    return subprocess.run(
        command, cwd=shell.directory, env=_environment(shell), check=True, text=True,
        stdout=subprocess.PIPE, timeout=PATIENCE,
    ).stdout  # fmt: skip


def _environment(shell: Shell) -> dict[str, str]:
    """Return an environment whose first program ``motoko`` is this one."""
    programs = shell.directory.parent / "bin"
    programs.mkdir(exist_ok=True)
    program = programs / "motoko"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m motoko "$@"\n')
    program.chmod(0o755)
    home = str(shell.directory.parent)
    path = f"{programs}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "HOME": home, "TERM": "dumb"}


def test_bash_completes_a_study(shell: Shell) -> None:
    assert in_shell(shell, "bash", "--norc", "-c", BASH).split() == ["prepare"]


def test_fish_completes_a_study(shell: Shell) -> None:
    assert in_shell(shell, "fish", "--no-config", "-c", FISH).split() == ["prepare"]


def test_zsh_completes_a_study(shell: Shell) -> None:
    if shutil.which("zsh") is None:
        pytest.skip("zsh is not installed")
    terminal, its_side = pty.openpty()
    zsh = subprocess.Popen(
        ["zsh", "-f", "-i"], cwd=shell.directory, env=_environment(shell), stdin=its_side,
        stdout=its_side, stderr=its_side, start_new_session=True,
    )  # fmt: skip
    os.close(its_side)
    try:
        _type(terminal, "PS1='REA''DY> '\n", "READY> ")
        _type(
            terminal, 'autoload -Uz compinit; compinit -u -D; echo INIT"IALISED"\n', "INITIALISED"
        )
        _type(terminal, 'eval "$(motoko completion zsh)"; echo INST"ALLED"\n', "INSTALLED")
        _type(terminal, "motoko retry pre\t", "prepare")
    finally:
        os.close(terminal)
        zsh.kill()
        zsh.wait()


def _type(terminal: int, text: str, expected: str) -> None:
    """Type a text, and wait for an output."""
    os.write(terminal, text.encode())
    seen, deadline = "", time.monotonic() + PATIENCE
    while expected not in seen:
        assert time.monotonic() < deadline, seen
        if select.select([terminal], [], [], 1.0)[0]:
            seen += os.read(terminal, 65536).decode(errors="replace")
