"""Whatever ran before on a state, a run has the result of a run without extracts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motoko.pipeline import State, StateWithGlueDb, Step, Workflow
from tests.support.pipeline import AddModel, MultiplyModel

pytestmark = pytest.mark.property

NAMES = ("x", "y", "k")
MOVES = st.one_of(
    st.tuples(st.just("post"), st.integers(0, 2), st.sampled_from(NAMES), st.integers(0, 2)),
    st.tuples(st.just("run"), st.integers(0, 2), st.booleans(), st.booleans()),
    st.tuples(st.just("delete"), st.integers(0, 2), st.sampled_from(["sum", "out"])),
    st.tuples(st.just("restart"), st.integers(0, 2)),
)


def workflow() -> Workflow:
    """Return the workflow ((x + y) * k + y) * k, in which several steps write one name."""
    return Workflow(
        [
            Step(AddModel, {"x": "a", "y": "b"}, {"sum": "sum"}),
            Step(MultiplyModel, {"sum": "value", "k": "factor"}, {"product": "out"}),
            Step(AddModel, {"out": "a", "y": "b"}, {"sum": "sum"}),
            Step(MultiplyModel, {"sum": "value", "k": "factor"}, {"product": "out"}),
        ]
    )


@settings(max_examples=200, deadline=None)
@given(st.lists(MOVES, max_size=25))
def test_skipping_never_changes_the_result(moves: list[tuple[Any, ...]]) -> None:
    steps = workflow()
    posted: list[dict[str, int]] = [dict.fromkeys(NAMES, 1) for _ in range(3)]
    states: list[Any] = [
        State(posted[0], mutable=True),
        State(posted[1], mutable=True),
        StateWithGlueDb(posted[2], mutable=True),
    ]
    for what, number, *rest in moves:
        state = states[number]
        if what == "post":
            name, value = rest
            state.post(value, name=name)
            posted[number][name] = value
        elif what == "delete":
            if rest[0] in state:
                state.delete(rest[0])
        elif what == "restart":
            states[number] = type(state).from_json(state.to_json())
            steps = Workflow.from_json(steps.to_json())
        else:
            steps.use_extracts, steps.populate_extracts = rest
            x, y, k = (posted[number][name] for name in NAMES)
            middle = (x + y) * k + y
            assert steps.run(state) == {"out": middle * k}
            assert (state.extract("sum"), state.extract("out")) == (middle, middle * k)
