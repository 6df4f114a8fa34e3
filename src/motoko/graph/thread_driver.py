"""Drives a build in the calling thread, or in several threads."""

from __future__ import annotations

import contextlib

from motoko.errors import ParameterError
from motoko.graph.build_state import FINAL, BuildState, NextAction
from motoko.graph.node import Verdict
from motoko.graph.plan import WorkQueue

TYPE_CHECKING = False  # type checkers assume True; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from queue import SimpleQueue
    from typing import Any

    from motoko.graph.node import Node
    from motoko.graph.plan import Order

    ActionEnd = tuple[str, object, BaseException | None]


def check_threads(threads: object) -> None:
    """Raise ParameterError unless ``threads`` is a number of threads."""
    if not isinstance(threads, int) or threads < 0:
        raise ParameterError(
            f"threads={threads!r} is not a number of threads",
            hint="0 means the calling thread; N runs up to N actions at the same time.",
        )


def in_event_loop() -> bool:
    """Whether an event loop is running in this thread."""
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def check_freshness(node: Node, *, ready: bool = False) -> Verdict | Exception:
    """Return the verdict of the node, or the exception that its check raised."""
    try:
        if ready:
            return node.check(ready=True)
        answer = node.is_fresh()  # as check() does, with two calls less for each node
        return answer if isinstance(answer, Verdict) else node.to_verdict(answer)
    except Exception as error:  # noqa: BLE001 - the failure of this node
        return error


def traverse(state: BuildState) -> Iterator[str]:
    """Check the nodes from the targets down, except below fresh ones; yield requirements first."""
    nodes, statuses = state.nodes, state.statuses
    for target in state.report.targets:
        if target in statuses:
            continue
        path: list[tuple[str, Iterator[str]]] = [_visit(state, nodes[target])]
        while path:
            name, requirements = path[-1]
            for requirement in requirements:
                if requirement not in statuses:
                    path.append(_visit(state, nodes[requirement]))
                    break
            else:
                path.pop()
                yield name


def _visit(state: BuildState, node: Node) -> tuple[str, Iterator[str]]:
    descend = state.record_visit(node.name, check_freshness(node))
    return node.name, iter(node.requires if descend else ())


def visit_all(state: BuildState) -> dict[str, tuple[str, ...]]:
    """Check all nodes; return the edges between them. A fresh node has none."""
    return {
        name: () if state.statuses[name] in FINAL else state.nodes[name].requires
        for name in traverse(state)
    }


def run_depth_first(state: BuildState) -> None:
    """Process each node as soon as its requirements are processed."""
    for name in traverse(state):
        _process(state, name)
        if state.stopped:
            return


def run_in_order(state: BuildState, order: Order) -> None:
    """Check all nodes, then process them in ``order``."""
    for name in order(visit_all(state)):
        _process(state, name)
        if state.stopped:
            return


def _process(state: BuildState, name: str) -> None:
    if _next_action(state, name) is not NextAction.RUN:
        return
    try:
        result = _start(state, name)()
    except Exception as error:  # noqa: BLE001 - the failure of this node
        state.record_failure(name, error)
    else:
        state.record_result(name, result)


def _next_action(state: BuildState, name: str) -> NextAction:
    action = state.next_action(name)
    if action is NextAction.CHECK:
        return state.record_recheck(name, check_freshness(state.nodes[name], ready=True))
    return action


def _start(state: BuildState, name: str) -> Callable[[], Any]:
    state.record_start(name)
    action = state.nodes[name].action
    assert action is not None
    return action


def run_in_threads(state: BuildState, order: Order, threads: int) -> None:
    """Check all nodes, then process them with at most ``threads`` actions at a time.

    Checks and events happen in this thread. Actions see the context variables of the caller. An
    interrupt ends the build when the running actions have ended.
    """
    from concurrent.futures import ThreadPoolExecutor
    from contextvars import copy_context
    from queue import SimpleQueue

    edges = visit_all(state)
    queue = WorkQueue(edges, order(edges))
    ended: SimpleQueue[ActionEnd] = SimpleQueue()
    running = 0
    waiting: list[str] = []
    with ThreadPoolExecutor(threads, "motoko-graph") as pool:
        while True:
            while running < threads and not state.stopped and (name := queue.pop()) is not None:
                match _next_action(state, name):
                    case NextAction.RUN:
                        action = _start(state, name)
                        pool.submit(copy_context().run, _run_action, name, action, ended)
                        running += 1
                    case NextAction.WAIT:
                        waiting.append(name)
                    case _:
                        queue.complete(name)
            if not running:
                return
            name, result, error = ended.get()
            running -= 1
            record_end(state, name, result, error)
            queue.complete(name)
            while waiting:
                queue.push(waiting.pop())


def _run_action(name: str, action: Callable[[], Any], ended: SimpleQueue[ActionEnd]) -> None:
    try:
        ended.put((name, action(), None))
    except BaseException as error:  # noqa: BLE001 - raised in the driver's thread
        ended.put((name, None, error))


def record_end(state: BuildState, name: str, result: object, error: BaseException | None) -> None:
    """Record the end of an action; raise an interrupt."""
    if error is None:
        state.record_result(name, result)
    elif isinstance(error, Exception):
        state.record_failure(name, error)
    else:
        with contextlib.suppress(KeyError):
            del state.statuses[name]
        raise error
