"""What a workflow's steps depend on, and what they would do with a state; nothing is run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from motoko.errors import UnknownStateNameError, suggestion
from motoko.graph import Graph, Node, Verdict, fresh_because, stale_because, undecided_because
from motoko.pipeline.node_adapters import ask, parts_of
from motoko.pipeline.values import values_equal
from motoko.pipeline.workflow import check_state

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from motoko.pipeline.state import Interface
    from motoko.pipeline.step import Step
    from motoko.pipeline.workflow import Workflow


def node_names(steps: Sequence[Step]) -> list[str]:
    """Return a name for each step: its index and the class of its model."""
    return [f"{index}. {step.model.rpartition('.')[2]}" for index, step in enumerate(steps)]


def requirements(steps: Sequence[Step]) -> list[tuple[int, ...]]:
    """Return for each step the steps that wrote last, of those before it, what it reads."""
    writers: dict[str, int] = {}
    found = []
    for index, step in enumerate(steps):
        read = (writers[name] for name in step.inputs if name in writers)
        found.append(tuple(dict.fromkeys(read)))
        writers.update(dict.fromkeys(step.outputs.values(), index))
    return found


def requirements_side_by_side(steps: Sequence[Step]) -> list[tuple[int, ...]]:
    """Return what each step requires if independent steps are at work at the same time.

    Besides :func:`requirements` these are all that read or wrote before what it writes: a mutable
    state holds one value of a name at a time.
    """
    users: dict[str, list[int]] = {}
    found = []
    for index, (step, required) in enumerate(zip(steps, requirements(steps), strict=True)):
        before = (one for name in step.outputs.values() for one in users.get(name, ()))
        found.append(tuple(dict.fromkeys([*required, *before])))
        for name in step.inputs:
            users.setdefault(name, []).append(index)
        users.update({name: [index] for name in step.outputs.values()})
    return found


def check_names(steps: Sequence[Step], state: Interface) -> None:
    """Raise UnknownStateNameError for a name that neither ``state`` nor a step before provides."""
    provided: dict[str, None] = {}
    for index, step in enumerate(steps):
        for name in step.inputs:
            if name not in provided and name not in state:
                raise _unknown(steps, index, name, [*state.names(), *provided])
        provided.update(dict.fromkeys(step.outputs.values()))


def _unknown(
    steps: Sequence[Step], index: int, name: str, known: Sequence[str]
) -> UnknownStateNameError:
    later = [n for n, step in enumerate(steps) if n >= index and name in step.outputs.values()]
    what = f"step {index} ({steps[index].model}) reads {name!r}, which neither the state "
    hint = f"Step {later[0]} writes it, too late." if later else suggestion(name, known)
    return UnknownStateNameError(f"{what}nor a step before has", hint=hint)


class PredictedState:
    """A state as it would be after steps that are skipped."""

    def __init__(self, state: Interface) -> None:
        self._state = state
        self._posted: dict[str, Any] = {}
        self._left_by: dict[str, str] = {}

    def extract(self, name: str) -> Any:
        """Return the value that the state would have."""
        return self._posted[name] if name in self._posted else self._state.extract(name)

    def left_by(self, name: str) -> str | None:
        """Return which run of a step would have left it."""
        return self._left_by.get(name) or self._state.left_by(name)

    def post_lacking(self, values: Mapping[str, Any], run: str) -> None:
        """Note what a skipped step would post."""
        lacking = [name for name in values if name not in self._posted and name not in self._state]
        self._posted.update({name: values[name] for name in lacking})
        self._left_by.update(dict.fromkeys(lacking, run))


def verdict(
    workflow: Workflow,
    index: int,
    model_input: Mapping[str, Any],
    state: Interface | PredictedState,
) -> Verdict:
    """Return whether a step with this input would be skipped: fresh."""
    step = workflow.steps[index]
    node = step.node()
    return kept(workflow, index, model_input, state) if node is None else ask(node, model_input)


def kept(
    workflow: Workflow,
    index: int,
    model_input: Mapping[str, Any],
    state: Interface | PredictedState,
) -> Verdict:
    """Return whether there is an output that the step's model made of this input.

    And whether ``state`` does not have what another run of a step left in its place: that would
    be read instead. What somebody else posted is meant to be read.
    """
    step = workflow.steps[index]
    if not workflow.use_extracts:
        return stale_because("what is kept of former runs is not used")
    if index not in workflow.model_inputs or index not in workflow.model_outputs:
        return stale_because("there is no output of a run before")
    model = workflow.models.get(index, step.model)
    if model != step.model:
        return stale_because(f"its output was made by {model}")
    output = workflow.model_outputs.data[index]
    if lacking := [key for key in step.outputs if key not in output]:
        return stale_because(f"its output has no {', '.join(map(repr, lacking))}")
    changed = workflow.model_inputs.changes(index, model_input)
    if changed:
        return stale_because(*(f"{name} has changed" for name in changed))
    run = workflow.runs.get(index)
    for key, name in step.outputs.items():
        other = state.left_by(name)
        if other not in (None, run) and not values_equal(state.extract(name), output[key]):
            return stale_because(f"another run has left its {name!r} in the state")
    return fresh_because("its input is the same as before")


def output_of(workflow: Workflow, index: int, model_input: Mapping[str, Any]) -> dict[str, Any]:
    """Return the output of a step that is fresh, as a copy of its own."""
    step = workflow.steps[index]
    node = step.node()
    if node is None:
        return workflow.get_model_output(index)
    return parts_of(node, model_input, [*step.outputs])


def graph(workflow: Workflow, state: Interface) -> Graph:
    """Return the steps as nodes that know what they would do with ``state``."""
    check_state(state)
    check_names(workflow.steps, state)
    names = node_names(workflow.steps)
    required = requirements(workflow.steps)
    verdicts = _verdicts(workflow, state, required)
    return Graph(
        Node(
            names[index],
            tuple(names[one] for one in required[index]),
            _answering(verdicts[index]),
            _not_run,
            f"step {index} ({step.model})",
        )
        for index, step in enumerate(workflow.steps)
    )


def _verdicts(
    workflow: Workflow, state: Interface, required: Sequence[tuple[int, ...]]
) -> list[Verdict]:
    found: list[Verdict] = []
    foreseen = PredictedState(state)
    for index, step in enumerate(workflow.steps):
        unsure = [one for one in required[index] if not found[one].fresh]
        if unsure:
            found.append(undecided_because(*(f"step {one} comes first" for one in unsure)))
            continue
        values = {name: foreseen.extract(name) for name in step.inputs}
        model_input = step.extract_model_input_from_state_input(values)
        found.append(verdict(workflow, index, model_input, foreseen))
        if found[index].fresh:
            output = output_of(workflow, index, model_input)
            posted = step.extract_state_output_from_model_output(output)
            foreseen.post_lacking(posted, workflow.runs.get(index, f"step {index}"))
    return found


def _answering(answer: Verdict) -> Callable[[], Verdict]:
    return lambda: answer


def _not_run() -> None:
    raise NotImplementedError("this graph says what would be done: run the workflow instead")
