"""Which launchers there are: each has a lease in the database that its every commit checks.

Two launchers do not serve the same runs at a time. One that died, or did not renew its lease for
too long, is replaced: its lease is dropped, so that it can commit nothing more should it wake up.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from motoko.errors import Fenced, LauncherError
from motoko.runtime import processes
from motoko.runtime.clock import utc
from motoko.runtime.processes import ProcessIdentity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from motoko.storage.tables import Tables

PREFIX: Final = "launcher:"
RENEW_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class LauncherRegistration:
    """One launcher: its name, its process, and which runs it serves."""

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
        generator: str,
        studies: tuple[str, ...],
        machines: tuple[str, ...],
        lease: float,
    ) -> LauncherRegistration:
        """Return a new launcher in this process."""
        own = processes.current()
        host, token = os.uname().nodename, secrets.token_hex(8)
        return cls(
            f"{host}-{own.pid}-{token[:4]}", token, host, own.plain(),
            now, generator, studies, machines, lease,
        )  # fmt: skip

    @property
    def identity(self) -> ProcessIdentity:
        """Return its process."""
        return replace(ProcessIdentity(*self.process), host=self.host)

    @property
    def key(self) -> str:
        """Return the name of its lease."""
        return PREFIX + self.name

    def overlaps(self, other: LauncherRegistration) -> bool:
        """Return whether there can be a run that both serve."""
        return not set(self.studies).isdisjoint(other.studies) and not set(
            self.machines
        ).isdisjoint(other.machines)

    def alive(self, renewed: float, now: float) -> bool:
        """Return whether it has to be taken for alive."""
        in_time = now - renewed <= self.lease
        return processes.keeps_lease(self.identity, renewed=in_time)

    @property
    def before_restart(self) -> bool:
        """Whether this machine was restarted since the launcher began."""
        return processes.before_restart(self.identity)

    def __str__(self) -> str:
        since = utc(self.since).isoformat(timespec="seconds")
        return f"process {self.process[0]} on {self.host}, since {since}"


@dataclass(frozen=True, slots=True)
class LauncherReport:
    """What a launcher says of itself with each sign of life.

    ``slots``: how much it takes at a time, by generator; ``per_study``: how many runs of a study.
    ``held``: run names of which it claims nothing; ``held_all``: it claims nothing at all.
    ``problem``: what is wrong with the present configuration; it works by the former one.
    """

    slots: Mapping[str, int] = field(default_factory=dict)
    per_study: Mapping[str, int] = field(default_factory=dict)
    held: tuple[str, ...] = ()
    held_all: bool = False
    problem: str = ""


def machines(machine_name: str | None) -> frozenset[str]:
    """Return the machine names by which runs for a launcher may ask; None: for this machine."""
    if machine_name is not None:
        return frozenset({machine_name})
    host = os.uname().nodename
    return frozenset({"localhost", host, host.partition(".")[0]})


def register(
    tables: Tables, me: LauncherRegistration, now: float, report: LauncherReport | None = None
) -> None:
    """Take the lease. LauncherError names a living launcher that serves the same runs."""
    for other in launchers(tables):
        if not me.overlaps(other):
            continue
        if _alive(tables, other, now):
            shared = ", ".join(sorted(set(me.studies) & set(other.studies)))
            raise LauncherError(
                f"a launcher serves {shared} already: {other}",
                hint="Stop it with `motoko kill`, or let it do the work.",
            )
        tables.drop_lease(other.key)
    tables.write_lease(me.key, me.token, asdict(me))
    tables.renew_lease(me.key, now, asdict(report or LauncherReport()))


def renew(
    tables: Tables, me: LauncherRegistration, now: float, report: LauncherReport | None = None
) -> None:
    """Note that the launcher lives, and what it reports. Fenced if it was replaced meanwhile."""
    lease = tables.lease(me.key)
    if lease is None or lease["token"] != me.token:
        raise Fenced(
            f"launcher {me.name} was replaced while it slept",
            hint="The other launcher goes on with its runs.",
        )
    tables.renew_lease(me.key, now, None if report is None else asdict(report))


def change(
    tables: Tables, me: LauncherRegistration, now: float, report: LauncherReport
) -> LauncherRegistration:
    """Register a launcher whose studies have changed; return it with those that are left to it.

    A study that another living launcher serves remains with that one.
    """
    renew(tables, me, now, report)
    others = [other for other in live_launchers(tables, now) if other.name != me.name]
    alone = (
        s for s in me.studies if not any(replace(me, studies=(s,)).overlaps(o) for o in others)
    )
    changed = replace(me, studies=tuple(alone))
    tables.write_lease(me.key, me.token, asdict(changed))
    return changed


def withdraw(tables: Tables, me: LauncherRegistration) -> None:
    """Give the lease back."""
    tables.drop_lease(me.key)


def launchers(tables: Tables) -> list[LauncherRegistration]:
    """Return all launchers that did not withdraw, dead ones included."""
    names = [name for name in tables.lease_names() if name.startswith(PREFIX)]
    return [_registration(tables.lease(name)) for name in names]


def report_of(tables: Tables, launcher: LauncherRegistration) -> LauncherReport:
    """Return what a launcher last said of itself; one of an older Motoko says nothing."""
    told = tables.lease_report(launcher.key)
    return LauncherReport(
        dict(told.get("slots", {})),
        dict(told.get("per_study", {})),
        tuple(told.get("held", ())),
        bool(told.get("held_all", False)),
        str(told.get("problem", "")),
    )


def live_launchers(tables: Tables, now: float) -> list[LauncherRegistration]:
    """Return the launchers that have to be taken for alive."""
    return [found for found in launchers(tables) if _alive(tables, found, now)]


def fence(tables: Tables, name: str, now: float) -> bool:
    """Make sure that the launcher ``name`` commits nothing more; False if it is alive."""
    for found in launchers(tables):
        if found.name == name:
            if _alive(tables, found, now):
                return False
            tables.drop_lease(found.key)
    return True


def _alive(tables: Tables, found: LauncherRegistration, now: float) -> bool:
    """Return whether a launcher of this database, not of one it is a copy of, may live."""
    return tables.taken_here(found.key) and found.alive(tables.renewed_at(found.key), now)


def _registration(lease: Any) -> LauncherRegistration:
    values = dict(lease["holder"])
    for name in ("process", "studies", "machines"):
        values[name] = tuple(values[name])
    return LauncherRegistration(**values)
