"""Every error Motoko raises on purpose, in one tree.

The first line of a message names the thing and the place; ``hint`` says what to do next.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any


class MotokoError(Exception):
    """Base of all of Motoko's errors."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n  {self.hint}"


class ConfigError(MotokoError):
    """``motoko.yaml``, ``bd.yaml`` or a file they name is missing or wrong."""

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        line: int | None = None,
        hint: str | None = None,
    ) -> None:
        place = "" if file is None else f"{file}: " if line is None else f"{file}:{line}: "
        super().__init__(place + message, hint=hint)
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

    ``nearness``: how much an unknown name is like one of the study's, 1 where no name is unknown,
    2 where one is ambiguous.
    """

    nearness: float = 1.0


class EventError(MotokoError, ValueError):
    """An event condition or action cannot be registered as given."""


class ReplayError(MotokoError):
    """A rerun action made other calls than its committed segments have on record."""


class RunNameError(MotokoError, ValueError):
    """A run name is missing or is not acceptable text."""


class StateError(MotokoError, ValueError):
    """A move or label that the lifecycle of a run does not allow."""


class UnknownNameError(MotokoError, AttributeError):
    """An attribute (a task manager, a variable, a field) that does not exist."""


class UnknownRunError(MotokoError, LookupError):
    """A run or job id that is not in the study."""


class StorageError(MotokoError):
    """The workflow's database cannot be used."""


class NoDatabaseError(StorageError):
    """The workflow has no database yet."""


class DatabaseExistsError(StorageError):
    """There are results already, and nobody said that they may go."""


class DatabaseVersionError(StorageError):
    """The database was written by a version of Motoko that this one cannot read."""


class DatabaseDamagedError(StorageError):
    """The database file holds what no Motoko wrote, or not all that was written."""


class ForbiddenClassError(DatabaseDamagedError):
    """A record of the database names a class that no Motoko stores; it was not loaded."""


class ServerError(StorageError):
    """The database server cannot be started or reached."""


class SharedStudyError(StorageError):
    """The run directories of a study are those of another workflow."""


class ConflictError(StorageError):
    """Somebody else changed what this transaction wrote or relied on."""


class LeaseHeld(MotokoError):
    """Another orchestrator runs under this run name."""


class Fenced(MotokoError):
    """This orchestrator was replaced by another one and may not commit any more."""


class LauncherError(MotokoError):
    """The launcher cannot do its work."""


class RunFailed(MotokoError):
    """Runs that were waited for failed; ``runs`` holds all of those."""

    def __init__(self, message: str, runs: Iterable[Any] = (), *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.runs = list(runs)


class WorkflowFailed(RunFailed):
    """The workflow ended with failed runs that nothing handled; ``runs`` holds them."""


class WorkflowStalled(MotokoError):
    """No run can move, and nothing that is registered will fire."""


class GraphError(MotokoError):
    """A step graph cannot be planned or built."""


class DuplicateNodeError(GraphError, ValueError):
    """Two nodes of a step graph have one name."""


class UnknownNodeError(GraphError, KeyError):
    """A name that no node of the step graph has."""


class CycleError(GraphError, ValueError):
    """Nodes require each other; ``path`` begins and ends with the same name."""

    def __init__(self, message: str, path: Sequence[str], *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.path = tuple(path)


class BuildError(GraphError):
    """A node that was asked for is not there after the build, and no exception says why."""


class TaskError(GraphError):
    """A task function does not yield what it should, or something is no task where one belongs."""


class NoLoggerError(GraphError, AttributeError):
    """The logger of the task in hand was asked for where there is no task."""


class StepResultError(GraphError, ValueError):
    """A step returned other products than it declares."""


class StepResultTypeError(GraphError, TypeError):
    """What a step returned is no dictionary, nor a list or tuple where that would do."""


class ProductError(GraphError):
    """A product cannot be stored, or not be read."""


class NotStorableError(ProductError, TypeError):
    """Nothing is registered that can store a value of this kind."""


class DamagedProductError(ProductError):
    """What is stored of a product is gone, or is not what was saved."""


class ReadOnlyStoreError(ProductError):
    """Nothing can be written where products are kept."""


class UnknownPathError(GraphError, ModuleNotFoundError):
    """A dotted path, of a model or in a reference, at which there is nothing."""


class NotAModelError(GraphError, TypeError):
    """Something is no model, step, workflow or state where one belongs."""


class UnknownStateNameError(GraphError, KeyError):
    """A name that a pipeline's state does not have."""


class ImmutableStateError(GraphError, ValueError):
    """A name that a state has is to be posted again, and the state is not mutable."""


class StateStoreError(GraphError):
    """The database of a pipeline's state cannot be used."""


class MissingOutputError(GraphError, KeyError):
    """A model's ``run()`` did not return what its step passes on."""


class NotEncodableError(GraphError, ValueError):
    """A value cannot be written as JSON so that the same can be read again."""


class NothingToRerunError(GraphError, ValueError):
    """A runner is to run again what it has not run yet."""


class NoGraphvizError(GraphError, FileNotFoundError):
    """Graphviz's program ``dot`` is not installed."""


class ProductWarning(UserWarning):
    """A product is built again because it was damaged, or lives in memory only."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the member of ``known`` closest in spelling to ``name``, if one is close."""
    from difflib import get_close_matches

    matches = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None


def likeness(name: str, known: Iterable[str]) -> float:
    """Return how much ``name`` is like the nearest of ``known``: 1 the same, 0 like none."""
    from difflib import SequenceMatcher

    near = nearest(name, known)
    return 0.0 if near is None else SequenceMatcher(None, name, near).ratio()


def suggestion(name: str, known: Sequence[str]) -> str:
    """Return a hint naming the nearest of ``known``, or all of them where none is near."""
    near = nearest(name, known)
    if near is not None:
        return f"Did you mean {near!r}?"
    return "Known: " + ", ".join(sorted(known)) + "." if known else "There are none."
