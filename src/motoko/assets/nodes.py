"""Assets, and the nodes that calls of task functions return."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike

from motoko.errors import DuplicateNodeError, TaskError
from motoko.graph import FRESH, Verdict, stale_because
from motoko.graph import Node as GraphNode

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from motoko.graph import BuildReport

    Yielded = Iterator[Any]
    Nodes = dict[str, "Node"]


@dataclass(slots=True)
class Asset:
    """Something observable: ``ref``, any value, says what; ``ready()`` says whether it is there."""

    ref: Any
    ready: Callable[..., Any]


def asset(ref: Any, ready: Callable[..., Any]) -> Asset:
    """Return the asset that ``ref`` identifies; ``ready`` is called to see whether it is there."""
    return Asset(ref, ready)


class Node:
    """What the call of a task function returns; the helper functions of the module take it.

    Nodes are equal if their task names are. ``assets`` and ``requirements`` are what the task
    yielded, ``required`` the same as a flat tuple. ``report`` is how the build went, at the node
    that was called outermost, unless it was interrupted.
    """

    __slots__ = ("answer", "assets", "report", "required", "requirements", "taskname")

    external = False

    def __init__(self, taskname: str) -> None:
        self.taskname = taskname
        self.assets: Any = None
        self.requirements: Any = None
        self.required: tuple[Node, ...] = ()
        self.answer: Verdict | None = None  # for the length of one build
        self.report: BuildReport | None = None

    def __eq__(self, other: object) -> bool:
        return self.taskname == (other.taskname if isinstance(other, Node) else other)

    def __hash__(self) -> int:
        return hash(self.taskname)

    def __str__(self) -> str:
        return f"{self.taskname} <{id(self)}>"

    __repr__ = __str__

    def is_fresh(self) -> Verdict:
        """Return the answer that holds for this build, asking the assets if there is none yet."""
        if self.answer is None:
            self.answer = self.ask()
        return self.answer

    def ask(self) -> Verdict:
        """Ask the assets whether they are ready, now."""
        assets = self.assets
        if isinstance(assets, Asset):
            return FRESH if assets.ready() else stale_because(f"{_described(assets)} is not ready")
        for one in flat(assets):
            if not one.ready():
                return stale_because(f"{_described(one)} is not ready")
        return FRESH

    @property
    def action(self) -> Callable[[], Verdict] | None:
        """What makes the assets ready."""
        return None


class NodeExternal(Node):
    """What an ``@external`` function returns: assets that nothing here makes."""

    __slots__ = ()

    external = True
    yields = ("assets",)
    usage = "An @external function yields its name, its asset(s)."

    def __init__(self, taskname: str, _rest: Yielded, _nodes: Nodes, assets: Any) -> None:
        super().__init__(taskname)
        self.assets = _assets(taskname, assets)


class NodeTask(Node):
    """What a ``@task`` function returns: assets, what they require, and the rest of its body."""

    __slots__ = ("_body", "_executed")

    yields = ("assets", "requirements")
    usage = "A @task yields its name, its asset(s) or None, its requirement(s) or None."

    def __init__(
        self, taskname: str, body: Yielded, nodes: Nodes, assets: Any, requirements: Any
    ) -> None:
        super().__init__(taskname)
        self.assets = _assets(taskname, assets)
        self.requirements = requirements
        self.required = _required(taskname, requirements, nodes)
        self._body = body
        self._executed = False

    @property
    def action(self) -> Callable[[], Verdict]:
        """Run the body of the task; return whether its assets are ready then."""
        return self._act

    def _act(self) -> Verdict:
        if self._executed:
            raise TaskError(
                f"Task {self.taskname!r} was executed before",
                hint="Call the task function again instead of keeping what it returned.",
            )
        self._executed = True
        try:
            next(self._body)
        except StopIteration:
            self.answer = self.ask()
            return self.answer
        raise TaskError(
            f"Task {self.taskname!r} yields too often",
            hint="A @task yields its name, its asset(s) and its requirement(s), and no more.",
        )


class Produced(Asset):
    """What a node of a step graph makes; ``ref`` is its value, None where it is not there."""

    __slots__ = ("_owner",)

    def __init__(self, owner: NodeOfGraph) -> None:
        self._owner = owner

    @property
    def ref(self) -> Any:
        """The node's value."""
        return self._owner.node.current_value()

    def ready(self) -> bool:
        """Whether it is fresh now."""
        return bool(self._owner.ask().fresh)


class NodeOfGraph(Node):
    """A node of a step graph that a task requires, such as runs of a study.

    What it requires by name are tasks of the same call.
    """

    __slots__ = ("node", "required_by")

    def __init__(self, node: GraphNode, required_by: str = "") -> None:
        super().__init__(node.name)
        self.node = node
        self.required_by = required_by
        self.assets = Produced(self)

    def is_fresh(self) -> Verdict:
        """Return the answer that holds for this build, asking the node if there is none yet."""
        if self.answer is None:
            self.answer = self.node.check()
        return self.answer

    def ask(self) -> Verdict:
        """Ask the node, now; if need be as if what it requires were there, but not of a group."""
        verdict = self.node.check()
        if verdict.fresh is not None:
            return verdict
        if self.node.is_group:
            there = [one.taskname for one in self.required if one.ask().fresh]
            lacking = [name for name in self.node.requires if name not in there]
            return (
                stale_because(*(f"{one!r} is not ready" for one in lacking)) if lacking else FRESH
            )
        return self.node.check(ready=True)

    def look(self) -> Verdict:
        """Ask the node again, now that its requirements are there."""
        self.answer = self.node.check(ready=True)
        return self.answer

    def ended(self, result: object) -> Verdict:
        """Return what the node's action says of how things stand."""
        self.answer = result if isinstance(result, Verdict) else FRESH
        return self.answer


class NodeTasks(Node):
    """What a ``@tasks`` function returns: a collection, ready when all that it collects is."""

    __slots__ = ("_leaves",)

    yields = ("requirements",)
    usage = "A @tasks function yields its name, its requirement(s)."
    _leaves: tuple[Node, ...]

    def __init__(self, taskname: str, _rest: Yielded, nodes: Nodes, requirements: Any) -> None:
        super().__init__(taskname)
        self.requirements = requirements
        self.required = _required(taskname, requirements, nodes)
        self.assets = [one for node in self.required for one in flat(node.assets)]
        leaves: dict[int, Node] = {}
        for node in self.required:
            for leaf in node._leaves if isinstance(node, NodeTasks) else (node,):  # noqa: SLF001
                leaves[id(leaf)] = leaf
        self._leaves = tuple(leaves.values())

    def is_fresh(self) -> Verdict:
        """Return whether all that is collected is, by the answers that hold for this build."""
        for one in self._leaves:
            try:
                verdict = one.is_fresh()
            except Exception as error:  # noqa: BLE001 - it will fail when it is its turn
                return stale_because(f"{one.taskname!r} cannot tell: {error!r}")
            if not verdict.fresh:
                return verdict
        return FRESH


def flat(assets: Any) -> list[Asset]:
    """Return assets of any shape as a list."""
    if assets is None:
        return []
    if isinstance(assets, Asset):
        return [assets]
    return [*(assets.values() if isinstance(assets, dict) else assets)]


def _assets(taskname: str, assets: Any) -> Any:
    for one in (assets,) if isinstance(assets, Asset) else _items(assets):
        if not isinstance(one, Asset):
            hint = "Make it with asset(ref, ready)."
            if isinstance(one, Node | GraphNode):
                hint = "This is a task: a requirement, which a @task yields after its asset(s)."
            raise _unexpected(taskname, "asset", one, "an asset() value", hint)
        if not callable(one.ready):
            raise TaskError(
                f"Task {taskname!r} yielded {_described(one)} with ready={one.ready!r},"
                " which cannot be called",
                hint="Give the function itself: path.exists, not path.exists().",
            )
    return assets


def _required(taskname: str, requirements: Any, nodes: Nodes) -> tuple[Node, ...]:
    """Return what is required as a flat tuple; of ``nodes`` there is one of a name."""
    required = (requirements,) if isinstance(requirements, Node) else (*_items(requirements),)
    for one in required:
        if isinstance(one, GraphNode):
            found = (_of_graph(one, taskname, nodes) for one in required)
            return _required(taskname, [*found], nodes)
        if not isinstance(one, Node):
            hint = "Call a function decorated with @task, @tasks or @external."
            if isinstance(one, Asset):
                hint = "This is an asset: yield the task that makes it ready."
            elif callable(one):
                hint = "Yield what the call of a task function returns, not the function."
            raise _unexpected(taskname, "requirement", one, "a task-call value", hint)
    return required


def _of_graph(one: Any, taskname: str, nodes: Nodes) -> Any:
    if not isinstance(one, GraphNode):
        return one
    if one.name == taskname:
        raise duplicate_name_error(taskname, "the task itself", _described_node(one, taskname))
    node = NodeOfGraph(one, taskname)
    known = nodes.setdefault(one.name, node)
    check_same(known, node)
    return known


def check_same(known: Node, other: Node) -> None:
    """Raise DuplicateNodeError unless one of two nodes of one name can stand for both.

    Tasks are known by their name alone.
    """
    if known is other:
        return
    one, two = (getattr(node, "node", None) for node in (known, other))
    if one is two or (one is not None and two is not None and _makes_the_same(one, two)):
        return
    raise duplicate_name_error(known.taskname, place(known), place(other))


def _makes_the_same(one: GraphNode, other: GraphNode) -> bool:
    if one.is_same is not None:
        return one.is_same(other)
    if one == other:
        return True
    if one.identity is None or other.identity is None:
        return False
    return one.requires == other.requires and bool(one.identity() == other.identity())


def duplicate_name_error(name: str, *places: str) -> DuplicateNodeError:
    """Return the error for two nodes, or a node and a task, of one name."""
    return DuplicateNodeError(
        f"two nodes are named {name!r}: {', and '.join(places)}",
        hint="A name is one node: give each its own, such as f'solve {points}' in place of "
        "'solve'.",
    )


def place(node: Node) -> str:
    """Return where a node comes from."""
    if isinstance(node, NodeOfGraph):
        return _described_node(node.node, node.required_by)
    return "a task"


def _described_node(node: GraphNode, taskname: str) -> str:
    return f"{node.origin or 'a node'}, required by task {taskname!r}"


def _items(value: Any) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, dict):
        return [*value.values()]
    return [*value] if isinstance(value, list | tuple) else [value]


def _unexpected(taskname: str, what: str, value: Any, expected: str, hint: str) -> TaskError:
    return TaskError(
        f"Task {taskname!r} yielded {what} {value!r} of type {type(value).__name__}:"
        f" Expected {expected}.",
        hint=hint,
    )


def _described(one: Asset) -> str:
    if isinstance(one.ref, str | int | float | PathLike):
        return f"asset {str(one.ref)!r}"
    return f"an asset ({type(one.ref).__name__})"
