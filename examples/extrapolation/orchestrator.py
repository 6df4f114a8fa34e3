"""A step graph: cheap nodes run in this process, two expensive ones through the launcher.

    grid -> coarse, fine (runs of the study integrate) -> result

``motoko run --run_name a`` prints Richardson's extrapolation of the two integrals. The second time
nothing is executed. Another ``--points`` executes its dependents, another ``--weight`` only the
result.
"""

from __future__ import annotations

import json
from pathlib import Path

from motoko.graph import UNDECIDED, Graph, Node, fresh_because, stale_because


def populate_arg_parser(parser):
    parser.add_argument("--points", type=int, default=8, help="number of points of the coarse grid")
    parser.add_argument("--weight", type=float, default=4.0, help="of the finer grid; 4 is exact")


def stored(name, requires, path, make):
    """Return a node that stores the result of ``make()`` as JSON, with its inputs."""

    def is_fresh():
        if not path.exists():
            return stale_because(f"{path.name} does not exist")
        if json.loads(path.read_text())["made_of"] != make()["made_of"]:
            return stale_because(f"{path.name} was made of other inputs")
        return fresh_because(f"{path.name} is up to date")

    def act():
        path.write_text(json.dumps(make()))

    return Node(name, requires, is_fresh, act)


async def main(workflow, points, weight):
    here = Path(workflow.directory)

    def grid():
        return json.loads((here / "grid.json").read_text())["points"]

    def value_of(count):
        (run,) = workflow.integrate.find_task(f="sin", points=count)
        return run.value

    def result():
        coarse, fine = value_of(grid()), value_of(2 * grid())
        value = fine + (fine - coarse) / (weight - 1)
        return {"made_of": [coarse, fine, weight], "value": value}

    combine = stored("result", ("coarse", "fine"), here / "result.json", result)
    graph = Graph([
        stored("grid", (), here / "grid.json", lambda: {"made_of": points, "points": points}),
        workflow.integrate.node("coarse", ["grid"], f="sin", points=grid),
        workflow.integrate.node("fine", ["grid"], f="sin", points=lambda: 2 * grid()),
        # Its inputs are known when its requirements are ready.
        Node("result", combine.requires, action=combine.action, when_ready=combine.is_fresh,
             is_fresh=lambda: UNDECIDED),
    ])  # fmt: skip
    report = await graph.build("result")
    report.raise_failure()
    for name, status in report.statuses.items():
        print(f"{name}: {status.value}")
    print(f"integral {json.loads((here / 'result.json').read_text())['value']:.6f}")
    workflow.finished = True
