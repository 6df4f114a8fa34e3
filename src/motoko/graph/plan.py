"""Which nodes a build concerns, and in which partial order: nodes in, plan out."""

from __future__ import annotations

from dataclasses import dataclass

from motoko.errors import CycleError, UnknownNodeError, suggestion

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from motoko.graph.node import Node


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """The nodes that targets need, themselves included.

    ``order`` is depth-first: every name once, after all that it requires, requirements in the
    order in which they are given.
    """

    targets: tuple[str, ...]
    order: tuple[str, ...]
    nodes: Mapping[str, Node]


def make_plan(nodes: Mapping[str, Node], targets: Iterable[str]) -> BuildPlan:
    """Return the plan for ``targets``.

    Raises :class:`UnknownNodeError` for a target or a requirement that no node is called, and
    :class:`CycleError` where nodes require each other.
    """
    wanted = tuple(dict.fromkeys(targets))
    for name in wanted:
        if name not in nodes:
            raise unknown(name, nodes)
    order = depth_first(lambda name: _requirements(name, nodes), wanted)
    return BuildPlan(wanted, tuple(order), {name: nodes[name] for name in order})


def depth_first(requires: Callable[[str], Sequence[str]], targets: Iterable[str]) -> list[str]:
    """Return all that ``targets`` need: every name once, after what it requires."""
    order: list[str] = []
    done: set[str] = set()
    for target in targets:
        if target in done:
            continue
        # The insertion order of `open_` is the path from the target to where we are.
        open_ = {target: iter(requires(target))}
        current = target
        while open_:
            for name in open_[current]:
                if name in done:
                    continue
                if name in open_:
                    raise _cycle([*open_], name)
                open_[name] = iter(requires(name))
                current = name
                break
            else:
                done.add(current)
                order.append(current)
                del open_[current]
                current = next(reversed(open_), "")
    return order


def _requirements(name: str, nodes: Mapping[str, Node]) -> tuple[str, ...]:
    node = nodes[name]
    for requirement in node.requires:
        if requirement not in nodes:
            origin = f" ({node.origin})" if node.origin else ""
            raise UnknownNodeError(
                f"{name!r}{origin} requires {requirement!r}, which nothing produces",
                hint=suggestion(requirement, [known for known in nodes if known != name]),
            )
    return node.requires


def unknown(name: str, nodes: Iterable[str]) -> UnknownNodeError:
    """Return the error for a name that none of ``nodes`` has."""
    return UnknownNodeError(f"no node is called {name!r}", hint=suggestion(name, [*nodes]))


def _cycle(path: list[str], name: str) -> CycleError:
    return cycle_error([*path[path.index(name) :], name])


def cycle_error(path: Sequence[str]) -> CycleError:
    """Return the error for a path that begins and ends with the same name."""
    if len(path) == 2:
        return CycleError(f"{path[0]!r} requires itself", path)
    arrows = " -> ".join(map(repr, path))
    return CycleError(
        f"nodes require each other: {arrows}",
        path,
        hint="An arrow means 'requires'. Take one of these requirements away.",
    )


def reachable(edges: Callable[[str], Iterable[str]], name: str) -> list[str]:
    """Return what ``edges`` lead to from ``name``, nearest first; ``name`` only in a cycle."""
    found = dict.fromkeys(edges(name))
    queue = [*found]
    for current in queue:
        for following in edges(current):
            if following not in found:
                found[following] = None
                queue.append(following)
    return queue
