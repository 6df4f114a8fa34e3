"""Leases in the database: one orchestrator a run name, one launcher for the runs of a study.

A holder renews its lease while it lives, and its commits check the lease's token. A lease whose
holder died, or stopped renewing it, passes to another process: the previous holder cannot commit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from motoko.errors import Fenced
from motoko.runtime import processes
from motoko.runtime.ports import utc_text

if TYPE_CHECKING:
    from motoko.runtime.processes import ProcessIdentity
    from motoko.storage.tables import Tables

RENEW_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class LeaseGuard:
    """A lease that every commit of a session checks."""

    name: str
    token: str

    def fenced(self) -> Fenced:
        """Return the error for a lease that another process holds."""
        return Fenced(
            f"the lease on {self.name} was taken over by another process",
            hint="Nothing of this transaction was written. Find the process with `motoko info`.",
        )


def is_live(
    tables: Tables, lease: str, process: ProcessIdentity, now: float, seconds: float
) -> bool:
    """Return whether a holder must be assumed alive. In a copied database no holder is."""
    if not tables.lease_belongs_here(lease):
        return False
    return processes.keeps_lease(process, renewed=now - tables.renewed_at(lease) <= seconds)


def holds(tables: Tables, name: str, token: str) -> bool:
    """Return whether a lease is assigned to this token."""
    lease = tables.lease(name)
    return lease is not None and lease["token"] == token


def lease_names(tables: Tables, prefix: str) -> list[str]:
    """Return the leases of one kind, without the prefix, sorted."""
    found = (name for name in tables.lease_names() if name.startswith(prefix))
    return [name.removeprefix(prefix) for name in found]


def describe_holder(process: ProcessIdentity, since: float) -> str:
    """Return a holder as messages show it."""
    text = f"process {process.pid} on {process.host}, since {utc_text(since)}"
    return text + processes.suspension(process)
