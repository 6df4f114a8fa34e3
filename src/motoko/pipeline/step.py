"""A step: a model, the sources of its fields, and the destinations of its results in a state."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any, cast

import pydantic

from motoko.errors import (
    GraphError,
    MissingOutputError,
    NotAModelError,
    NotEncodableError,
    StepResultTypeError,
    UnknownStateNameError,
    suggestion,
)
from motoko.graph import Node, Verdict
from motoko.graph.node import as_function
from motoko.graph.thread_driver import in_event_loop
from motoko.pipeline.base import BaseModel
from motoko.pipeline.import_paths import SCHEME, locate, path_of, read
from motoko.runtime.ports import SYSTEM, Random

if TYPE_CHECKING:
    from collections.abc import Container, Coroutine, Mapping, Sequence

    from motoko.pipeline.state import Interface


class Step(BaseModel):
    """One unit of work.

    ``model`` is a class with ``run()``, or its dotted path; a class is kept as its path and
    imported at each run. It may also be a node of a step graph, such as runs of a study, or a
    reference ``python://module.NAME`` to a node, which receives the inputs and decides itself
    whether it is fresh. ``inputs`` are ``{name in the state: field of the model}``; the last of
    two names for one field is used. ``outputs`` are ``{key of the result of run(): name in the
    state}``; other keys are dropped.
    """

    model: str
    inputs: dict[str, str] = pydantic.Field(default_factory=dict)
    outputs: dict[str, str] = pydantic.Field(default_factory=dict)
    # Nodes, and classes in functions, cannot be imported by path.
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

    def comparison_key(self) -> Any:
        """Return the fields, and the identity of a node that is the model."""
        return [self.__dict__, id(self._local) if isinstance(self._local, Node) else None]

    def json_fields(self) -> dict[str, Any]:
        """Return the fields. NotEncodableError if the model is a node."""
        if isinstance(self._local, Node):
            raise NotEncodableError(
                f"the step {self.model} has a node as its model, which cannot be written as JSON",
                hint="Refer to the node instead: Step(model='python://module.NAME').",
            )
        return super().json_fields()

    def node(self) -> Node | None:
        """Return the node that is the model, or None; raise UnknownPathError or NotAModelError."""
        if not self.model.startswith(SCHEME) or self._local is not None:
            return self._local if isinstance(self._local, Node) else None
        found = read(self.model, reload_module=False)
        if not isinstance(found, Node):
            raise NotAModelError(f"{self.model} is not a node but {found!r}")
        return found

    def model_class(self) -> type[Any]:
        """Return the class of the model, or one that builds the node; raise as :meth:`node`."""
        node = self.node()
        if node is not None:
            return model_of(node, [*self.outputs])
        found = self._local or locate(self.model, "model")
        if not (isinstance(found, type) and callable(getattr(found, "run", None))):
            problem = "it has no method run()" if isinstance(found, type) else f"it is {found!r}"
            raise NotAModelError(
                f"{self.model} is not a model: {problem}",
                hint="A model is a class that has fields and a method run(), or a node.",
            )
        return found

    def run(self, state: Interface) -> dict[str, Any]:
        """Run the model on values of ``state``; post its results there and return them by name."""
        state_input = self.extract_state_input_from_state(state)
        state.check_postable(self.get_state_output_names())
        output = self.execute(self.extract_model_input_from_state_input(state_input))
        state_output = self.extract_state_output_from_model_output(output)
        self.post_state_output_to_state(state_output, state)
        return state_output

    def execute(self, model_input: Mapping[str, Any]) -> dict[str, Any]:
        """Run the model with these fields; check and return its result.

        Exceptions of the model are raised unchanged: pydantic.ValidationError (a ValueError) for
        a field of a wrong type. StepResultTypeError (a TypeError) if the result is not a
        dictionary, MissingOutputError (a KeyError) if it lacks a key of ``outputs``. A ``run()``
        that is a coroutine function runs in a new event loop.
        """
        output = self.extract_model_from_model_input(model_input).run()
        return self._checked(_run_in_new_loop(output) if inspect.iscoroutine(output) else output)

    async def execute_async(self, model_input: Mapping[str, Any]) -> dict[str, Any]:
        """Run a model whose ``run()`` is a coroutine function as :meth:`execute` does."""
        return self._checked(await self.extract_model_from_model_input(model_input).run())

    def _checked(self, output: Any) -> dict[str, Any]:
        if not isinstance(output, dict):
            raise StepResultTypeError(
                f"{self.model}.run() returned a {type(output).__name__}, no dictionary",
                hint="Return {key: value}; the outputs of the step name the destinations.",
            )
        for key in self.outputs:
            if key not in output:
                raise MissingOutputError(
                    f"{self.model}.run() returned no {key!r}, which the step must pass on",
                    hint=suggestion(key, [*map(str, output)]),
                )
        return cast("dict[str, Any]", output)

    def get_state_input_names(self) -> list[str]:
        """Return the names that the step reads from the state."""
        return [*self.inputs]

    def get_model_input_names(self) -> list[str]:
        """Return the fields of the model that the step sets."""
        return [*self.inputs.values()]

    def get_model_output_names(self) -> list[str]:
        """Return the keys of the model's result that the step passes on."""
        return [*self.outputs]

    def get_state_output_names(self) -> list[str]:
        """Return the names that the step writes to the state."""
        return [*self.outputs.values()]

    def extract_state_input_from_state(self, state: Interface) -> dict[str, Any]:
        """Return the inputs, by name in the state."""
        return {name: state.extract(name) for name in self.inputs}

    def extract_model_input_from_state_input(
        self, state_input: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the inputs, by field of the model."""
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
                    error.add_note(f"{field} is {name!r} of the state")
            raise

    def extract_state_output_from_model_output(self, output: Mapping[str, Any]) -> dict[str, Any]:
        """Return the outputs in a model's result, by name in the state."""
        return {name: output[key] for key, name in self.outputs.items()}

    def post_state_output_to_state(
        self, state_output: Mapping[str, Any], state: Interface, run: str | None = None
    ) -> None:
        """Post all outputs to the state, or none; ``run`` names the run of the step."""
        state.post_step_output(state_output, run or new_run_id())

    getStateInputNames = get_state_input_names
    getModelInputNames = get_model_input_names
    getModelOutputNames = get_model_output_names
    getStateOutputNames = get_state_output_names
    extractStateInputFromState = extract_state_input_from_state
    extractModelInputFromStateInput = extract_model_input_from_state_input
    extractModelFromModelInput = extract_model_from_model_input
    extractStateOutputFromModelOutput = extract_state_output_from_model_output
    postStateOutputToState = post_state_output_to_state


def new_run_id(rng: Random = SYSTEM.rng) -> str:
    """Return a unique name for a run of a step."""
    return rng.token(8)


def _run_in_new_loop(coroutine: Coroutine[Any, Any, Any]) -> Any:
    if not in_event_loop():
        return asyncio.run(coroutine)
    coroutine.close()
    raise GraphError(
        "the model's run() is a coroutine function, and an event loop is running",
        hint="Use `await workflow.run_async(state)`.",
    )


def model_of(node: Node, keys: Sequence[str]) -> type[Any]:
    """Return a class whose ``run()`` builds the node and returns these parts of its value."""
    build = as_function(node)

    class NodeModel:
        def __init__(self, **values: Any) -> None:
            check_requirements_given(node, values)
            self.values = values

        def __repr__(self) -> str:
            given = ", ".join(f"{name}={value!r}" for name, value in self.values.items())
            return f"<model of node {node.name!r}: {given}>"

    class PlainModel(NodeModel):
        def run(self) -> dict[str, Any]:
            return parts_of(node, build(**self.values), keys)

    class AsyncModel(NodeModel):
        async def run(self) -> dict[str, Any]:
            return parts_of(node, await build(**self.values), keys)

    return AsyncModel if node.is_async else PlainModel


def check_node(node: Node, values: Mapping[str, Any]) -> Verdict:
    """Return whether the node is fresh with these values as its inputs."""
    check_requirements_given(node, values)
    return node.with_values(values).check(ready=True)


def check_requirements_given(node: Node, values: Container[str]) -> None:
    """Raise UnknownStateNameError if a requirement of the node is not among ``values``."""
    for name in node.requires:
        if name not in values:
            raise UnknownStateNameError(
                f"{node.name!r} requires {name!r}, which is not among the inputs of its step",
                hint=f"Add it: inputs={{name in the state: {name!r}}}.",
            )


def parts_of(node: Node, value: Any, keys: Sequence[str]) -> dict[str, Any]:
    """Return these parts of the value of a node."""
    return {key: _part(node, value, key) for key in keys}


def _part(node: Node, value: Any, key: str) -> Any:
    if isinstance(value, list):
        return [_part(node, one, key) for one in value]
    try:
        return value[key]
    except (KeyError, TypeError) as error:
        raise MissingOutputError(
            f"the value of {node.name!r} has no {key!r}, which its step must pass on",
            hint=str(error.args[0]) if error.args else None,
        ) from error
