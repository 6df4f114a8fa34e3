"""Instructions: what a session wants done, as plain data that can be applied again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from motoko.core.replay import NO_ENTRIES, Entries

if TYPE_CHECKING:
    from motoko.core.edits import RunEdit
    from motoko.core.records import RunKey, RunRecord


@dataclass(frozen=True, slots=True)
class CreateRun:
    """Create a run (and its job, if new) under the reserved ids in ``record``."""

    record: RunRecord
    job_identity: bytes


@dataclass(frozen=True, slots=True)
class EditRun:
    """Change one run. ``blind``: the later commit wins, nobody is asked to look again."""

    key: RunKey
    edit: RunEdit
    blind: bool = False


@dataclass(frozen=True, slots=True)
class DeleteRun:
    """Remove a run, its quantities, and its job if no other run has it.

    The same commit notes that the run's directories are still to be removed.
    """

    key: RunKey


@dataclass(frozen=True, slots=True)
class PushQuantities:
    """Append (step, value) pairs to a named series of a run's current attempt."""

    key: RunKey
    token: str
    consumed: int
    name: str
    points: tuple[tuple[Any, Any], ...]


@dataclass(frozen=True, slots=True)
class SetVariable:
    """Set one workflow variable. ``scope`` is a run name, or None for ``workflow.vars``."""

    scope: str | None
    name: str
    value: Any
    blind: bool = False


# A run and the number of the attempt that failed.
Failure: TypeAlias = "tuple[RunKey, int]"


@dataclass(frozen=True, slots=True)
class RecordFiring:
    """Record a firing as open or done, in the commit of its effects.

    ``id`` is (run name, event, key); ``runs`` are the runs that every re-run gets; ``entries`` are
    added to its journal; ``handled`` are the failures that it has handled when it is done.
    """

    id: tuple[str, str, str]
    status: Literal["open", "done"]
    trigger: str
    runs: tuple[RunKey, ...]
    at: float
    once: bool = False
    entries: Entries = NO_ENTRIES
    handled: tuple[Failure, ...] = ()


Change: TypeAlias = "CreateRun | EditRun | DeleteRun | PushQuantities | SetVariable | RecordFiring"
