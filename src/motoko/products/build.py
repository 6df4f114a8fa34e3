"""One build of products: the targets and their requirements as nodes of a step graph."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any

from motoko.errors import ReadOnlyStoreError
from motoko.graph import Graph, Node, Status, StatusChange, Verdict, fresh_because, stale_because
from motoko.graph.build_state import AVAILABLE
from motoko.graph.plan import sort_depth_first
from motoko.graph.thread_driver import in_event_loop
from motoko.products.canonical_json import as_json, key_of
from motoko.products.session import warn
from motoko.products.steps import unknown_product_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from motoko.graph import BuildReport
    from motoko.products.session import ProductSession
    from motoko.products.steps import StepSet, StepSpec

    Emit = Callable[[str, str], None]


class FreshnessCheck:
    """Checks products, with the keys of the current configuration, without building any."""

    def __init__(self, session: ProductSession, targets: Sequence[str]) -> None:
        self.session = session
        self.steps = session.steps
        self.targets = targets
        self.order = sort_depth_first(self.steps.requires, targets)
        self.keys = expected_keys(self.order, self.steps, session.config)

    def verdict(self, name: str) -> Verdict:
        """Return whether a product is in memory, or stored with the expected key."""
        if name in self.session.cache:
            return fresh_because("it is in memory")
        step = self.steps.producers.get(name)
        if step is not None and step.node is not None:
            return step.node.check()
        products = self.session.products
        if step is None and (products is None or not products.exists(name)):
            return stale_because("no workflow step produces it")
        if products is None:
            return stale_because("it was not built in this session")
        key = self.keys[name]
        if key is not None and products.exists(name) and products.fresh(name, key):
            return fresh_because(f"it is stored with the expected key {key}")
        problem = self.problem(name)
        if problem:
            return stale_because(f"it is damaged: {problem}")
        if not products.exists(name):
            return stale_because("it is not stored")
        if key is None:
            return fresh_because("it is stored; its inputs are not tracked")
        return stale_because(*self._changes(name))

    def problem(self, name: str) -> str | None:
        """Return the damage of a stored product, if the store can detect damage."""
        products = self.session.products
        problem: Callable[[str], str | None] = getattr(products, "problem", lambda _: None)
        return problem(name)

    def inputs(self, name: str) -> dict[str, Any]:
        """Return the identity fields and the keys of the requirements of a product."""
        requires = {required: self.keys[required] for required in self.steps.requires(name)}
        return {"config": _identity_fields(self.session.config), "requires": requires}

    def graph(self) -> Graph:
        """Return the graph of the targets and their requirements."""
        return Graph(
            Node(
                name,
                self.steps.inputs(name),
                functools.partial(self.check, name),
                self._action(step),
                "" if step is None else step.origin,
                None
                if step is None or step.node is None
                else functools.partial(self.check, name, ready=True),
            )
            for name, step in self._producers()
        )

    def check(self, name: str, *, ready: bool = False) -> Verdict:
        """Return the verdict of a product; ``ready``: of a node whose requirements are ready."""
        if ready:
            return self.session.bound_node(name).check(ready=True)
        return self.verdict(name)

    def _producers(self) -> Iterator[tuple[str, StepSpec | None]]:
        return ((name, self.steps.producers.get(name)) for name in self.order)

    def _action(self, step: StepSpec | None) -> Callable[[], Any] | None:
        return None if step is None else step.function

    def _changes(self, name: str) -> list[str]:
        inputs_for = getattr(self.session.products, "inputs_for", None)
        recorded = {} if inputs_for is None else inputs_for(name)
        changes = []
        for part, expected in self.inputs(name).items():
            former = recorded.get(part) or {}
            for one in sorted({*expected, *former}):
                old, new = (as_json(values.get(one)) for values in (former, expected))
                if old != new:
                    values = f"{one} is {new}, was {old}"
                    changes.append(values if part == "config" else f"{one} changed")
        return changes or ["it is stored with another key than expected"]


class ProductBuild(FreshnessCheck):
    """Builds products: loads fresh ones and calls the steps of the others."""

    def __init__(self, session: ProductSession, targets: Sequence[str]) -> None:
        super().__init__(session, targets)
        self._loaded: set[str] = set()
        self._warned: set[str] = set()
        self._actions: dict[int, Callable[[], Any]] = {}
        self._events = BuildEvents(self.steps.inputs, self._source, session.emit)
        steps = [step for _, step in self._producers() if step is not None]
        self._is_async = any(step.is_async for step in steps)
        # BuildEvents does not know undecided nodes, nor builds that are not depth-first.
        self._plain_events = self._is_async or any(step.node for step in steps)

    def run(self, *, keep_going: bool = False) -> BuildReport:
        """Build the targets depth-first, in parameter order."""
        graph = self.graph()
        if self._is_async and in_event_loop():
            report = graph.run(*self.targets, dry_run=True)
            self._is_async = any(self._needs_loop(*one) for one in report.statuses.items())
            graph = self.graph()
        return graph.run(*self.targets, keep_going=keep_going, observers=[self._observe])

    def _needs_loop(self, name: str, status: Status) -> bool:
        step = self.steps.producers.get(name)
        return status not in AVAILABLE and (
            status is not Status.WOULD_BUILD or step is None or step.is_async
        )

    async def run_in_loop(self, *, keep_going: bool = False) -> BuildReport:
        """Check all products, then build the targets in the running event loop."""
        self._plain_events = True
        return await self.graph().build(
            *self.targets, keep_going=keep_going, observers=[self._observe]
        )

    def check(self, name: str, *, ready: bool = False) -> Verdict:
        """Return the verdict of a product, and load it if it is fresh."""
        if not self._plain_events:
            self._events.report_inputs_before(name)
        verdict = super().check(name, ready=ready)
        if not verdict.fresh:
            self._warn_if_damaged(name)
            return verdict
        return verdict if name in self.session.cache else self._load(name, verdict)

    def _warn_if_damaged(self, name: str) -> None:
        problem = self.problem(name)
        step = self.steps.producers.get(name)
        if step is None:
            raise unknown_product_error(name, self.steps, problem)
        if problem and step.node is None:
            self._warn_once(name, problem)

    def _warn_once(self, name: str, problem: str) -> None:
        if name not in self._warned:
            self._warned.add(name)
            warn(f"product {name!r} is built again: {problem}")

    def _load(self, name: str, verdict: Verdict) -> Verdict:
        try:
            self.session.cache.setdefault(name, self.session.fetch(name))
        except Exception as error:
            if name not in self.steps.producers:
                raise unknown_product_error(name, self.steps, str(error)) from error
            self._warn_once(name, str(error))
            return stale_because(f"it cannot be loaded: {error}")
        self._loaded.add(name)
        return verdict

    def _source(self, name: str) -> str:
        """Return ``loaded`` for the first use of a product from disk, then ``cached``."""
        if name in self._loaded:
            self._loaded.remove(name)
            return "loaded"
        return "cached"

    def _observe(self, event: StatusChange) -> None:
        if not self._plain_events:
            self._events.on_change(event)
        elif event.status in EVENTS:
            self.session.emit(EVENTS[event.status], event.name)
        elif event.status is Status.FRESH:
            self.session.emit(self._source(event.name), event.name)

    def _action(self, step: StepSpec | None) -> Callable[[], Any] | None:
        if step is None or (step.node is not None and step.node.action is None):
            return None
        if step.is_async and not self._is_async:
            return None  # its products are ready
        # The engine calls an action that several products share once.
        if id(step) not in self._actions:
            call = self._call_async if step.is_async else self._call
            self._actions[id(step)] = functools.partial(call, step)
        return self._actions[id(step)]

    def _call(self, step: StepSpec) -> None:
        def call() -> None:
            self._record(step, step.function(**self._arguments(step)))

        self.session.calls.call_once(step, lambda: self._has_all(step), call)

    async def _call_async(self, step: StepSpec) -> None:
        async def call() -> None:
            self._record(step, await step.function(**self._arguments(step)))

        await self.session.calls.call_once_async(step, lambda: self._has_all(step), call)

    def _has_all(self, step: StepSpec) -> bool:
        return all(name in self.session.cache for name in step.produces)

    def _arguments(self, step: StepSpec) -> dict[str, Any]:
        return step.arguments(self.session.config, self.session.cache)

    def _record(self, step: StepSpec, result: Any) -> None:
        for name, value in step.outputs(result).items():
            self.session.cache[name] = value
            if step.node is None:
                self._save(name, value)

    def _save(self, name: str, value: Any) -> None:
        products, key = self.session.products, self.keys.get(name)
        if products is None:
            return
        try:
            if key is None:
                products.save(name, value)
            else:
                products.save(name, value, cache_key=key, inputs=self.inputs(name))
        except Exception as error:  # noqa: BLE001 - the value is still in memory
            if isinstance(error, ReadOnlyStoreError):
                message = f"products are kept in memory only: {error}"
                self.session.warn_once(ReadOnlyStoreError, message)
            else:
                self.session.warn_once(name, f"product {name!r} is kept in memory only: {error}")
            # The next session must not load an earlier value.
            with contextlib.suppress(Exception):
                if products.exists(name):
                    products.remove(name)


EVENTS = {Status.STALE: "building", Status.BUILT: "built"}


class BuildEvents:
    """Emits the events of a depth-first build, as if each step requested its inputs itself."""

    def __init__(
        self, inputs: Callable[[str], Sequence[str]], source: Callable[[str], str], emit: Emit
    ) -> None:
        self._inputs = inputs
        self._source = source
        self._emit = emit
        self._open: list[tuple[str, Iterator[str]]] = []

    def report_inputs_before(self, name: str) -> None:
        """Report the inputs of the current step before ``name`` as cached."""
        for needed in self._open[-1][1] if self._open else ():
            if needed == name:
                return
            self._emit("cached", needed)

    def on_change(self, event: StatusChange) -> None:
        """Report a change of status."""
        if event.status is Status.STALE:
            self._emit("building", event.name)
            self._open.append((event.name, iter(self._inputs(event.name))))
        elif event.status is Status.FRESH:
            self._emit(self._source(event.name), event.name)
        elif event.status is Status.BUILDING:
            self.report_inputs_before("")
        elif self._open and self._open[-1][0] == event.name:
            self._open.pop()
            if event.status is Status.BUILT:
                self._emit("built", event.name)


def expected_keys(order: Iterable[str], steps: StepSet, config: object) -> dict[str, str | None]:
    """Return the expected key of each product of ``order``; None if it is not tracked.

    ``order`` lists requirements first. A product is not tracked if no step produces it, if
    ``config`` gives no key, or if one of its requirements is not tracked.
    """
    cache_key = getattr(config, "cache_key", None)
    keys: dict[str, str | None] = {}
    by_step: dict[int, str | None] = {}
    for name in order:
        step = steps.producers.get(name)
        if step is None or cache_key is None:
            keys[name] = None
            continue
        if id(step) not in by_step:
            upstream = {required: keys[required] for required in step.requires}
            tracked = None not in upstream.values()
            by_step[id(step)] = _expected_key(step, upstream, cache_key) if tracked else None
        keys[name] = by_step[id(step)]
    return keys


def _expected_key(step: StepSpec, upstream: dict[str, str | None], cache_key: Any) -> str | None:
    if step.node is None:
        key: str | None = cache_key(requires=upstream)
        return key
    identity = None if step.node.identity is None else step.node.identity()
    return key_of({"node": step.node.name, "made_of": identity, "requires": upstream})


def _identity_fields(config: object) -> dict[str, Any]:
    fields = getattr(config, "_identity_fields", None)
    return {} if fields is None else {field: getattr(config, field) for field in fields}
