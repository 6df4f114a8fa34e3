"""A runner: a workflow and a state, given as instances or by reference."""

from __future__ import annotations

from typing import Any, TypeVar

import pydantic

from motoko.errors import NotAModelError, NothingToRerunError
from motoko.pipeline.base import BaseModel
from motoko.pipeline.extracts import alias
from motoko.pipeline.import_paths import read
from motoko.pipeline.state import Interface
from motoko.pipeline.workflow import Workflow

T = TypeVar("T")


class Runner(BaseModel):
    """Runs a workflow on a state, and again.

    Both may be instances, which are used as they are, or references ``python://module.NAME``,
    which stay text. Each :meth:`run` imports the module of a reference again, to get new objects.
    A reference to a function stands for its result without arguments. ``rerun_workflow`` and
    ``rerun_state`` are those of the last run, None before.
    """

    workflow: Workflow | str
    state: pydantic.SerializeAsAny[Interface] | str
    _rerun_workflow: Workflow | None = pydantic.PrivateAttr(default=None)
    _rerun_state: Interface | None = pydantic.PrivateAttr(default=None)

    rerun_workflow = rerunWorkflow = alias("_rerun_workflow")
    rerun_state = rerunState = alias("_rerun_state")

    def __init__(self, workflow: Workflow | str, state: Interface | str) -> None:
        fields: dict[str, Any] = {"workflow": workflow, "state": state}
        super().__init__(**fields)

    def comparison_key(self) -> Any:
        """Return the fields."""
        return self.__dict__

    def run(self, *, keep_going: bool = False) -> dict[str, Any] | None:
        """Run the workflow and return the output of its last step, see :meth:`Workflow.run`.

        UnknownPathError (a ModuleNotFoundError) for a reference to nothing, NotAModelError (a
        TypeError) for a reference to an object of another class.
        """
        workflow, state = self.get_workflow(), self.get_state()
        self.rerun_workflow, self.rerun_state = workflow, state
        return workflow.run(state, keep_going=keep_going)

    def rerun(
        self,
        use_extracts: bool | None = None,
        populate_extracts: bool | None = None,
        *,
        useExtracts: bool | None = None,
        populateExtracts: bool | None = None,
        keep_going: bool = False,
    ) -> dict[str, Any] | None:
        """Run the workflow of the last run on the state of the last run.

        The flags, under either name, are set on that workflow. NothingToRerunError (a ValueError)
        before the first run.
        """
        workflow = self.get_rerun_workflow(
            use_extracts,
            populate_extracts,
            useExtracts=useExtracts,
            populateExtracts=populateExtracts,
        )
        return workflow.run(self.get_rerun_state(), keep_going=keep_going)

    def get_workflow(self) -> Workflow:
        """Return the workflow; a new one if it is a reference."""
        return _resolve(self.workflow, Workflow)

    def get_state(self) -> Interface:
        """Return the state; a new one if it is a reference."""
        return _resolve(self.state, Interface)  # type: ignore[type-abstract]

    def get_rerun_workflow(
        self,
        use_extracts: bool | None = None,
        populate_extracts: bool | None = None,
        *,
        useExtracts: bool | None = None,
        populateExtracts: bool | None = None,
    ) -> Workflow:
        """Return the workflow of the last run with these flags set, see :meth:`rerun`."""
        workflow = self._rerun_workflow
        if workflow is None:
            raise _nothing_to_rerun("rerunWorkflow")
        flags = {"use_extracts": use_extracts, "populate_extracts": populate_extracts}
        camel_case = {"use_extracts": useExtracts, "populate_extracts": populateExtracts}
        for name, value in [*flags.items(), *camel_case.items()]:
            if value is not None:
                setattr(workflow, name, value)
        return workflow

    def get_rerun_state(self) -> Interface:
        """Return the state of the last run; NothingToRerunError before the first run."""
        if self._rerun_state is None:
            raise _nothing_to_rerun("rerunState")
        return self._rerun_state

    getWorkflow = get_workflow
    getState = get_state
    getRerunWorkflow = get_rerun_workflow
    getRerunState = get_rerun_state


def _resolve(given: T | str, kind: type[T]) -> T:
    if not isinstance(given, str):
        return given
    found = read(given)
    if callable(found) and not isinstance(found, kind):
        found = found()
    if not isinstance(found, kind):
        raise NotAModelError(
            f"{given} is a {type(found).__name__}, not a {kind.__name__}",
            hint=f"Refer to a {kind.__name__}, or to a function that returns one.",
        )
    return found


def _nothing_to_rerun(name: str) -> NothingToRerunError:
    return NothingToRerunError(f"Cannot rerun workflow without a {name}", hint="Call run() first.")
