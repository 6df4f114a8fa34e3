"""Gets products: from memory, from the store, or by calling the steps that make them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

from motoko.errors import NotAModelError, ProductError, UnknownNodeError
from motoko.graph import Graph
from motoko.graph.plan import depth_first
from motoko.graph.value_nodes import probe, value_of, with_values
from motoko.products.build import FreshnessCheck, ProductBuild, unknown_product
from motoko.products.diagram import diagram, nodes_of
from motoko.products.shared_calls import CallRegistry
from motoko.products.status_table import show
from motoko.products.steps import collect_steps
from motoko.products.warning import warn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from motoko.graph import BuildReport, Node
    from motoko.graph.explain import Explanation
    from motoko.products.store import WorkflowProducts

STORE: Final = ("load", "save")


class WorkflowRunner:
    """Gets the products of a module's steps, in the order of what requires what.

    ``config`` is given to steps with such a parameter; its ``cache_key(requires=...)``, if it has
    one, says whether a stored product is still what it would be now. Without ``products``
    nothing is stored. ``cache`` holds what was got in this session. One runner may be used in
    several threads and tasks at the same time: a step that is at work is waited for.

    Each of ``nodes`` (runs of a study, say) is a product too: its value, which is never stored. The
    node says whether it is fresh; its key is made of what it says it is made of, and of the keys
    of what it requires.

    ValueError (DuplicateNodeError) if two steps produce one name, TypeError (NotAModelError) if
    ``products`` is no store. A store needs exists, fresh, load, save and remove, nothing else.
    """

    def __init__(
        self,
        module: Any,
        config: Any,
        products: WorkflowProducts | None = None,
        *,
        nodes: Iterable[Node] = (),
    ) -> None:
        if products is not None and not all(hasattr(products, one) for one in STORE):
            raise NotAModelError(
                f"products={products!r} is no store of products",
                hint="Give one: WorkflowProducts(products_dir='DIRECTORY').",
            )
        self.module = module
        self.config = config
        self.products = products
        self.nodes = tuple(nodes)
        self.cache: dict[str, Any] = {}
        self.steps = collect_steps(module, self.nodes)
        self.work = CallRegistry()
        self._observers: list[Callable[[str, str], object]] = []
        self._warned: set[object] = set()

    def get(self, name: str) -> Any:
        """Return a product: from memory, else as stored if that is fresh, else by its step.

        What the step requires is got in the same way, in the order of its parameters. A product
        in memory is returned as it is, whatever has changed. One that cannot be stored lives in
        memory, with one warning; a damaged one is built again, with one warning.

        What a step raises goes on unchanged. KeyError (UnknownNodeError) if no step produces
        ``name`` and it is not stored, CycleError if products require each other.
        """
        if name in self.cache:
            self.emit("cached", name)
            return self.cache[name]
        ProductBuild(self, [name]).run().raise_failure()
        return self.cache[name]

    build = get

    async def get_async(self, name: str) -> Any:
        """Return a product as :meth:`get` does, without blocking the event loop.

        Steps that are coroutine functions are awaited, as many at a time as can be; others are
        called in a thread, one at a time.
        """
        if name in self.cache:
            self.emit("cached", name)
            return self.cache[name]
        (await ProductBuild(self, [name]).run_in_loop()).raise_failure()
        return self.cache[name]

    def build_all(self, *, keep_going: bool = False) -> list[str]:
        """Build the products that no step requires, and return their names, sorted.

        The first failure ends it; with ``keep_going`` what does not depend on a failure is built
        before it is raised. CycleError, before anything is built, if products require each other.
        """
        leaves = self._leaves()
        if leaves:
            ProductBuild(self, leaves).run(keep_going=keep_going).raise_failure()
        return leaves

    async def build_all_async(self, *, keep_going: bool = False) -> list[str]:
        """Do as :meth:`build_all` does, without blocking the event loop; see :meth:`get_async`."""
        leaves = self._leaves()
        if leaves:
            build = ProductBuild(self, leaves)
            (await build.run_in_loop(keep_going=keep_going)).raise_failure()
        return leaves

    def check(self, *names: str) -> BuildReport:
        """Return what a build of ``names`` (all products by default) would do; do nothing.

        No product is loaded, but for what a node can only ask about when it has its values. In the
        report, statuses are fresh, would_build, and missing.
        """
        targets = names or [*self.steps.producers]
        if not targets:
            return Graph().run(dry_run=True)
        for name in targets:
            self._check_known(name)
        return FreshnessCheck(self, targets).graph().run(*targets, dry_run=True, keep_going=True)

    def explain(self, name: str) -> Explanation:
        """Return why a product would be built or not, down to what is the cause."""
        self._check_known(name)
        return FreshnessCheck(self, [name]).graph().explain(name)

    def invalidate(self, name: str) -> None:
        """Forget a product in memory and in the store, but nothing that depends on it.

        ProductError for one that a node makes: that alone says whether it is fresh.
        """
        if self._node(name) is not None:
            raise ProductError(
                f"product {name!r} is made by a node, which knows itself whether it is fresh",
                hint="To have a run once more ask for another one: replicate=1.",
            )
        self.cache.pop(name, None)
        products = self.products
        if products is None:
            return
        listed = getattr(products, "list", tuple)  # a damaged product is listed, but does not exist
        if products.exists(name) or name in listed():
            products.remove(name)

    def rebuild(self, name: str) -> Any:
        """Invalidate one product and get it."""
        self.invalidate(name)
        return self.get(name)

    def status(self, name: str) -> str:
        """Return ``cached``, ``on_disk`` or ``missing``; a stale one on disk is on disk.

        What a node makes is on disk if the node is fresh, made of what is on disk.
        """
        if name in self.cache:
            return "cached"
        node = self._node(name)
        if node is not None:
            return "on_disk" if self._is_fresh(node) else "missing"
        if self.products is not None and self.products.exists(name):
            return "on_disk"
        return "missing"

    def observe(self, callback: Callable[[str, str], object]) -> None:
        """Have ``callback(event, name)`` called for every product that is got.

        Events are ``cached``, ``loaded``, ``building`` (before what it requires is got) and
        ``built``. What a callback raises becomes one warning.
        """
        self._observers.append(callback)

    def what_invalidates(self, name: str) -> set[str]:
        """Return the products that would have to be built again if ``name`` changed."""
        try:
            return set(Graph(nodes_of(self.steps)).dependents(name))
        except UnknownNodeError:
            return set()

    def diagram(self, *, rankdir: str = "LR") -> str:
        """Return the products in Graphviz's language, coloured by status."""
        return diagram(self.module, self.status, rankdir=rankdir, nodes=self.nodes)

    def dag(self) -> None:
        """Show the steps, what they produce and require, and the status of that.

        A table in HTML in a notebook, as text elsewhere.
        """
        show(getattr(self.module, "__name__", str(self.module)), self.steps, self.status)

    def peek(self, name: str) -> Any:
        """Return a product that is there, without keeping it in memory."""
        if name in self.cache:
            return self.cache[name]
        if self._node(name) is not None:
            return value_of(self.node_of(name))
        if self.products is None:
            raise unknown_product(name, self.steps)
        return self.products.load(name)

    def node_of(self, name: str) -> Node:
        """Return the node that makes a product, made of what it requires, which is there."""
        node = self._node(name)
        assert node is not None
        return with_values(node, {one: self.peek(one) for one in node.requires})

    def _leaves(self) -> list[str]:
        """Return the products that no step requires; CycleError where some lead to none of them."""
        depth_first(self.steps.requires, self.steps.producers)
        return self.steps.leaves()

    def _node(self, name: str) -> Node | None:
        step = self.steps.producers.get(name)
        return None if step is None else step.node

    def _is_fresh(self, node: Node) -> bool:
        verdict = node.ask()
        if verdict.fresh is None:
            with contextlib.suppress(Exception):  # where what it requires is not there
                verdict = probe(self.node_of(node.name))
        return bool(verdict.fresh)

    def emit(self, event: str, name: str) -> None:
        """Tell the observers of an event."""
        for callback in self._observers:
            try:
                callback(event, name)
            except Exception as error:  # noqa: BLE001 - an observer must not end a build
                self.warn_once(callback, f"observer {callback!r} raised {error!r}")

    def warn_once(self, about: object, message: str) -> None:
        """Warn, if this runner has not warned about the same yet."""
        if about not in self._warned:
            self._warned.add(about)
            warn(message)

    def _check_known(self, name: str) -> None:
        if name not in self.steps.producers and self.status(name) == "missing":
            raise unknown_product(name, self.steps)
