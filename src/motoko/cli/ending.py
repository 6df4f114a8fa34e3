"""What becomes of the runs when an orchestrator ends before they do."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from motoko.operations.services import Services
    from motoko.workflow import Workflow


def see_to_runs(workflow: Workflow, services: Services, *, stop: bool) -> None:
    """Say how many runs of the run name go on; with ``stop`` have them CREATED again before.

    Raises nothing: it is told beside an error that says more.
    """
    from motoko.errors import MotokoError
    from motoko.operations.overview import executing

    name = workflow.run_name or ""
    try:
        if stop:
            services.recall(name)
        with workflow.store.script.view() as session:
            left = executing(session, workflow.task_managers, name)
    except MotokoError as error:
        print(f"warning: whether runs go on is not known: {error.message}", file=sys.stderr)
        return
    if left:
        runs, it = ("1 run goes on", "it") if left == 1 else (f"{left} runs go on", "them")
        print(
            f"{runs}; `motoko kill --stop-runs` stops {it}, the next `motoko run` takes {it} up",
            file=sys.stderr,
        )
