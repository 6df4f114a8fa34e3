"""Builds a plan in this thread, or in several."""

from __future__ import annotations

import contextlib
from heapq import heappop, heappush

from motoko.errors import ParameterError
from motoko.graph.build_state import SETTLED, BuildState, NextAction
from motoko.graph.node import Verdict
from motoko.graph.orders import dependents_of, order_depth_first

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from queue import SimpleQueue
    from typing import Any

    from motoko.graph.node import Node
    from motoko.graph.orders import Order

    Ended = tuple[str, object, BaseException | None]


def check_threads(threads: object) -> None:
    """Raise ParameterError unless this is a number of threads."""
    if not isinstance(threads, int) or threads < 0:
        raise ParameterError(
            f"threads={threads!r} is not a number of threads",
            hint="0 is the calling thread; otherwise so many actions go on at a time.",
        )


def check_freshness(node: Node, *, ready: bool = False) -> Verdict | Exception:
    """Return the node's answer, or the exception that it raised instead.

    ``ready``: its requirements are there.
    """
    try:
        if ready:
            return node.ask(ready=True)
        answer = node.is_fresh()  # what ask() does, without two calls more for each node
        return answer if isinstance(answer, Verdict) else node.verdict(answer)
    except Exception as error:  # noqa: BLE001 - handed on: it is this node that failed
        return error


def traverse(execution: BuildState) -> Iterator[str]:
    """Ask all nodes that have to be, from the targets down; yield each after its requirements.

    A fresh node's requirements are not visited. What is done between two names is seen by the
    nodes that are asked later.
    """
    nodes, statuses = execution.nodes, execution.statuses
    for target in execution.report.targets:
        if target in statuses:
            continue
        path: list[tuple[str, Iterator[str]]] = [_enter(execution, nodes[target])]
        while path:
            name, requirements = path[-1]
            for requirement in requirements:
                if requirement not in statuses:
                    path.append(_enter(execution, nodes[requirement]))
                    break
            else:
                path.pop()
                yield name


def _enter(execution: BuildState, node: Node) -> tuple[str, Iterator[str]]:
    down = execution.entered(node.name, check_freshness(node))
    return node.name, iter(node.requires if down else ())


def run_depth_first(execution: BuildState) -> None:
    """Deal with each node as soon as it is visited and its requirements are dealt with."""
    for name in traverse(execution):
        _deal(execution, name)
        if execution.stopped:
            return


def run_in_order(execution: BuildState, order: Order) -> None:
    """Ask all nodes first, then deal with them in ``order``, in this thread."""
    for name in order(build_node(execution)):
        _deal(execution, name)
        if execution.stopped:
            return


def build_node(execution: BuildState) -> dict[str, tuple[str, ...]]:
    """Ask all nodes that have to be; return the edges between them (a fresh node has none)."""
    edges: dict[str, tuple[str, ...]] = {}
    for name in traverse(execution):
        settled = execution.statuses[name] in SETTLED
        edges[name] = () if settled else execution.nodes[name].requires
    return edges


def _deal(execution: BuildState, name: str) -> None:
    step = execution.decide(name)
    if step is NextAction.ASK:
        step = execution.answered(name, check_freshness(execution.nodes[name], ready=True))
    if step is NextAction.ACT:
        execution.started(name)
        action = execution.nodes[name].action
        assert action is not None
        try:
            result = action()
        except Exception as error:  # noqa: BLE001 - handed on: it is this node that failed
            execution.failed(name, error)
        else:
            execution.ended(name, result)


class WorkQueue:
    """Which nodes of a visited graph can be dealt with now, first in order first."""

    def __init__(self, edges: dict[str, tuple[str, ...]], order: Order = order_depth_first) -> None:
        self._ranks = {name: rank for rank, name in enumerate(order(edges))}
        self._dependents = dependents_of(edges)
        self._remaining = {name: len(set(requires)) for name, requires in edges.items()}
        self._ready: list[tuple[int, str]] = []
        for name, count in self._remaining.items():
            if not count:
                self.put(name)

    def put(self, name: str) -> None:
        """Put a node on the agenda (again)."""
        heappush(self._ready, (self._ranks[name], name))

    def take(self) -> str | None:
        """Return the next node that can be dealt with, if there is one now."""
        return heappop(self._ready)[1] if self._ready else None

    def settled(self, name: str) -> None:
        """Note that a node was dealt with: what requires only such nodes can be dealt with."""
        for dependent in self._dependents[name]:
            self._remaining[dependent] -= 1
            if not self._remaining[dependent]:
                self.put(dependent)


def run_in_threads(execution: BuildState, order: Order, threads: int) -> None:
    """Ask all nodes first, then deal with them, at most ``threads`` actions at a time.

    Nodes are asked, and events emitted, in this thread. An action sees the context variables of
    the caller. An exception that is no Exception (an interrupt) ends the build when the actions
    at work have ended.
    """
    from concurrent.futures import ThreadPoolExecutor
    from contextvars import copy_context
    from queue import SimpleQueue

    agenda = WorkQueue(build_node(execution), order)
    ended: SimpleQueue[Ended] = SimpleQueue()
    at_work = 0
    waiting: list[str] = []
    with ThreadPoolExecutor(threads, "motoko-graph") as pool:
        while True:
            while at_work < threads and not execution.stopped and (name := agenda.take()):
                step = execution.decide(name)
                if step is NextAction.ASK:
                    step = execution.answered(
                        name, check_freshness(execution.nodes[name], ready=True)
                    )
                if step is NextAction.ACT:
                    execution.started(name)
                    action = execution.nodes[name].action
                    assert action is not None
                    pool.submit(copy_context().run, _act, name, action, ended)
                    at_work += 1
                elif step is NextAction.WAIT:
                    waiting.append(name)
                else:
                    agenda.settled(name)
            if not at_work:
                return
            name, result, error = ended.get()
            at_work -= 1
            note(execution, name, result, error)
            agenda.settled(name)
            while waiting:
                agenda.put(waiting.pop())


def _act(name: str, action: Callable[[], Any], ended: SimpleQueue[Ended]) -> None:
    try:
        ended.put((name, action(), None))
    except BaseException as error:  # noqa: BLE001 - handed on to the thread that waits
        ended.put((name, None, error))


def note(execution: BuildState, name: str, result: object, error: BaseException | None) -> None:
    """Note how an action ended; an interrupt goes on upwards."""
    if error is None:
        execution.ended(name, result)
    elif isinstance(error, Exception):
        execution.failed(name, error)
    else:
        with contextlib.suppress(KeyError):
            del execution.statuses[name]
        raise error
