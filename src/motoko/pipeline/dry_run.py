"""The dependencies of a workflow's steps, and dry runs: which steps would run on a state."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeAlias

from motoko.errors import UnknownStateNameError, suggestion
from motoko.graph import Graph, Node, Verdict, fresh_because, stale_because, undecided_because
from motoko.pipeline.state import check_state
from motoko.pipeline.step import check_node, parts_of
from motoko.pipeline.values import values_equal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from motoko.pipeline.extracts import CachedSteps
    from motoko.pipeline.state import Interface
    from motoko.pipeline.step import Step

    StateView: TypeAlias = "Interface | PredictedState"


def step_graph(
    steps: Sequence[Step],
    required: Sequence[tuple[int, ...]],
    check: Callable[[int], Verdict],
    actions: Sequence[Callable[[int], Any]],
) -> Graph:
    """Return the steps as nodes; ``check`` and the actions receive the index of the step."""
    names = [f"{index}. {step.model.rpartition('.')[2]}" for index, step in enumerate(steps)]
    return Graph(
        Node(
            names[index],
            tuple(names[one] for one in required[index]),
            functools.partial(check, index),
            functools.partial(actions[index], index),
            f"step {index} ({step.model})",
        )
        for index, step in enumerate(steps)
    )


def requirements(steps: Sequence[Step]) -> list[tuple[int, ...]]:
    """Return for each step the earlier steps that wrote its inputs last."""
    writers: dict[str, int] = {}
    required = []
    for index, step in enumerate(steps):
        read = (writers[name] for name in step.inputs if name in writers)
        required.append(tuple(dict.fromkeys(read)))
        writers.update(dict.fromkeys(step.outputs.values(), index))
    return required


def concurrent_requirements(steps: Sequence[Step]) -> list[tuple[int, ...]]:
    """Return for each step also the earlier steps that read or write its outputs."""
    users: dict[str, list[int]] = {}
    required = []
    for index, (step, inputs) in enumerate(zip(steps, requirements(steps), strict=True)):
        before = (one for name in step.outputs.values() for one in users.get(name, ()))
        required.append(tuple(dict.fromkeys([*inputs, *before])))
        for name in step.inputs:
            users.setdefault(name, []).append(index)
        users.update({name: [index] for name in step.outputs.values()})
    return required


def check_names(steps: Sequence[Step], state: Interface) -> None:
    """Raise UnknownStateNameError for an input that neither ``state`` nor earlier steps have."""
    provided: dict[str, None] = {}
    for index, step in enumerate(steps):
        for name in step.inputs:
            if name not in provided and name not in state:
                raise _unknown_name(steps, index, name, [*state.names(), *provided])
        provided.update(dict.fromkeys(step.outputs.values()))


def _unknown_name(
    steps: Sequence[Step], index: int, name: str, known: Sequence[str]
) -> UnknownStateNameError:
    later = [n for n, step in enumerate(steps) if n >= index and name in step.outputs.values()]
    return UnknownStateNameError(
        f"step {index} ({steps[index].model}) reads {name!r}, which neither the state nor an "
        "earlier step has",
        hint=f"Step {later[0]} writes it, too late." if later else suggestion(name, known),
    )


class PredictedState:
    """The state after steps that would be skipped."""

    def __init__(self, state: Interface) -> None:
        self._state = state
        self._posted: dict[str, Any] = {}
        self._left_by: dict[str, str] = {}

    def extract(self, name: str) -> Any:
        """Return the value that the state would have."""
        return self._posted[name] if name in self._posted else self._state.extract(name)

    def left_by(self, name: str) -> str | None:
        """Return the run of a step that would have left the value."""
        return self._left_by.get(name) or self._state.left_by(name)

    def post_missing(self, values: Mapping[str, Any], run: str) -> None:
        """Add the values that a skipped step would post."""
        missing = [name for name in values if name not in self._posted and name not in self._state]
        self._posted.update({name: values[name] for name in missing})
        self._left_by.update(dict.fromkeys(missing, run))


def step_verdict(
    workflow: CachedSteps, index: int, model_input: Mapping[str, Any], state: StateView
) -> Verdict:
    """Return whether a step with this input is fresh, and would be skipped."""
    node = workflow.steps[index].node()
    if node is None:
        return cache_verdict(workflow, index, model_input, state)
    return check_node(node, model_input)


def cache_verdict(
    workflow: CachedSteps, index: int, model_input: Mapping[str, Any], state: StateView
) -> Verdict:
    """Return whether the kept output of a step was made from this input and is valid.

    It is not valid if another run of a step has left a different value in ``state``. Values that
    the user posted are valid.
    """
    step = workflow.steps[index]
    if not workflow.use_extracts:
        return stale_because("the kept inputs and outputs are not used")
    if index not in workflow.model_inputs or index not in workflow.model_outputs:
        return stale_because("no output of an earlier run is kept")
    model = workflow.models.get(index, step.model)
    if model != step.model:
        return stale_because(f"its output was made by {model}")
    output = workflow.model_outputs.data[index]
    if missing := [key for key in step.outputs if key not in output]:
        return stale_because(f"its output has no {', '.join(map(repr, missing))}")
    changed = workflow.model_inputs.changes(index, model_input)
    if changed:
        return stale_because(*(f"{name} has changed" for name in changed))
    run = workflow.runs.get(index)
    for key, name in step.outputs.items():
        other = state.left_by(name)
        if other not in (None, run) and not values_equal(state.extract(name), output[key]):
            return stale_because(f"another run has left its {name!r} in the state")
    return fresh_because("its input is the same as before")


def fresh_output(
    workflow: CachedSteps, index: int, model_input: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a copy of the output of a fresh step."""
    step = workflow.steps[index]
    node = step.node()
    if node is None:
        return workflow.get_model_output(index)
    value = node.with_values(model_input).current_value()
    return parts_of(node, value, [*step.outputs])


def dry_run_graph(workflow: CachedSteps, state: Interface) -> Graph:
    """Return a graph of the steps with their verdicts for ``state``."""
    check_state(state)
    check_names(workflow.steps, state)
    required = requirements(workflow.steps)
    verdicts = _verdicts(workflow, state, required)
    actions = [_refuse_to_run] * len(verdicts)
    return step_graph(workflow.steps, required, verdicts.__getitem__, actions)


def _verdicts(
    workflow: CachedSteps, state: Interface, required: Sequence[tuple[int, ...]]
) -> list[Verdict]:
    verdicts: list[Verdict] = []
    predicted = PredictedState(state)
    for index, step in enumerate(workflow.steps):
        stale = [one for one in required[index] if not verdicts[one].fresh]
        if stale:
            verdicts.append(undecided_because(*(f"step {one} runs first" for one in stale)))
            continue
        values = {name: predicted.extract(name) for name in step.inputs}
        model_input = step.extract_model_input_from_state_input(values)
        verdicts.append(step_verdict(workflow, index, model_input, predicted))
        if verdicts[index].fresh:
            output = fresh_output(workflow, index, model_input)
            posted = step.extract_state_output_from_model_output(output)
            predicted.post_missing(posted, workflow.runs.get(index, f"step {index}"))
    return verdicts


def _refuse_to_run(_index: int) -> None:
    raise NotImplementedError("this graph is for dry runs: run the workflow instead")
