"""What a step graph consists of: nodes, and verdicts on whether they are fresh."""

from __future__ import annotations

from dataclasses import dataclass
from inspect import iscoroutinefunction

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a node is fresh, and why; ``fresh`` is None where only its requirements can tell."""

    fresh: bool | None
    reasons: tuple[str, ...] = ()


FRESH = Verdict(fresh=True)
STALE = Verdict(fresh=False)
UNDECIDED = Verdict(fresh=None)


def fresh_because(*reasons: str) -> Verdict:
    """Return the verdict that nothing has to be done, for these reasons."""
    return Verdict(True, reasons)


def stale_because(*reasons: str) -> Verdict:
    """Return the verdict that the node has to be built, for these reasons."""
    return Verdict(False, reasons)


def undecided_because(*reasons: str) -> Verdict:
    """Return the verdict that the node is to be asked again when its requirements are there."""
    return Verdict(None, reasons)


@dataclass(frozen=True, slots=True)
class Node:
    """One thing that can be there or not, and what makes it.

    ``requires`` are names of nodes, in the order in which they are visited. ``is_fresh`` says
    whether the thing is there as it should be; it is asked before the requirements are visited,
    which a fresh node spares, and must not take long. ``action`` makes it; it takes nothing, is a
    function or a coroutine function, and its result is ignored, but a :class:`Verdict` says how
    things stand afterwards (otherwise the node counts as built). Without an action a node is an
    external thing, or, if it requires others, a collection of them. Nodes that share one action
    object are made by one execution of it. ``origin`` says in messages where the node comes from.
    ``when_ready`` is asked in place of ``is_fresh`` once the requirements are there: for a node
    whose own inputs come from them.

    The front-ends hand on values: ``value`` returns what was made, once it is there; ``given``
    returns the node that is made of these values, by name; ``made_of`` says what else it is made
    of, as plain data. The engine uses none of the three.
    """

    name: str
    requires: tuple[str, ...] = ()
    is_fresh: Callable[[], Verdict] = lambda: STALE
    action: Callable[[], Any] | None = None
    origin: str = ""
    when_ready: Callable[[], Verdict] | None = None
    value: Callable[[], Any] | None = None
    given: Callable[[Mapping[str, Any]], Node] | None = None
    made_of: Callable[[], Any] | None = None

    @property
    def awaited(self) -> bool:
        """Whether the action is a coroutine function."""
        return iscoroutinefunction(self.action)
