"""Calculate pendulums; build a clock with each as soon as it is known; see which is best."""

from __future__ import annotations

from motoko import event

LENGTHS = [0.25, 0.5, 0.9936, 2.0]  # metres


def populate_arg_parser(parser):
    """Add options to `motoko run` and `motoko orchestrator start`. This function is optional."""
    parser.add_argument("--lengths", type=float, nargs="+", default=LENGTHS, help="in metres")


@event
async def build_clocks(workflow, runs):
    """Called with pendulum runs that have ended well, as soon as there are some.

    Everything it does is committed together when it ends. The new state of the runs is there in
    the same moment as the clocks, so no pendulum gets two of them.
    """
    for run, job in runs:
        workflow.clock.create_task(length=job.length, period=run.period)
        run.state = "FORWARDED"


@event
async def choose(workflow, runs):
    """Called once, with the runs that the condition returned. Ends the workflow."""
    best, _ = min(runs, key=lambda pair: abs(pair[0].error))
    best.state = "BEST"
    workflow.finished = True


async def main(workflow, lengths=LENGTHS):
    """Say what is to happen when, and create the first runs."""

    def all_built(workflow, task_manager):
        # `state` is what choose() changes; `lifecycle` stays FINISHED.
        clocks = list(workflow.clock.select("lifecycle = FINISHED"))
        return clocks if len(clocks) == len(set(lengths)) else False

    workflow.add_action("build clocks", task="pendulum", event="state = FINISHED", f=build_clocks)
    workflow.add_action("choose", task="clock", event=all_built, f=choose)
    workflow.add_error_handler()  # a run that fails ends the workflow

    # A list gives a run for each of its values. Runs that exist already are not made again.
    await workflow.pendulum.create_task(length=lengths)
