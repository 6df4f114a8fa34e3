"""Modules of workflow steps for tests."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

from motoko.products import WorkflowConfig, workflow_step

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.step_graphs import StepGraph


class Config(WorkflowConfig):
    """A configuration with one identity field and one other field."""

    _identity_fields = ("n",)

    n: int = 1
    color: str = "red"


def module_of(*steps: Callable[..., Any], **named: Callable[..., Any]) -> ModuleType:
    """Return a module ``flow`` with these steps, under their own or the given names."""
    module = ModuleType("flow")
    for step in steps:
        setattr(module, step.__name__, step)
    vars(module).update(named)
    return module


def step_of(
    name: str, *parameters: str, called: list[str], requires: tuple[str, ...] | None = None
) -> Callable[..., Any]:
    """Return a step that produces its name and records its calls."""

    def made(**given: Any) -> str:
        called.append(name)
        return f"{name}({', '.join(map(str, given.values()))})"

    space: dict[str, Any] = {"made": made}
    given = ", ".join(f"{one}={one}" for one in parameters)
    exec(f"def make_{name}({', '.join(parameters)}): return made({given})", space)
    needed = parameters if requires is None else requires
    step: Callable[..., Any] = workflow_step(
        space[f"make_{name}"], produces=[name], requires=needed
    )
    return step


def module_for(graph: StepGraph, called: list[str]) -> ModuleType:
    """Return a module whose steps form a shared test graph."""
    return module_of(*(_node(graph, name, called) for name in graph.requires))


def _node(graph: StepGraph, name: str, called: list[str]) -> Callable[..., Any]:
    step = step_of(name, *graph.requires[name], called=called)
    if name not in graph.fails:
        return step

    def failing(**given: Any) -> None:
        step(**given)
        raise ZeroDivisionError(name)

    space: dict[str, Any] = {"failing": failing}
    given = ", ".join(f"{one}={one}" for one in graph.requires[name])
    exec(f"def fail_{name}({', '.join(graph.requires[name])}): failing({given})", space)
    failed: Callable[..., Any] = workflow_step(
        space[f"fail_{name}"], produces=[name], requires=graph.requires[name]
    )
    return failed
