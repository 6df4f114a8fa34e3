"""Models for pipelines, and workflows of the shared test graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from motoko.pipeline import BaseModel, State, Step, Workflow

if TYPE_CHECKING:
    from tests.support.step_graphs import StepGraph


class AddModel(BaseModel):
    a: int
    b: int

    def run(self) -> dict[str, Any]:
        return {"sum": self.a + self.b}


class MultiplyModel(BaseModel):
    value: int
    factor: int

    def run(self) -> dict[str, Any]:
        return {"product": self.value * self.factor}


class Invert(BaseModel):
    x: int

    def run(self) -> dict[str, Any]:
        return {"y": 1 / self.x, "x": self.x}


class Anything(BaseModel):
    """Returns its input."""

    data: object

    def run(self) -> dict[str, Any]:
        return {"data": self.data}


class Changing(BaseModel):
    """Changes its input in place."""

    data: Any

    def run(self) -> dict[str, Any]:
        self.data.append("changed")
        return {"length": len(self.data)}


class Returning(BaseModel):
    """Returns its field as its result."""

    result: object

    def run(self) -> object:
        return self.result


class One(BaseModel):
    """A node of a graph with up to three requirements; its name is the `seed`."""

    seed: str
    first: str = ""
    second: str = ""
    third: str = ""

    def run(self) -> dict[str, Any]:
        if self.seed.endswith("!"):
            raise ZeroDivisionError(self.seed)
        given = [one for one in (self.first, self.second, self.third) if one]
        return {"value": f"{self.seed}({', '.join(given)})"}


def arithmetic() -> Workflow:
    """Return the workflow (x + y) * k."""
    return Workflow(
        steps=[
            Step(model=AddModel, inputs={"x": "a", "y": "b"}, outputs={"sum": "total"}),
            Step(
                model=MultiplyModel,
                inputs={"total": "value", "k": "factor"},
                outputs={"product": "final"},
            ),
        ]
    )


def numbers(mutable: bool = False) -> State:
    """Return a state for which `arithmetic` results in 20."""
    return State(backend={"x": 2, "y": 3, "k": 4}, mutable=mutable)


def workflow_of(graph: StepGraph) -> Workflow:
    """Return a workflow whose listed steps form a graph."""
    fields = ("first", "second", "third")
    return Workflow(
        Step(
            One,
            {f"seed of {name}": "seed", **dict(zip(required, fields, strict=False))},
            {"value": name},
        )
        for name, required in graph.requires.items()
    )


def state_of(graph: StepGraph, *, mutable: bool = False) -> State:
    """Return the state for such a workflow; seeds ending in ``!`` fail."""
    seeds = {f"seed of {name}": name + "!" * (name in graph.fails) for name in graph.requires}
    return State(seeds, mutable)
