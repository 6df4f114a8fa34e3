"""The steps of a module: their products, requirements, arguments and results."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack, overload

from motoko.errors import (
    DuplicateNodeError,
    NotAModelError,
    StepResultError,
    StepResultTypeError,
    UnknownNodeError,
    nearest,
)
from motoko.graph.node import as_function

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from motoko.graph import Node

Function = TypeVar("Function", bound="Callable[..., Any]")

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class StepOptions(TypedDict, total=False):
    """The options of :func:`workflow_step`."""

    description: str | None
    produces: str | Iterable[str] | None
    requires: str | Iterable[str] | None


@overload
def workflow_step(fn: Function, **options: Unpack[StepOptions]) -> Function: ...


@overload
def workflow_step(
    fn: None = None, **options: Unpack[StepOptions]
) -> Callable[[Function], Function]: ...


def workflow_step(
    fn: Callable[..., Any] | None = None,
    *,
    description: str | None = None,
    produces: str | Iterable[str] | None = None,
    requires: str | Iterable[str] | None = None,
) -> Any:
    """Mark a function as a step; it can still be called directly.

    ``produces`` and ``requires`` name products. A parameter ``config`` receives the runner's
    configuration, and a parameter named like a required product that product. A step with several
    products returns a dictionary by name, or a list or tuple in the order of ``produces``.
    ``description`` defaults to the docstring. Coroutine functions are awaited.

    The step has ``workflow_produces``, ``workflow_requires``, ``workflow_description`` and
    ``view()``, which prints its source.
    """
    if fn is None:
        return functools.partial(
            workflow_step, description=description, produces=produces, requires=requires
        )
    step: Any = _forwarding(fn)
    step._is_workflow_step = True  # noqa: SLF001 - the documented mark of a step
    step.workflow_description = description or inspect.getdoc(fn) or ""
    step.workflow_produces = list(_names(produces, "produces"))
    step.workflow_requires = list(_names(requires, "requires"))
    step.view = lambda: sys.stdout.write(inspect.getsource(fn)) and None
    return step


def _forwarding(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function: the attributes of a step must not change the function itself."""
    if inspect.iscoroutinefunction(fn):

        @functools.wraps(fn)
        async def call_async(*args: Any, **kwargs: Any) -> Any:
            return await fn(*args, **kwargs)

        return call_async

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return call


def _names(names: str | Iterable[str] | None, parameter: str) -> tuple[str, ...]:
    """Return a tuple of names; NotAModelError (a TypeError) for anything else."""
    if names is None:
        return ()
    found = (names,) if isinstance(names, str) else names
    if not isinstance(found, Iterable) or not all(isinstance(name, str) for name in found):
        raise NotAModelError(
            f"{parameter}={names!r} names no products", hint="Give a name, or a list of names."
        )
    return tuple(found)


@dataclass(frozen=True, slots=True, eq=False)
class StepSpec:
    """A step of a module, or a ``node`` that builds its product; it is called by keyword."""

    function: Callable[..., Any]
    name: str
    produces: tuple[str, ...]
    requires: tuple[str, ...]
    parameters: tuple[str, ...]
    node: Node | None = None

    @property
    def origin(self) -> str:
        """The origin of its products, for messages."""
        return f"produced by {self.name}" + "()" * (self.node is None)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The required products that are parameters, in parameter order."""
        required = {*self.requires} - {"config"}
        return tuple(p for p in self.parameters if p in required)

    @property
    def is_async(self) -> bool:
        """Whether the step is a coroutine function."""
        return inspect.iscoroutinefunction(self.function)

    def arguments(self, config: object, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the known arguments; other parameters keep their defaults."""
        found = {p: values[p] for p in self.parameters if p in values}
        if "config" in self.parameters:
            found["config"] = config
        return found

    def outputs(self, result: Any) -> dict[str, Any]:
        """Return the values in ``result`` by product.

        StepResultError if they do not match the declared products. StepResultTypeError if a step
        with several products returned neither a dictionary nor a list or tuple.
        """
        declared = self.produces
        if len(declared) < 2:
            return dict.fromkeys(declared, result)
        if isinstance(result, dict):
            return self._checked(result)
        if not isinstance(result, (list, tuple)):
            raise StepResultTypeError(
                f"Step {self.name} declares produces={[*declared]} "
                f"but returned a {type(result).__name__}; "
                "expected dict or tuple aligned with produces"
            )
        if len(result) != len(declared):
            raise StepResultError(
                f"Step {self.name} declares {len(declared)} produces "
                f"but returned {len(result)} values",
                hint=f"Return one value for each of {', '.join(declared)}, in this order.",
            )
        return dict(zip(declared, result, strict=True))

    def _checked(self, result: dict[Any, Any]) -> dict[str, Any]:
        missing = [name for name in self.produces if name not in result]
        unknown = [name for name in result if name not in self.produces]
        if missing or unknown:
            wrong = [f"without {', '.join(map(repr, missing))}"] * bool(missing)
            wrong += [f"with {', '.join(map(repr, unknown))}"] * bool(unknown)
            raise StepResultError(
                f"Step {self.name} declares produces={[*self.produces]} "
                f"but returned a dict {' and '.join(wrong)}",
                hint="Return one value for each declared product, and no others.",
            )
        return {name: result[name] for name in self.produces}


@dataclass(frozen=True, slots=True)
class StepSet:
    """All steps of a module, and the producer of each product."""

    listed: tuple[StepSpec, ...]
    producers: Mapping[str, StepSpec]

    def requires(self, name: str) -> tuple[str, ...]:
        """Return the requirements of the step that produces ``name``, if any."""
        step = self.producers.get(name)
        return step.requires if step is not None else ()

    def inputs(self, name: str) -> tuple[str, ...]:
        """Return the inputs of the step that produces ``name``, if any."""
        step = self.producers.get(name)
        return step.inputs if step is not None else ()

    def leaves(self) -> list[str]:
        """Return the sorted products that no step requires."""
        required = {name for step in self.listed for name in step.requires}
        return sorted(self.producers.keys() - required)


def collect_steps(module: object, nodes: Iterable[Node] = ()) -> StepSet:
    """Return the steps of ``module`` and ``nodes``; DuplicateNodeError if two produce one name."""
    found: dict[int, StepSpec] = {}
    for name, member in inspect.getmembers(module, callable):
        if getattr(member, "_is_workflow_step", False) is True:
            found[id(member)] = _step(member, getattr(member, "__name__", name))
    steps = (*found.values(), *map(_step_of_node, nodes))
    return StepSet(steps, _producers(steps))


def _step(function: Callable[..., Any], name: str) -> StepSpec:
    parameters = inspect.signature(function).parameters.values()
    return StepSpec(
        function,
        name,
        _names(getattr(function, "workflow_produces", None), "produces"),
        _names(getattr(function, "workflow_requires", None), "requires"),
        tuple(one.name for one in parameters if one.kind not in _VARIADIC),
    )


def _step_of_node(node: Node) -> StepSpec:
    name = node.origin or node.name
    return StepSpec(as_function(node), name, (node.name,), node.requires, node.requires, node)


def _producers(steps: Iterable[StepSpec]) -> dict[str, StepSpec]:
    producers: dict[str, StepSpec] = {}
    for step in steps:
        for product in step.produces:
            other = producers.setdefault(product, step)
            if other is not step or step.produces.count(product) > 1:
                raise DuplicateNodeError(
                    f"Two workflow steps produce {product!r}: {other.name} and {step.name}"
                    if other is not step
                    else f"Step {step.name} declares the product {product!r} twice",
                    hint="A product has one step that produces it.",
                )
    return producers


def unknown_product_error(
    name: str, steps: StepSet, problem: str | None = None
) -> UnknownNodeError:
    """Return the error for a product that no step produces and that is not stored intact."""
    near = nearest(name, steps.producers)
    hints = [f"It is stored, but cannot be used: {problem}"] if problem else []
    hints += [f"Did you mean {near!r}?"] if near else []
    hints += [f"Step {step.name} requires it." for step in steps.listed if name in step.requires]
    return UnknownNodeError(
        f"No workflow step produces {name!r}. Available products: {sorted(steps.producers)}",
        hint="\n  ".join(hints) or None,
    )
