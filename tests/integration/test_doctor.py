"""``motoko doctor`` names real faults of a workflow, and changes nothing."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from motoko.cli.json_schemas import OUTPUTS
from motoko.storage.session import run_transaction
from motoko.workflow import Workflow
from tests.support.command_line import Shell, small_workflow, wait_until
from tests.support.workflow_processes import send, state

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from motoko.storage.tables import Tables

pytestmark = pytest.mark.integration

# Warnings about the machine that executes the tests, which may be busy.
MACHINE = frozenset({"sync-slow", "space", "inodes", "network-file-system", "clock-jump"})


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = small_workflow(tmp_path / "w")
    (tmp_path / "w").chmod(0o700)
    yield made
    made.close()


def examine(shell: Shell, *arguments: str) -> dict[str, Any]:
    """Return the output of ``doctor --json``, whose exit status must agree with it."""
    done = shell.run("doctor", "--json", *arguments)
    content: dict[str, Any] = json.loads(done.stdout)
    jsonschema.Draft7Validator(OUTPUTS["doctor"]).validate(content)
    assert done.returncode == ["ok", "warning", "fault"].index(content["level"]), done.stderr
    return content


def problems(shell: Shell, *arguments: str) -> dict[str, str]:
    """Return code and level of the findings that are not ok, except about the machine."""
    found = examine(shell, *arguments)["findings"]
    problems = {one["code"]: one["level"] for one in found if one["level"] != "ok"}
    return {code: level for code, level in problems.items() if code not in MACHINE}


def contents(directory: Path) -> dict[str, tuple[int, int]]:
    """Return mode and size of everything below a directory."""
    found = {path: path.lstat() for path in [directory, *directory.rglob("*")]}
    return {str(path): (one.st_mode, one.st_size) for path, one in found.items()}


def test_a_workflow_is_healthy_until_its_database_is_not(shell: Shell, tmp_path: Path) -> None:
    assert problems(shell) == {}  # without a database
    assert not (shell.directory / ".wf").exists()

    shell.ok("run", "--run_name", "a")
    before = contents(shell.directory)
    assert problems(shell, "--scrub") == {}
    assert contents(shell.directory) == before
    assert shell.info()["server"] is None

    shell.ok("backup", str(tmp_path / "copy"))
    assert str(tmp_path / "copy") in shell.run("doctor").stdout
    (tmp_path / "copy").unlink()
    assert problems(shell) == {"backup-missing": "warning"}

    with _opened(shell) as workflow:
        run_transaction(workflow.store.database, _remove_from_index)
    shell.ok("kill")
    wrong = {"backup-missing": "warning", "database-inconsistent": "fault"}
    assert problems(shell) == problems(shell, "--scrub") == wrong

    database = shell.directory / ".wf" / "wf.db"
    content = bytearray(database.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(64)
    database.write_bytes(content)
    database.with_name("wf.db.index").unlink()
    assert problems(shell) == {"backup-missing": "warning", "database-damaged": "fault"}


def test_every_mistake_in_the_files_is_named_with_its_line(shell: Shell) -> None:
    shell.write(
        {
            "motoko.yaml": "task_managers:\n  s:\n  t:\norchestrator: steps.main\nx: 1\n",
            "s/bd.yaml": "job: {x: int}\nrun: {y: flot}\nconfig_files: [none]\n",
            "other/bd.yaml": "job: {x: int}\n",
            "s/launch.sh": "#!/bin/sh\r\ntrue\r\n",
            "steps.py": "def mian(workflow): pass\n",
        }
    )

    findings = examine(shell)["findings"]

    found = [one for one in findings if one["level"] != "ok" and one["code"] not in MACHINE]
    assert [(one["code"], one["subject"]) for one in found] == [
        ("configuration-invalid", "motoko.yaml:5"),
        ("configuration-invalid", "s/bd.yaml:2"),
        ("configuration-invalid", "s/bd.yaml:3"),
        ("study-missing", "motoko.yaml:3"),
        ("study-unlisted", "other"),
        ("orchestrator-function-missing", "steps.py"),
        ("script-line-ends", "s/launch.sh"),
    ]
    assert all(one["next_step"] for one in found)


@pytest.mark.parametrize("text", ["", "\x00", "a: [", "- 1\n", "task_managers: 3\n", "\xff"])
def test_an_unreadable_motoko_yaml_is_a_fault_among_others(shell: Shell, text: str) -> None:
    (shell.directory / "motoko.yaml").write_bytes(text.encode("latin-1"))
    (shell.directory / ".wf").mkdir(mode=0o755)

    found = problems(shell)

    assert found["configuration-invalid"] == "fault"
    assert found["state-mode"] == "fault"


def test_outside_a_workflow_only_the_installation_is_examined(tmp_path: Path) -> None:
    shell = Shell(tmp_path)

    content = examine(shell)

    assert content["directory"] is None
    assert {one["subject"] for one in content["findings"]} == {"installation", "extras"}
    assert shell.run("doctor", "--workflow", "none").returncode == 2


def test_a_missing_package_is_a_fault(shell: Shell) -> None:
    code = (
        "import sys; sys.modules['pydantic'] = None; from motoko.cli import main; sys.exit(main())"
    )
    program = [sys.executable, "-c", code]

    done = shell.run_fresh("doctor", "--json", program=program)

    content = json.loads(done.stdout)
    assert done.returncode == 2, done.stderr
    assert content["directory"] is None
    assert content["findings"][-1]["code"] == "package-broken"
    assert (
        "fault    installation: ModuleNotFoundError"
        in shell.run_fresh("doctor", program=program).stdout
    )


@pytest.mark.parametrize("kind", ["fifo", "directory", "empty"])
def test_another_file_in_place_of_the_database_is_a_fault(shell: Shell, kind: str) -> None:
    (shell.directory / ".wf").mkdir(mode=0o700)
    database = shell.directory / ".wf" / "wf.db"
    make = {"fifo": os.mkfifo, "directory": os.mkdir, "empty": lambda path, mode: path.touch(mode)}
    make[kind](database, 0o700)
    database.chmod(0o600)

    assert problems(shell, "--scrub") == {"database-damaged": "fault"}


def test_a_suspended_server_and_a_dead_one_are_named(shell: Shell) -> None:
    with _opened(shell):
        pass
    pid = _server_pid(shell)
    assert problems(shell) == {}

    send(pid, signal.SIGSTOP)
    wait_until(lambda: state(pid) == "T", "stopped")
    assert problems(shell) == {"server-suspended": "fault"}

    send(pid, signal.SIGKILL)
    wait_until(lambda: state(pid) in ("", "Z"), "killed")
    assert problems(shell) == {"server-died": "warning", "socket-stale": "warning"}


def test_a_dead_launcher_and_waiting_runs_are_named(shell: Shell) -> None:
    with _opened(shell) as workflow:
        workflow.start_launcher_daemons()
        (launcher,) = shell.info()["launchers"]
        assert problems(shell) == {}
        assert not launcher["suspended"]
        send(launcher["pid"], signal.SIGSTOP)
        wait_until(lambda: state(launcher["pid"]) == "T", "stopped")
        assert problems(shell) == {"launcher-suspended": "warning"}
        assert shell.info()["launchers"][0]["suspended"]
        resume = f"`kill -CONT {launcher['pid']}`"
        assert resume in shell.ok("launcher")
        workflow.s.create_task(x=[1, 2])
        assert resume in shell.ok("why", "s.1")
        send(launcher["pid"], signal.SIGKILL)
        wait_until(lambda: state(launcher["pid"]) in ("", "Z"), "killed")

    assert problems(shell) == {"launcher-died": "warning", "runs-unserved": "warning"}


def test_no_launcher_is_proposed_for_held_runs(shell: Shell) -> None:
    with _opened(shell) as workflow:
        workflow.s.create_task(x=[1, 2])
        shell.ok("hold", "--run_name", "a")
        workflow.start_launcher_daemons()
        found = examine(shell)["findings"]
    (unserved,) = (one for one in found if one["code"] == "runs-unserved")
    assert "motoko launcher" not in unserved["next_step"]
    assert "motoko release --run_name a" in shell.ok("why")
    shell.ok("kill")


def test_permissions_and_replaced_files_are_named(shell: Shell) -> None:
    with _opened(shell):
        pass
    shell.ok("kill")
    directory = shell.directory / ".wf"
    (directory / "wf.db").chmod(0o644)
    directory.chmod(0o755)
    (directory / "zeo.sock").write_text("not a socket")
    (directory / "zeo.sock").chmod(0o600)
    (directory / "wf.db.damaged-1").touch(0o600)

    assert problems(shell) == {
        "database-leftovers": "warning",
        "socket-replaced": "fault",
        "state-mode": "fault",
        "file-mode": "warning",
    }


def test_a_scheduler_that_does_not_exist_is_a_fault(shell: Shell, tmp_path: Path) -> None:
    shell.write({"s/bd.yaml": "job: {x: int}\ngenerator: slurm\n"})
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "bash").symlink_to("/bin/bash")
    shell.environment["PATH"] = str(tmp_path / "bin")

    assert problems(shell) == {"scheduler-missing": "fault"}


def test_the_text_needs_neither_colour_nor_unicode(shell: Shell) -> None:
    shell.write({"other/bd.yaml": "job: {x: int}\n"})
    shell.environment.update(PYTHONIOENCODING="ascii", LC_ALL="C")

    done = shell.run_fresh("doctor")

    lines = done.stdout.splitlines()
    assert any(line.startswith("! warning  other: ") for line in lines)
    assert any(line.startswith("+ ok       motoko.yaml: valid") for line in lines)
    assert re.fullmatch("[1-9] warnings?", lines[-1])
    assert done.returncode == 1


@contextlib.contextmanager
def _opened(shell: Shell) -> Iterator[Workflow]:
    """Open the workflow in this process, and create its database if it has none."""
    with contextlib.closing(Workflow(shell.directory)) as workflow:
        if not workflow.store.state.database.exists():
            workflow.create()
        workflow.run_name = "a"
        yield workflow


def _server_pid(shell: Shell) -> int:
    pid: int = shell.info()["server"]["pid"]
    return pid


def _remove_from_index(tables: Tables) -> None:
    trees = tables.study("s").trees
    trees["states"]["FINISHED", "a"].remove(1)
