"""Named places where a test can make this process die, fail, stop or wait.

``MOTOKO_FAULT="name:action[:n]"`` in the environment at the process's start arms the point
``name``: at its ``n``-th passage (the first if not given) the process is killed (``kill``),
stopped (``stop``), fails (``raise``) or waits (``sleep``, or ``sleep=SECONDS``). Several are
separated by commas. ``MOTOKO_FAULT_LOG`` names a file that gets one line for each passage of
any point: name, passage, process id, seconds since the epoch. With neither, a point costs one
look into a set.
"""

from __future__ import annotations

import functools
import itertools
import os
import signal
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from motoko.errors import MotokoError, suggestion

if TYPE_CHECKING:
    from collections.abc import Iterator

POINTS: Final = frozenset(
    {
        "files.before_rename",
        "creation.before_named",
        "daemons.before_ready",
        "launcher.claimed",
        "launcher.prepared",
        "launcher.noted",
        "launcher.started",
        "launcher.before_commit",
        "launcher.after_commit",
        "launcher.takes_over",
        "launcher.taken_back",
        "launcher.batch_written",
        "launcher.submitted",
        "launcher.job_noted",
        "removal.before_directory",
        "orchestrator.lease_taken",
        "orchestrator.confirmed",
        "orchestrator.before_commit",
        "orchestrator.before_done",
        "orchestrator.after_commit",
        "main.before_commit",
        "main.after_commit",
        "storage.before_commit",
        "storage.after_commit",
        "storage.ids_reserved",
        "server.before_finish",
        "server.after_finish",
        "server.before_exchange",
        "server.after_exchange",
    }
)
ACTIONS: Final = ("kill", "raise", "stop", "sleep")
SLEEP_SECONDS: Final = 1.0


class InjectedFault(MotokoError):
    """What a point that is armed with ``raise`` raises."""


@dataclass(frozen=True, slots=True)
class FaultAction:
    """What happens at the ``at``-th passage of the point ``name``."""

    name: str
    action: str
    at: int = 1
    seconds: float = SLEEP_SECONDS

    def happen(self) -> None:
        """Do it."""
        if self.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.action == "stop":
            # Sent to this thread: sent to the process, another one may stop it, but later.
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
        elif self.action == "sleep":
            time.sleep(self.seconds)
        else:
            raise InjectedFault(f"fault point {self.name} was told to fail")


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """The armed faults of a process, and where it counts its passages."""

    faults: tuple[FaultAction, ...]
    log: str | None
    passages: dict[str, Iterator[int]] = field(
        default_factory=lambda: {name: itertools.count(1) for name in POINTS}
    )

    def passed(self, name: str) -> None:
        """Count and log one passage of ``name``, and do what is planned for it."""
        passage = next(self.passages[name])
        if self.log is not None:
            _append(self.log, f"{name} {passage} {os.getpid()} {time.time():.4f}\n")
        for fault in self.faults:
            if fault.name == name and fault.at == passage:
                fault.happen()


def point(name: str) -> None:
    """Pass the fault point ``name``, which does nothing unless the process was started for it."""
    if name not in POINTS:
        raise MotokoError(
            f"there is no fault point {name!r}", hint=suggestion(name, sorted(POINTS))
        )
    plan = _plan()
    if plan is not None:
        plan.passed(name)


def parse(text: str) -> tuple[FaultAction, ...]:
    """Return the faults that ``MOTOKO_FAULT=text`` arms; MotokoError if it makes no sense."""
    return tuple(_parse_one(part.strip()) for part in text.split(",") if part.strip())


def _parse_one(text: str) -> FaultAction:
    name, _, rest = text.partition(":")
    action, _, count = rest.partition(":")
    action, _, seconds = action.partition("=")
    if name not in POINTS:
        raise MotokoError(
            f"MOTOKO_FAULT={text}: there is no fault point {name!r}",
            hint=suggestion(name, sorted(POINTS)),
        )
    if action not in ACTIONS:
        raise MotokoError(
            f"MOTOKO_FAULT={text}: there is no action {action!r}", hint=suggestion(action, ACTIONS)
        )
    try:
        return FaultAction(name, action, int(count or 1), float(seconds or SLEEP_SECONDS))
    except ValueError as error:
        raise MotokoError(
            f"MOTOKO_FAULT={text}: not a number", hint='Write "name:action[:n]".'
        ) from error


@functools.cache
def _plan() -> FaultPlan | None:
    armed, log = os.environ.get("MOTOKO_FAULT"), os.environ.get("MOTOKO_FAULT_LOG")
    if not armed and not log:
        return None
    return FaultPlan(parse(armed or ""), log)


def _append(log: str, line: str) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)
