"""Products: the cost of checking that thousands of them are fresh."""

from __future__ import annotations

import tempfile
from types import ModuleType
from typing import TYPE_CHECKING, Any

from motoko.graph import Status
from motoko.products import WorkflowConfig, WorkflowProducts, WorkflowRunner, workflow_step
from support import Row, best, timed

if TYPE_CHECKING:
    from collections.abc import Callable

NODES, CHAIN, LEAVES = 10_000, 4_000, 20


class Config(WorkflowConfig):
    _identity_fields = ("resolution", "viscosity", "label")

    resolution: int = 64
    viscosity: float = 1e-3
    label: str = "bench"


def measure() -> list[Row]:
    """Measure a check of 10,000 fresh products: a chain of 4,000, and groups under one product."""
    module = steps()
    with tempfile.TemporaryDirectory() as directory:
        WorkflowRunner(module, Config(), WorkflowProducts(products_dir=directory)).build_all()
        reading = best(lambda: timed(lambda: WorkflowProducts(products_dir=directory).list()))
        checking = best(lambda: check(module, directory))
    return [
        Row(
            f"fresh check of {NODES} products, beyond the manifest",
            f"{checking:.2f} s (the manifest: {reading:.2f} s)",
            "<= 1 s",
            checking <= 1,
        )
    ]


def check(module: ModuleType, directory: str) -> float:
    """Return the seconds that a new runner takes to find all products fresh."""

    class Unread(WorkflowProducts):
        def load(self, name: str, **options: Any) -> Any:
            raise AssertionError(f"{name} was loaded")

    products = Unread(products_dir=directory)
    products.list()
    reports: list[Any] = []
    seconds = timed(lambda: reports.append(WorkflowRunner(module, Config(), products).check()))
    assert len(reports[0].names(Status.FRESH)) == NODES
    return seconds


def steps() -> ModuleType:
    """Return a module with the steps."""
    module = ModuleType("bench")
    for number in range(NODES):
        if 0 < number < CHAIN:
            step = make(number, f"p{number - 1}")
        elif number >= CHAIN and number % LEAVES:
            step = make(number, f"p{number - number % LEAVES}")
        else:
            step = make(number)
        setattr(module, f"step{number}", step)
    return module


def make(number: int, *requires: str) -> Callable[..., Any]:
    space: dict[str, Any] = {}
    exec(f"def step{number}({', '.join(('config', *requires))}): return {number}", space)
    return workflow_step(space[f"step{number}"], produces=f"p{number}", requires=requires)
