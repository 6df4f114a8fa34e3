"""A step graph: its nodes by name, what depends on what, and building it."""

from __future__ import annotations

import warnings

from motoko.errors import DuplicateNodeError, GraphError
from motoko.graph import plan as planning
from motoko.graph import thread_driver
from motoko.graph.build_state import BuildReport, BuildState, StatusChange
from motoko.graph.orders import order_depth_first

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from motoko.graph.diagram import StatusOf
    from motoko.graph.explain import Explanation
    from motoko.graph.node import Node
    from motoko.graph.orders import Order
    from motoko.graph.plan import BuildPlan

    Observer = Callable[[StatusChange], object]


class Graph:
    """Nodes, one of a name.

    A requirement that no node is called, and a cycle, are errors only where something that was
    asked for needs them: see :meth:`plan`, and :meth:`check` for all nodes.
    """

    def __init__(self, nodes: Iterable[Node] = ()) -> None:
        self.nodes: dict[str, Node] = {}
        self._dependents: dict[str, list[str]] | None = None
        for node in nodes:
            self.add(node)

    def add(self, node: Node) -> None:
        """Add a node; DuplicateNodeError if another one has its name."""
        known = self.nodes.get(node.name)
        if known is not None:
            origins = " and ".join(one.origin or repr(one) for one in (known, node))
            raise DuplicateNodeError(
                f"two nodes are called {node.name!r}: {origins}", hint="Rename one of them."
            )
        self.nodes[node.name] = node
        self._dependents = None

    def plan(self, *targets: str) -> BuildPlan:
        """Return what ``targets`` (all nodes by default) need, and in which partial order.

        Raises :class:`UnknownNodeError` for a target or a requirement that no node is called, and
        :class:`CycleError` where nodes require each other.
        """
        return planning.make_plan(self.nodes, targets or self.nodes)

    def check(self) -> None:
        """Raise what :meth:`plan` raises for all nodes."""
        self.plan()

    def requirements(self, name: str, *, transitive: bool = True) -> list[str]:
        """Return what ``name`` requires, nearest first; ``transitive``: and what that requires."""
        self._known(name)
        if not transitive:
            return [*dict.fromkeys(self.nodes[name].requires)]
        return planning.reachable(self._requires, name)

    def dependents(self, name: str, *, transitive: bool = True) -> list[str]:
        """Return what requires ``name``, nearest first; ``transitive``: and what requires that.

        ``name`` need not be a node where something requires it.
        """
        if self._dependents is None:
            self._dependents = {}
            for node in self.nodes.values():
                for requirement in dict.fromkeys(node.requires):
                    self._dependents.setdefault(requirement, []).append(node.name)
        if name not in self._dependents:
            self._known(name)
        known = self._dependents
        if not transitive:
            return [*known.get(name, ())]
        return planning.reachable(lambda one: known.get(one, ()), name)

    def explain(self, name: str) -> Explanation:
        """Return why ``name`` is fresh or stale, and the same of what it requires if it is not."""
        from motoko.graph.explain import explain

        return explain(self.plan(name), name)

    def dot(
        self,
        status_of: StatusOf | None = None,
        *,
        title: str = "graph",
        rankdir: str = "LR",
    ) -> str:
        """Return the graph in Graphviz's language, coloured by ``status_of(name)``.

        Without ``status_of`` the nodes are asked whether they are fresh.
        """
        from motoko.graph import diagram

        return diagram.dot(self.nodes, status_of or self._asked, title=title, rankdir=rankdir)

    def mermaid(self, status_of: StatusOf | None = None, *, rankdir: str = "LR") -> str:
        """Return the graph as a Mermaid flow chart, coloured as in :meth:`dot`."""
        from motoko.graph import diagram

        return diagram.mermaid(self.nodes, status_of or self._asked, rankdir=rankdir)

    def run(
        self,
        *targets: str,
        order: Order | None = None,
        threads: int = 0,
        dry_run: bool = False,
        keep_going: bool = False,
        observers: Iterable[Observer] = (),
    ) -> BuildReport:
        """Build ``targets`` (all nodes by default) and return how it went.

        Each node is asked whether it is fresh, before its requirements, which a fresh one spares;
        the action of one that is not is called when its requirements are there. What fails is in
        the report, see :meth:`BuildReport.raise_failure`; ``keep_going``: what does not depend on it
        is built nevertheless, otherwise nothing more is started.

        ``threads=0``: in this thread, and without ``order`` depth-first: a node is asked, then
        its requirements are dealt with one after the other, then the node itself. Otherwise all
        are asked first and dealt with in ``order``, that many at a time. ``dry_run`` calls no
        action. ``observers`` are called in this thread with an :class:`StatusChange` for every change;
        what they raise becomes a warning.

        Actions that are coroutine functions are awaited in an event loop of their own, all that
        can go on at a time; functions are then called in threads.
        """
        plan = self.plan(*targets)
        execution = _execution(plan, observers, threads, dry_run=dry_run, keep_going=keep_going)
        if any(node.awaited for node in plan.nodes.values()) and not dry_run:
            _run_own_loop(execution, order or order_depth_first, threads)
        elif threads:
            thread_driver.run_in_threads(execution, order or order_depth_first, threads)
        elif order is None:
            thread_driver.run_depth_first(execution)
        else:
            thread_driver.run_in_order(execution, order)
        return execution.report

    async def build(
        self,
        *targets: str,
        order: Order | None = None,
        threads: int = 1,
        dry_run: bool = False,
        keep_going: bool = False,
        observers: Iterable[Observer] = (),
    ) -> BuildReport:
        """Do as :meth:`run` does, in an event loop, without blocking it.

        All nodes are asked first, in a thread. Actions that are coroutine functions are awaited,
        all that can go on at a time; functions are called in at most ``threads`` threads.
        Cancelling it cancels the coroutines, and waits for functions at work.
        """
        from motoko.graph.async_driver import run_in_loop

        plan = self.plan(*targets)
        execution = _execution(plan, observers, threads, dry_run=dry_run, keep_going=keep_going)
        await run_in_loop(execution, order or order_depth_first, threads)
        return execution.report

    def _requires(self, name: str) -> tuple[str, ...]:
        node = self.nodes.get(name)
        return node.requires if node is not None else ()

    def _known(self, name: str) -> None:
        if name not in self.nodes:
            raise planning.unknown(name, self.nodes)

    def _asked(self, name: str) -> str:
        from motoko.graph import diagram

        return diagram.status_of_verdict(thread_driver.check_freshness(self.nodes[name]))


def _execution(
    plan: BuildPlan, observers: Iterable[Observer], threads: int, *, dry_run: bool, keep_going: bool
) -> BuildState:
    thread_driver.check_threads(threads)
    told = _Observers(observers)
    return BuildState(plan, dry_run=dry_run, keep_going=keep_going, emit=told)


class _Observers:
    """Hands events to observers; one that raises is warned about once and told on."""

    def __init__(self, observers: Iterable[Observer]) -> None:
        self._observers = [*observers]
        self._warned: set[int] = set()

    def __call__(self, event: StatusChange) -> None:
        for observer in self._observers:
            try:
                observer(event)
            except Exception as error:  # noqa: BLE001 - an observer must not end a build
                if id(observer) not in self._warned:
                    self._warned.add(id(observer))
                    warnings.warn(f"observer {observer!r} raised {error!r}", stacklevel=2)


def _run_own_loop(execution: BuildState, order: Order, threads: int) -> None:
    import asyncio

    from motoko.graph.async_driver import run_in_loop

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(run_in_loop(execution, order, threads))
        return
    raise GraphError(
        "the graph has actions to be awaited, and this is an event loop",
        hint="Use `await graph.build(...)`; for products `await runner.get_async(...)`, for "
        "pipelines `await workflow.run_async(...)`, for assets `await build(...)`.",
    )
