"""The error for a missing field of a run suggests a remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from motoko.errors import UnknownNameError
from motoko.storage.database import Database
from motoko.storage.schema import create_tables
from motoko.storage.session import run_transaction
from motoko.testing.fake_launcher import FakeLauncher
from motoko.workflow import Workflow
from tests.support.launching import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from motoko.handles.run import Run

pytestmark = pytest.mark.unit


def hint(run: Run, name: str) -> str | None:
    with pytest.raises(UnknownNameError, match=f"run s.1 has no field '{name}'") as raised:
        getattr(run, name)
    return raised.value.hint


@pytest.mark.parametrize("declared", [True, False])
def test_the_error_says_whether_to_await_the_run(tmp_path: Path, declared: bool) -> None:
    (tmp_path / "motoko.yaml").write_text("task_managers: {s: }\norchestrator: steps.main\n")
    (tmp_path / "s").mkdir()
    fields = "run: {energy: float, steps: int}\n" if declared else ""
    (tmp_path / "s" / "bd.yaml").write_text(f"job: {{x: int}}\n{fields}")
    (tmp_path / "s" / "launch.sh").write_text("true\n")
    database = Database.in_memory()
    try:
        run_transaction(database, lambda root: create_tables(root, ["s"]), initialising=True)
        workflow = Workflow(tmp_path, database=database)
        workflow.run_name = "a"
        run = workflow.s.create_task(x=1).runs[0]
        assert hint(run, "energy") == "It is CREATED: await the run before you read its results."
        with FakeLauncher(workflow.store, {"s": lambda _: {"steps": 3}}):
            wait_until(lambda: run.lifecycle.is_terminal)
        if declared:
            assert hint(run, "energy") == "bd.yaml declares it, but the run did not set it."
        else:
            assert hint(run, "energy") == "Known: steps."
        assert hint(run, "stesp") == "Did you mean 'steps'?"
    finally:
        database.close()
