"""A step graph: its nodes by name, their dependencies, and builds of them."""

from __future__ import annotations

import warnings

from motoko.errors import DuplicateNodeError, GraphError
from motoko.graph.build_state import BuildReport, BuildState, StatusChange
from motoko.graph.plan import make_plan, order_depth_first, reachable, unknown_node_error
from motoko.graph.thread_driver import (
    check_freshness,
    check_threads,
    in_event_loop,
    run_depth_first,
    run_in_order,
    run_in_threads,
)

TYPE_CHECKING = False  # type checkers assume True; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Iterable

    from motoko.graph.build_state import Observer
    from motoko.graph.diagram import StatusFunction
    from motoko.graph.explain import Explanation
    from motoko.graph.node import Node
    from motoko.graph.plan import BuildPlan, Order


class Graph:
    """Nodes with distinct names; a build raises cycles and unknown requirements that concern it."""

    def __init__(self, nodes: Iterable[Node] = ()) -> None:
        self.nodes: dict[str, Node] = {}
        self._dependents: dict[str, list[str]] | None = None
        for node in nodes:
            self.add(node)

    def add(self, node: Node) -> None:
        """Add a node; raise DuplicateNodeError if its name is in use."""
        known = self.nodes.get(node.name)
        if known is not None:
            origins = " and ".join(one.origin or repr(one) for one in (known, node))
            raise DuplicateNodeError(
                f"two nodes are named {node.name!r}: {origins}", hint="Rename one of them."
            )
        self.nodes[node.name] = node
        self._dependents = None

    def plan(self, *targets: str) -> BuildPlan:
        """Return the nodes that ``targets`` (by default all) need, in depth-first order.

        Raise :class:`UnknownNodeError` for an unknown target or requirement, and
        :class:`CycleError` if nodes require each other.
        """
        return make_plan(self.nodes, targets or self.nodes)

    def check(self) -> None:
        """Raise the errors of :meth:`plan` for all nodes."""
        self.plan()

    def requirements(self, name: str, *, transitive: bool = True) -> list[str]:
        """Return the requirements of ``name``, nearest first; not ``transitive``: direct ones."""
        if name not in self.nodes:
            raise unknown_node_error(name, self.nodes)
        if not transitive:
            return [*dict.fromkeys(self.nodes[name].requires)]
        return reachable(lambda one: self.nodes[one].requires if one in self.nodes else (), name)

    def dependents(self, name: str, *, transitive: bool = True) -> list[str]:
        """Return the dependents of ``name``, nearest first; not ``transitive``: direct ones."""
        if self._dependents is None:
            self._dependents = {}
            for node in self.nodes.values():
                for requirement in dict.fromkeys(node.requires):
                    self._dependents.setdefault(requirement, []).append(node.name)
        known = self._dependents
        if name not in known and name not in self.nodes:
            raise unknown_node_error(name, self.nodes)
        if not transitive:
            return [*known.get(name, ())]
        return reachable(lambda one: known.get(one, ()), name)

    def explain(self, name: str) -> Explanation:
        """Return why ``name`` is fresh or stale; if it is not fresh, also its requirements."""
        from motoko.graph.explain import explain

        return explain(self.plan(name), name)

    def dot(
        self, status_of: StatusFunction | None = None, *, title: str = "graph", rankdir: str = "LR"
    ) -> str:
        """Return the graph as Graphviz DOT, coloured by ``status_of(name)``.

        Without ``status_of``, the nodes are checked.
        """
        from motoko.graph.diagram import dot

        return dot(self.nodes, status_of or self._check_status, title=title, rankdir=rankdir)

    def mermaid(self, status_of: StatusFunction | None = None, *, rankdir: str = "LR") -> str:
        """Return the graph as a Mermaid flow chart, coloured as in :meth:`dot`."""
        from motoko.graph.diagram import mermaid

        return mermaid(self.nodes, status_of or self._check_status, rankdir=rankdir)

    def run(
        self,
        *targets: str,
        order: Order | None = None,
        threads: int = 0,
        dry_run: bool = False,
        keep_going: bool = False,
        observers: Iterable[Observer] = (),
    ) -> BuildReport:
        """Build ``targets`` (by default all nodes) and return the report.

        Each node is checked before its requirements, which a fresh node spares. The action of a
        stale node is called when its requirements are ready. The report holds the failures, see
        :meth:`BuildReport.raise_failure`. The first failure stops the build; with ``keep_going``
        all nodes that do not depend on it are still built.

        With ``threads=0`` and no ``order``, nodes are checked and built depth-first in this
        thread. Otherwise all nodes are checked first, and then built in ``order``, ``threads`` at
        a time. ``dry_run`` calls no action. ``observers`` are called in this thread with each
        :class:`StatusChange`; their exceptions become warnings.

        Coroutine functions among the actions are awaited concurrently in a new event loop, and
        plain functions are then called in threads.
        """
        plan = self.plan(*targets)
        state = _new_state(plan, observers, threads, dry_run=dry_run, keep_going=keep_going)
        if any(node.is_async for node in plan.nodes.values()) and not dry_run:
            _run_in_new_loop(state, order or order_depth_first, threads)
        elif threads:
            run_in_threads(state, order or order_depth_first, threads)
        elif order is None:
            run_depth_first(state)
        else:
            run_in_order(state, order)
        return state.report

    async def build(
        self,
        *targets: str,
        order: Order | None = None,
        threads: int = 1,
        dry_run: bool = False,
        keep_going: bool = False,
        observers: Iterable[Observer] = (),
    ) -> BuildReport:
        """Build as :meth:`run` does, in an event loop, without blocking it.

        All nodes are checked first, in a thread. Coroutine functions are awaited concurrently;
        plain functions are called in at most ``threads`` threads. Cancellation cancels the
        coroutines and waits for the running functions.
        """
        from motoko.graph.async_driver import run_in_loop

        plan = self.plan(*targets)
        state = _new_state(plan, observers, threads, dry_run=dry_run, keep_going=keep_going)
        await run_in_loop(state, order or order_depth_first, threads)
        return state.report

    def _check_status(self, name: str) -> str:
        verdict = check_freshness(self.nodes[name])
        return "failed" if isinstance(verdict, Exception) else verdict.status


def _new_state(
    plan: BuildPlan, observers: Iterable[Observer], threads: int, *, dry_run: bool, keep_going: bool
) -> BuildState:
    check_threads(threads)
    return BuildState(plan, _Notifier(observers), dry_run=dry_run, keep_going=keep_going)


class _Notifier:
    """Passes events to the observers; warns once about an observer that raises."""

    def __init__(self, observers: Iterable[Observer]) -> None:
        self._observers = [*observers]
        self._warned: set[int] = set()

    def __call__(self, event: StatusChange) -> None:
        for observer in self._observers:
            try:
                observer(event)
            except Exception as error:  # noqa: BLE001 - observers must not end the build
                if id(observer) not in self._warned:
                    self._warned.add(id(observer))
                    warnings.warn(f"observer {observer!r} raised {error!r}", stacklevel=2)


def _run_in_new_loop(state: BuildState, order: Order, threads: int) -> None:
    import asyncio

    from motoko.graph.async_driver import run_in_loop

    if not in_event_loop():
        asyncio.run(run_in_loop(state, order, threads))
        return
    raise GraphError(
        "the graph has coroutine functions as actions, and an event loop is running",
        hint="Use `await graph.build(...)`; for products `await runner.get_async(...)`, for "
        "pipelines `await workflow.run_async(...)`, for assets `await build(...)`.",
    )
