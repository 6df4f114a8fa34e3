"""The shared test graphs as tasks: executed bodies, their order, and the log."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from motoko.assets import asset, ready, task
from tests.support.step_graphs import ASYMMETRIC, DIAMOND, FAILING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from motoko.assets import Node
    from tests.support.step_graphs import StepGraph

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def _info_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def build(described: StepGraph, made: set[str], threads: int = 0) -> tuple[Node, list[str]]:
    """Build a graph; return the root node and the tasks whose bodies were executed."""
    executed: list[str] = []

    @task
    def step(name: str) -> Iterator[Any]:
        yield name
        yield asset(name, lambda: name in made)
        yield [step(one) for one in described.requires[name]]
        executed.append(name)
        if name in described.fails:
            raise ZeroDivisionError(name)
        made.add(name)

    return step(described.target, threads=threads), executed


def test_a_diamond_executes_each_body_once(caplog: pytest.LogCaptureFixture) -> None:
    made: set[str] = set()
    node, executed = build(DIAMOND, made)
    assert ready(node)
    assert executed == ["top", "left", "right", "bottom"]
    assert caplog.messages == [
        f"{name}: {what}" for name in executed for what in ("Executing", "Ready")
    ]
    caplog.clear()
    assert build(DIAMOND, made)[1] == []
    assert caplog.messages == ["bottom: Ready"]
    made.remove("bottom")
    made.remove("right")
    caplog.clear()
    assert build(DIAMOND, made)[1] == ["right", "bottom"]
    assert caplog.messages == [
        "left: Ready",
        "top: Ready",
        "right: Executing",
        "right: Ready",
        "bottom: Executing",
        "bottom: Ready",
    ]


def test_an_asymmetric_graph_is_built_by_level() -> None:
    assert build(ASYMMETRIC, set())[1] == ["a", "x", "d", "b", "c", "e"]


@pytest.mark.parametrize("threads", [0, 2])
def test_a_failing_task_blocks_only_its_dependents(
    threads: int, caplog: pytest.LogCaptureFixture
) -> None:
    node, executed = build(FAILING, set(), threads)
    assert not ready(node)
    assert sorted(executed) == ["aside", "left", "right", "top"]
    if not threads:
        assert executed == ["top", "aside", "left", "right"]
    messages = caplog.messages
    assert f"left: Task failed{' in thread' * bool(threads)}: left" in messages
    assert [line for line in messages if line.startswith(("bottom", "all"))] == [
        "bottom: Not ready",
        "bottom: Requires:",
        "bottom: ✖ left",
        "bottom: ✔ right",
        "all: Not ready",
        "all: Requires:",
        "all: ✖ bottom",
        "all: ✔ aside",
    ]
