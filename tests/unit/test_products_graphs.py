"""The shared test graphs as products, built depth-first and reported on entry."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from motoko.errors import CycleError
from motoko.graph import Status
from motoko.products import WorkflowProducts, WorkflowRunner, workflow_step
from tests.support.products import Config, module_for, module_of, step_of
from tests.support.step_graphs import ASYMMETRIC, DIAMOND, FAILING

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit


class EventLog(list[tuple[str, str]]):
    """Records the events of an observer."""

    def __call__(self, event: str, name: str) -> None:
        self.append((event, name))


def test_a_diamond_is_built_depth_first_and_reported_on_entry() -> None:
    called: list[str] = []
    events = EventLog()
    runner = WorkflowRunner(module_for(DIAMOND, called), None)
    runner.observe(events)
    assert runner.get("bottom") == "bottom(left(top()), right(top()))"
    assert called == ["top", "left", "right", "bottom"]
    assert events == [
        ("building", "bottom"),
        ("building", "left"),
        ("building", "top"),
        ("built", "top"),
        ("built", "left"),
        ("building", "right"),
        ("cached", "top"),
        ("built", "right"),
        ("built", "bottom"),
    ]


def test_an_asymmetric_graph_is_built_in_parameter_order() -> None:
    called: list[str] = []
    WorkflowRunner(module_for(ASYMMETRIC, called), None).get("e")
    assert called == ["a", "d", "b", "c", "x", "e"]


def test_parameters_determine_the_order() -> None:
    called: list[str] = []
    module = module_of(
        step_of("a", called=called),
        step_of("b", called=called),
        step_of("c", "b", "a", called=called, requires=("a", "b")),
    )
    events = EventLog()
    runner = WorkflowRunner(module, None)
    runner.observe(events)
    runner.get("c")
    assert called == ["b", "a", "c"]


def test_cached_products_are_reported_on_each_use() -> None:
    called: list[str] = []
    module = module_of(
        step_of("a", called=called),
        step_of("b", called=called),
        step_of("c", "a", "b", "a2", called=called),
        step_of("a2", "a", called=called),
    )
    events = EventLog()
    runner = WorkflowRunner(module, None)
    runner.get("a")
    runner.observe(events)
    runner.get("c")
    assert events == [
        ("building", "c"),
        ("cached", "a"),
        ("building", "b"),
        ("built", "b"),
        ("building", "a2"),
        ("cached", "a"),
        ("built", "a2"),
        ("built", "c"),
    ]


def test_a_failure_ends_the_build() -> None:
    called: list[str] = []
    events = EventLog()
    runner = WorkflowRunner(module_for(FAILING, called), None)
    runner.observe(events)
    with pytest.raises(ZeroDivisionError, match="left"):
        runner.get("all")
    assert called == ["top", "left"]
    assert events == [
        ("building", "all"),
        ("building", "bottom"),
        ("building", "left"),
        ("building", "top"),
        ("built", "top"),
    ]
    assert runner.status("top") == "cached"
    assert runner.status("left") == "missing"


def test_with_keep_going_independent_products_are_built() -> None:
    called: list[str] = []
    events = EventLog()
    runner = WorkflowRunner(module_for(FAILING, called), None)
    runner.observe(events)
    with pytest.raises(ZeroDivisionError, match="left"):
        runner.build_all(keep_going=True)
    assert called == ["top", "left", "right", "aside"]
    assert sorted(runner.cache) == ["aside", "right", "top"]
    assert [name for event, name in events if event == "built"] == ["top", "right", "aside"]
    assert ("cached", "top") in events


def test_a_cycle_is_reported_with_its_path() -> None:
    called: list[str] = []
    module = module_of(
        step_of("a", "c", called=called),
        step_of("b", "a", called=called),
        step_of("c", "b", called=called),
    )
    runner = WorkflowRunner(module, Config())
    with pytest.raises(CycleError, match="require each other") as caught:
        runner.get("b")
    assert caught.value.path == ("b", "a", "c", "b")
    assert called == []
    assert runner.what_invalidates("a") == {"a", "b", "c"}


@pytest.mark.parametrize("beside", [(), ("c",)])
async def test_build_all_reports_a_cycle(beside: tuple[str, ...]) -> None:
    called: list[str] = []
    module = module_of(
        step_of("a", "b", called=called),
        step_of("b", "a", called=called),
        *(step_of(name, called=called) for name in beside),
    )
    runner = WorkflowRunner(module, None)
    with pytest.raises(CycleError) as caught:
        runner.build_all(keep_going=True)
    assert caught.value.path == ("a", "b", "a")
    with pytest.raises(CycleError):
        await runner.build_all_async()
    assert called == []


def test_a_cycle_through_a_non_parameter_requirement_is_reported() -> None:
    called: list[str] = []
    module = module_of(
        step_of("a", called=called, requires=("b",)), step_of("b", "a", called=called)
    )
    with pytest.raises(CycleError):
        WorkflowRunner(module, None).get("b")


def test_long_chains_need_no_recursion() -> None:
    called: list[str] = []
    names = [f"p{number}" for number in range(3000)]
    module = module_of(
        step_of(names[0], called=called),
        *(step_of(name, former, called=called) for former, name in pairwise(names)),
    )
    runner = WorkflowRunner(module, Config())
    assert runner.get(names[-1]).startswith("p2999(p2998(p2997(")
    assert called == names
    assert len(runner.what_invalidates(names[0])) == 2999


def test_check_predicts_a_build_without_effects(tmp_path: Path) -> None:
    called: list[str] = []
    module = module_for(DIAMOND, called)
    products = WorkflowProducts(products_dir=tmp_path)
    WorkflowRunner(module, Config(), products).build_all()
    runner = WorkflowRunner(module, Config(), products)
    called.clear()
    assert set(runner.check().statuses.values()) == {Status.FRESH}
    runner.config.n = 2
    report = runner.check("bottom")
    assert report.names(Status.WOULD_BUILD) == ["bottom", "left", "top", "right"]
    assert called == []
    assert runner.cache == {}


def test_an_unproduced_product_is_explained() -> None:
    runner = WorkflowRunner(module_of(step_of("c", "mesh", called=[])), None)
    assert str(runner.explain("c")).splitlines()[1] == (
        "  mesh: stale: no workflow step produces it"
    )
    assert runner.check().names(Status.MISSING) == ["mesh"]


def test_explain_names_the_changes(tmp_path: Path) -> None:
    module = module_for(DIAMOND, [])
    products = WorkflowProducts(products_dir=tmp_path)
    WorkflowRunner(module, Config(), products).build_all()
    runner = WorkflowRunner(module, Config(n=7), products)
    first, *_, top, _ = str(runner.explain("bottom")).splitlines()
    assert first == "bottom: stale: n is 7, was 1; left changed; right changed"
    assert top == "    top: stale: n is 7, was 1"
    runner.get("bottom")
    assert str(runner.explain("bottom")) == "bottom: fresh: it is in memory"


async def test_steps_that_are_coroutine_functions_are_awaited() -> None:
    called: list[str] = []

    @workflow_step(produces="slow", requires=["a"])
    async def wait(a: str) -> str:
        called.append("slow")
        return f"slow({a})"

    module = module_of(wait, step_of("a", called=called), step_of("c", "slow", called=called))
    events = EventLog()
    runner = WorkflowRunner(module, None)
    runner.observe(events)
    assert await runner.get_async("c") == "c(slow(a()))"
    assert called == ["a", "slow", "c"]
    assert [name for event, name in events if event == "built"] == ["a", "slow", "c"]
    assert await runner.get_async("c") is runner.cache["c"]


def test_coroutine_steps_are_awaited_without_a_loop() -> None:
    @workflow_step(produces="slow")
    async def wait() -> str:
        return "waited"

    assert WorkflowRunner(module_of(wait), None).get("slow") == "waited"
