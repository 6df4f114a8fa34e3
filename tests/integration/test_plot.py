"""``motoko plot`` with a server, without one, and after packing."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from motoko.core.changes import EditRun
from motoko.core.edits import SetFields
from motoko.core.records import RunKey
from motoko.server.lifecycle import stop_server
from motoko.storage.session import Session
from motoko.testing import add_run
from motoko.testing.memory import commit
from motoko.workflow import Workflow
from tests.support.command_line import Shell, small_workflow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = small_workflow(tmp_path / "w")
    yield made
    made.close()


def set_y(workflow: Workflow, y: float) -> None:
    database = workflow.store.database
    with contextlib.closing(Session(database)) as session:
        for run_id in range(1, 5):
            session.add(EditRun(RunKey("s", run_id), SetFields({"y": y * run_id}), blind=True))
        commit(database, session)


def test_plots_are_reproduced_with_and_without_a_server_until_packing(shell: Shell) -> None:
    with contextlib.closing(Workflow(shell.directory)) as workflow:
        workflow.create()
        with contextlib.closing(Session(workflow.store.database)) as session:
            for x in range(4):
                add_run(session, "s", {"x": x})
            commit(workflow.store.database, session)
        set_y(workflow, 1.0)
        drawn = shell.run("plot", "s", "x", "--by", "x", "y", "--size", "2x1.5", "-o", "a.svg")
        assert (drawn.returncode, drawn.stdout, drawn.stderr) == (0, "a.svg\n", "")
        set_y(workflow, -1.0)
        served = shell.run("plot", "--reproduce", "a.svg", "-o", "served.svg")
        assert served.stderr == "note: identical to a.svg\n"
        stop_server(workflow.store.state)
    fresh = shell.run_fresh("plot", "--reproduce", "a.svg")
    assert (fresh.returncode, fresh.stdout) == (0, "a-reproduced.svg\n"), fresh.stderr
    original = (shell.directory / "a.svg").read_bytes()
    for name in ("served.svg", "a-reproduced.svg"):
        assert (shell.directory / name).read_bytes() == original
    with contextlib.closing(Workflow(shell.directory)) as workflow:
        workflow.store.database.pack(keep=-10.0)
    packed = shell.run("plot", "--reproduce", "a.svg", "-o", "packed.svg")
    assert packed.returncode == 1
    assert "packed since" in packed.stderr
    assert "motoko plot s x --by x y" in packed.stderr
    assert not (shell.directory / "packed.svg").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ((), 2, "give a study and one or more columns, or --reproduce FILE"),
        (("s",), 2, "give a study and one or more columns"),
        (("s", "x", "--kind", "pie"), 2, "cannot be 'pie'"),
        (("s", "x", "--kind", "line"), 2, "takes two columns, X and Y, not 1"),
        (("s", "x", "--size", "3"), 2, "argument --size"),
        (("s", "x", "--colour", "y"), 2, "Did you mean '--color'?"),
        (("--reproduce", "a.png", "s", "x"), 2, "takes no other argument than --output"),
        (("--reproduce", "a.png"), 1, "a.png cannot be read: No such file"),
        (("--reproduce", "motoko.yaml"), 1, "has no metadata of `motoko plot`"),
        (("s", "x", "--where", "x >"), 2, "bad constraint 'x >'"),
        (("t", "x"), 2, "no study 't'"),
        (("s", "x"), 1, "with `motoko run`"),
        (("s", "x", "-o", "a.jpg"), 1, ".png, .svg, .html"),
    ],
)
def test_wrong_arguments_are_errors_with_the_next_step(
    shell: Shell, arguments: tuple[str, ...], status: int, message: str
) -> None:
    done = shell.run("plot", *arguments)
    assert message in done.stderr
    assert done.returncode == status
    assert "Traceback" not in done.stderr
    assert not (shell.directory / ".wf").exists()
