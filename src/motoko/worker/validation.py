"""Validation of names, labels and quantities from scripts, and the errors of workers."""

from __future__ import annotations

from motoko.worker.values import HintedError, to_plain

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

MAX_NAME = 100
# The states of motoko.core, which costs too much to import; a test compares them.
LIFECYCLE = frozenset(
    {"CREATED", "SUBMITTED", "START", "FINISHED", "FAILED", "TIMEOUT", "CANCELLED", "LOST"}
)
# Names that a run field cannot have: columns, run options and attributes of handles.
RESERVED_FIELDS = frozenset({
    "id", "job_id", "state", "lifecycle", "label", "run_name", "replicate", "event_name",
    "attempt", "exit_code", "reason",
    "machine_name", "nproc", "timeout", "retries", "retry_delay", "generator", "bash_options",
    "slurm_options",
    "job", "study", "workflow", "directory", "history", "attempts", "fields", "key", "token",
    "finish", "fail", "start", "cancel", "retry", "push_quantity", "get_quantity", "quantity",
    "quantities", "stdout", "stderr", "open_file", "record",
})  # fmt: skip


class WorkerError(HintedError, RuntimeError):
    """An invalid or impossible request of a script."""


class WorkerValueError(WorkerError, TypeError):
    """A value that cannot be stored or does not fit its field's declared type."""


class WorkerNameError(WorkerError, AttributeError, KeyError):
    """A name that does not exist, or that cannot be set."""


def missing(what: str, name: object, known: Sequence[str]) -> WorkerNameError:
    """Return the error for an unknown ``name``, with the nearest known one."""
    from difflib import get_close_matches

    near = get_close_matches(str(name), known, n=1)
    if near:
        return WorkerNameError(f"{what} {name!r}", hint=f"Did you mean {near[0]!r}?")
    hint = f"Known: {', '.join(sorted(known))}." if known else "There are none."
    return WorkerNameError(f"{what} {name!r}", hint=hint)


def field_name(name: object) -> str:
    """Return ``name``, or raise WorkerNameError if a run field cannot have it."""
    if not isinstance(name, str) or not name.isidentifier() or name.startswith("_"):
        raise WorkerNameError(
            f"{name!r} cannot be the name of a run field",
            hint="Use letters, digits and underscores, beginning with a letter.",
        )
    if name in RESERVED_FIELDS:
        raise WorkerNameError(
            f"run.{name} is reserved and cannot be set", hint="Choose another field name."
        )
    return str.__str__(name)


def quantity_name(name: object) -> str:
    """Return ``name``, or raise WorkerError if a quantity cannot have it."""
    return _printable(name, "the name of a quantity")


def label_text(label: object) -> str:
    """Return ``label``, or raise WorkerError if a script cannot set it."""
    text = _printable(label, "a run's label")
    if text in LIFECYCLE:
        hint = "The launcher sets it, on evidence; choose another label."
        if text == "CREATED":
            hint = "To run it again call its retry() in the orchestrator, or set `retries`."
        raise WorkerError(f"a script cannot put its run in state {text}", hint=hint)
    return text


def _printable(text: object, what: str) -> str:
    if not isinstance(text, str) or not 0 < len(text) <= MAX_NAME or not text.isprintable():
        raise WorkerError(
            f"{text!r} cannot be {what}",
            hint=f"Use printable text of 1 to {MAX_NAME} characters.",
        )
    return str.__str__(text)


def quantity_value(value: Any, what: str) -> Any:
    """Return numbers, sequences and arrays as numbers and nested lists, or raise TypeError."""
    if isinstance(value, int | float):
        return to_plain(value, what)
    if isinstance(value, list | tuple | range):
        return [quantity_value(item, what) for item in value]
    if not isinstance(value, type):
        if hasattr(value, "tolist"):
            return quantity_value(to_plain(value, what), what)
        if hasattr(value, "item"):
            return quantity_value(value.item(), what)
    raise TypeError(
        f"{what}: a value of type {type(value).__name__} is not a number\n"
        "  Push numbers, sequences of numbers or arrays."
    )


def whole_step(step: Any, what: str) -> int:
    """Return ``step`` as an integer (7.0 is 7), or raise TypeError."""
    if isinstance(step, float) and step.is_integer():
        return int(step)
    try:
        return int(step.__index__())
    except AttributeError:
        raise TypeError(f"{what}: the step {step!r} is not a whole number") from None
