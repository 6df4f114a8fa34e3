"""An orchestrator with counting actions, for several processes; copied beside motoko.yaml.

Each action increments, in one segment, counters in ``workflow.vars`` and in a run of each study.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from motoko.workflow import event

EVENTS = 3  # per process: their firings run concurrently
CALLS = Path(__file__).with_name("calls")


def populate_arg_parser(parser: Any) -> None:
    """Add the number of increments."""
    parser.add_argument("--times", type=int, required=True)


async def main(workflow: Any, times: int, **_params: Any) -> None:
    """Register events that fire until their actions completed this number of times."""

    def more(workflow: Any, task_manager: Any) -> bool:
        return bool(workflow.vars.get("go")) and workflow.run_vars.get("done", 0) < times

    for number in range(EVENTS):
        workflow.add_action(f"count-{number}", task="left", event=more, f=count)


@event
async def count(workflow: Any, times: int) -> None:
    """Add one to every counter."""
    note_call()
    left, right = workflow.left.base.runs[1], workflow.right.base.runs[1]
    done = workflow.run_vars.get("done", 0) + 1
    workflow.run_vars.done = done
    workflow.vars.total += 1
    left.total += 1
    await asyncio.sleep(0.002)  # let others run, in the middle of the segment
    workflow.vars.nested["by"][workflow.run_name][0] += 1
    right.total += 1
    right.nested["log"].append(f"{workflow.run_name} {done}")
    if done == times:
        workflow.finished = True


def note_call() -> None:
    """Record a call of the action in a file, completed or not."""
    with CALLS.open("a") as file:
        file.write(".")
