"""Changes: the writes of a session as plain data that can be reapplied after a conflict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from motoko.core.replay import NO_ENTRIES, Entries

if TYPE_CHECKING:
    from motoko.core.edits import RunEdit
    from motoko.core.holds import HoldEdit
    from motoko.core.provenance import Provenance
    from motoko.core.records import RunKey, RunRecord


@dataclass(frozen=True, slots=True)
class CreateRun:
    """Create a run (and its job, if new) under the reserved ids in ``record``."""

    record: RunRecord
    job_identity: bytes


@dataclass(frozen=True, slots=True)
class EditRun:
    """Change one run. A ``blind`` edit never conflicts: the later commit wins."""

    key: RunKey
    edit: RunEdit
    blind: bool = False


@dataclass(frozen=True, slots=True)
class DeleteRun:
    """Remove a run, its quantities and an unused job; schedule the removal of its directories."""

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


# A run and the number of its failed attempt.
FailedAttempt: TypeAlias = "tuple[RunKey, int]"


@dataclass(frozen=True, slots=True)
class RecordFiring:
    """Record a firing as open or done, in the commit of its effects.

    ``id`` is (run name, event, key), ``runs`` are the trigger's runs for every rerun, ``entries``
    extend the journal, and ``handled`` are the failures that a done firing has handled. ``code`` is
    the digest of the module that defines the action.
    """

    id: tuple[str, str, str]
    status: Literal["open", "done"]
    trigger: str
    runs: tuple[RunKey, ...]
    at: float
    once: bool = False
    entries: Entries = NO_ENTRIES
    handled: tuple[FailedAttempt, ...] = ()
    code: str = ""


@dataclass(frozen=True, slots=True)
class RecordProvenance:
    """Store the facts of attempts under their reference, unless they are stored."""

    facts: Provenance


@dataclass(frozen=True, slots=True)
class EditHolds:
    """Hold or release runs."""

    edit: HoldEdit


Change: TypeAlias = (
    "CreateRun | EditRun | DeleteRun | PushQuantities | SetVariable | RecordFiring"
    " | RecordProvenance | EditHolds"
)
