"""``job`` and ``run``: the handles that a script works with."""

from __future__ import annotations

import os
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
from motoko.worker.values import ValueProblem, converted

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
        """Return the parameter ``name``, or ``default`` if the job has none of this name."""
        return self._values().get(name, default)

    def __reduce__(self) -> str:
        return "job"  # by name: another process finds its own


class Run:
    """This run: its fields as attributes and items, to read and to set; its state; quantities.

    A list or a dictionary that was changed in place is kept once it is assigned again.
    """

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
        # The attempt's directory is <run directory>/.motoko/<token>.
        return os.path.dirname(os.path.dirname(self._attempt.directory))

    @property
    def fields(self) -> dict[str, Any]:
        """The run's fields: given at creation, or set by processes of this attempt."""
        return {**self._attempt.inputs["fields"], **self._attempt.said()[0]}

    @property
    def job(self) -> Job:
        """The run's job."""
        return Job(self._attempt)

    @property
    def state(self) -> str:
        """The label that this attempt gave, or START. Assign to it to give one."""
        return self._attempt.said()[1] or "START"

    @state.setter
    def state(self, label: str) -> None:
        # The names of the lifecycle that a script has a say in are calls in another spelling.
        if label == "START":
            self.start()
        elif label == "FINISHED":
            self.finish()
        elif label == "FAILED":
            self.fail()
        else:
            self._attempt.say("state", label=label_text(label))

    def __getitem__(self, name: str) -> Any:
        if name in PROPERTIES:
            return object.__getattribute__(self, name)
        inputs = self._attempt.inputs
        if name in COLUMNS:
            return inputs[name]
        resources = inputs["resources"]
        if name in resources:
            return resources[name]
        fields = self.fields
        if name in fields:
            return fields[name]
        raise missing("the run has no field", name, [*fields, *COLUMNS, *PROPERTIES, *resources])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]

    def __setitem__(self, name: str, value: Any) -> None:
        if name == "state":
            self.state = value
        else:
            try:
                self._attempt.set_field(name, value, converted)
            except ValueProblem as problem:
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
        """Keep a number, a (nested) sequence of numbers or an array as ``name`` at ``step``."""
        what = f"quantity {quantity_name(name)!r}"
        number, content = whole_step(step, what), quantity_value(value, what)
        self._attempt.say("push", name=quantity_name(name), step=number, value=content)

    def start(self) -> None:
        """Note that the calculation proper begins now."""
        self._attempt.say("start")

    def finish(self) -> None:
        """Ask that the run be FINISHED; takes effect when the script has ended."""
        self._attempt.say("finish")

    def fail(self, reason: str = "") -> None:
        """Ask that the run be FAILED for ``reason``; takes effect when the script has ended."""
        self._attempt.say("fail", reason=str(reason))

    def __reduce__(self) -> str:
        return "run"  # by name: another process finds its own


def _value_error(problem: ValueProblem) -> WorkerValueError:
    """Return the error for a value; it names the file and line that set it."""
    frame = sys._getframe()  # noqa: SLF001 - `inspect` costs milliseconds
    while frame.f_back is not None and frame.f_globals["__name__"].startswith("motoko.worker"):
        frame = frame.f_back
    place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
    return WorkerValueError(f"{place}: {problem.message}", hint=problem.hint)
