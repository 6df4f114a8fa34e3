"""Imports by and of the orchestrator module."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from motoko.errors import OrchestratorLoadError
from motoko.workflow import Workflow
from tests.support.command_line import Shell, small_workflow

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

DAEMONS = ("motoko.launcher.daemon", "motoko.server.main", "motoko.cli.run", "motoko.api.workflow")
MOTOKO = (str(Path(sys.executable).with_name("motoko")),)

MODULE = """\
from __future__ import annotations

import asyncio
import pickle
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

from helpers import double

@dataclass
class Point:
    x: float

def square(point: Point) -> Point:
    return Point(point.x ** 2)

async def main(workflow, **params):
    assert sys.modules[__name__].square is square
    assert pickle.loads(pickle.dumps(Point(1.0))) == Point(1.0)
    for method in ("fork", "spawn"):
        with ProcessPoolExecutor(1, mp_context=get_context(method)) as pool:
            loop = asyncio.get_running_loop()
            print(method, await loop.run_in_executor(pool, square, Point(3.0)))
    print("double", double())
"""
HELPERS = """\
def double():
    from steps import Point, square
    return square(Point(2.0)).x * 2
"""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = small_workflow(tmp_path / "w")
    yield made
    made.close()


def imported_by_daemons() -> set[str]:
    """Return the top-level modules imported by the daemons."""
    code = f"import sys, {', '.join(DAEMONS)}; print(*{{n.partition('.')[0] for n in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_files_in_the_current_directory_shadow_no_module(shell: Shell) -> None:
    names = imported_by_daemons() - {"__main__", "steps", "sitecustomize"}
    assert {"motoko", "ZODB", "random", "yaml", "anyio"} <= names
    shell.write({f"{name}.py": "raise SystemExit('the wrong module')\n" for name in names})
    done = shell.run_fresh("run", "--run_name", "a", program=MOTOKO)
    assert done.returncode == 0, done.stderr
    assert shell.run_fresh("orchestrator", "start", "-d", "-n", "b", program=MOTOKO).returncode == 0
    shell.run_fresh("kill", program=MOTOKO)


def test_nothing_is_imported_from_the_current_directory(shell: Shell, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "random.py").write_text("x = 1\n")
    other = Shell(elsewhere)
    done = other.run_fresh("run", "--run_name", "a", "--workflow", str(shell.directory))
    assert done.returncode == 0, done.stderr


def test_the_orchestrator_module_can_be_imported(shell: Shell) -> None:
    shell.write({"steps.py": MODULE, "helpers.py": HELPERS})
    done = shell.run_fresh("run", "--run_name", "a", program=MOTOKO)
    assert done.returncode == 0, done.stderr
    for line in ("fork Point(x=9.0)", "spawn Point(x=9.0)", "double 8.0"):
        assert line in done.stdout.splitlines()


def test_an_edit_within_the_same_second_and_size_is_detected(shell: Shell) -> None:
    text = "import helpers\nasync def main(workflow, **params):\n    print('one', helpers.n)\n"
    shell.write({"steps.py": text, "helpers.py": "n = 1\n"})
    assert "one 1" in shell.run_fresh("run", "--run_name", "a", program=MOTOKO).stdout
    times = {name: (shell.directory / name).stat() for name in ("steps.py", "helpers.py")}
    shell.write({"steps.py": text.replace("one", "two"), "helpers.py": "n = 2\n"})
    for name, found in times.items():
        os.utime(shell.directory / name, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert "two 2" in shell.run_fresh("run", "--run_name", "a", program=MOTOKO).stdout


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("queue", "the standard library"),
        ("yaml", "installed"),
        ("motoko", "a module of Motoko"),
        ("__main__", "a module of Motoko"),
    ],
)
def test_the_name_of_another_module_is_refused(shell: Shell, name: str, owner: str) -> None:
    config = (shell.directory / "motoko.yaml").read_text().replace("steps.", f"{name}.")
    shell.write({"motoko.yaml": config, f"{name}.py": "async def main(workflow): pass\n"})
    workflow = Workflow(shell.directory)
    try:
        with pytest.raises(OrchestratorLoadError, match=owner) as caught:
            workflow.get_orchestrator_function()
        assert caught.value.line == 3
    finally:
        workflow.close()


def test_a_module_that_fails_is_removed_from_sys_modules(shell: Shell) -> None:
    shell.write({"steps.py": "raise ValueError('no')\n"})
    workflow = Workflow(shell.directory)
    before = sys.modules.get("steps")
    try:
        with pytest.raises(OrchestratorLoadError, match="ValueError: no"):
            workflow.get_orchestrator_function()
        assert sys.modules.get("steps") is before
    finally:
        workflow.close()
