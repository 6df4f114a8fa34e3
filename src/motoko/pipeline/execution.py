"""One run of a workflow on a state."""

from __future__ import annotations

import contextlib
import functools
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any

from motoko.graph import Graph, Node, Verdict, order_as_listed, undecided_because
from motoko.pipeline.dry_run import (
    check_names,
    kept,
    node_names,
    output_of,
    requirements,
    requirements_side_by_side,
    verdict,
)
from motoko.pipeline.logs import LOG, enable_default_logging
from motoko.pipeline.node_adapters import check_given
from motoko.pipeline.step import new_run
from motoko.pipeline.values import values_equal
from motoko.pipeline.workflow import check_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from motoko.graph import StatusChange
    from motoko.pipeline.state import Interface
    from motoko.pipeline.workflow import Workflow


class PipelineExecution:
    """Runs or skips each step, in list order."""

    def __init__(self, workflow: Workflow, state: Interface) -> None:
        self._workflow = workflow
        self._state = state
        self._asked: set[int] = set()
        self._result: dict[str, Any] | None = None

    def run(
        self, *, keep_going: bool, observers: Iterable[Callable[[StatusChange], object]]
    ) -> dict[str, Any] | None:
        """Deal with all steps; return what the last one passes on."""
        self._check()
        if not self._workflow.steps:
            return None
        enable_default_logging()
        graph = self._graph(
            requirements(self._workflow.steps), [self._act] * len(self._workflow.steps)
        )
        order = order_as_listed([*graph.nodes])
        report = graph.run(order=order, keep_going=keep_going, observers=observers)
        report.raise_failure()
        return self._result

    async def run_in_loop(
        self, *, keep_going: bool, observers: Iterable[Callable[[StatusChange], object]]
    ) -> dict[str, Any] | None:
        """Deal with all steps without blocking the loop; return what the last one passes on."""
        self._check()
        steps = self._workflow.steps
        if not steps:
            return None
        enable_default_logging()
        actions: list[Callable[[int], Any]] = [
            self._act_async if iscoroutinefunction(step.model_class().run) else self._act
            for step in steps
        ]
        graph = self._graph(requirements_side_by_side(steps), actions)
        order = order_as_listed([*graph.nodes])
        report = await graph.build(order=order, keep_going=keep_going, observers=observers)
        report.raise_failure()
        return self._result

    def _check(self) -> None:
        """Raise what is wrong with the workflow before anything is run."""
        workflow = self._workflow
        check_state(self._state)
        check_names(workflow.steps, self._state)
        for index, step in enumerate(workflow.steps):
            with _noted(workflow, index):
                node = step.node()
                if node is not None:
                    check_given(node, step.get_model_input_names())
                elif not workflow.use_extracts or index not in workflow.model_outputs:
                    step.model_class()

    def _graph(
        self, required: Sequence[tuple[int, ...]], actions: Sequence[Callable[[int], Any]]
    ) -> Graph:
        steps = self._workflow.steps
        names = node_names(steps)
        return Graph(
            Node(
                names[index],
                tuple(names[one] for one in required[index]),
                functools.partial(self._ask, index),
                functools.partial(action, index),
                f"step {index} ({steps[index].model})",
            )
            for index, action in enumerate(actions)
        )

    def _ask(self, index: int) -> Verdict:
        """Return whether the step is skipped, and if so post what the state lacks of it."""
        if index not in self._asked:
            self._asked.add(index)
            return undecided_because("what it reads is looked at when it is its turn")
        with _noted(self._workflow, index):
            model_input = self._model_input(index)
            answer = verdict(self._workflow, index, model_input, self._state)
            if answer.fresh:
                self._skip(index, model_input)
        return answer

    def _skip(self, index: int, model_input: dict[str, Any]) -> None:
        workflow, step = self._workflow, self._workflow.steps[index]
        output = output_of(workflow, index, model_input)
        state_output = step.extract_state_output_from_model_output(output)
        if step.node() is None or kept(workflow, index, model_input, self._state).fresh:
            lacking = {name: one for name, one in state_output.items() if name not in self._state}
            run = workflow.runs.setdefault(index, new_run())
        else:  # a node, fresh with another input than before
            lacking = {name: one for name, one in state_output.items() if self._differs(name, one)}
            run = new_run()
        step.post_state_output_to_state(lacking, self._state, run)
        if workflow.populate_extracts and step.node() is not None:
            self._keep(index, model_input, output, run)
        workflow.steps_skipped.append(index)
        self._passed_on(index, state_output)
        LOG.info("Skipped Step%3d. %s.", index, step.model)

    def _differs(self, name: str, value: Any) -> bool:
        return name not in self._state or not values_equal(self._state.extract(name), value)

    def _keep(
        self, index: int, model_input: dict[str, Any], output: dict[str, Any], run: str
    ) -> None:
        workflow = self._workflow
        workflow.model_inputs.add(index, model_input)
        workflow.model_outputs.add(index, output)
        workflow.models[index] = workflow.steps[index].model
        workflow.runs[index] = run

    def _act(self, index: int) -> None:
        with _noted(self._workflow, index):
            model_input = self._begun(index)
            self._ended(index, self._workflow.steps[index].execute(model_input))

    async def _act_async(self, index: int) -> None:
        with _noted(self._workflow, index):
            model_input = self._begun(index)
            self._ended(index, await self._workflow.steps[index].execute_async(model_input))

    def _begun(self, index: int) -> dict[str, Any]:
        """Return the input of a step that is going to run, and keep it."""
        workflow = self._workflow
        step = workflow.steps[index]
        self._state.check_postable(step.get_state_output_names())
        LOG.info("Running Step%3d. %s...", index, step.model)
        model_input = self._model_input(index)
        if workflow.populate_extracts:
            # Before the model, which may fail, and may change its input in place.
            workflow.model_outputs.remove(index)
            workflow.model_inputs.add(index, model_input)
        return model_input

    def _ended(self, index: int, output: dict[str, Any]) -> None:
        """Post the output of a step that ran, and keep it."""
        workflow = self._workflow
        step = workflow.steps[index]
        state_output = step.extract_state_output_from_model_output(output)
        run = new_run()
        step.post_state_output_to_state(state_output, self._state, run)
        if workflow.populate_extracts:
            workflow.model_outputs.add(index, output)
            workflow.models[index] = step.model
            workflow.runs[index] = run
        workflow.steps_ran.append(index)
        self._passed_on(index, state_output)
        LOG.info("done.")

    def _model_input(self, index: int) -> dict[str, Any]:
        step = self._workflow.steps[index]
        values = step.extract_state_input_from_state(self._state)
        return step.extract_model_input_from_state_input(values)

    def _passed_on(self, index: int, state_output: dict[str, Any]) -> None:
        if index == len(self._workflow.steps) - 1:
            self._result = state_output


@contextlib.contextmanager
def _noted(workflow: Workflow, index: int) -> Iterator[None]:
    """Add a note that names the step to what is raised."""
    try:
        yield
    except Exception as error:
        error.add_note(f"in step {index} ({workflow.steps[index].model}) of the workflow")
        raise
