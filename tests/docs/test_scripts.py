"""The scripts of the README, in a copy of the tree with stubbed programs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.docs

ROOT = Path(__file__).parents[2]
# Records its calls. ``python -c`` and ``motoko`` run the real programs.
STAND_IN = """#!/bin/bash
name="${0##*/}"
[ "$1" = -c ] || printf '%s\\n' "$name $*" >> "$CALLS"
case "$name $1" in
    "python -c") exec "REAL" "$@" ;;
    motoko*) exec "REAL" -m motoko "$@" ;;
esac
[ "$name" != "$FAILING" ]
"""
# Prints its version and creates environments of stubs.
OTHER_PYTHON = """#!/bin/bash
case "$1 $2" in
    "-c "*print*) echo "${0##*python}"; exit ;;
    "-c "*) exit ;;
esac
printf '%s\\n' "${0##*/} $*" >> "$CALLS"
mkdir -p "$4/bin" && cp "${4%-*}/bin/python" "$4/bin/python"
"""
VERSIONS = ("3.11", "3.12", "3.13", "3.14")
PYTEST = "--numprocesses=4 --dist=loadscope --no-loadscope-reorder"


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.replace("REAL", sys.executable))
    path.chmod(0o755)


class Checkout:
    """A copy of the files that the scripts need, in a directory with spaces."""

    def __init__(self, place: Path) -> None:
        self.root = place / "a check out"
        self.temporary = place / "temporary"
        self.temporary.mkdir()
        self._calls = place / "calls"
        for name in ("scripts", ".ci", "examples"):
            ignored = shutil.ignore_patterns(".wf", "BD-*")
            shutil.copytree(ROOT / name, self.root / name, ignore=ignored)
        shutil.copy(ROOT / "pyproject.toml", self.root)
        self.commands = place / "commands"
        self.pyenv = place / "pyenv"
        for name in ("python", "motoko", "ruff", "mypy", "lint-imports"):
            write_program(self.root / ".venv/bin" / name, STAND_IN)
        for name in VERSIONS:  # hide the machine's own
            self.add_python(name, self.commands, works=False)

    def add_python(self, version: str, directory: Path, *, works: bool = True) -> None:
        """Add a Python, or one that always fails."""
        write_program(directory / f"python{version}", OTHER_PYTHON if works else "exit 1\n")

    def run(self, script: str, *arguments: str, failing: str = "") -> tuple[int, str, list[str]]:
        """Run a script elsewhere, without a terminal; return status, output and calls."""
        self._calls.write_text("")
        paths = (str(ROOT / "src"), os.environ.get("PYTHONPATH", ""))
        added = {
            "CALLS": str(self._calls),
            "FAILING": failing,
            "TMPDIR": str(self.temporary),
            "PATH": os.pathsep.join([str(self.commands), os.environ["PATH"]]),
            "PYENV_ROOT": str(self.pyenv),
        }
        done = subprocess.run(
            [str(self.root / script), *arguments],
            cwd=self.temporary.parent,
            env={**os.environ, **added, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        calls = self._calls.read_text().splitlines()
        return done.returncode, done.stdout + done.stderr, calls


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def installations(calls: list[str]) -> list[str]:
    return [call for call in calls if call.startswith("python -m pip install")]


def test_demo_prints_results_and_removes_its_files(checkout: Checkout) -> None:
    status, output, calls = checkout.run("scripts/demo")

    assert status == 0, output
    assert "50.3270772" in output
    assert "7.0941580" in output
    (install,) = installations(calls)
    assert install.endswith(f" {checkout.root}")
    assert not list(checkout.temporary.iterdir())


def test_demo_forwards_options_and_exit_status(checkout: Checkout) -> None:
    status, output, _ = checkout.run("scripts/demo", "--inputs", "not a number", "1")

    assert status == 2
    assert "not a number" in output
    assert not list(checkout.temporary.iterdir())


def test_test_script_runs_all_checks_then_pytest(checkout: Checkout) -> None:
    status, output, calls = checkout.run("scripts/test", "-m", "unit", "-k", "two words")

    assert status == 0, output
    (install,) = installations(calls)
    assert install.endswith(f" {checkout.root}[test]")
    assert calls[calls.index(install) + 1 :] == [
        "ruff check .",
        "ruff format --check .",
        "mypy ",
        "lint-imports ",
        f"python -m pytest {PYTEST} -m unit -k two words",
    ]


@pytest.mark.parametrize("failing", ["ruff", "mypy", "lint-imports", "python"])
def test_test_script_fails_if_a_check_fails(checkout: Checkout, failing: str) -> None:
    checkout.run("scripts/test")

    status, _, calls = checkout.run("scripts/test", failing=failing)

    assert status != 0
    assert calls[-1].startswith(failing)


ON_EACH = f"{PYTEST} -m unit or property or contract"


def test_other_pythons_run_the_tests_that_depend_on_the_version(checkout: Checkout) -> None:
    own = "{}.{}".format(*sys.version_info)
    others = [version for version in VERSIONS if version != own]
    on_path, in_pyenv, *missing = others
    checkout.add_python(on_path, checkout.commands)
    checkout.add_python(in_pyenv, checkout.pyenv / "versions" / f"{in_pyenv}.7" / "bin")
    checkout.add_python(in_pyenv, checkout.commands, works=False)  # as pyenv's shims do

    status, output, calls = checkout.run("scripts/test", "--all-pythons", "-k", "two words")

    assert status == 0, output
    assert [call for call in calls if "-m pytest" in call] == [
        f"python -m pytest {ON_EACH} -k two words"
    ] * 3
    made = [call for call in calls if "-m venv" in call]
    assert made == [
        f"python{version} -m venv --clear {checkout.root}/.venv-{version}"
        for version in sorted([on_path, in_pyenv])
    ]
    assert len(installations(calls)) == 3
    assert f"Python {own}: .venv" in output
    for version in missing:
        assert f"Python {version}: not found" in output

    # Their environments are kept.
    _, _, calls = checkout.run("scripts/test", "--all-pythons")
    assert len(calls) == 3


def test_other_pythons_fail_with_their_tests(checkout: Checkout) -> None:
    checkout.run("scripts/test")

    status, _, calls = checkout.run("scripts/test", "--all-pythons", failing="python")

    assert status != 0
    assert calls[-1] == f"python -m pytest {ON_EACH}"


def test_integration_script_runs_all_tests_then_other_pythons(checkout: Checkout) -> None:
    other = next(version for version in VERSIONS if version != "{}.{}".format(*sys.version_info))
    checkout.add_python(other, checkout.commands)

    status, output, calls = checkout.run(".ci/run", "-x")

    assert status == 0, output
    assert [call for call in calls if "-m pytest" in call] == [
        f"python -m pytest {PYTEST} -x",
        f"python -m pytest {ON_EACH}",
    ]
    assert "ruff check ." in calls


def test_an_environment_is_reinstalled_only_if_outdated(checkout: Checkout) -> None:
    assert len(installations(checkout.run("scripts/test")[2])) == 1
    assert installations(checkout.run("scripts/test")[2]) == []

    with (checkout.root / "pyproject.toml").open("a") as file:
        file.write("# another version\n")
    assert len(installations(checkout.run("scripts/test")[2])) == 1

    checkout.root = checkout.root.rename(checkout.root.with_name("moved"))
    assert len(installations(checkout.run("scripts/test")[2])) == 1
