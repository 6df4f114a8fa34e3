"""The handles of a script: ``job`` and ``run``."""

from __future__ import annotations

import sys

from motoko.worker.validation import (
    WorkerNameError,
    WorkerValueError,
    label_text,
    missing,
    quantity_name,
    quantity_value,
    whole_step,
)
from motoko.worker.values import PlainValueError, convert_to_type

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from motoko.worker.attempt_context import AttemptContext

COLUMNS = ("id", "job_id", "run_name", "study", "replicate", "attempt", "workflow")
PROPERTIES = ("directory", "fields", "job", "state")


class Job:
    """The job of this run: its parameters as attributes and items. Read-only."""

    __module__ = "motoko.worker"  # where `job` and `run` are: they are pickled by name
    __slots__ = ("_attempt",)

    if TYPE_CHECKING:
        _attempt: AttemptContext

    def __init__(self, attempt: AttemptContext) -> None:
        object.__setattr__(self, "_attempt", attempt)

    def _values(self) -> dict[str, Any]:
        values: dict[str, Any] = self._attempt.inputs["job"]
        return values

    def __getitem__(self, name: str) -> Any:
        values = self._values()
        if name in values:
            return values[name]
        if name == "id":
            return self._attempt.inputs["job_id"]
        raise missing("the job has no parameter", name, list(values))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]

    def __setattr__(self, name: str, value: Any) -> None:
        raise WorkerNameError(
            f"job.{name} cannot be set: the parameters of a job do not change",
            hint=f"To keep a result, set a field of the run: run.{name} = ...",
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._values())

    def __len__(self) -> int:
        return len(self._values())

    def __contains__(self, name: object) -> bool:
        return name in self._values()

    def keys(self) -> list[str]:
        """Return the names of the parameters."""
        return list(self._values())

    def values(self) -> list[Any]:
        """Return the values of the parameters."""
        return list(self._values().values())

    def items(self) -> list[tuple[str, Any]]:
        """Return names and values of the parameters."""
        return list(self._values().items())

    def get(self, name: str, default: Any = None) -> Any:
        """Return the parameter ``name``, or ``default`` without one."""
        return self._values().get(name, default)

    def __reduce__(self) -> str:
        return "job"  # by name, for the object of the other process


class Run:
    """This run: state, quantities, and fields as attributes and items (assigned, not mutated)."""

    __module__ = "motoko.worker"  # where `job` and `run` are: they are pickled by name
    __slots__ = ("_attempt",)

    if TYPE_CHECKING:
        _attempt: AttemptContext
        id: int
        job_id: int
        run_name: str
        study: str
        replicate: int
        attempt: int
        workflow: str

    def __init__(self, attempt: AttemptContext) -> None:
        object.__setattr__(self, "_attempt", attempt)

    @property
    def directory(self) -> str:
        """The run's directory: where the script starts."""
        return self._attempt.run_directory

    @property
    def fields(self) -> dict[str, Any]:
        """The run's fields: from its creation and from processes of this attempt."""
        return {**self._attempt.inputs["fields"], **self._attempt.read_outbox()[0]}

    @property
    def job(self) -> Job:
        """The run's job."""
        return Job(self._attempt)

    @property
    def state(self) -> str:
        """The label that this attempt has set, or START. Assign to it to set one."""
        return self._attempt.read_outbox()[1] or "START"

    @state.setter
    def state(self, label: str) -> None:
        # Some lifecycle states are shorthands for methods.
        if label == "START":
            self.start()
        elif label == "FINISHED":
            self.finish()
        elif label == "FAILED":
            self.fail()
        else:
            self._attempt.append("state", label=label_text(label))

    def __getitem__(self, name: str) -> Any:
        if name in PROPERTIES:
            return object.__getattribute__(self, name)
        inputs = self._attempt.inputs
        if name in COLUMNS:
            return inputs[name]
        options = inputs["resources"]
        if name in options:
            return options[name]
        fields = self.fields
        if name in fields:
            return fields[name]
        raise missing("the run has no field", name, [*fields, *COLUMNS, *PROPERTIES, *options])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]

    def __setitem__(self, name: str, value: Any) -> None:
        if name == "state":
            self.state = value
        else:
            try:
                self._attempt.set_field(name, value, convert_to_type)
            except PlainValueError as problem:
                raise _value_error(problem) from None

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "state":
            object.__setattr__(self, name, value)
        else:
            self[name] = value

    def __iter__(self) -> Iterator[str]:
        return iter(self.fields)

    def __contains__(self, name: object) -> bool:
        return name in self.fields

    def push_quantity(self, name: str, value: Any, step: int = 0) -> None:
        """Store a number, a (nested) sequence of numbers or an array as ``name`` at ``step``."""
        what = f"quantity {quantity_name(name)!r}"
        number, content = whole_step(step, what), quantity_value(value, what)
        self._attempt.append("push", name=quantity_name(name), step=number, value=content)

    def start(self) -> None:
        """Record the start of the calculation proper."""
        self._attempt.append("start")

    def finish(self) -> None:
        """Request the outcome FINISHED, which takes effect at the end of the script."""
        self._attempt.append("finish")

    def fail(self, reason: str = "") -> None:
        """Request the outcome FAILED for ``reason``; it takes effect at the end of the script."""
        self._attempt.append("fail", reason=str(reason))

    def __reduce__(self) -> str:
        return "run"  # by name, for the object of the other process


def _value_error(problem: PlainValueError) -> WorkerValueError:
    """Return the error for a value; it names the file and line that set it."""
    frame = sys._getframe()  # noqa: SLF001 - `inspect` costs milliseconds
    while frame.f_back is not None and frame.f_globals["__name__"].startswith("motoko.worker"):
        frame = frame.f_back
    location = f"{frame.f_code.co_filename}:{frame.f_lineno}"
    return WorkerValueError(f"{location}: {problem.message}", hint=problem.hint)
