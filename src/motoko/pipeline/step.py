"""A step: a model, and which slots of a state its fields come from and its results go to."""

from __future__ import annotations

import asyncio
import inspect
import secrets
from typing import TYPE_CHECKING, Any

import pydantic

from motoko.errors import (
    GraphError,
    MissingOutputError,
    NotAModelError,
    NotEncodableError,
    StepResultTypeError,
    suggestion,
)
from motoko.graph import Node
from motoko.pipeline.base import BaseModel
from motoko.pipeline.import_paths import SCHEME, locate, path_of, read
from motoko.pipeline.node_adapters import model_of

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from motoko.pipeline.state import Interface


class Step(BaseModel):
    """One unit of work.

    ``model`` is a class with ``run()``, or its dotted path; a class is kept as its path and found
    again at each run. Or it is a node of a step graph, such as runs of a study, or a reference
    ``python://module.NAME`` to one: it is given the inputs, and says itself whether it is fresh.
    ``inputs`` are ``{name in the state: field of the model}``; of two names for
    one field the last wins. ``outputs`` are ``{key of what run() returns: name in the state}``;
    other keys go nowhere.
    """

    model: str
    inputs: dict[str, str] = pydantic.Field(default_factory=dict)
    outputs: dict[str, str] = pydantic.Field(default_factory=dict)
    # A class in a function cannot be found by its path, nor a node by its name.
    _local: type[Any] | Node | None = pydantic.PrivateAttr(default=None)

    def __init__(
        self,
        model: type[Any] | Node | str,
        inputs: Mapping[str, str] | None = None,
        outputs: Mapping[str, str] | None = None,
    ) -> None:
        path = model.name if isinstance(model, Node) else model
        path = path_of(path) if isinstance(path, type) else path
        fields: dict[str, Any] = {"model": path, "inputs": inputs or {}, "outputs": outputs or {}}
        super().__init__(**fields)
        if isinstance(model, Node) or (isinstance(model, type) and "<locals>" in path):
            self._local = model

    @pydantic.field_validator("model", mode="before")
    @classmethod
    def _as_path(cls, model: Any) -> Any:
        if isinstance(model, str):
            return model
        raise ValueError(f"a class with run(), its dotted path, or a node is needed, not {model!r}")

    def compared_by(self) -> Any:
        """Return the fields, and which node is the model if it is one."""
        return [self.__dict__, id(self._local) if isinstance(self._local, Node) else None]

    def written_as(self) -> dict[str, Any]:
        """Return the fields. NotEncodableError for a node, which has no path."""
        if isinstance(self._local, Node):
            raise NotEncodableError(
                f"the step {self.model} has a node for its model, which cannot be written as JSON",
                hint="Refer to the node instead: Step(model='python://module.NAME').",
            )
        return super().written_as()

    def node(self) -> Node | None:
        """Return the node that is the model, None where it is a class.

        UnknownPathError if a reference leads nowhere, NotAModelError if to something else.
        """
        if not self.model.startswith(SCHEME) or self._local is not None:
            return self._local if isinstance(self._local, Node) else None
        found = read(self.model, reload_module=False)
        if not isinstance(found, Node):
            raise NotAModelError(f"{self.model} is no node: it is {found!r}")
        return found

    def model_class(self) -> type[Any]:
        """Return the class of the model; that of a node has the node made.

        UnknownPathError (a ModuleNotFoundError) if its path leads nowhere, NotAModelError (a
        TypeError) if it leads to something else than a class with ``run()`` or a node.
        """
        node = self.node()
        if node is not None:
            return model_of(node, [*self.outputs])
        found = self._local or locate(self.model, "model")
        if not (isinstance(found, type) and callable(getattr(found, "run", None))):
            what = "it has no method run()" if isinstance(found, type) else f"it is {found!r}"
            raise NotAModelError(
                f"{self.model} is no model: {what}",
                hint="A model is a class that has fields and a method run(), or a node.",
            )
        return found

    def run(self, state: Interface) -> dict[str, Any]:
        """Run the model on what ``state`` holds, post what it returns, and return that by name.

        Raises what :meth:`execute` raises, and errors of the state.
        """
        state_input = self.extract_state_input_from_state(state)
        state.check_postable(self.get_state_output_names())
        output = self.execute(self.extract_model_input_from_state_input(state_input))
        state_output = self.extract_state_output_from_model_output(output)
        self.post_state_output_to_state(state_output, state)
        return state_output

    def execute(self, model_input: Mapping[str, Any]) -> dict[str, Any]:
        """Run the model with these fields and return what its ``run()`` does, which is checked.

        What the model raises goes on: pydantic.ValidationError (a ValueError) for a field of a
        wrong type. StepResultTypeError (a TypeError) if the result is no dictionary,
        MissingOutputError (a KeyError) if it lacks a key of ``outputs``. A ``run()`` that is a
        coroutine function gets an event loop of its own.
        """
        output = self.extract_model_from_model_input(model_input).run()
        return self._checked(_awaited(output) if inspect.iscoroutine(output) else output)

    async def execute_async(self, model_input: Mapping[str, Any]) -> dict[str, Any]:
        """Do as :meth:`execute` does with a model whose ``run()`` is a coroutine function."""
        return self._checked(await self.extract_model_from_model_input(model_input).run())

    def _checked(self, output: Any) -> dict[str, Any]:
        if not isinstance(output, dict):
            raise StepResultTypeError(
                f"{self.model}.run() returned a {type(output).__name__}, no dictionary",
                hint="Return {key: value}; the step's outputs say where each value goes.",
            )
        for key in self.outputs:
            if key not in output:
                raise MissingOutputError(
                    f"{self.model}.run() returned no {key!r}, which the step passes on",
                    hint=suggestion(key, [*map(str, output)]),
                )
        made: dict[str, Any] = output
        return made

    def get_state_input_names(self) -> list[str]:
        """Return the names in the state that are read."""
        return [*self.inputs]

    def get_model_input_names(self) -> list[str]:
        """Return the fields of the model that are given."""
        return [*self.inputs.values()]

    def get_model_output_names(self) -> list[str]:
        """Return the keys of the model's result that are passed on."""
        return [*self.outputs]

    def get_state_output_names(self) -> list[str]:
        """Return the names in the state that are written."""
        return [*self.outputs.values()]

    def extract_state_input_from_state(self, state: Interface) -> dict[str, Any]:
        """Return what is read of the state, by name there."""
        return {name: state.extract(name) for name in self.inputs}

    def extract_model_input_from_state_input(
        self, state_input: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return what was read of the state, by field of the model."""
        return {field: state_input[name] for name, field in self.inputs.items()}

    def extract_model_from_model_input(self, model_input: Mapping[str, Any]) -> Any:
        """Return the model with these fields."""
        model = self.model_class()
        try:
            return model(**model_input)
        except pydantic.ValidationError as error:
            wrong = [one["loc"][0] for one in error.errors() if one["loc"]]
            for name, field in self.inputs.items():
                if field in wrong:
                    error.add_note(f"{field} is what the state has as {name!r}")
            raise

    def extract_state_output_from_model_output(self, output: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is passed on of a model's result, by name in the state."""
        return {name: output[key] for key, name in self.outputs.items()}

    def post_state_output_to_state(
        self, state_output: Mapping[str, Any], state: Interface, run: str | None = None
    ) -> None:
        """Post values to the state: all of them, or none if that fails.

        ``run`` names the run of the step that made them, a new one if not given.
        """
        state.post_of_step(state_output, run or new_run())

    getStateInputNames = get_state_input_names
    getModelInputNames = get_model_input_names
    getModelOutputNames = get_model_output_names
    getStateOutputNames = get_state_output_names
    extractStateInputFromState = extract_state_input_from_state
    extractModelInputFromStateInput = extract_model_input_from_state_input
    extractModelFromModelInput = extract_model_from_model_input
    extractStateOutputFromModelOutput = extract_state_output_from_model_output
    postStateOutputToState = post_state_output_to_state


def new_run() -> str:
    """Return a name for a run of a step, which no other run has."""
    return secrets.token_hex(8)


def _awaited(coroutine: Coroutine[Any, Any, Any]) -> Any:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    coroutine.close()
    raise GraphError(
        "the model's run() is a coroutine function, and this is an event loop",
        hint="Use `await workflow.run_async(state)`.",
    )
