"""Calls of task functions: the outermost call builds, those inside it only return nodes.

What only a build needs is imported by the first one, so that importing tasks stays quick.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps

from motoko.assets.nodes import (
    Node,
    NodeExternal,
    NodeOfGraph,
    NodeTask,
    NodeTasks,
    check_same,
    duplicate_name_error,
    place,
)
from motoko.errors import GraphError, NoLoggerError, TaskError
from motoko.graph import Graph, order_by_level
from motoko.graph import Node as GraphNode
from motoko.graph.plan import cycle_error
from motoko.graph.thread_driver import check_threads

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from logging import Logger
    from typing import Any

    from motoko.graph import Verdict
    from motoko.graph.plan import Edges

    TaskFunction = Callable[..., Iterator[Any]]
    Kind = type[NodeTask | NodeTasks | NodeExternal]


MISSING = object()
DECORATE = "A task function is one that is decorated with @task, @tasks or @external."
IN_TASK = "in the task "  # how the note begins that says whose exception it was


class BuildContext:
    """One outermost call: its logger, and the nodes that it has come upon, one of a name."""

    __slots__ = ("discarded", "log", "nodes", "path")

    def __init__(self, log: Logger, nodes: dict[str, Node]) -> None:
        self.log = log
        self.nodes = nodes
        self.path: dict[str, None] = {}  # the tasks whose requirements are being called
        self.discarded: list[str] = []

    def known(self, name: str, yielded: Iterator[Any]) -> Node | None:
        """Return the node of this name, if there is one."""
        node = self.nodes.get(name)
        if node is not None:
            if isinstance(node, NodeOfGraph):
                raise duplicate_name_error(name, "a task", place(node))
            self.discarded.append(f"{name} <{id(yielded)}>")
        return node

    def enter(self, name: str) -> None:
        """Note that the requirements of this task are called from now on."""
        if name in self.path:
            path = [*self.path]
            raise cycle_error([*path[path.index(name) :], name])
        self.path[name] = None

    def keep(self, node: Node) -> Node:
        """Note the node, and nodes of earlier calls that it requires."""
        for one in node.required:
            if self.nodes.get(one.taskname) is not one:
                self._adopt(one)
        known = self.nodes.get(node.taskname)
        if known is not None:
            check_same(known, node)
        self.nodes[node.taskname] = node
        return node

    def _adopt(self, node: Node) -> None:
        """Take in a node of an earlier call, and what it requires."""
        found = [node]
        for one in found:
            known = self.nodes.get(one.taskname)
            if known is None:
                one.answer = None
                self.nodes[one.taskname] = one
                found.extend(one.required)
            else:
                check_same(known, one)


_call: ContextVar[BuildContext | None] = ContextVar("motoko_assets_call", default=None)


def _new_call(log: Logger | None) -> BuildContext:
    from logging import getLogger

    return BuildContext(log or getLogger(), {})


def logger_in_use(name: str) -> Logger:
    """Return the logger of the build in hand; NoLoggerError where there is none."""
    call = _call.get()
    if call is None:
        raise NoLoggerError(
            "No logger found: Ensure this call originated in a task function.",
            hint=f"Elsewhere use logging.getLogger().{name}.",
        )
    return call.log


class TaskLogger:
    """Stands for the logger of the build in hand: attributes are looked up there."""

    def __getattr__(self, name: str) -> Any:
        return getattr(logger_in_use(name), name)


def decorated(kind: Kind, function: TaskFunction) -> Callable[..., Node]:
    """Return the function that users call instead of ``function``."""

    @wraps(function)
    def task_function(
        *arguments: Any,
        dry_run: bool = False,
        log: Logger | None = None,
        threads: int = 0,
        **options: Any,
    ) -> Node:
        call = _call.get()
        if call is None:
            return _outermost(task_function, arguments, options, dry_run, log, threads)
        # All here, for every function between two tasks makes the deepest possible graph less deep.
        yielded = _started(function, arguments, options)
        try:
            first = next(yielded, MISSING)
        except Exception as error:
            _note(error, function)
            raise
        if first is MISSING:
            raise _missing("task name", kind, function)
        name = str(first)
        node = call.known(name, yielded)
        if node is not None:
            return node
        call.enter(name)
        try:
            values = []
            for what in kind.yields:
                values.append(next(yielded, MISSING))
                if values[-1] is MISSING:
                    raise _missing(what, kind, function, name)
        except Exception as error:
            _note(error, function, name)
            raise
        finally:
            del call.path[name]
        return call.keep(kind(name, yielded, call.nodes, *values))

    task_function.is_task = True  # type: ignore[attr-defined]
    return task_function


def _outermost(
    function: Callable[..., Node],
    arguments: Any,
    options: Any,
    dry_run: bool,
    log: Logger | None,
    threads: int,
) -> Node:
    check_threads(threads)
    call = _new_call(log)
    token = _call.set(call)
    try:
        root = _root(function, arguments, options)
        _build(call, root, dry_run=dry_run, threads=threads)
    finally:
        _call.reset(token)
    return root


def _root(function: Callable[..., Node], arguments: Any, options: Any) -> Node:
    try:
        root: object = function(*arguments, **options)
    except RecursionError as error:
        raise GraphError(
            f"{getattr(function, '__qualname__', function)}: task functions call each other"
            " without end,"
            " or deeper than Python allows",
            hint="See where they call each other in the traceback above; for a very deep graph"
            " raise sys.setrecursionlimit.",
        ) from error
    if isinstance(root, Node):
        return root
    raise TaskError(
        f"{getattr(function, '__qualname__', function)} returned {root!r}: it is no task function",
        hint=DECORATE,
    )


def _check_function(function: object) -> None:
    if isinstance(function, Node):
        raise TaskError(
            f"build() takes a task function, not what its call returned: {function}",
            hint="Give the function, and its arguments after it: build(function, 1, 2).",
        )
    if not callable(function):
        raise TaskError(f"build() takes a task function, not {function!r}", hint=DECORATE)


def _note(error: Exception, function: TaskFunction, name: str | None = None) -> None:
    """Note in an exception that is not Motoko's own in which task it was raised, once."""
    notes: list[str] = getattr(error, "__notes__", [])
    if isinstance(error, GraphError) or any(note.startswith(IN_TASK) for note in notes):
        return
    place = _place_of(function)
    error.add_note(IN_TASK + (place if name is None else f"{name!r} ({place})"))


def _place_of(function: TaskFunction) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def _started(function: TaskFunction, arguments: Any, options: Any) -> Iterator[Any]:
    yielded: Any = function(*arguments, **options)
    if hasattr(yielded, "__next__"):
        found: Iterator[Any] = yielded
        return found
    if hasattr(yielded, "__aiter__") or hasattr(yielded, "__await__"):
        if hasattr(yielded, "close"):
            yielded.close()  # a coroutine that nobody will await
        raise TaskError(
            f"{_place_of(function)} is an async function",
            hint="Task functions are plain generator functions: `def`, not `async def`.",
        )
    raise TaskError(
        f"{_place_of(function)} does not yield",
        hint="A task function yields its name, then its assets or what it requires.",
    )


def _missing(what: str, kind: Kind, function: TaskFunction, name: str | None = None) -> TaskError:
    named = "" if name is None else f" (task {name!r})"
    return TaskError(
        f"Failed to get {what}: Check yield statements.",
        hint=f"{_place_of(function)}{named}: {kind.usage}",
    )


def task(function: TaskFunction) -> Callable[..., Node]:
    """Make a task of a function that yields its name, its asset(s) and its requirement(s).

    What follows the last yield is executed to make the assets ready, if they are not and all
    requirements are.
    """
    return decorated(NodeTask, function)


def tasks(function: TaskFunction) -> Callable[..., Node]:
    """Make a collection of a function that yields its name and its requirement(s)."""
    return decorated(NodeTasks, function)


def external(function: TaskFunction) -> Callable[..., Node]:
    """Make an external thing of a function that yields its name and its asset(s)."""
    return decorated(NodeExternal, function)


async def build(
    function: Callable[..., Node],
    *arguments: Any,
    dry_run: bool = False,
    log: Logger | None = None,
    threads: int = 1,
    **options: Any,
) -> Node:
    """Do what calling the task function does, in an event loop, without blocking it.

    The task functions and bodies are called in threads, at most ``threads`` bodies at a time.
    """
    from asyncio import to_thread

    from motoko.assets.build_log import BuildLogger

    check_threads(threads)
    _check_function(function)
    call = _new_call(log)
    token = _call.set(call)
    try:
        root = await to_thread(_root, function, arguments, options)
        graph, teller = _graph(call), BuildLogger(call.log, call.nodes, threads)
        root.report = await graph.build(
            root.taskname,
            order=_announced(call, root.taskname),
            threads=threads,
            dry_run=dry_run,
            keep_going=True,
            observers=[teller],
        )
    finally:
        _call.reset(token)
    return root


def _build(call: BuildContext, root: Node, *, dry_run: bool, threads: int) -> None:
    from motoko.assets.build_log import BuildLogger

    teller = BuildLogger(call.log, call.nodes, threads)
    try:
        root.report = _graph(call).run(
            root.taskname,
            order=_announced(call, root.taskname),
            threads=threads,
            dry_run=dry_run,
            keep_going=True,
            observers=[teller],
        )
    except KeyboardInterrupt:
        teller.interrupted()


def _graph(call: BuildContext) -> Graph:
    for node in call.nodes.values():
        if isinstance(node, NodeOfGraph):
            required = (call.nodes.get(name) for name in node.node.requires)
            node.required = tuple([one for one in required if one is not None])
    return Graph(_graph_node(call, node) for node in call.nodes.values())


def _graph_node(call: BuildContext, node: Node) -> GraphNode:
    if isinstance(node, NodeOfGraph):
        return _node_of_graph(call, node)
    requires = tuple([one.taskname for one in node.required])
    action = node.action
    if action is None:
        return GraphNode(node.taskname, requires, node.is_fresh)

    def act() -> Verdict:
        # What the body calls is looked up as before, but on a path of its own.
        token = _call.set(BuildContext(call.log, call.nodes))
        try:
            return action()
        finally:
            _call.reset(token)

    return GraphNode(node.taskname, requires, node.is_fresh, act)


def _node_of_graph(call: BuildContext, node: NodeOfGraph) -> GraphNode:
    def is_fresh() -> Verdict:
        with _path_of_its_own(call):
            return node.is_fresh()

    def look() -> Verdict:
        with _path_of_its_own(call):
            return node.look()

    async def awaited() -> Verdict:
        with _path_of_its_own(call):
            return node.ended(await action())

    def act() -> Verdict:
        with _path_of_its_own(call):
            return node.ended(action())

    given = node.node
    action: Any = given.action
    made = None if action is None else awaited if given.is_async else act
    return GraphNode(given.name, given.requires, is_fresh, made, given.origin, look)


@contextmanager
def _path_of_its_own(call: BuildContext) -> Iterator[None]:
    """Have tasks that are called inside looked up as before, but on a path of its own."""
    token = _call.set(BuildContext(call.log, call.nodes))
    try:
        yield
    finally:
        _call.reset(token)


def _announced(call: BuildContext, root: str) -> Callable[[Edges], list[str]]:
    """Return the order by level; the graph is logged when it is known, before it is built."""

    def order(edges: Edges) -> list[str]:
        from logging import DEBUG

        from motoko.assets.build_log import header, show_graph

        if call.log.isEnabledFor(DEBUG):
            header(call.log, "Task Graph")
            for discarded in call.discarded:
                name = discarded.rpartition(" <")[0]
                call.log.debug(
                    "Discarding node '%s' for identical '%s'", discarded, call.nodes[name]
                )
            show_graph(call.log, root, edges)
            header(call.log, "Execution")
        return order_by_level(edges)

    return order
