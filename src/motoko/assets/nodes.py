"""Assets, and the nodes that calls of task functions return."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike

from motoko.errors import DuplicateNodeError, TaskError
from motoko.graph import FRESH, Verdict, stale_because
from motoko.graph import Node as GraphNode

TYPE_CHECKING = False  # type checkers assume True; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from motoko.graph import BuildReport

    Yielded = Iterator[Any]
    Nodes = dict[str, "Node"]


@dataclass(slots=True)
class Asset:
    """An observable thing: ``ref``, any value, identifies it; ``ready()`` checks it."""

    ref: Any
    ready: Callable[..., Any]


def asset(ref: Any, ready: Callable[..., Any]) -> Asset:
    """Return the asset that ``ref`` identifies; ``ready`` is called to check it."""
    return Asset(ref, ready)


class Node:
    """The result of calling a task function, an argument of the helper functions.

    Nodes with the same task name are equal. ``assets`` and ``requirements`` have the shape that
    the task yielded, ``required`` is a flat tuple of the requirements. The root node has the
    ``report`` of the build, unless it was interrupted.
    """

    __slots__ = ("assets", "report", "required", "requirements", "taskname", "verdict")

    external = False
    action: Callable[[], Verdict] | None = None  # makes the assets ready

    def __init__(self, taskname: str) -> None:
        self.taskname = taskname
        self.assets: Any = None
        self.requirements: Any = None
        self.required: tuple[Node, ...] = ()
        self.verdict: Verdict | None = None  # for the duration of one build
        self.report: BuildReport | None = None

    def __eq__(self, other: object) -> bool:
        return self.taskname == (other.taskname if isinstance(other, Node) else other)

    def __hash__(self) -> int:
        return hash(self.taskname)

    def __str__(self) -> str:
        return f"{self.taskname} <{id(self)}>"

    __repr__ = __str__

    def is_fresh(self) -> Verdict:
        """Return the verdict of this build; check the assets if there is none yet."""
        if self.verdict is None:
            self.verdict = self.check()
        return self.verdict

    def check(self) -> Verdict:
        """Check now whether the assets are ready."""
        for one in flatten(self.assets):
            if not one.ready():
                return stale_because(f"{_describe(one)} is not ready")
        return FRESH


class NodeExternal(Node):
    """The result of an ``@external`` function: assets that no task makes ready."""

    __slots__ = ()

    external = True
    yields = ("assets",)
    usage = "An @external function yields its name, its asset(s)."

    def __init__(self, taskname: str, _rest: Yielded, _nodes: Nodes, assets: Any) -> None:
        super().__init__(taskname)
        self.assets = _checked_assets(taskname, assets)


class NodeTask(Node):
    """The result of a ``@task`` function: assets, requirements, and the rest of its body."""

    __slots__ = ("_body", "_executed")

    yields = ("assets", "requirements")
    usage = "A @task yields its name, its asset(s) or None, its requirement(s) or None."

    def __init__(
        self, taskname: str, body: Yielded, nodes: Nodes, assets: Any, requirements: Any
    ) -> None:
        super().__init__(taskname)
        self.assets = _checked_assets(taskname, assets)
        self.requirements = requirements
        self.required = _flat_requirements(taskname, requirements, nodes)
        self._body = body
        self._executed = False

    def action(self) -> Verdict:
        """Run the body and then check the assets."""
        if self._executed:
            raise TaskError(
                f"Task {self.taskname!r} was executed before",
                hint="Call the task function again instead of keeping its result.",
            )
        self._executed = True
        try:
            next(self._body)
        except StopIteration:
            self.verdict = self.check()
            return self.verdict
        raise TaskError(
            f"Task {self.taskname!r} yields too often",
            hint="A @task yields its name, its asset(s) and its requirement(s), and no more.",
        )


class Produced(Asset):
    """The value of a node of a step graph; ``ref`` is None if it does not exist."""

    __slots__ = ("_owner",)

    def __init__(self, owner: WrappedNode) -> None:
        self._owner = owner

    @property
    def ref(self) -> Any:
        """The value of the node."""
        return self._owner.node.current_value()

    def ready(self) -> bool:
        """Whether the node is fresh now."""
        return bool(self._owner.check().fresh)


class WrappedNode(Node):
    """A node of a step graph, such as runs of a study, that a task requires."""

    __slots__ = ("node", "required_by")

    def __init__(self, node: GraphNode, required_by: str = "") -> None:
        super().__init__(node.name)
        self.node = node
        self.required_by = required_by
        self.assets = Produced(self)

    def is_fresh(self) -> Verdict:
        """Return the verdict of this build; check the node if there is none yet."""
        if self.verdict is None:
            self.verdict = self.node.check()
        return self.verdict

    def check(self) -> Verdict:
        """Check the node now; if it is undecided, also as if its requirements were ready."""
        verdict = self.node.check()
        if verdict.fresh is not None:
            return verdict
        if self.node.is_group:
            ready = [one.taskname for one in self.required if one.check().fresh]
            missing = [name for name in self.node.requires if name not in ready]
            return (
                stale_because(*(f"{one!r} is not ready" for one in missing)) if missing else FRESH
            )
        return self.node.check(ready=True)

    def recheck(self) -> Verdict:
        """Check the node again when its requirements are ready."""
        self.verdict = self.node.check(ready=True)
        return self.verdict

    def record_result(self, result: object) -> Verdict:
        """Return the verdict that the result of the action means."""
        self.verdict = result if isinstance(result, Verdict) else FRESH
        return self.verdict


class NodeTasks(Node):
    """The result of a ``@tasks`` function: a collection, ready when all its members are."""

    __slots__ = ("_leaves",)

    yields = ("requirements",)
    usage = "A @tasks function yields its name, its requirement(s)."
    _leaves: tuple[Node, ...]

    def __init__(self, taskname: str, _rest: Yielded, nodes: Nodes, requirements: Any) -> None:
        super().__init__(taskname)
        self.requirements = requirements
        self.required = _flat_requirements(taskname, requirements, nodes)
        self.assets = [one for node in self.required for one in flatten(node.assets)]
        leaves: dict[int, Node] = {}
        for node in self.required:
            for leaf in node._leaves if isinstance(node, NodeTasks) else (node,):  # noqa: SLF001
                leaves[id(leaf)] = leaf
        self._leaves = tuple(leaves.values())

    def is_fresh(self) -> Verdict:
        """Return whether all members are fresh, by their verdicts of this build."""
        for one in self._leaves:
            try:
                verdict = one.is_fresh()
            except Exception as error:  # noqa: BLE001 - the node fails when it is built
                return stale_because(f"the check of {one.taskname!r} failed: {error!r}")
            if not verdict.fresh:
                return verdict
        return FRESH


def _checked_assets(taskname: str, assets: Any) -> Any:
    for one in flatten(assets):
        if not isinstance(one, Asset):
            hint = "Make it with asset(ref, ready)."
            if isinstance(one, Node | GraphNode):
                hint = "This is a task: a requirement, which a @task yields after its asset(s)."
            raise _unexpected(taskname, "asset", one, "an asset() value", hint)
        if not callable(one.ready):
            raise TaskError(
                f"Task {taskname!r} yielded {_describe(one)} with ready={one.ready!r},"
                " which cannot be called",
                hint="Pass the function itself: path.exists, not path.exists().",
            )
    return assets


def _flat_requirements(taskname: str, requirements: Any, nodes: Nodes) -> tuple[Node, ...]:
    """Return the requirements as a tuple; graph nodes are wrapped and added to ``nodes``."""
    required = (*flatten(requirements),)
    for one in required:
        if isinstance(one, GraphNode):
            wrapped = [_wrap(one, taskname, nodes) for one in required]
            return _flat_requirements(taskname, wrapped, nodes)
        if not isinstance(one, Node):
            hint = "Call a function decorated with @task, @tasks or @external."
            if isinstance(one, Asset):
                hint = "This is an asset: yield the task that makes it ready."
            elif callable(one):
                hint = "Yield the result of calling the task function, not the function."
            raise _unexpected(taskname, "requirement", one, "a task-call value", hint)
    return required


def _wrap(one: Any, taskname: str, nodes: Nodes) -> Any:
    if not isinstance(one, GraphNode):
        return one
    if one.name == taskname:
        origin = _describe_node(one, taskname)
        raise duplicate_name_error(taskname, "the task itself", origin)
    node = WrappedNode(one, taskname)
    known = nodes.setdefault(one.name, node)
    check_equivalent(known, node)
    return known


def check_equivalent(known: Node, other: Node) -> None:
    """Raise DuplicateNodeError unless two nodes with one name are tasks, or the same node."""
    if known is other:
        return
    one, two = (getattr(node, "node", None) for node in (known, other))
    if one is two or (one is not None and two is not None and _is_equivalent(one, two)):
        return
    raise duplicate_name_error(known.taskname, origin_of(known), origin_of(other))


def _is_equivalent(one: GraphNode, other: GraphNode) -> bool:
    if one.is_same is not None:
        return one.is_same(other)
    if one == other:
        return True
    if one.identity is None or other.identity is None:
        return False
    return one.requires == other.requires and bool(one.identity() == other.identity())


def duplicate_name_error(name: str, *origins: str) -> DuplicateNodeError:
    """Return the error for two nodes, or a node and a task, with one name."""
    return DuplicateNodeError(
        f"two nodes are named {name!r}: {', and '.join(origins)}",
        hint="Give each node its own name, such as f'solve {points}' instead of 'solve'.",
    )


def origin_of(node: Node) -> str:
    """Return where a node comes from, for messages."""
    if isinstance(node, WrappedNode):
        return _describe_node(node.node, node.required_by)
    return "a task"


def _describe_node(node: GraphNode, taskname: str) -> str:
    return f"{node.origin or 'a node'}, required by task {taskname!r}"


def flatten(value: Any) -> list[Any]:
    """Return one value, a list or the values of a dictionary as a list; [] for None."""
    if value is None:
        return []
    if isinstance(value, dict):
        return [*value.values()]
    return [*value] if isinstance(value, list | tuple) else [value]


def _unexpected(taskname: str, kind: str, value: Any, expected: str, hint: str) -> TaskError:
    return TaskError(
        f"Task {taskname!r} yielded {kind} {value!r} of type {type(value).__name__}:"
        f" Expected {expected}.",
        hint=hint,
    )


def _describe(one: Asset) -> str:
    if isinstance(one.ref, str | int | float | PathLike):
        return f"asset {str(one.ref)!r}"
    return f"an asset ({type(one.ref).__name__})"
