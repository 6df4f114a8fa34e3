"""One build: what is asked for and what it needs, as nodes of a step graph."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from typing import TYPE_CHECKING, Any

from motoko.errors import ReadOnlyStoreError, UnknownNodeError, nearest
from motoko.graph import Graph, Node, Status, StatusChange, Verdict, fresh_because, stale_because
from motoko.graph.build_state import AVAILABLE
from motoko.graph.plan import depth_first
from motoko.graph.value_nodes import probe
from motoko.products.canonical_json import as_json
from motoko.products.keys import expected_keys, identity_of
from motoko.products.warning import warn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from motoko.graph import BuildReport
    from motoko.products.runner import WorkflowRunner
    from motoko.products.steps import StepSet, StepSpec

    Tell = Callable[[str, str], None]


class FreshnessCheck:
    """What a runner knows of products without loading or building one.

    Expected keys are those of the moment: a configuration that is changed later needs another.
    """

    def __init__(self, runner: WorkflowRunner, targets: Sequence[str]) -> None:
        self.runner = runner
        self.steps = runner.steps
        self.targets = targets
        self.order = depth_first(self.steps.requires, targets)
        self.keys = expected_keys(self.order, self.steps, runner.config)

    def verdict(self, name: str) -> Verdict:
        """Return whether a product is in memory, or stored and as it should be."""
        if name in self.runner.cache:
            return fresh_because("it is in memory")
        step = self.steps.producers.get(name)
        if step is not None and step.node is not None:
            return step.node.ask()
        products = self.runner.products
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
            return fresh_because("it is stored; what it was made from is not tracked")
        return stale_because(*self._changes(name))

    def problem(self, name: str) -> str | None:
        """Return what is wrong with a stored product, where the store can tell."""
        problem: Callable[[str], str | None] | None
        problem = getattr(self.runner.products, "problem", None)
        return None if problem is None else problem(name)

    def inputs(self, name: str) -> dict[str, Any]:
        """Return what a product is made from: identity fields, and keys of what it requires."""
        requires = {required: self.keys[required] for required in self.steps.requires(name)}
        return {"config": identity_of(self.runner.config), "requires": requires}

    def graph(self) -> Graph:
        """Return the graph of which a dry run and an explanation can be had."""
        return Graph(
            Node(
                name,
                self.steps.inputs(name),
                self._asks(name),
                self._action(step),
                "" if step is None else step.origin,
                None if step is None or step.node is None else self._asks(name, ready=True),
            )
            for name, step in self._producers()
        )

    def _producers(self) -> Iterator[tuple[str, StepSpec | None]]:
        return ((name, self.steps.producers.get(name)) for name in self.order)

    def _asks(self, name: str, *, ready: bool = False) -> Callable[[], Verdict]:
        return lambda: self._look(name) if ready else self.verdict(name)

    def _look(self, name: str) -> Verdict:
        """Return what the node that makes ``name`` answers when all that it requires is there."""
        return probe(self.runner.node_of(name))

    def _action(self, step: StepSpec | None) -> Callable[[], Any] | None:
        return None if step is None else step.function

    def _changes(self, name: str) -> list[str]:
        recorded_of = getattr(self.runner.products, "inputs_for", None)
        recorded = {} if recorded_of is None else recorded_of(name)
        changes = []
        for part, expected in self.inputs(name).items():
            former = recorded.get(part) or {}
            for one in sorted({*expected, *former}):
                old, new = (as_json(values.get(one)) for values in (former, expected))
                if old != new:
                    what = f"{one} is {new}, was {old}" if part == "config" else f"{one} changed"
                    changes.append(what)
        return changes or ["it is stored with another key than expected"]


class ProductBuild(FreshnessCheck):
    """One build of products: freshness by loading, actions by calling steps."""

    def __init__(self, runner: WorkflowRunner, targets: Sequence[str]) -> None:
        super().__init__(runner, targets)
        self._loaded: set[str] = set()
        self._warned: set[str] = set()
        self._actions: dict[int, Callable[[], Any]] = {}
        self._story = BuildEvents(self.steps.inputs, self._source, runner.emit)
        steps = [step for _, step in self._producers() if step is not None]
        self._awaits = any(step.awaited for step in steps)
        # A node may be undecided, which is no part of the story.
        self._eager = self._awaits or any(step.node for step in steps)

    def run(self, *, keep_going: bool = False) -> BuildReport:
        """Build the targets depth-first, in parameter order."""
        graph = self.graph()
        if self._awaits and _in_event_loop():
            report = graph.run(*self.targets, dry_run=True)
            self._awaits = any(self._has_to_be_awaited(*one) for one in report.statuses.items())
            graph = self.graph()
        return graph.run(*self.targets, keep_going=keep_going, observers=[self._observer])

    def _has_to_be_awaited(self, name: str, status: Status) -> bool:
        step = self.steps.producers.get(name)
        return status not in AVAILABLE and (
            status is not Status.WOULD_BUILD or step is None or step.awaited
        )

    async def run_in_loop(self, *, keep_going: bool = False) -> BuildReport:
        """Build the targets in an event loop; all that is needed is asked first."""
        self._eager = True
        graph = self.graph()
        return await graph.build(*self.targets, keep_going=keep_going, observers=[self._observer])

    def _asks(self, name: str, *, ready: bool = False) -> Callable[[], Verdict]:
        def ask() -> Verdict:
            if not self._eager:
                self._story.reached(name)
            verdict = self._look(name) if ready else self.verdict(name)
            if not verdict.fresh:
                self._warn_if_damaged(name)
                return verdict
            return verdict if name in self.runner.cache else self._load(name, verdict)

        return ask

    def _warn_if_damaged(self, name: str) -> None:
        problem = self.problem(name)
        step = self.steps.producers.get(name)
        if step is None:
            raise unknown_product(name, self.steps, problem)
        if problem and step.node is None:
            self._warn_once(name, problem)

    def _warn_once(self, name: str, problem: str) -> None:
        if name not in self._warned:
            self._warned.add(name)
            warn(f"product {name!r} is built again: {problem}")

    def _load(self, name: str, verdict: Verdict) -> Verdict:
        try:
            self.runner.cache.setdefault(name, self.runner.peek(name))
        except Exception as error:
            if name not in self.steps.producers:
                raise unknown_product(name, self.steps, str(error)) from error
            self._warn_once(name, str(error))
            return stale_because(f"it cannot be loaded: {error}")
        self._loaded.add(name)
        return verdict

    def _source(self, name: str) -> str:
        """Return how a product that is there came to memory: once from disk, then from there."""
        if name in self._loaded:
            self._loaded.remove(name)
            return "loaded"
        return "cached"

    def _observer(self, event: StatusChange) -> None:
        if not self._eager:
            self._story.tell(event)
        elif event.status in WORDS:
            self.runner.emit(WORDS[event.status], event.name)
        elif event.status is Status.FRESH:
            self.runner.emit(self._source(event.name), event.name)

    def _action(self, step: StepSpec | None) -> Callable[[], Any] | None:
        if step is None or (step.node is not None and step.node.action is None):
            return None
        if step.awaited and not self._awaits:
            return None  # it is there
        # Products of one step share one action: the engine calls it once.
        if id(step) not in self._actions:
            call = _call_awaited if step.awaited else _call
            self._actions[id(step)] = functools.partial(call, self, step)
        return self._actions[id(step)]

    def has_all(self, step: StepSpec) -> bool:
        """Whether all that a step produces is in memory."""
        return all(name in self.runner.cache for name in step.produces)

    def record(self, step: StepSpec, result: Any) -> None:
        """Keep what a step returned in memory, and store what can be stored."""
        for name, value in step.outputs(result).items():
            self.runner.cache[name] = value
            if step.node is None:
                self._save(name, value)

    def _save(self, name: str, value: Any) -> None:
        products, key = self.runner.products, self.keys.get(name)
        if products is None:
            return
        try:
            if key is None:
                products.save(name, value)
            else:
                products.save(name, value, cache_key=key, inputs=self.inputs(name))
        except Exception as error:  # noqa: BLE001 - the value is there, if only in memory
            of_store = isinstance(error, ReadOnlyStoreError)
            self.runner.warn_once(
                ReadOnlyStoreError if of_store else name,
                f"products live in memory only: {error}"
                if of_store
                else f"product {name!r} lives in memory only: {error}",
            )
            # A former one would be taken for this one in the next session.
            with contextlib.suppress(Exception):
                if products.exists(name):
                    products.remove(name)


WORDS = {Status.STALE: "building", Status.BUILT: "built"}


class BuildEvents:
    """Tells observers of a depth-first build as if each product were got by who needs it.

    So a product that two steps need is told of twice; the engine visits it once.
    """

    def __init__(
        self, inputs: Callable[[str], Sequence[str]], source: Callable[[str], str], tell: Tell
    ) -> None:
        self._inputs = inputs
        self._source = source
        self._tell = tell
        self._open: list[tuple[str, Iterator[str]]] = []

    def reached(self, name: str) -> None:
        """Tell of what the step in hand needs before ``name`` and has got already."""
        for needed in self._open[-1][1] if self._open else ():
            if needed == name:
                return
            self._tell("cached", needed)

    def tell(self, event: StatusChange) -> None:
        """Tell of a change of status."""
        if event.status is Status.STALE:
            self._tell("building", event.name)
            self._open.append((event.name, iter(self._inputs(event.name))))
        elif event.status is Status.FRESH:
            self._tell(self._source(event.name), event.name)
        elif event.status is Status.BUILDING:
            self.reached("")
        elif self._open and self._open[-1][0] == event.name:
            self._open.pop()
            if event.status is Status.BUILT:
                self._tell("built", event.name)


def _call(build: ProductBuild, step: StepSpec) -> None:
    def call() -> None:
        arguments = step.arguments(build.runner.config, build.runner.cache)
        build.record(step, step.function(**arguments))

    build.runner.work.once(step, functools.partial(build.has_all, step), call)


async def _call_awaited(build: ProductBuild, step: StepSpec) -> None:
    async def call() -> None:
        arguments = step.arguments(build.runner.config, build.runner.cache)
        build.record(step, await step.function(**arguments))

    await build.runner.work.once_awaited(step, functools.partial(build.has_all, step), call)


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def unknown_product(name: str, steps: StepSet, problem: str | None = None) -> UnknownNodeError:
    """Return the error for a product that no step produces, and that is not stored as it was."""
    near = nearest(name, steps.producers)
    hints = [f"It is stored, but cannot be used: {problem}"] if problem else []
    hints += [f"Did you mean {near!r}?"] if near else []
    hints += [f"Step {step.name} requires it." for step in steps.listed if name in step.requires]
    return UnknownNodeError(
        f"No workflow step produces {name!r}. Available products: {sorted(steps.producers)}",
        hint="\n  ".join(hints) or None,
    )
