"""A workflow: steps that run in order on a state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from motoko.pipeline.dry_run import dry_run_graph
from motoko.pipeline.execution import PipelineExecution
from motoko.pipeline.extracts import CachedSteps

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from motoko.graph import Graph
    from motoko.graph.build_state import Observer
    from motoko.graph.explain import Explanation
    from motoko.pipeline.state import Interface
    from motoko.pipeline.step import Step


class Workflow(CachedSteps):
    """Steps that run in order, with their last inputs and outputs.

    A step with the same input as in its last run is skipped, unless another run of a step has
    since changed its outputs in the state. With ``use_extracts=False`` all steps run, except
    fresh nodes; with ``populate_extracts=False`` nothing more is kept. ``steps_ran`` and
    ``steps_skipped`` are indices that accumulate over runs. The fields have a second name in
    camel case: ``modelInputs``, ``useExtracts`` and so on.
    """

    def __init__(
        self,
        steps: Iterable[Step | Mapping[str, Any]] | Step | Mapping[str, Any] = (),
        **fields: Any,
    ) -> None:
        super().__init__(**{"steps": steps, **fields})

    def run(
        self, state: Interface, *, keep_going: bool = False, observers: Iterable[Observer] = ()
    ) -> dict[str, Any] | None:
        """Run the steps in order; return the output of the last one, by name in the state.

        A step that runs posts all its outputs; a skipped one posts those that the state lacks.
        Return None if there are no steps. An exception of a model stops the run; a note names
        the step, and its kept output is removed. With ``keep_going`` all steps that do not depend
        on it run first.

        Before any step runs, raise UnknownPathError (a ModuleNotFoundError) for a model, and
        UnknownStateNameError (a KeyError) for a name that neither the state nor an earlier step
        provides.
        """
        return PipelineExecution(self, state).run(keep_going=keep_going, observers=observers)

    async def run_async(
        self, state: Interface, *, keep_going: bool = False, observers: Iterable[Observer] = ()
    ) -> dict[str, Any] | None:
        """Run as :meth:`run` does, in an event loop, without blocking it.

        Models whose ``run()`` is a coroutine function are awaited concurrently if they do not
        depend on each other; others are called in a thread, one at a time.
        """
        execution = PipelineExecution(self, state)
        return await execution.run_in_loop(keep_going=keep_going, observers=observers)

    def graph(self, state: Interface) -> Graph:
        """Return a graph to draw, explain and dry-run; its nodes are named ``0. Class``."""
        return dry_run_graph(self, state)

    def explain(self, state: Interface, index: int = -1) -> Explanation:
        """Return why a step (by default the last one) would run or be skipped."""
        graph = self.graph(state)
        return graph.explain([*graph.nodes][index])
