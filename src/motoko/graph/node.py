"""Nodes of a step graph, and verdicts on whether they are fresh."""

from __future__ import annotations

from dataclasses import dataclass
from inspect import iscoroutinefunction

from motoko.errors import BuildError

TYPE_CHECKING = False  # type checkers assume True; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    FreshnessFunction = Callable[[], "Verdict | bool"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a node is fresh, and why; ``fresh`` is None where its requirements decide."""

    fresh: bool | None
    reasons: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        """The verdict as a word: fresh, stale or undecided."""
        return {True: "fresh", False: "stale", None: "undecided"}[self.fresh]


FRESH = Verdict(fresh=True)
STALE = Verdict(fresh=False)
UNDECIDED = Verdict(fresh=None)


def fresh_because(*reasons: str) -> Verdict:
    """Return the verdict that the node needs no build."""
    return Verdict(True, reasons)


def stale_because(*reasons: str) -> Verdict:
    """Return the verdict that the node must be built."""
    return Verdict(False, reasons)


def undecided_because(*reasons: str) -> Verdict:
    """Return the verdict that the node must be checked again when its requirements are ready."""
    return Verdict(None, reasons)


def always_stale() -> Verdict:
    """Serve as ``is_fresh`` of nodes without one, which every build builds."""
    return STALE


def always_undecided() -> Verdict:
    """Serve as ``is_fresh`` of groups."""
    return undecided_because("it is fresh when all its requirements are ready")


def requirements_ready() -> Verdict:
    """Serve as ``when_ready`` of groups."""
    return fresh_because("all its requirements are ready")


@dataclass(frozen=True, slots=True)
class Node:
    """A thing that is fresh or stale, and the action that builds it.

    - ``requires``: one name, or names in the order in which they are visited.
    - ``is_fresh`` returns a :class:`Verdict` or a bool. It is called before the requirements are
      visited, must be quick, and a fresh node spares its requirements.
    - ``action``: a function or coroutine function without parameters. A :class:`Verdict` that it
      returns is the new freshness; after any other result the node counts as built.
    - ``origin`` describes in messages where the node comes from.
    - ``when_ready`` replaces ``is_fresh`` once the requirements are ready, for nodes whose inputs
      come from them.

    A node without an action is external, or, with requirements, a group. A group is fresh when
    they are ready, unless ``is_fresh`` decides otherwise.

    Nodes that share one action object are built by one call. The other nodes are then checked;
    those without ``is_fresh`` get the status of the node that it was called for.

    The front-ends use four more fields. ``value`` returns the value of a ready node; ``bind``
    returns the node with the values of its requirements, by name; ``identity`` returns its other
    inputs as plain data; ``is_same`` decides if another node can replace this one.
    """

    name: str
    requires: tuple[str, ...]
    is_fresh: FreshnessFunction
    action: Callable[[], Any] | None
    origin: str
    when_ready: FreshnessFunction | None
    value: Callable[[], Any] | None
    bind: Callable[[Mapping[str, Any]], Node] | None
    identity: Callable[[], Any] | None
    is_same: Callable[[Node], bool] | None

    # Replaces the generated method: it accepts more types than the fields have.
    def __init__(
        self,
        name: str,
        requires: str | Iterable[str] = (),
        is_fresh: FreshnessFunction = always_stale,
        action: Callable[[], Any] | None = None,
        origin: str = "",
        when_ready: FreshnessFunction | None = None,
        value: Callable[[], Any] | None = None,
        bind: Callable[[Mapping[str, Any]], Node] | None = None,
        identity: Callable[[], Any] | None = None,
        is_same: Callable[[Node], bool] | None = None,
    ) -> None:
        if type(requires) is not tuple:
            requires = (requires,) if isinstance(requires, str) else (*requires,)
        if is_fresh is always_stale and action is None and requires:
            is_fresh, when_ready = always_undecided, when_ready or requirements_ready
        assign = object.__setattr__  # one call per field: a loop doubles the time
        assign(self, "name", name)
        assign(self, "requires", requires)
        assign(self, "is_fresh", is_fresh)
        assign(self, "action", action)
        assign(self, "origin", origin)
        assign(self, "when_ready", when_ready)
        assign(self, "value", value)
        assign(self, "bind", bind)
        assign(self, "identity", identity)
        assign(self, "is_same", is_same)

    def check(self, *, ready: bool = False) -> Verdict:
        """Return whether the node is fresh; ``ready``: its requirements are ready now."""
        function, name = self.is_fresh, "is_fresh"
        if ready and self.when_ready is not None:
            function, name = self.when_ready, "when_ready"
        return self.to_verdict(function(), name)

    def to_verdict(self, answer: object, function: str = "is_fresh") -> Verdict:
        """Convert the answer of ``function`` to a verdict, or raise BuildError."""
        if isinstance(answer, Verdict):
            return answer
        if isinstance(answer, bool):
            return FRESH if answer else STALE
        raise BuildError(
            f"node {self.name!r}: {function}() returned {answer!r}, which is not a verdict",
            hint="Return True or False, or fresh_because(...), stale_because(...) or "
            "undecided_because(...).",
        )

    @property
    def is_group(self) -> bool:
        """Whether the node is fresh as soon as its requirements are ready."""
        return self.is_fresh is always_undecided

    @property
    def is_async(self) -> bool:
        """Whether the action is a coroutine function."""
        return iscoroutinefunction(self.action)

    def with_values(self, values: Mapping[str, Any]) -> Node:
        """Return the node with these values, by name; itself if it takes none."""
        return self if self.bind is None else self.bind(values)

    def current_value(self) -> Any:
        """Return the value of a ready node; None for a node without values."""
        return None if self.value is None else self.value()


def as_function(node: Node) -> Callable[..., Any]:
    """Return a function that builds the node with the given values and returns its value.

    It is a coroutine function if the action is one. BuildError if the node is still not fresh.
    """
    if node.is_async:

        async def build_async(**values: Any) -> Any:
            bound = node.with_values(values)
            return _built_value(bound, None if bound.action is None else await bound.action())

        return build_async

    def build(**values: Any) -> Any:
        bound = node.with_values(values)
        return _built_value(bound, None if bound.action is None else bound.action())

    return build


def _built_value(node: Node, result: object) -> Any:
    if isinstance(result, Verdict) and not result.fresh:
        raise BuildError(f"{node.name!r} is not ready: {'; '.join(result.reasons)}")
    return node.current_value()
