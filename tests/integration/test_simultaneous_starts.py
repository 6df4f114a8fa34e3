"""Simultaneous first ``motoko run`` commands of a workflow without a database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.command_line import Shell, finish, small_workflow

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

NAMES = ("a", "b", "c", "d")
ROUNDS = 5
SCRIPT = "motoko-worker set y $((2 * MOTOKO_JOB_X))\n"


def results(shell: Shell) -> dict[str, list[tuple[int, str, str]]]:
    (study,) = shell.info("--verbose")["studies"]
    found: dict[str, list[tuple[int, str, str]]] = {}
    for run in study["runs"]:
        ends = (run["job"]["x"], str(run["fields"].get("y")), run["state"])
        found.setdefault(run["run_name"], []).append(ends)
    return {name: sorted(ends) for name, ends in sorted(found.items())}


@pytest.mark.parametrize("number", range(ROUNDS))
def test_all_simultaneous_commands_succeed(tmp_path: Path, number: int) -> None:
    shell = small_workflow(tmp_path / f"w{number}", script=SCRIPT)
    try:
        started = [shell.start("run", "--run_name", name) for name in NAMES]
        ended = [finish(process) for process in started]
        assert [done.returncode for done in ended] == [0] * len(NAMES), [d.stderr for d in ended]
        expected = [(1, "2", "FINISHED"), (2, "4", "FINISHED")]
        assert results(shell) == dict.fromkeys(NAMES, expected)
        assert shell.info()["server"] is None
    finally:
        shell.close()
