"""One run of a workflow on a state."""

from __future__ import annotations

import contextlib
import logging
import sys
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Final

from motoko.graph import Verdict, order_as_listed, undecided_because
from motoko.pipeline.dry_run import (
    cache_verdict,
    check_names,
    concurrent_requirements,
    fresh_output,
    requirements,
    step_graph,
    step_verdict,
)
from motoko.pipeline.state import check_state
from motoko.pipeline.step import check_requirements_given, new_run_id
from motoko.pipeline.values import values_equal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TextIO

    from motoko.graph.build_state import Observer
    from motoko.pipeline.extracts import CachedSteps
    from motoko.pipeline.state import Interface

LOG: Final = logging.getLogger("motoko.pipeline")
LOG_FORMAT: Final = "%(asctime)s :: %(levelname)s :: %(message)s"


class StandardError(logging.StreamHandler["TextIO"]):
    """Writes to the current standard error."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(logging.Formatter(LOG_FORMAT))

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        """Standard error."""
        return sys.stderr


def enable_default_logging() -> None:
    """Write INFO lines to standard error unless logging is configured."""
    if not LOG.hasHandlers():
        LOG.addHandler(StandardError())
        if LOG.level == logging.NOTSET:
            LOG.setLevel(logging.INFO)


class PipelineExecution:
    """Runs or skips each step, in list order."""

    def __init__(self, workflow: CachedSteps, state: Interface) -> None:
        self._workflow = workflow
        self._state = state
        self._visited: set[int] = set()
        self._outputs: dict[int, dict[str, Any]] = {}

    def run(self, *, keep_going: bool, observers: Iterable[Observer]) -> dict[str, Any] | None:
        """Process all steps; return the output of the last one."""
        self._check()
        steps = self._workflow.steps
        actions = [self._act] * len(steps)
        graph = step_graph(steps, requirements(steps), self._is_fresh, actions)
        order = order_as_listed([*graph.nodes])
        graph.run(order=order, keep_going=keep_going, observers=observers).raise_failure()
        return self._outputs.get(len(steps) - 1)

    async def run_in_loop(
        self, *, keep_going: bool, observers: Iterable[Observer]
    ) -> dict[str, Any] | None:
        """Process all steps without blocking the loop; return the output of the last one."""
        self._check()
        steps = self._workflow.steps
        actions: list[Callable[[int], Any]] = [
            self._act_async if iscoroutinefunction(step.model_class().run) else self._act
            for step in steps
        ]
        graph = step_graph(steps, concurrent_requirements(steps), self._is_fresh, actions)
        order = order_as_listed([*graph.nodes])
        report = await graph.build(order=order, keep_going=keep_going, observers=observers)
        report.raise_failure()
        return self._outputs.get(len(steps) - 1)

    def _check(self) -> None:
        """Raise all errors of the workflow that can be found before a step runs."""
        workflow = self._workflow
        check_state(self._state)
        check_names(workflow.steps, self._state)
        for index, step in enumerate(workflow.steps):
            with _step_noted(workflow, index):
                node = step.node()
                if node is not None:
                    check_requirements_given(node, step.get_model_input_names())
                elif not workflow.use_extracts or index not in workflow.model_outputs:
                    step.model_class()
        enable_default_logging()

    def _is_fresh(self, index: int) -> Verdict:
        """Return whether the step is skipped; if so, post the outputs that the state lacks."""
        if index not in self._visited:
            self._visited.add(index)
            return undecided_because("its inputs are read when it is due")
        with _step_noted(self._workflow, index):
            model_input = self._model_input(index)
            verdict = step_verdict(self._workflow, index, model_input, self._state)
            if verdict.fresh:
                self._skip(index, model_input)
        return verdict

    def _skip(self, index: int, model_input: dict[str, Any]) -> None:
        workflow, step = self._workflow, self._workflow.steps[index]
        output = fresh_output(workflow, index, model_input)
        state_output = step.extract_state_output_from_model_output(output)
        is_node = step.node() is not None
        if not is_node or cache_verdict(workflow, index, model_input, self._state).fresh:
            missing = {name: one for name, one in state_output.items() if name not in self._state}
            run = workflow.runs.setdefault(index, new_run_id())
        else:  # a node that is fresh with another input than before
            missing = {name: one for name, one in state_output.items() if self._differs(name, one)}
            run = new_run_id()
        step.post_state_output_to_state(missing, self._state, run)
        if workflow.populate_extracts and is_node:
            workflow.model_inputs.add(index, model_input)
            self._keep_output(index, output, run)
        workflow.steps_skipped.append(index)
        self._outputs[index] = state_output
        LOG.info("Skipped Step%3d. %s.", index, step.model)

    def _differs(self, name: str, value: Any) -> bool:
        return name not in self._state or not values_equal(self._state.extract(name), value)

    def _keep_output(self, index: int, output: dict[str, Any], run: str) -> None:
        workflow = self._workflow
        workflow.model_outputs.add(index, output)
        workflow.models[index] = workflow.steps[index].model
        workflow.runs[index] = run

    def _act(self, index: int) -> None:
        with _step_noted(self._workflow, index):
            model_input = self._start(index)
            self._finish(index, self._workflow.steps[index].execute(model_input))

    async def _act_async(self, index: int) -> None:
        with _step_noted(self._workflow, index):
            model_input = self._start(index)
            self._finish(index, await self._workflow.steps[index].execute_async(model_input))

    def _start(self, index: int) -> dict[str, Any]:
        """Return the input of a step that runs now, and keep it."""
        workflow = self._workflow
        step = workflow.steps[index]
        self._state.check_postable(step.get_state_output_names())
        LOG.info("Running Step%3d. %s...", index, step.model)
        model_input = self._model_input(index)
        if workflow.populate_extracts:
            # Before the model, which may fail or change its input in place.
            workflow.model_outputs.remove(index)
            workflow.model_inputs.add(index, model_input)
        return model_input

    def _finish(self, index: int, output: dict[str, Any]) -> None:
        """Post and keep the output of a step that ran."""
        workflow = self._workflow
        step = workflow.steps[index]
        state_output = step.extract_state_output_from_model_output(output)
        run = new_run_id()
        step.post_state_output_to_state(state_output, self._state, run)
        if workflow.populate_extracts:
            self._keep_output(index, output, run)
        workflow.steps_ran.append(index)
        self._outputs[index] = state_output
        LOG.info("done.")

    def _model_input(self, index: int) -> dict[str, Any]:
        step = self._workflow.steps[index]
        values = step.extract_state_input_from_state(self._state)
        return step.extract_model_input_from_state_input(values)


@contextlib.contextmanager
def _step_noted(workflow: CachedSteps, index: int) -> Iterator[None]:
    """Add a note that names the step to an exception."""
    try:
        yield
    except Exception as error:
        error.add_note(f"in step {index} ({workflow.steps[index].model}) of the workflow")
        raise
