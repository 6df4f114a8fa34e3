"""The step graphs that the page shows, read in processes of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from motoko.runtime.commands import SystemCommandRunner
from motoko.views.step_graph import StepGraph, read_step_graph
from motoko.web.drawing import graph_diagram

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

GRAPH = """\
from motoko.graph import Graph, Node, fresh_because, stale_because

print("{not json")
fresh = lambda: fresh_because("made")
graph = Graph([
    Node("mesh", (), fresh, action=print),
    Node("flow", ("mesh",), lambda: stale_because("old"), action=print),
    Node("source", (), lambda: stale_because("away")),
])
def make():
    return graph
nothing = 7
"""
PRODUCTS = """\
import sys
from motoko.products import WorkflowRunner, workflow_step

@workflow_step(produces=["a"])
def make_a():
    return 1

@workflow_step(produces=["b"], requires=["a"])
def make_b(a):
    return a + 1

runner = WorkflowRunner(sys.modules[__name__], None)
"""
ASSETS = """\
from motoko.assets import asset, task

@task
def first():
    yield "first"
    yield asset(None, lambda: True)
    yield None

@task
def second():
    yield "second"
    yield asset(None, lambda: False)
    yield first()
    raise AssertionError("it was built")
"""


async def read(directory: Path, source: str, name: str) -> StepGraph:
    (directory / "steps.py").write_text(source)
    return await read_step_graph(SystemCommandRunner(), f"steps.py:{name}", str(directory))


@pytest.mark.parametrize(
    ("source", "name", "statuses", "edges"),
    [
        (
            GRAPH, "graph", {"mesh": "fresh", "flow": "would_build", "source": "missing"},
            {"flow": ("mesh",)},
        ),
        (
            GRAPH, "make", {"mesh": "fresh", "flow": "would_build", "source": "missing"},
            {"flow": ("mesh",)},
        ),
        (PRODUCTS, "runner", {"a": "would_build", "b": "would_build"}, {"b": ("a",)}),
        (ASSETS, "second", {"first": "fresh", "second": "stale"}, {"second": ("first",)}),
    ],
)  # fmt: skip
async def test_each_kind_of_graph_is_shown_and_not_built(
    tmp_path: Path, source: str, name: str, statuses: dict[str, str], edges: dict[str, object]
) -> None:
    found = await read(tmp_path, source, name)

    assert found.problem == ""
    assert {node.name: node.status for node in found.nodes} == statuses
    assert {node.name: node.requires for node in found.nodes if node.requires} == edges
    drawn = graph_diagram(found)
    assert all(f"<title>{node}</title>" in drawn for node in statuses)


@pytest.mark.parametrize(
    ("source", "name", "problem"),
    [
        ("raise ValueError('no mesh <b>')", "graph", "no mesh <b>"),
        ("1 +", "graph", "SyntaxError"),
        (GRAPH, "nothing", "is a int, no step graph"),
        (GRAPH, "absent", "is a NoneType, no step graph"),
        ("import os; os._exit(3)", "graph", "it failed"),
        ("graph = None\ndef graph(): raise SystemExit('left')", "graph", "left"),
    ],
)
async def test_a_graph_that_cannot_be_read_says_why(
    tmp_path: Path, source: str, name: str, problem: str
) -> None:
    found = await read(tmp_path, source, name)

    assert problem in found.problem
    assert found.nodes == ()
