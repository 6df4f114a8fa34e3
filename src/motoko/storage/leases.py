"""Leases in the database: one orchestrator a run name, one launcher for the runs of a study.

A holder renews its lease while it lives, and its commits check the lease's token. A lease whose
holder died, or stopped renewing it, passes to another process: the previous holder cannot commit.
"""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from motoko.errors import Fenced, LauncherError, LeaseHeld
from motoko.runtime import processes
from motoko.runtime.ports import utc_text
from motoko.runtime.processes import ProcessIdentity
from motoko.server.state_dir_guard import CHECK_SECONDS, StateDirGuard
from motoko.storage.session import LeaseGuard, run_transaction
from motoko.storage.threads import run_in_committer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from motoko.runtime.ports import Random
    from motoko.storage.store import WorkflowStore
    from motoko.storage.tables import Tables

LEASE_SECONDS: Final = 60.0  # of an orchestrator
RENEW_SECONDS: Final = 20.0
ORCHESTRATOR: Final = "orchestrator:"  # the name of a lease: this, then a run name
LAUNCHER: Final = "launcher:"  # the name of a lease: this, then a launcher's name


def _is_live(
    tables: Tables, lease: str, process: ProcessIdentity, now: float, seconds: float
) -> bool:
    """Return whether a holder must be assumed alive. In a copied database no holder is."""
    if not tables.lease_belongs_here(lease):
        return False
    return processes.keeps_lease(process, renewed=now - tables.renewed_at(lease) <= seconds)


def _holds(tables: Tables, name: str, token: str) -> bool:
    lease = tables.lease(name)
    return lease is not None and lease["token"] == token


def _names(tables: Tables, prefix: str) -> list[str]:
    """Return the leases of one kind, without the prefix, sorted."""
    found = (name for name in tables.lease_names() if name.startswith(prefix))
    return [name.removeprefix(prefix) for name in found]


def _describe(pid: int, host: str, since: float) -> str:
    return f"process {pid} on {host}, since {utc_text(since)}"


# -- orchestrators ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LeaseHolder:
    """The orchestrator process that holds a lease."""

    host: str
    pid: int
    started: int
    boot: str
    since: float
    namespace: int = 0

    @classmethod
    def here(cls, now: float) -> LeaseHolder:
        """Return this process as a holder since ``now``."""
        own = processes.current()
        return cls(own.host, own.pid, own.started, own.boot, now, own.namespace)

    @property
    def process(self) -> ProcessIdentity:
        """Return its process."""
        return ProcessIdentity(self.pid, self.started, self.boot, self.namespace, self.host)

    def __str__(self) -> str:
        return _describe(self.pid, self.host, self.since)


@dataclass(frozen=True, slots=True)
class StallReport:
    """The time, in seconds since the epoch, at which an orchestrator stalled, and its waits."""

    since: float
    waits: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OrchestratorReport:
    """The published state of an orchestrator.

    ``events``: ids of the registered events; None if unknown. Until ``main`` has registered any,
    they are those of the previous orchestrator. ``stall``: None unless stalled.
    """

    events: tuple[str, ...] | None = None
    stall: StallReport | None = None

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> OrchestratorReport:
        """Return the report that was stored as plain data."""
        events, stall = stored.get("events"), stored.get("stall")
        return cls(
            None if events is None else tuple(events),
            None if stall is None else StallReport(stall["since"], tuple(stall["waits"])),
        )


class Lease:
    """The lease on one run name, renewed with a report."""

    def __init__(self, store: WorkflowStore, run_name: str) -> None:
        self._store = store
        self._run_name = run_name
        self._report = OrchestratorReport()
        self._wake = threading.Event()
        self._ended = False
        self.holder: LeaseHolder | None = None
        self._directory: StateDirGuard | None = None
        self.on_renewal: Callable[[], object] = lambda: None
        self.guard = LeaseGuard(ORCHESTRATOR + run_name, store.runtime.rng.token(8))

    def report_events(self, names: Iterable[str]) -> None:
        """Publish the ids of the registered events. Call it in the event loop."""
        self._publish(replace(self._report, events=tuple(names)))

    def report_stall(self, stall: StallReport | None) -> None:
        """Publish a stall, or its end (None)."""
        self._publish(replace(self._report, stall=stall))

    def _publish(self, report: OrchestratorReport) -> None:
        if report != self._report:
            self._report = report
            self._wake.set()

    async def acquire(self) -> None:
        """Acquire the lease; LeaseHeld names the process that holds it."""
        await self._commit(self.acquire_in)
        self._directory = StateDirGuard.of(self._store.state)

    async def _commit(self, work: Callable[[Tables], None]) -> None:
        database = self._store.database
        await run_in_committer(database, lambda: run_transaction(database, work))

    def acquire_in(self, tables: Tables) -> None:
        """Acquire the lease in a transaction; LeaseHeld names the process that holds it."""
        now = self._store.steady()
        holder = live_orchestrator(tables, self._run_name, now)
        if holder is not None:
            raise LeaseHeld(
                f"run name {self._run_name!r} already has an orchestrator: {holder}",
                hint="Stop it with `motoko orchestrator stop`, or choose another --run_name.",
            )
        self.holder = LeaseHolder.here(self._store.now())
        tables.write_lease(self.guard.name, self.guard.token, asdict(self.holder))
        former = orchestrator_report(tables, self._run_name)
        self._report = OrchestratorReport(events=former.events)
        tables.renew_lease(self.guard.name, now, asdict(self._report))

    async def renew_forever(self) -> None:
        """Renew the lease until cancelled, and at once when the report changes.

        A thread renews it, so a blocked event loop does not lose the lease. Fenced if another
        process holds it now; ServerError if the state directory was moved or removed.
        """
        failure: Future[None] = Future()

        def renew() -> None:
            try:
                self._renew_until_ended()
            except Exception as error:  # noqa: BLE001 - raised in the loop
                with suppress(InvalidStateError):  # cancelled by now
                    failure.set_exception(error)

        threading.Thread(target=renew, name="motoko-lease", daemon=True).start()
        try:
            await asyncio.wrap_future(failure)
        finally:
            self._ended = True
            self._wake.set()

    def _renew_until_ended(self) -> None:
        database, clock = self._store.database, self._store.clock
        renewed = clock.monotonic()
        while True:
            changed = self._wake.wait(min(CHECK_SECONDS, RENEW_SECONDS))
            if self._ended:
                return
            if self._directory is not None:
                self._directory.check()
            if changed or clock.monotonic() - renewed >= RENEW_SECONDS:
                self._wake.clear()
                renewed = clock.monotonic()
                database.submit(lambda: run_transaction(database, self._renew)).result()
                self.on_renewal()

    def _renew(self, tables: Tables) -> None:
        if not _holds(tables, self.guard.name, self.guard.token):
            raise self.guard.fenced()
        tables.renew_lease(self.guard.name, self._store.steady(), asdict(self._report))

    async def release(self) -> None:
        """Release the lease if this process still holds it."""
        await self._commit(self._release_in)

    def _release_in(self, tables: Tables) -> None:
        name = self.guard.name
        if _holds(tables, name, self.guard.token):
            tables.write_lease(name, None, dict(tables.lease(name)["holder"]))
            report = replace(self._report, stall=None)
            tables.renew_lease(name, self._store.steady(), asdict(report))


def live_orchestrator(tables: Tables, run_name: str, now: float) -> LeaseHolder | None:
    """Return the live orchestrator of a run name, None if it has none."""
    name = ORCHESTRATOR + run_name
    lease = tables.lease(name)
    if lease is None or lease["token"] is None or not lease["holder"]:
        return None
    holder = LeaseHolder(**lease["holder"])
    return holder if _is_live(tables, name, holder.process, now, LEASE_SECONDS) else None


def live_orchestrators(tables: Tables, now: float) -> dict[str, LeaseHolder]:
    """Return the live orchestrators by run name."""
    found = {name: live_orchestrator(tables, name, now) for name in run_names(tables)}
    return {name: holder for name, holder in found.items() if holder is not None}


def orchestrator_report(tables: Tables, run_name: str) -> OrchestratorReport:
    """Return the report of the current or last orchestrator of a run name."""
    return OrchestratorReport.of(tables.lease_report(ORCHESTRATOR + run_name))


def run_names(tables: Tables) -> list[str]:
    """Return the run names that ever had an orchestrator, sorted."""
    return _names(tables, ORCHESTRATOR)


def stall_reports(tables: Tables, now: float) -> dict[str, StallReport]:
    """Return the stalls of live orchestrators by run name."""
    reports = {name: orchestrator_report(tables, name) for name in live_orchestrators(tables, now)}
    return {name: report.stall for name, report in reports.items() if report.stall is not None}


# -- launchers -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LauncherRegistration:
    """One launcher: its name, its process, and the runs that it serves."""

    name: str
    token: str
    host: str
    process: tuple[int, int, str, int, str]
    since: float
    generator: str
    studies: tuple[str, ...]
    machines: tuple[str, ...]
    lease: float

    @classmethod
    def here(
        cls,
        now: float,
        *,
        rng: Random,
        generator: str,
        studies: tuple[str, ...],
        machines: tuple[str, ...],
        lease: float,
    ) -> LauncherRegistration:
        """Return a new launcher in this process."""
        own, host, token = processes.current(), os.uname().nodename, rng.token(8)
        name = f"{host}-{own.pid}-{token[:4]}"
        return cls(name, token, host, own.plain(), now, generator, studies, machines, lease)

    @classmethod
    def of(cls, stored: Any) -> LauncherRegistration:
        """Return the launcher that holds a stored lease."""
        values = dict(stored["holder"])
        for name in ("process", "studies", "machines"):
            values[name] = tuple(values[name])
        return cls(**values)

    @property
    def identity(self) -> ProcessIdentity:
        """Return its process."""
        return replace(ProcessIdentity(*self.process), host=self.host)

    @property
    def key(self) -> str:
        """Return the name of its lease."""
        return LAUNCHER + self.name

    def overlaps(self, other: LauncherRegistration) -> bool:
        """Return whether some run could be served by both."""
        pairs = ((self.studies, other.studies), (self.machines, other.machines))
        return not any(set(own).isdisjoint(others) for own, others in pairs)

    def is_live(self, tables: Tables, now: float) -> bool:
        """Return whether the launcher must be assumed alive."""
        return _is_live(tables, self.key, self.identity, now, self.lease)

    def __str__(self) -> str:
        return _describe(self.process[0], self.host, self.since)


@dataclass(frozen=True, slots=True)
class LauncherReport:
    """The state that a launcher publishes with each renewal.

    ``slots``: its capacity by generator; ``per_study``: its limit of runs by study. ``suspended``:
    run names whose runs it does not claim; ``claims_paused``: it claims none. ``problem``: an error
    in the changed configuration; until that is corrected, the previous configuration applies.
    """

    slots: Mapping[str, int] = field(default_factory=dict)
    per_study: Mapping[str, int] = field(default_factory=dict)
    suspended: tuple[str, ...] = ()
    claims_paused: bool = False
    problem: str = ""

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> LauncherReport:
        """Return a stored report; fields that an older Motoko did not store are empty."""
        return cls(
            dict(stored.get("slots", {})),
            dict(stored.get("per_study", {})),
            tuple(stored.get("held", ())),
            bool(stored.get("held_all", False)),
            str(stored.get("problem", "")),
        )

    def stored(self) -> dict[str, Any]:
        """Return the report as it is stored."""
        return {
            "slots": dict(self.slots), "per_study": dict(self.per_study), "held": self.suspended,
            "held_all": self.claims_paused, "problem": self.problem,
        }  # fmt: skip


def machine_names(machine_name: str | None) -> frozenset[str]:
    """Return the machine names that a launcher serves; None: those of this machine."""
    if machine_name is not None:
        return frozenset({machine_name})
    host = os.uname().nodename
    return frozenset({"localhost", host, host.partition(".")[0]})


def register_launcher(
    tables: Tables, me: LauncherRegistration, now: float, report: LauncherReport | None = None
) -> None:
    """Acquire the lease; LauncherError names a live launcher that serves the same runs."""
    for other in registered_launchers(tables):
        if not me.overlaps(other):
            continue
        if other.is_live(tables, now):
            shared = ", ".join(sorted(set(me.studies) & set(other.studies)))
            raise LauncherError(
                f"a launcher already serves {shared}: {other}",
                hint="Stop it with `motoko kill`, or let it execute the runs.",
            )
        tables.drop_lease(other.key)
    tables.write_lease(me.key, me.token, asdict(me))
    tables.renew_lease(me.key, now, (report or LauncherReport()).stored())


def renew_launcher(
    tables: Tables, me: LauncherRegistration, now: float, report: LauncherReport | None = None
) -> None:
    """Renew the lease and publish ``report``; Fenced if another launcher has replaced this one."""
    if not _holds(tables, me.key, me.token):
        raise Fenced(
            f"launcher {me.name} was replaced while it was suspended",
            hint="The other launcher continues with its runs.",
        )
    tables.renew_lease(me.key, now, None if report is None else report.stored())


def change_launcher(
    tables: Tables, me: LauncherRegistration, now: float, report: LauncherReport
) -> LauncherRegistration:
    """Register changed studies, without those that another live launcher serves; return it."""
    renew_launcher(tables, me, now, report)
    others = [other for other in live_launchers(tables, now) if other.name != me.name]
    free = (s for s in me.studies if not any(replace(me, studies=(s,)).overlaps(o) for o in others))
    changed = replace(me, studies=tuple(free))
    tables.write_lease(me.key, me.token, asdict(changed))
    return changed


def registered_launchers(tables: Tables) -> list[LauncherRegistration]:
    """Return all launchers that did not unregister, dead ones included."""
    names = _names(tables, LAUNCHER)
    return [LauncherRegistration.of(tables.lease(LAUNCHER + name)) for name in names]


def launcher_report(tables: Tables, launcher: LauncherRegistration) -> LauncherReport:
    """Return the last report of a launcher."""
    return LauncherReport.of(tables.lease_report(launcher.key))


def live_launchers(tables: Tables, now: float) -> list[LauncherRegistration]:
    """Return the launchers that must be assumed alive."""
    return [found for found in registered_launchers(tables) if found.is_live(tables, now)]


def fence(tables: Tables, name: str, now: float) -> bool:
    """Keep the launcher ``name`` from committing anything more; False if it is alive."""
    for found in registered_launchers(tables):
        if found.name == name:
            if found.is_live(tables, now):
                return False
            tables.drop_lease(found.key)
    return True
