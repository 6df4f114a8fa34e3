"""One orchestrator for a run name: a lease in the database, renewed while the process lives."""

from __future__ import annotations

import secrets
import socket
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import anyio

from motoko.errors import LeaseHeld
from motoko.runtime.processes import ProcessId, current, is_alive
from motoko.storage.off_loop import in_committer
from motoko.storage.session import Guard, transact

if TYPE_CHECKING:
    from motoko.storage.store import Store
    from motoko.storage.tables import Tables

PREFIX: Final = "orchestrator:"
LEASE_SECONDS: Final = 30.0
RENEW_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lease."""

    host: str
    pid: int
    started: int
    boot: str
    since: float

    @classmethod
    def here(cls, now: float) -> Holder:
        """Return this process as a holder since ``now``."""
        process = current()
        return cls(socket.gethostname(), process.pid, process.started, process.boot, now)

    def may_live(self, renewed: float, now: float) -> bool:
        """Return whether the holder has to be taken for alive.

        One that is known to be dead is not, and neither is one that sleeps past its lease.
        """
        here = self.host == socket.gethostname()
        if here and not is_alive(ProcessId(self.pid, self.started, self.boot)):
            return False
        return now - renewed < LEASE_SECONDS

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.since, UTC).isoformat(timespec="seconds")
        return f"process {self.pid} on {self.host}, since {since}"


class Lease:
    """The lease on one run name."""

    def __init__(self, store: Store, run_name: str) -> None:
        self._store = store
        self._run_name = run_name
        self.guard = Guard(PREFIX + run_name, secrets.token_hex(8))

    async def acquire(self) -> None:
        """Take the lease; LeaseHeld names the process that has it."""
        await in_committer(self._store.database, lambda: transact(self._store.database, self._take))

    def _take(self, tables: Tables) -> None:
        now = self._store.now()
        holder = current_holder(tables, self._run_name, now)
        if holder is not None:
            raise LeaseHeld(
                f"run name {self._run_name!r} has an orchestrator already: {holder}",
                hint="Stop it with `motoko orchestrator stop`, or choose another --run_name.",
            )
        tables.write_lease(self.guard.name, self.guard.token, asdict(Holder.here(now)))
        tables.renew_lease(self.guard.name, now)

    async def renew_forever(self) -> None:
        """Renew the lease until cancelled; Fenced where somebody else has it now."""
        while True:
            await anyio.sleep(RENEW_SECONDS)
            await in_committer(
                self._store.database, lambda: transact(self._store.database, self._renew)
            )

    def _renew(self, tables: Tables) -> None:
        lease = tables.lease(self.guard.name)
        if lease is None or lease["token"] != self.guard.token:
            raise self.guard.fenced()
        tables.renew_lease(self.guard.name, self._store.now())

    async def release(self) -> None:
        """Give the lease back, if it is still ours."""

        def drop(tables: Tables) -> None:
            lease = tables.lease(self.guard.name)
            if lease is not None and lease["token"] == self.guard.token:
                tables.write_lease(self.guard.name, None, dict(lease["holder"]))

        await in_committer(self._store.database, lambda: transact(self._store.database, drop))


def current_holder(tables: Tables, run_name: str, now: float) -> Holder | None:
    """Return who orchestrates this run name, None if nobody living does."""
    name = PREFIX + run_name
    lease: Any = tables.lease(name)
    if lease is None or lease["token"] is None:
        return None
    holder = Holder(**lease["holder"])
    return holder if holder.may_live(tables.renewed_at(name), now) else None


def holders(tables: Tables, now: float) -> dict[str, Holder]:
    """Return the living orchestrators by run name."""
    found: dict[str, Holder] = {}
    for name in tables.lease_names():
        run_name = name.removeprefix(PREFIX)
        holder = current_holder(tables, run_name, now)
        if holder is not None:
            found[run_name] = holder
    return found
