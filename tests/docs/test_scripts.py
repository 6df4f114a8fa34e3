"""The README's two commands, in a copy of the tree whose environment is made of stand-ins."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.docs

ROOT = Path(__file__).parents[2]
# Notes what it is asked for. Python that is to run code, or Motoko, is the real one.
STAND_IN = """#!/bin/bash
name="${0##*/}"
[ "$1" = -c ] || printf '%s\\n' "$name $*" >> "$CALLS"
case "$name $1" in
    "python -c") exec "REAL" "$@" ;;
    motoko*) exec "REAL" -m motoko "$@" ;;
esac
[ "$name" != "$FAILING" ]
"""


class Checkout:
    """A copy of what the scripts need, in a directory with spaces."""

    def __init__(self, place: Path) -> None:
        self.root = place / "a check out"
        self.temporary = place / "temporary"
        self.temporary.mkdir()
        self._calls = place / "calls"
        for name in ("scripts", ".ci", "examples"):
            ignored = shutil.ignore_patterns(".wf", "BD-*")
            shutil.copytree(ROOT / name, self.root / name, ignore=ignored)
        shutil.copy(ROOT / "pyproject.toml", self.root)
        commands = self.root / ".venv" / "bin"
        commands.mkdir(parents=True)
        for name in ("python", "motoko", "ruff", "mypy", "lint-imports"):
            (commands / name).write_text(STAND_IN.replace("REAL", sys.executable))
            (commands / name).chmod(0o755)

    def run(self, script: str, *arguments: str, failing: str = "") -> tuple[int, str, list[str]]:
        """Run a script from elsewhere, without a terminal: status, output, calls it made."""
        self._calls.write_text("")
        paths = (str(ROOT / "src"), os.environ.get("PYTHONPATH", ""))
        added = {"CALLS": str(self._calls), "FAILING": failing, "TMPDIR": str(self.temporary)}
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


def test_demo_prints_results_and_leaves_nothing(checkout: Checkout) -> None:
    status, output, calls = checkout.run("scripts/demo")

    assert status == 0, output
    assert "50.3270772" in output
    assert "7.0941580" in output
    (install,) = installations(calls)
    assert install.endswith(f" {checkout.root}")
    assert not list(checkout.temporary.iterdir())


def test_demo_passes_options_on_and_fails_with_the_example(checkout: Checkout) -> None:
    status, output, _ = checkout.run("scripts/demo", "--inputs", "not a number", "1")

    assert status == 2
    assert "not a number" in output
    assert not list(checkout.temporary.iterdir())


def test_test_checks_everything_and_ends_with_pytest(checkout: Checkout) -> None:
    status, output, calls = checkout.run(".ci/run", "-m", "unit", "-k", "two words")

    assert status == 0, output
    (install,) = installations(calls)
    assert install.endswith(f" {checkout.root}[test]")
    assert calls[calls.index(install) + 1 :] == [
        "ruff check .",
        "ruff format --check .",
        "mypy ",
        "lint-imports ",
        "python -m pytest --numprocesses=3 --dist=loadscope -m unit -k two words",
    ]


@pytest.mark.parametrize("failing", ["ruff", "mypy", "lint-imports", "python"])
def test_test_fails_if_a_check_fails(checkout: Checkout, failing: str) -> None:
    checkout.run("scripts/test")

    status, _, calls = checkout.run("scripts/test", failing=failing)

    assert status != 0
    assert calls[-1].startswith(failing)


def test_an_environment_is_installed_again_only_if_it_has_to_be(checkout: Checkout) -> None:
    assert len(installations(checkout.run("scripts/test")[2])) == 1
    assert installations(checkout.run("scripts/test")[2]) == []

    with (checkout.root / "pyproject.toml").open("a") as file:
        file.write("# another version\n")
    assert len(installations(checkout.run("scripts/test")[2])) == 1

    checkout.root = checkout.root.rename(checkout.root.with_name("moved"))
    assert len(installations(checkout.run("scripts/test")[2])) == 1
