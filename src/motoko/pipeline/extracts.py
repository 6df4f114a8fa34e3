"""Copies of the inputs and outputs of steps, and the steps of a workflow together with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pydantic
from pydantic.alias_generators import to_camel

from motoko.errors import UnknownNodeError
from motoko.pipeline.base import BaseModel
from motoko.pipeline.json_codec import MODEL_KEYS, decode
from motoko.pipeline.step import Step
from motoko.pipeline.values import snapshot, values_equal


class Extracts(BaseModel):
    """Copies of dictionaries of values, by the index of the step."""

    data: dict[int, dict[str, Any]] = pydantic.Field(default_factory=dict)
    # Values that cannot be copied may change unnoticed.
    _uncopied: set[int] = pydantic.PrivateAttr(default_factory=set)

    def __init__(self, data: Mapping[int, Mapping[str, Any]] | None = None) -> None:
        fields: dict[str, Any] = {"data": data or {}}
        super().__init__(**fields)

    def comparison_key(self) -> Any:
        """Return the data."""
        return self.data

    def get(self, index: int) -> dict[str, Any]:
        """Return a copy of the values of a step. KeyError if there are none."""
        if index not in self.data:
            raise UnknownNodeError(f"no values of step {index!r} are kept")
        return _copied(self.data[index])[0]

    def add(self, index: int, values: Mapping[str, Any]) -> None:
        """Keep a copy of the values; a value that cannot be copied is kept as it is."""
        self.data[index], complete = _copied(values)
        self._uncopied.discard(index)
        if not complete:
            self._uncopied.add(index)

    def remove(self, index: int) -> None:
        """Remove the values of a step, if there are any."""
        self.data.pop(index, None)
        self._uncopied.discard(index)

    def equal(self, index: int, values: Mapping[str, Any]) -> bool:
        """Whether the values of a step are known to be equal to ``values``."""
        return index in self.data and not self.changes(index, values)

    def changes(self, index: int, values: Mapping[str, Any]) -> list[str]:
        """Return the names of the values that are not known to be equal to the kept ones."""
        kept = self.data[index]
        names = dict.fromkeys([*values, *kept])
        if index in self._uncopied:
            return [*names]
        return [
            name
            for name in names
            if name not in values or name not in kept or not values_equal(values[name], kept[name])
        ]

    def __contains__(self, index: object) -> bool:
        return index in self.data


def _copied(values: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return a copy of each value, and whether all of them could be copied."""
    copies: dict[str, Any] = {}
    complete = True
    for name, value in values.items():
        try:
            copies[name] = snapshot(value)
        except Exception:  # noqa: BLE001 - copying may raise anything
            copies[name], complete = value, False
    return copies, complete


def alias(name: str) -> Any:
    """Return a property that is another name of a field."""
    return property(
        lambda self: getattr(self, name), lambda self, value: setattr(self, name, value)
    )


class CachedSteps(BaseModel):
    """Steps in order, with the inputs and outputs of their last runs."""

    model_config = pydantic.ConfigDict(alias_generator=to_camel, populate_by_name=True)

    steps: list[Step] = pydantic.Field(default_factory=list)
    model_inputs: Extracts = pydantic.Field(default_factory=Extracts)
    model_outputs: Extracts = pydantic.Field(default_factory=Extracts)
    models: dict[int, str] = pydantic.Field(default_factory=dict)  # the models of the outputs
    runs: dict[int, str] = pydantic.Field(default_factory=dict)  # the last run of each step
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

    def comparison_key(self) -> Any:
        """Return the fields without ``runs``, whose names are random."""
        return {name: value for name, value in self.__dict__.items() if name != "runs"}

    @pydantic.field_validator("steps", mode="before")
    @classmethod
    def _as_steps(cls, steps: Any) -> list[Step]:
        if isinstance(steps, (Step, Mapping)):
            return [as_step(steps)]
        if isinstance(steps, str) or not hasattr(steps, "__iter__"):
            raise ValueError(_invalid_step(steps))
        return [as_step(step) for step in steps]

    @pydantic.field_validator("model_inputs", "model_outputs", mode="before")
    @classmethod
    def _as_extracts(cls, extracts: Any) -> Any:
        if isinstance(extracts, Mapping) and extracts.keys() != {"data"}:
            return Extracts(extracts)
        return extracts

    def add_step(self, step: Step | Mapping[str, Any]) -> None:
        """Append a step, or a dictionary of its fields. ValueError for anything else."""
        self.steps.append(as_step(step))

    def get_model_input(self, index: int) -> dict[str, Any]:
        """Return a copy of the last input of the model, by field. KeyError if there is none."""
        return self._extract(self.model_inputs, index, "input")

    def get_model_output(self, index: int) -> dict[str, Any]:
        """Return a copy of the last output of the model. KeyError if there is none."""
        return self._extract(self.model_outputs, index, "output")

    def get_model(self, index: int) -> Any:
        """Return the model of a step with its last input. KeyError if there is none."""
        model_input = self.get_model_input(index)
        return self._step(index).extract_model_from_model_input(model_input)

    def _extract(self, extracts: Extracts, index: int, kind: str) -> dict[str, Any]:
        if index in extracts:
            return extracts.get(index)
        model = self._step(index).model
        raise UnknownNodeError(
            f"no {kind} of step {index} ({model}) is kept",
            hint="It has not run, or has failed, or populate_extracts was False.",
        )

    def _step(self, index: int) -> Step:
        """Return a step; UnknownNodeError if it does not exist."""
        if index in range(len(self.steps)):
            return self.steps[index]
        steps = f"steps 0 to {len(self.steps) - 1}" if self.steps else "no steps"
        raise UnknownNodeError(f"step {index!r} does not exist: the workflow has {steps}")

    addStep = add_step
    getModelInput = get_model_input
    getModelOutput = get_model_output
    getModel = get_model


def as_step(step: Any) -> Step:
    """Return a step, or a step with these fields; ValueError for anything else."""
    if isinstance(step, Mapping):
        try:
            step = decode(dict(step)) if step.keys() == MODEL_KEYS else Step(**step)
        except TypeError as error:  # an unknown field
            raise ValueError(f"{_invalid_step(step)}: {error}") from error
    if not isinstance(step, Step):
        raise ValueError(_invalid_step(step))
    return step


def _invalid_step(step: object) -> str:
    return f"Invalid step: {step!r} is neither a Step nor a dictionary of its fields"
