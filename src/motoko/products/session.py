"""The products of one session: in memory, in the store, or built by nodes."""

from __future__ import annotations

import contextlib
import inspect
import warnings
from typing import TYPE_CHECKING, Any, Final

from motoko.errors import ProductWarning
from motoko.products.shared_calls import CallRegistry
from motoko.products.steps import collect_steps, unknown_product_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from motoko.graph import Node

INTERNAL_PACKAGES: Final = frozenset({"motoko", "asyncio", "concurrent", "threading"})


class ProductSession:
    """The steps of a module and the products that a runner has in memory."""

    def __init__(self, module: Any, config: Any, products: Any, nodes: Iterable[Node]) -> None:
        self.module = module
        self.config = config
        self.products = products
        self.nodes = tuple(nodes)
        self.cache: dict[str, Any] = {}
        self.steps = collect_steps(module, self.nodes)
        self.calls = CallRegistry()
        self._observers: list[Callable[[str, str], object]] = []
        self._warned: set[object] = set()

    def observe(self, callback: Callable[[str, str], object]) -> None:
        """Call ``callback(event, name)`` for every product that is requested.

        Events are ``cached``, ``loaded``, ``building`` (before its requirements) and ``built``.
        An exception in a callback becomes one warning.
        """
        self._observers.append(callback)

    def emit(self, event: str, name: str) -> None:
        """Call the observers."""
        for callback in self._observers:
            try:
                callback(event, name)
            except Exception as error:  # noqa: BLE001 - observers must not end a build
                self.warn_once(callback, f"observer {callback!r} raised {error!r}")

    def warn_once(self, subject: object, message: str) -> None:
        """Warn unless this session has already warned about ``subject``."""
        if subject not in self._warned:
            self._warned.add(subject)
            warn(message)

    def node(self, name: str) -> Node | None:
        """Return the node that builds a product; None if a step builds it."""
        step = self.steps.producers.get(name)
        return None if step is None else step.node

    def bound_node(self, name: str) -> Node:
        """Return the node that builds a product, with the values of its requirements."""
        node = self.node(name)
        assert node is not None
        return node.with_values({one: self.fetch(one) for one in node.requires})

    def fetch(self, name: str) -> Any:
        """Return a ready product without keeping it in memory."""
        if name in self.cache:
            return self.cache[name]
        if self.node(name) is not None:
            return self.bound_node(name).current_value()
        if self.products is None:
            raise unknown_product_error(name, self.steps)
        return self.products.load(name)

    def status(self, name: str) -> str:
        """Return ``cached``, ``on_disk`` (stored, or made by a fresh node) or ``missing``."""
        if name in self.cache:
            return "cached"
        node = self.node(name)
        if node is not None:
            return "on_disk" if self._is_fresh(node) else "missing"
        if self.products is not None and self.products.exists(name):
            return "on_disk"
        return "missing"

    def _is_fresh(self, node: Node) -> bool:
        verdict = node.check()
        if verdict.fresh is None:
            with contextlib.suppress(Exception):  # a requirement is not ready
                verdict = self.bound_node(node.name).check(ready=True)
        return bool(verdict.fresh)


def warn(message: str) -> None:
    """Issue a ProductWarning at the innermost line outside Motoko."""
    level, frame = 1, inspect.currentframe()
    while frame and str(frame.f_globals.get("__name__")).partition(".")[0] in INTERNAL_PACKAGES:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, ProductWarning, stacklevel=2 if frame is None else level)
