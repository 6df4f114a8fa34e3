"""Calls of task functions: the root call builds, nested calls only return nodes.

Modules that only a build needs are imported by the first build, to keep imports of tasks fast.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps

from motoko.assets.nodes import (
    Node,
    NodeExternal,
    NodeTask,
    NodeTasks,
    WrappedNode,
    check_equivalent,
    duplicate_name_error,
    origin_of,
)
from motoko.errors import GraphError, NoLoggerError, TaskError
from motoko.graph import Graph, order_by_level
from motoko.graph import Node as GraphNode
from motoko.graph.plan import cycle_error
from motoko.graph.thread_driver import check_threads

TYPE_CHECKING = False  # type checkers assume True; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from logging import Logger
    from typing import Any

    from motoko.assets.build_log import BuildLogger
    from motoko.graph import Verdict
    from motoko.graph.plan import Edges

    TaskFunction = Callable[..., Iterator[Any]]
    Kind = type[NodeTask | NodeTasks | NodeExternal]


MISSING = object()
DECORATOR_HINT = "A task function is decorated with @task, @tasks or @external."
IN_TASK = "in the task "  # the start of the note that names the task that raised an exception


class BuildContext:
    """One root call: its logger, and its nodes by name."""

    __slots__ = ("discarded", "log", "nodes", "path")

    def __init__(self, log: Logger, nodes: dict[str, Node]) -> None:
        self.log = log
        self.nodes = nodes
        self.path: dict[str, None] = {}  # the tasks whose requirements are being collected
        self.discarded: list[str] = []

    def nested(self) -> BuildContext:
        """Return a context with the same nodes; tasks called in it start a new path."""
        return BuildContext(self.log, self.nodes)

    def find(self, name: str, yielded: Iterator[Any]) -> Node | None:
        """Return the node with this name, if it exists; the new generator is then discarded."""
        node = self.nodes.get(name)
        if node is not None:
            if isinstance(node, WrappedNode):
                raise duplicate_name_error(name, "a task", origin_of(node))
            self.discarded.append(f"{name} <{id(yielded)}>")
        return node

    def enter(self, name: str) -> None:
        """Add a task to the path; raise CycleError if it is on the path already."""
        if name in self.path:
            path = [*self.path]
            raise cycle_error([*path[path.index(name) :], name])
        self.path[name] = None

    def add(self, node: Node) -> Node:
        """Add a node, and the nodes of earlier calls that it requires."""
        earlier = [one for one in node.required if self.nodes.get(one.taskname) is not one]
        for one in earlier:
            known = self.nodes.get(one.taskname)
            if known is None:
                one.verdict = None  # a verdict is valid for one build
                self.nodes[one.taskname] = one
                earlier.extend(one.required)
            else:
                check_equivalent(known, one)
        check_equivalent(self.nodes.setdefault(node.taskname, node), node)
        self.nodes[node.taskname] = node
        return node


_current: ContextVar[BuildContext | None] = ContextVar("motoko_assets_context", default=None)


@contextmanager
def _entered(context: BuildContext) -> Iterator[BuildContext]:
    token = _current.set(context)
    try:
        yield context
    finally:
        _current.reset(token)


def _new_context(log: Logger | None) -> BuildContext:
    from logging import getLogger

    return BuildContext(log or getLogger(), {})


class TaskLogger:
    """The logger of the current build; each attribute is looked up there."""

    def __getattr__(self, name: str) -> Any:
        context = _current.get()
        if context is None:
            raise NoLoggerError(
                "No logger found: Ensure this call originated in a task function.",
                hint=f"Elsewhere use logging.getLogger().{name}.",
            )
        return getattr(context.log, name)


def decorate(kind: Kind, function: TaskFunction) -> Callable[..., Node]:
    """Return the function that users call instead of ``function``."""

    @wraps(function)
    def task_function(
        *arguments: Any,
        dry_run: bool = False,
        log: Logger | None = None,
        threads: int = 0,
        **options: Any,
    ) -> Node:
        context = _current.get()
        if context is None:
            return _build_root(task_function, arguments, options, dry_run, log, threads)
        # Not split: each function between two tasks reduces the depth of the deepest graph.
        yielded = _start(function, arguments, options)
        try:
            first = next(yielded, MISSING)
        except Exception as error:
            _add_note(error, function)
            raise
        if first is MISSING:
            raise _missing_yield("task name", kind, function)
        name = str(first)
        node = context.find(name, yielded)
        if node is not None:
            return node
        context.enter(name)
        try:
            values = []
            for part in kind.yields:
                values.append(next(yielded, MISSING))
                if values[-1] is MISSING:
                    raise _missing_yield(part, kind, function, name)
        except Exception as error:
            _add_note(error, function, name)
            raise
        finally:
            del context.path[name]
        return context.add(kind(name, yielded, context.nodes, *values))

    task_function.is_task = True  # type: ignore[attr-defined]
    return task_function


def _build_root(
    function: Callable[..., Node],
    arguments: Any,
    options: Any,
    dry_run: bool,
    log: Logger | None,
    threads: int,
) -> Node:
    check_threads(threads)
    with _entered(_new_context(log)) as context:
        root = _call_root(function, arguments, options)
        graph, logger, run_options = _prepare_build(context, root, threads, dry_run)
        try:
            root.report = graph.run(root.taskname, **run_options)
        except KeyboardInterrupt:
            logger.interrupted()
    return root


def _call_root(function: Callable[..., Node], arguments: Any, options: Any) -> Node:
    name = getattr(function, "__qualname__", function)
    try:
        root: object = function(*arguments, **options)
    except RecursionError as error:
        raise GraphError(
            f"{name}: task functions call each other endlessly, or deeper than Python allows",
            hint="See where they call each other in the traceback above; for a very deep graph"
            " raise sys.setrecursionlimit.",
        ) from error
    if isinstance(root, Node):
        return root
    raise TaskError(f"{name} returned {root!r}: it is not a task function", hint=DECORATOR_HINT)


def _check_function(function: object) -> None:
    if isinstance(function, Node):
        raise TaskError(
            f"build() takes a task function, not the result of its call: {function}",
            hint="Pass the function and its arguments: build(function, 1, 2).",
        )
    if not callable(function):
        raise TaskError(f"build() takes a task function, not {function!r}", hint=DECORATOR_HINT)


def _add_note(error: Exception, function: TaskFunction, name: str | None = None) -> None:
    """Add a note that names the task to an exception of the user's code, once."""
    notes: list[str] = getattr(error, "__notes__", [])
    if isinstance(error, GraphError) or any(note.startswith(IN_TASK) for note in notes):
        return
    path = _dotted_path(function)
    error.add_note(IN_TASK + (path if name is None else f"{name!r} ({path})"))


def _dotted_path(function: TaskFunction) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def _start(function: TaskFunction, arguments: Any, options: Any) -> Iterator[Any]:
    yielded: Any = function(*arguments, **options)
    if hasattr(yielded, "__next__"):
        generator: Iterator[Any] = yielded
        return generator
    if hasattr(yielded, "__aiter__") or hasattr(yielded, "__await__"):
        if hasattr(yielded, "close"):
            yielded.close()  # a coroutine that is never awaited causes a warning
        raise TaskError(
            f"{_dotted_path(function)} is an async function",
            hint="Task functions are plain generator functions: `def`, not `async def`.",
        )
    raise TaskError(
        f"{_dotted_path(function)} does not yield",
        hint="A task function yields its name, then its assets or requirements.",
    )


def _missing_yield(
    part: str, kind: Kind, function: TaskFunction, name: str | None = None
) -> TaskError:
    task_part = "" if name is None else f" (task {name!r})"
    return TaskError(
        f"Failed to get {part}: Check yield statements.",
        hint=f"{_dotted_path(function)}{task_part}: {kind.usage}",
    )


def task(function: TaskFunction) -> Callable[..., Node]:
    """Decorate a function that yields its name, its asset(s) and its requirement(s).

    The code after the last yield makes the assets ready. It runs if they are not ready and all
    requirements are.
    """
    return decorate(NodeTask, function)


def tasks(function: TaskFunction) -> Callable[..., Node]:
    """Decorate a function that yields the name and the requirement(s) of a collection."""
    return decorate(NodeTasks, function)


def external(function: TaskFunction) -> Callable[..., Node]:
    """Decorate a function that yields the name and the asset(s) of an external thing."""
    return decorate(NodeExternal, function)


async def build(
    function: Callable[..., Node],
    *arguments: Any,
    dry_run: bool = False,
    log: Logger | None = None,
    threads: int = 1,
    **options: Any,
) -> Node:
    """Call a task function and build, in an event loop, without blocking it.

    The task functions and bodies run in threads, at most ``threads`` bodies at a time.
    """
    from asyncio import to_thread

    check_threads(threads)
    _check_function(function)
    with _entered(_new_context(log)) as context:
        root = await to_thread(_call_root, function, arguments, options)
        graph, _, run_options = _prepare_build(context, root, threads, dry_run)
        root.report = await graph.build(root.taskname, **run_options)
    return root


def _prepare_build(
    context: BuildContext, root: Node, threads: int, dry_run: bool
) -> tuple[Graph, BuildLogger, dict[str, Any]]:
    """Return the graph of the context, the logger of the build, and its options."""
    from motoko.assets.build_log import BuildLogger

    logger = BuildLogger(context.log, context.nodes, threads)
    order = _logged_order(context, root.taskname)
    options = {"order": order, "threads": threads, "dry_run": dry_run, "observers": [logger]}
    return _graph(context), logger, {**options, "keep_going": True}


def _graph(context: BuildContext) -> Graph:
    for node in context.nodes.values():
        if isinstance(node, WrappedNode):
            required = (context.nodes.get(name) for name in node.node.requires)
            node.required = tuple([one for one in required if one is not None])
    return Graph(_graph_node(context, node) for node in context.nodes.values())


def _graph_node(context: BuildContext, node: Node) -> GraphNode:
    if isinstance(node, WrappedNode):
        return _wrapped_graph_node(context, node)
    requires = tuple([one.taskname for one in node.required])
    action = None if node.action is None else _nested(context, node.action)
    return GraphNode(node.taskname, requires, node.is_fresh, action)


def _wrapped_graph_node(context: BuildContext, node: WrappedNode) -> GraphNode:
    graph_node = node.node
    action: Any = graph_node.action

    async def act_async() -> Verdict:
        with _entered(context.nested()):
            return node.record_result(await action())

    act = _nested(context, lambda: node.record_result(action()))
    wrapped = None if action is None else act_async if graph_node.is_async else act
    is_fresh, recheck = _nested(context, node.is_fresh), _nested(context, node.recheck)
    return GraphNode(
        graph_node.name, graph_node.requires, is_fresh, wrapped, graph_node.origin, recheck
    )


def _nested(context: BuildContext, function: Callable[[], Verdict]) -> Callable[[], Verdict]:
    """Return a function that calls ``function`` in a nested context."""

    def call() -> Verdict:
        with _entered(context.nested()):
            return function()

    return call


def _logged_order(context: BuildContext, root: str) -> Callable[[Edges], list[str]]:
    """Return the order by level; it logs the graph before the build."""

    def order(edges: Edges) -> list[str]:
        from logging import DEBUG

        from motoko.assets.build_log import log_header, log_tree

        log = context.log
        if log.isEnabledFor(DEBUG):
            log_header(log, "Task Graph")
            for discarded in context.discarded:
                node = context.nodes[discarded.rpartition(" <")[0]]
                log.debug("Discarding node '%s' for identical '%s'", discarded, node)
            log_tree(log, root, edges)
            log_header(log, "Execution")
        return order_by_level(edges)

    return order
