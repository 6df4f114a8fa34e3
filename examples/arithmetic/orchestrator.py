"""Multiply, add, compare: three studies whose finished runs determine the next ones.

    inputs 2.1, 3.2 -> mult: three values -> add: three sums -> norm: two numbers -> mult

Run it with ``motoko run --run_name first``. Run it with other inputs under another name:
``motoko run --run_name second --inputs 1.5 4.0``.
"""

from __future__ import annotations

from motoko.workflow import event


def populate_arg_parser(parser):
    """Options of this workflow; ``motoko run --help`` shows them, ``main`` receives them."""
    parser.add_argument("--inputs", type=float, nargs=2, default=[2.1, 3.2], metavar="X")


@event
async def add_to_each(workflow, runs):
    """Create an add run for each value of each finished mult run."""
    for run, _job in runs:
        for offset, value in enumerate(run.y):
            workflow.add.create_task(x=value, run_params={"place": run.place + offset})
        # With this label the run no longer matches; one commit sets it and creates the add runs.
        run.state = "FORWARDED"


def three_sums(workflow, task_manager):
    """Return the sums once there are three; the action receives them as ``runs``."""
    sums = task_manager.select("state = FINISHED")
    return sums if len(sums) == 3 else False


@event
async def compare(workflow, runs):
    """Create the norm run from the sums, in the order of the inputs."""
    in_order = sorted((run for run, _job in runs), key=lambda run: run.place)
    workflow.norm.create_task(sums=[run.y for run in in_order])
    for run in in_order:
        run.state = "FORWARDED"


@event
async def multiply_results(workflow, runs):
    """Multiply both numbers. These runs have the place -1, which matches no condition."""
    for run, _job in runs:
        workflow.mult.create_task(x=[run.sum_of_squares, run.root], run_params={"role": "result"})
        run.state = "FORWARDED"


async def main(workflow, inputs=(2.1, 3.2), **params):
    workflow.add_action(
        "mult_finished", task="mult", event=["state = FINISHED", "place >= 0"], f=add_to_each
    )
    workflow.add_action("sums_finished", task="add", event=three_sums, f=compare)
    workflow.add_action("norm_finished", task="norm", event="state = FINISHED", f=multiply_results)
    workflow.add_error_handler()  # a failed run ends the workflow

    # Existing runs are not created again, so a restart under the same name continues.
    first, second = inputs
    workflow.mult.create_task(x=first, factors=[0.342, -2.31], run_params={"place": 0})
    workflow.mult.create_task(x=second, run_params={"place": 2})

    norm, _job = (await workflow.norm.select("state = FORWARDED"))[0]
    await workflow.mult.select("role = result").all("state = FINISHED")
    workflow.run_vars.result = [norm.sum_of_squares, norm.root]
    print(f"sum of squares {norm.sum_of_squares:.7f}, root {norm.root:.7f}")
    workflow.finished = True
