"""What a step graph consists of: nodes, and verdicts on whether they are fresh."""

from __future__ import annotations

from dataclasses import dataclass
from inspect import iscoroutinefunction

from motoko.errors import BuildError

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    Answer = Callable[[], "Verdict | bool"]


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


def no_reason() -> Verdict:
    """Be the ``is_fresh`` of nodes that have none: what is to be made is made at every build."""
    return STALE


def always_stale() -> Verdict:
    """Be the ``is_fresh`` of groups."""
    return undecided_because("it is fresh when all that it requires is there")


def requirements_ready() -> Verdict:
    """Be the ``when_ready`` of groups."""
    return fresh_because("all that it requires is there")


@dataclass(frozen=True, slots=True)
class Node:
    """One thing that can be there or not, and what makes it.

    ``requires`` are names of nodes, in the order in which they are visited, or one name; a tuple
    is kept. ``is_fresh`` says whether the thing is there as it should be, by a :class:`Verdict` or
    by True or False; it is asked before the requirements are visited, which a fresh node spares,
    and must not take long. ``action`` makes it; it takes nothing, is a function or a coroutine
    function, and its result is ignored, but a :class:`Verdict` says how things stand afterwards
    (otherwise the node counts as built). ``origin`` says in messages where the node comes from.
    ``when_ready`` is asked in place of ``is_fresh`` once the requirements are there: for a node
    whose own inputs come from them.

    Without an action a node is an external thing, or, if it requires others, a group of them,
    which is fresh when they are there, unless ``is_fresh`` says more.

    Nodes that share one action object are made by one call of it. Those that it was not called for
    are asked afterwards whether they are fresh; without an ``is_fresh`` they are what that one is.

    The front-ends hand on values: ``value`` returns what was made, once it is there; ``given``
    returns the node that is made of these values, by name; ``made_of`` says what else it is made
    of, as plain data; ``same`` says whether another node makes the same, so that one of them can
    stand for both. The engine uses none of the four.
    """

    name: str
    requires: tuple[str, ...]
    is_fresh: Answer
    action: Callable[[], Any] | None
    origin: str
    when_ready: Answer | None
    value: Callable[[], Any] | None
    given: Callable[[Mapping[str, Any]], Node] | None
    made_of: Callable[[], Any] | None
    same: Callable[[Node], bool] | None

    # Not the one that would be generated: it takes more than it keeps.
    def __init__(
        self,
        name: str,
        requires: str | Iterable[str] = (),
        is_fresh: Answer = no_reason,
        action: Callable[[], Any] | None = None,
        origin: str = "",
        when_ready: Answer | None = None,
        value: Callable[[], Any] | None = None,
        given: Callable[[Mapping[str, Any]], Node] | None = None,
        made_of: Callable[[], Any] | None = None,
        same: Callable[[Node], bool] | None = None,
    ) -> None:
        if type(requires) is not tuple:
            requires = (requires,) if isinstance(requires, str) else (*requires,)
        if is_fresh is no_reason and action is None and requires:
            is_fresh, when_ready = always_stale, when_ready or requirements_ready
        keep = object.__setattr__
        keep(self, "name", name)
        keep(self, "requires", requires)
        keep(self, "is_fresh", is_fresh)
        keep(self, "action", action)
        keep(self, "origin", origin)
        keep(self, "when_ready", when_ready)
        keep(self, "value", value)
        keep(self, "given", given)
        keep(self, "made_of", made_of)
        keep(self, "same", same)

    def ask(self, *, ready: bool = False) -> Verdict:
        """Return whether it is fresh; ``ready``: now that its requirements are there.

        BuildError where the function that is asked returns something else.
        """
        asked, name = self.is_fresh, "is_fresh"
        if ready and self.when_ready is not None:
            asked, name = self.when_ready, "when_ready"
        return self.verdict(asked(), name)

    def verdict(self, answer: object, asked: str = "is_fresh") -> Verdict:
        """Return what the function ``asked`` means by its answer. BuildError if that is nothing."""
        if isinstance(answer, Verdict):
            return answer
        if isinstance(answer, bool):
            return FRESH if answer else STALE
        raise BuildError(
            f"node {self.name!r}: {asked}() returned {answer!r}, which is no verdict",
            hint="It returns True or False, or fresh_because(...), stale_because(...) or "
            "undecided_because(...).",
        )

    @property
    def is_group(self) -> bool:
        """Whether it is fresh when what it requires is there."""
        return self.is_fresh is always_stale

    @property
    def awaited(self) -> bool:
        """Whether the action is a coroutine function."""
        return iscoroutinefunction(self.action)
