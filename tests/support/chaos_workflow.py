"""The orchestrator of the fan-out and fan-in under random kills; copied beside motoko.yaml.

src: N runs -> forward, once for each -> down: one run for each -> sums, counted in run_vars
"""

from __future__ import annotations

from typing import Any

from motoko.storage import identities
from motoko.workflow import event

# Commits of few runs move identities to sorted parts, and processes are killed in between.
for _name, _value in {"RECENT": 20, "STEP": 10, "FAN_IN": 2}.items():
    setattr(identities, _name, _value)


def populate_arg_parser(parser: Any) -> None:
    """Add the number of runs."""
    parser.add_argument("--count", type=int, default=200)


@event
async def forward(workflow: Any, runs: Any) -> None:
    """Create one downstream run per finished run, and count each once."""
    values = [run.y for run, _job in runs]
    await workflow.down.create_task(x=values)
    # Increments cannot be repeated, so they follow the last await.
    workflow.run_vars.forwarded = workflow.run_vars.get("forwarded", 0) + len(values)
    workflow.run_vars.total = workflow.run_vars.get("total", 0) + sum(values)
    for run, _job in runs:
        run.state = "FORWARDED"


async def main(workflow: Any, count: int, **_params: Any) -> None:
    """Fan out, wait until all runs were forwarded, and add up."""
    workflow.add_action("forward", task="src", event="lifecycle = FINISHED", f=forward, once=True)
    await workflow.src.create_task(x=list(range(1, count + 1)))
    await workflow.src.select().all("state = FORWARDED")
    done = await workflow.down.select().all("lifecycle = FINISHED")
    workflow.run_vars.sum = sum(job.x for _run, job in done)
    workflow.finished = True
