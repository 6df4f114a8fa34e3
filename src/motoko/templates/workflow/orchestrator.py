"""Calculate pendulums, build a clock with each of them, and choose the best clock."""

from __future__ import annotations

from motoko import event

LENGTHS = [0.25, 0.5, 0.9936, 2.0]  # metres


def populate_arg_parser(parser):
    """Add options to `motoko run` and `motoko orchestrator start`. This function is optional."""
    parser.add_argument("--lengths", type=float, nargs="+", default=LENGTHS, help="in metres")


@event
async def build_clocks(workflow, runs):
    """Create a clock for each finished pendulum.

    All effects of the action are one commit: the clocks and the new states of the runs. So no
    pendulum gets two clocks.
    """
    for run, job in runs:
        workflow.clock.create_task(length=job.length, period=run.period)
        run.state = "FORWARDED"


@event
async def choose(workflow, runs):
    """Choose the best of the runs that the condition returned, and end the workflow."""
    best, _ = min(runs, key=lambda pair: abs(pair[0].error))
    best.state = "BEST"
    workflow.finished = True


async def main(workflow, lengths=LENGTHS):
    """Register the actions and create the first runs."""

    def all_built(workflow, task_manager):
        # choose() changes `state`; `lifecycle` stays FINISHED.
        clocks = list(workflow.clock.select("lifecycle = FINISHED"))
        return clocks if len(clocks) == len(set(lengths)) else False

    workflow.add_action("build clocks", task="pendulum", event="state = FINISHED", f=build_clocks)
    workflow.add_action("choose", task="clock", event=all_built, f=choose)
    workflow.add_error_handler()  # a failed run ends the workflow

    # A list creates one run for each value. Existing runs are not created again.
    await workflow.pendulum.create_task(length=lengths)
