"""The registrations of launchers: the runs that each serves, and the report that it publishes."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from motoko.errors import Fenced, LauncherError
from motoko.runtime import processes
from motoko.runtime.processes import ProcessIdentity
from motoko.storage.leases import describe_holder, holds, is_live, lease_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from motoko.runtime.ports import Random
    from motoko.storage.tables import Tables

LAUNCHER: Final = "launcher:"  # the name of a lease: this, then a launcher's name


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
        return is_live(tables, self.key, self.identity, now, self.lease)

    def __str__(self) -> str:
        return describe_holder(self.identity, self.since)


@dataclass(frozen=True, slots=True)
class LauncherReport:
    """The state that a launcher publishes with each renewal.

    ``slots``: its capacity by generator; ``per_study``: its limit of runs by study. ``suspended``:
    run names whose runs it does not claim; ``claims_paused``: it claims none. ``problem``: an error
    in the changed configuration; until that is corrected, the previous configuration applies.
    ``directories``: those of ended runs that it could not pack or remove in its last step.
    """

    slots: Mapping[str, int] = field(default_factory=dict)
    per_study: Mapping[str, int] = field(default_factory=dict)
    suspended: tuple[str, ...] = ()
    claims_paused: bool = False
    problem: str = ""
    directories: str = ""

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> LauncherReport:
        """Return a stored report; fields that an older Motoko did not store are empty."""
        return cls(
            dict(stored.get("slots", {})),
            dict(stored.get("per_study", {})),
            tuple(stored.get("held", ())),
            bool(stored.get("held_all", False)),
            str(stored.get("problem", "")),
            str(stored.get("directories", "")),
        )

    def stored(self) -> dict[str, Any]:
        """Return the report as it is stored."""
        return {
            "slots": dict(self.slots), "per_study": dict(self.per_study), "held": self.suspended,
            "held_all": self.claims_paused, "problem": self.problem,
            "directories": self.directories,
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
    if not holds(tables, me.key, me.token):
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
    names = lease_names(tables, LAUNCHER)
    return [LauncherRegistration.of(tables.lease(LAUNCHER + name)) for name in names]


def launcher_report(tables: Tables, launcher: LauncherRegistration) -> LauncherReport:
    """Return the last report of a launcher."""
    return LauncherReport.of(tables.lease_report(launcher.key))


def live_launchers(tables: Tables, now: float) -> list[LauncherRegistration]:
    """Return the launchers that must be assumed alive."""
    return [found for found in registered_launchers(tables) if found.is_live(tables, now)]


def suspended_launchers(tables: Tables, now: float) -> list[LauncherRegistration]:
    """Return the launchers that lost their lease while they were stopped (SIGSTOP)."""
    return [
        found
        for found in registered_launchers(tables)
        if tables.lease_belongs_here(found.key)
        and processes.is_stopped(found.identity)
        and not found.is_live(tables, now)
    ]


def fence(tables: Tables, name: str, now: float) -> bool:
    """Keep the launcher ``name`` from committing anything more; False if it is alive."""
    for found in registered_launchers(tables):
        if found.name == name:
            if found.is_live(tables, now):
                return False
            tables.drop_lease(found.key)
    return True
