"""The complete environment of a launcher reaches scripts, for any names of variables."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.support.command_line import small_workflow
from tests.support.slurm_harness import SlurmHarness

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.slurm_testbed import Testbed

pytestmark = pytest.mark.integration

SCRIPT = """\
greet you >greeting
env -0 >environment
"""
GIVEN = {
    "BASH_FUNC_greet%%": '() {  echo "hello $1"\n}',
    "ODD.NAME-1": "odd",
    "1ST": "begins with a digit",
    "LINES_OF_TEXT": "one\ntwo\n\nfour = 4",
    "NOT_UTF8": os.fsdecode(b"\xff\xfe caf\xe9"),
    "QUOTES": """a 'b' "c" $(d) `e` \\""",
    "EMPTY": "",
    "LARGE": "x" * 100_000,
    **dict.fromkeys(("attempt", "boot", "host", "key", "namespace", "stat", "status"), "own"),
    **dict.fromkeys(("stopped", "task", "value"), "own"),
}


def environment(run: Path) -> dict[str, str]:
    """Return the environment as a script reported it."""
    entries = (run / "environment").read_bytes().split(b"\0")[:-1]
    return dict(os.fsdecode(entry).split("=", 1) for entry in entries)


def check(run: Path, given: dict[str, str]) -> None:
    assert (run / "greeting").read_text() == "hello you\n"
    found = environment(run)
    functions = {name for name in given if name.startswith("BASH_FUNC")}
    assert {n: found.get(n) for n in given if n not in functions} == {
        n: v for n, v in given.items() if n not in functions
    }
    assert functions <= found.keys()  # bash reformats the text of a function


def test_the_complete_environment_reaches_local_scripts(tmp_path: Path) -> None:
    shell = small_workflow(tmp_path / "w", script=SCRIPT)
    shell.environment.update(GIVEN)
    try:
        assert shell.run("run", "--run_name", "a").returncode == 0
        check(shell.directory / "s" / "BD-s-runs" / "run-1", GIVEN)
    finally:
        shell.close()


def test_the_complete_environment_reaches_scheduled_scripts(tmp_path: Path, slurm: Testbed) -> None:
    place = SlurmHarness.make(tmp_path / "wf", slurm)
    try:
        place.start(environment=GIVEN)
        key = place.run(SCRIPT)
        assert place.wait([key]) == ["FINISHED"]
        check(place.place.directory_of(key), GIVEN)
    finally:
        place.close()
