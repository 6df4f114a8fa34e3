"""Workflows in memory, executed with a simulated launcher."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from motoko.testing.fake_launcher import FakeLauncher
from motoko.testing.memory import empty_database
from motoko.workflow import Workflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

PATIENCE = 60.0


@contextlib.contextmanager
def memory_workflow(
    directory: Path, studies: Sequence[str], *settings: str, run_name: str = "a"
) -> Iterator[Workflow]:
    """A workflow of studies with one job parameter ``x``; ``settings`` are lines of motoko.yaml."""
    lines = ["task_managers:", *(f"  {name}:" for name in studies), "orchestrator: steps.main"]
    (directory / "motoko.yaml").write_text("\n".join([*lines, "poll_interval: 0.1", *settings]))
    for name in studies:
        (directory / name).mkdir()
        (directory / name / "bd.yaml").write_text("job: {x: float}\n")
        (directory / name / "launch.sh").write_text("true\n")
    database = empty_database(studies)
    workflow = Workflow(directory, database=database)
    workflow.run_name = run_name
    try:
        yield workflow
    finally:
        workflow.close()
        database.close()


def execute(
    workflow: Workflow,
    main: Callable[..., Any],
    scripts: Mapping[str, Any],
    **params: Any,
) -> None:
    """Execute ``main`` with a launcher that ends each run according to its study's script."""
    workflow.orchestrator_function = main

    async def limited() -> None:
        async with asyncio.timeout(PATIENCE):
            await workflow.execute_async(**params)

    with FakeLauncher(workflow.store, scripts):
        asyncio.run(limited())
