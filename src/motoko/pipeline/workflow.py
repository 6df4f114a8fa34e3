"""A workflow: steps in order, and what is kept of their last runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pydantic
from pydantic.alias_generators import to_camel

from motoko.errors import NotAModelError, UnknownNodeError
from motoko.pipeline.base import BaseModel
from motoko.pipeline.extracts import Extracts
from motoko.pipeline.json_codec import MODEL_KEYS, decode
from motoko.pipeline.step import Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from motoko.graph import Graph, StatusChange
    from motoko.graph.explain import Explanation
    from motoko.pipeline.state import Interface


def alias(name: str) -> Any:
    """Return a property that is another name of a field."""
    return property(
        lambda self: getattr(self, name), lambda self, value: setattr(self, name, value)
    )


class Workflow(BaseModel):
    """Steps that are run in order, and what went into each of them and came out.

    A step whose input is the same as in its last run is skipped, unless another run of a step has
    left something else in the state since. ``use_extracts=False``: what is kept is not looked at,
    all steps run, but nodes that are fresh; ``populate_extracts=False``: nothing more is kept.
    ``steps_ran`` and ``steps_skipped`` are indices, and grow from run to run. The names of fields
    are also known as ``modelInputs``, ``useExtracts`` and so on.
    """

    model_config = pydantic.ConfigDict(alias_generator=to_camel, populate_by_name=True)

    steps: list[Step] = pydantic.Field(default_factory=list)
    model_inputs: Extracts = pydantic.Field(default_factory=Extracts)
    model_outputs: Extracts = pydantic.Field(default_factory=Extracts)
    models: dict[int, str] = pydantic.Field(default_factory=dict)  # which made the outputs
    runs: dict[int, str] = pydantic.Field(default_factory=dict)  # in which runs of the steps
    use_extracts: bool = True
    populate_extracts: bool = True
    steps_ran: list[int] = pydantic.Field(default_factory=list)
    steps_skipped: list[int] = pydantic.Field(default_factory=list)

    modelInputs = alias("model_inputs")
    modelOutputs = alias("model_outputs")
    useExtracts = alias("use_extracts")
    populateExtracts = alias("populate_extracts")
    stepsRan = alias("steps_ran")
    stepsSkipped = alias("steps_skipped")

    def __init__(
        self,
        steps: Iterable[Step | Mapping[str, Any]] | Step | Mapping[str, Any] = (),
        **fields: Any,
    ) -> None:
        super().__init__(**{"steps": steps, **fields})

    def compared_by(self) -> Any:
        """Return the fields but ``runs``, names that differ from run to run."""
        return {name: value for name, value in self.__dict__.items() if name != "runs"}

    @pydantic.field_validator("steps", mode="before")
    @classmethod
    def _as_steps(cls, steps: Any) -> list[Step]:
        if isinstance(steps, (Step, Mapping)):
            return [as_step(steps)]
        if isinstance(steps, str) or not hasattr(steps, "__iter__"):
            raise ValueError(_invalid(steps))
        return [as_step(step) for step in steps]

    @pydantic.field_validator("model_inputs", "model_outputs", mode="before")
    @classmethod
    def _as_extracts(cls, extracts: Any) -> Any:
        if isinstance(extracts, Mapping) and extracts.keys() != {"data"}:
            return Extracts(extracts)
        return extracts

    def run(
        self,
        state: Interface,
        *,
        keep_going: bool = False,
        observers: Iterable[Callable[[StatusChange], object]] = (),
    ) -> dict[str, Any] | None:
        """Run the steps in order; return what the last one passes on, by name in the state.

        A step that runs posts all its outputs; of one that is skipped only those are posted that
        the state does not have. None if there are no steps. What a model raises goes on, with a
        note that names the step, and nothing more is run; with ``keep_going`` what does not
        depend on it is run first. Then the step's output is forgotten.

        UnknownPathError (a ModuleNotFoundError) for a model, UnknownStateNameError (a KeyError)
        for a name that neither the state nor a step before provides: before anything is run.
        """
        from motoko.pipeline.execution import PipelineExecution

        return PipelineExecution(self, state).run(keep_going=keep_going, observers=observers)

    async def run_async(
        self,
        state: Interface,
        *,
        keep_going: bool = False,
        observers: Iterable[Callable[[StatusChange], object]] = (),
    ) -> dict[str, Any] | None:
        """Do as :meth:`run` does, in an event loop, without blocking it.

        Models whose ``run()`` is a coroutine function are awaited, as many at a time as do not
        depend on each other; others are called in a thread, one at a time.
        """
        from motoko.pipeline.execution import PipelineExecution

        execution = PipelineExecution(self, state)
        return await execution.run_in_loop(keep_going=keep_going, observers=observers)

    def graph(self, state: Interface) -> Graph:
        """Return the steps as a graph: what each would do with ``state``, and on what it depends.

        Its nodes are called ``0. Class`` and so on. It can be drawn, explained, and dry-run.
        """
        from motoko.pipeline.dry_run import graph

        return graph(self, state)

    def explain(self, state: Interface, index: int = -1) -> Explanation:
        """Return why a step (the last one by default) would run or be skipped, and what for."""
        made = self.graph(state)
        return made.explain([*made.nodes][index])

    def add_step(self, step: Step | Mapping[str, Any]) -> None:
        """Append a step, or a dictionary of its fields. ValueError for anything else."""
        self.steps.append(as_step(step))

    def get_model_input(self, index: int) -> dict[str, Any]:
        """Return a copy of what the model was last given, by field. KeyError if it was not."""
        return self._kept(self.model_inputs, index, "input")

    def get_model_output(self, index: int) -> dict[str, Any]:
        """Return a copy of what the model's ``run()`` last returned. KeyError if it did not."""
        return self._kept(self.model_outputs, index, "output")

    def get_model(self, index: int) -> Any:
        """Return the model of a step with what it was last given. KeyError if it was not."""
        model_input = self.get_model_input(index)
        if index not in range(len(self.steps)):
            raise self._unknown(index)
        return self.steps[index].extract_model_from_model_input(model_input)

    def _kept(self, extracts: Extracts, index: int, what: str) -> dict[str, Any]:
        if index in extracts:
            return extracts.get(index)
        if index not in range(len(self.steps)):
            raise self._unknown(index)
        raise UnknownNodeError(
            f"no {what} is kept of step {index} ({self.steps[index].model})",
            hint="It has not run, or has failed, or populate_extracts was False.",
        )

    def _unknown(self, index: int) -> UnknownNodeError:
        steps = f"steps 0 to {len(self.steps) - 1}" if self.steps else "no steps"
        return UnknownNodeError(f"there is no step {index!r}: the workflow has {steps}")

    addStep = add_step
    getModelInput = get_model_input
    getModelOutput = get_model_output
    getModel = get_model


def as_step(step: Any) -> Step:
    """Return a step, or one made of a dictionary of its fields; ValueError for anything else."""
    if isinstance(step, Mapping):
        try:
            step = decode(dict(step)) if step.keys() == MODEL_KEYS else Step(**step)
        except TypeError as error:  # a name that is no field
            raise ValueError(f"{_invalid(step)}: {error}") from error
    if not isinstance(step, Step):
        raise ValueError(_invalid(step))
    return step


def _invalid(step: object) -> str:
    return f"Invalid step: {step!r} is no Step, nor a dictionary of its fields"


def check_state(state: object) -> None:
    """Raise NotAModelError (a TypeError) for what is no state."""
    from motoko.pipeline.state import Interface

    if not isinstance(state, Interface):
        raise NotAModelError(
            f"a {type(state).__name__} is no state", hint="Use State({name: value, ...})."
        )
