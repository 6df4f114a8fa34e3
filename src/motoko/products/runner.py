"""The runner: returns products from memory, from the store, or from the steps that make them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from motoko.errors import NotAModelError, ProductError, UnknownNodeError
from motoko.graph import Graph
from motoko.graph.plan import sort_depth_first
from motoko.products.build import FreshnessCheck, ProductBuild
from motoko.products.diagram import diagram, nodes_of
from motoko.products.session import ProductSession
from motoko.products.status_table import show
from motoko.products.steps import unknown_product_error

if TYPE_CHECKING:
    from collections.abc import Iterable

    from motoko.graph import BuildReport, Node
    from motoko.graph.explain import Explanation
    from motoko.products.store import WorkflowProducts

REQUIRED_METHODS: Final = ("load", "save")


class WorkflowRunner(ProductSession):
    """Builds the products of a module's steps in the order of their requirements.

    ``config`` is passed to steps with a parameter of that name. Its optional method
    ``cache_key(requires=...)`` decides whether a stored product is fresh. A store ``products``
    needs the methods exists, fresh, load, save and remove; without it nothing is stored.
    ``cache`` holds the products of this session. Threads and tasks may share one runner; they wait
    for a running step.

    Each of ``nodes`` (runs of a study, for example) is a product too. The node decides itself
    whether it is fresh, and its value is never stored. Its key depends on its identity and on the
    keys of its requirements.

    Raises ValueError (DuplicateNodeError) if two steps produce one name, and TypeError
    (NotAModelError) if ``products`` is not a store.
    """

    products: WorkflowProducts | None

    def __init__(
        self,
        module: Any,
        config: Any,
        products: WorkflowProducts | None = None,
        *,
        nodes: Iterable[Node] = (),
    ) -> None:
        if products is not None and not all(hasattr(products, one) for one in REQUIRED_METHODS):
            raise NotAModelError(
                f"products={products!r} is not a store of products",
                hint="Use WorkflowProducts(products_dir='DIRECTORY').",
            )
        super().__init__(module, config, products, nodes)

    def get(self, name: str) -> Any:
        """Return a product: from memory, else as stored if that is fresh, else by its step.

        The requirements of the step come first, in the order of its parameters. A product in
        memory is returned even if its inputs have changed. A product that cannot be stored stays
        in memory, and a damaged one is built again, each with one warning.

        Exceptions of a step are raised unchanged. KeyError (UnknownNodeError) if no step produces
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

        Steps that are coroutine functions are awaited concurrently; others are called in a
        thread, one at a time.
        """
        if name in self.cache:
            self.emit("cached", name)
            return self.cache[name]
        (await ProductBuild(self, [name]).run_in_loop()).raise_failure()
        return self.cache[name]

    def build_all(self, *, keep_going: bool = False) -> list[str]:
        """Build the products that no step requires, and return their sorted names.

        The first failure stops the build. With ``keep_going`` all products that do not depend on
        it are built before it is raised. CycleError, before anything is built, if products
        require each other.
        """
        leaves = self._leaves()
        if leaves:
            ProductBuild(self, leaves).run(keep_going=keep_going).raise_failure()
        return leaves

    async def build_all_async(self, *, keep_going: bool = False) -> list[str]:
        """Build as :meth:`build_all` does, without blocking the event loop."""
        leaves = self._leaves()
        if leaves:
            build = ProductBuild(self, leaves)
            (await build.run_in_loop(keep_going=keep_going)).raise_failure()
        return leaves

    def check(self, *names: str) -> BuildReport:
        """Return what a build of ``names`` (by default all products) would do.

        Products are loaded only if a node needs their values for its check. The statuses of the
        report are fresh, would_build and missing.
        """
        targets = names or [*self.steps.producers]
        if not targets:
            return Graph().run(dry_run=True)
        for name in targets:
            self._check_known(name)
        return FreshnessCheck(self, targets).graph().run(*targets, dry_run=True, keep_going=True)

    def explain(self, name: str) -> Explanation:
        """Return why a product would be built or not, down to the cause."""
        self._check_known(name)
        return FreshnessCheck(self, [name]).graph().explain(name)

    def invalidate(self, name: str) -> None:
        """Remove a product, but not its dependents, from memory and from the store.

        ProductError for the product of a node, which itself decides whether it is fresh.
        """
        if self.node(name) is not None:
            raise ProductError(
                f"product {name!r} is built by a node, which decides itself whether it is fresh",
                hint="To repeat a run, ask for another one: replicate=1.",
            )
        self.cache.pop(name, None)
        products = self.products
        if products is None:
            return
        listed = getattr(products, "list", tuple)  # includes damaged products
        if products.exists(name) or name in listed():
            products.remove(name)

    def rebuild(self, name: str) -> Any:
        """Invalidate one product and build it."""
        self.invalidate(name)
        return self.get(name)

    def what_invalidates(self, name: str) -> set[str]:
        """Return the products that depend on ``name``."""
        try:
            return set(Graph(nodes_of(self.steps)).dependents(name))
        except UnknownNodeError:
            return set()

    def diagram(self, *, rankdir: str = "LR") -> str:
        """Return the products as Graphviz DOT, coloured by status."""
        return diagram(self.module, self.status, rankdir=rankdir, nodes=self.nodes)

    def dag(self) -> None:
        """Show a table of the steps and their products: HTML in a notebook, text elsewhere."""
        show(getattr(self.module, "__name__", str(self.module)), self.steps, self.status)

    def _leaves(self) -> list[str]:
        sort_depth_first(self.steps.requires, self.steps.producers)  # raises CycleError
        return self.steps.leaves()

    def _check_known(self, name: str) -> None:
        if name not in self.steps.producers and self.status(name) == "missing":
            raise unknown_product_error(name, self.steps)
