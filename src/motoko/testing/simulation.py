"""Simulate a workflow in one process: its orchestrator is real, its runs are functions.

It serves to test an orchestrator in milliseconds::

    with simulate("motoko.yaml", {"solve": lambda job: {"y": 2 * job["x"]}}) as workflow:
        workflow.execute()
        assert workflow.solve.select("y > 3").ids == [2]
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from motoko.api.workflow import Workflow
from motoko.storage.database import Database
from motoko.testing.fake_launcher import FakeLauncher
from motoko.testing.memory import empty_database

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from typing import Any

    from motoko.testing.fake_launcher import FakeOutcome, Script


@contextlib.contextmanager
def simulate(
    path: str | Path, scripts: Mapping[str, Script] | None = None, *, run_name: str = "test"
) -> Iterator[Workflow]:
    """Yield the workflow of a ``motoko.yaml``, with an empty database in memory.

    ``scripts`` maps studies or aliases to functions of the job values, which replace their scripts.
    A function returns the run's fields, None, or a FakeOutcome such as ``failing()``. Runs of other
    studies finish without fields. If a function raises an exception, its run fails, and the end of
    the block raises the exception. A workflow that cannot continue raises WorkflowStalled. Nothing
    is written to the workflow's directory, and no process is started.
    """
    with contextlib.closing(Database.in_memory()) as database:
        workflow = Workflow(path, database=database)
        empty_database(workflow.task_managers, database)
        workflow.run_name = run_name
        workflow.end_when_stalled = True
        functions: dict[str, Script] = dict.fromkeys(workflow.task_managers, _finish)
        for study, script in (scripts or {}).items():
            functions[workflow.task_manager(study).name] = script
        with workflow, FakeLauncher(workflow.store, functions):
            yield workflow


def _finish(job: Mapping[str, Any]) -> FakeOutcome | Mapping[str, Any] | None:
    del job
    return None
