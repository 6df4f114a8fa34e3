"""The errors of Motoko.

The first line of a message names the object and the place; ``hint`` suggests the next step.
"""

from __future__ import annotations

import errno
from enum import IntEnum
from types import MappingProxyType

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

_ROOM = "Free disk space, and repeat the command: nothing is lost."
_WRITABLE = "This command needs a writable directory; `motoko info` only reads."
WRITE_HINTS = MappingProxyType(
    {errno.ENOSPC: _ROOM, errno.EDQUOT: _ROOM, errno.EROFS: _WRITABLE, errno.EACCES: _WRITABLE}
)


class ExitStatus(IntEnum):
    """The exit status of a command; after a signal it is 128 + the signal's number."""

    OK = 0
    ERROR = 1
    USAGE = 2  # invalid arguments, motoko.yaml, bd.yaml or orchestrator module
    FAILED = 3  # a failed run was not handled
    STALLED = 4  # no run can change state
    WAIT_TIMEOUT = 124  # `motoko wait --timeout`
    INTERRUPTED = 130  # Ctrl-C
    BROKEN_PIPE = 141  # the reader of the output exited


class MotokoError(Exception):
    """Base of all errors of Motoko."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n  {self.hint}"


class ConfigError(MotokoError):
    """``motoko.yaml``, ``bd.yaml`` or a file named there is missing or invalid."""

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        line: int | None = None,
        hint: str | None = None,
    ) -> None:
        location = "" if file is None else f"{file}: " if line is None else f"{file}:{line}: "
        super().__init__(location + message, hint=hint)
        self.file = file
        self.line = line


class NotAWorkflowError(ConfigError):
    """No ``motoko.yaml`` here or in any directory above."""


class OrchestratorLoadError(ConfigError):
    """The orchestrator function could not be loaded."""


class ParameterError(MotokoError, ValueError):
    """A job parameter, run field or stored value is unknown, missing or of the wrong type."""


class ConstraintError(MotokoError, ValueError):
    """A constraint cannot be parsed or names an unknown column.

    ``nearness`` is the likeness of an unknown name to a known one: 1 if no name is unknown, 2 if
    a name is ambiguous.
    """

    nearness: float = 1.0


class EventError(MotokoError, ValueError):
    """An event condition or action cannot be registered as given."""


class ReplayError(MotokoError):
    """The calls of a rerun action differ from those of its committed segments."""


class RunNameError(MotokoError, ValueError):
    """A run name is missing or invalid."""


class StateError(MotokoError, ValueError):
    """A transition or label that the lifecycle of a run does not allow."""


class UnknownNameError(MotokoError, AttributeError):
    """An attribute (a task manager, a variable, a field) that does not exist."""


class SqlError(MotokoError, ValueError):
    """An SQL query is invalid, or does more than read."""


class UnknownRunError(MotokoError, LookupError):
    """The study has no run or job with this id."""


class ConfirmationError(MotokoError):
    """A command that would change several runs cannot ask whether to continue."""


class StorageError(MotokoError):
    """The workflow's database cannot be used."""


class NoDatabaseError(StorageError):
    """The workflow has no database yet."""

    def __init__(self, message: str) -> None:
        hint = "Run the workflow with `motoko run`, or create a database with `motoko create`."
        super().__init__(message, hint=hint)


class DatabaseExistsError(StorageError):
    """Results exist, and the caller did not allow their removal."""


class DatabaseVersionError(StorageError):
    """The database has the format of an incompatible version of Motoko."""


class DatabaseDamagedError(StorageError):
    """The database file has foreign or missing contents."""


class ForbiddenClassError(DatabaseDamagedError):
    """A record of the database names a class that Motoko never stores; it was not loaded."""


class ServerError(StorageError):
    """The database server cannot be started or reached."""


class SharedStudyError(StorageError):
    """The run directories of a study belong to another workflow."""


class ConflictError(StorageError):
    """A concurrent commit changed objects that this transaction wrote or checked."""


class PastStateError(StorageError):
    """The database has no longer, or never had, its state at a transaction."""


class PlotError(MotokoError):
    """A plot cannot be drawn as requested, or a file cannot be drawn again."""


class LeaseHeld(MotokoError):
    """Another orchestrator runs with this run name."""


class Fenced(MotokoError):
    """Another orchestrator replaced this one, which may no longer commit."""


class LauncherError(MotokoError):
    """The launcher cannot start or continue."""


class RunFailed(MotokoError):
    """Awaited runs failed; ``runs`` holds all of them."""

    def __init__(self, message: str, runs: Iterable[Any] = (), *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.runs = list(runs)


class WorkflowFailed(RunFailed):
    """The workflow ended with unhandled failed runs; ``runs`` holds them."""


class WorkflowStalled(MotokoError):
    """No run can change state, and no registered event will fire.

    ``waits``: what ``main``, the actions and the events wait for.
    """

    def __init__(self, message: str, *, waits: Sequence[str] = (), hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.waits = tuple(waits)


class GraphError(MotokoError):
    """A step graph cannot be planned or built."""


class DuplicateNodeError(GraphError, ValueError):
    """Two nodes of a step graph have the same name."""


class UnknownNodeError(GraphError, KeyError):
    """No node of the step graph has this name."""


class CycleError(GraphError, ValueError):
    """Nodes require each other; ``path`` begins and ends with the same name."""

    def __init__(self, message: str, path: Sequence[str], *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.path = tuple(path)


class BuildError(GraphError):
    """A requested node is not ready after the build, without an exception."""


class TaskError(GraphError):
    """A task function yields an invalid value, or an object is not a task."""


class NoLoggerError(GraphError, AttributeError):
    """The logger of the current task was requested outside a task."""


class StepResultError(GraphError, ValueError):
    """A step returned undeclared products, or not all declared ones."""


class StepResultTypeError(GraphError, TypeError):
    """A step returned neither a dictionary nor an equivalent list or tuple."""


class ProductError(GraphError):
    """A product cannot be stored or read."""


class NotStorableError(ProductError, TypeError):
    """No registered serialiser can store a value of this type."""


class DamagedProductError(ProductError):
    """A stored product is missing or damaged."""


class ReadOnlyStoreError(ProductError):
    """The store of products is read-only."""


class UnknownPathError(GraphError, ModuleNotFoundError):
    """A dotted path, of a model or in a reference, that does not exist."""


class NotAModelError(GraphError, TypeError):
    """An object is not a model, step, workflow or state where one is required."""


class UnknownStateNameError(GraphError, KeyError):
    """The state of a pipeline has no such name."""


class ImmutableStateError(GraphError, ValueError):
    """A name is posted again to a state that is not mutable."""


class StateStoreError(GraphError):
    """The database of a pipeline's state cannot be used."""


class MissingOutputError(GraphError, KeyError):
    """A model's ``run()`` did not return an output of its step."""


class NotEncodableError(GraphError, ValueError):
    """A value has no faithful JSON form."""


class NothingToRerunError(GraphError, ValueError):
    """A runner has nothing to rerun."""


class NoGraphvizError(GraphError, FileNotFoundError):
    """Graphviz's program ``dot`` is not installed."""


class ProductWarning(UserWarning):
    """A product is built again because it was damaged, or is kept in memory only."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the member of ``known`` closest in spelling to ``name``, if one is close."""
    from difflib import get_close_matches

    matches = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None


def likeness(name: str, known: Iterable[str]) -> float:
    """Return the likeness of ``name`` to the nearest of ``known``, from 0 to 1."""
    from difflib import SequenceMatcher

    near = nearest(name, known)
    return 0.0 if near is None else SequenceMatcher(None, name, near).ratio()


def suggestion(name: str, known: Sequence[str]) -> str:
    """Return a hint with the nearest of ``known``, or all if none is near."""
    near = nearest(name, known)
    if near is not None:
        return f"Did you mean {near!r}?"
    return "Known: " + ", ".join(sorted(known)) + "." if known else "There are none."
