"""Named points where a test can kill, fail, stop or delay this process.

``MOTOKO_FAULT="name:action[:n]"`` in the environment arms the point ``name``: at its ``n``-th
passage (default: the first) the process is killed (``kill``), stopped (``stop``), fails (``raise``)
or waits (``sleep``, ``sleep=SECONDS``). Commas separate several. ``MOTOKO_FAULT_LOG`` names a file
that gets a line for each passage of any point: name, passage, pid, seconds since the epoch.
Without both, a point costs one lookup in a set.
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
        "packs.written",
        "packs.renamed",
        "packs.joining",
        "packs.removing",
        "creation.before_named",
        "daemons.before_ready",
        "launcher.claimed",
        "launcher.prepared",
        "launcher.start_recorded",
        "launcher.started",
        "launcher.withdrawn",
        "launcher.before_commit",
        "launcher.after_commit",
        "launcher.adopting",
        "launcher.reclaimed",
        "launcher.submission_written",
        "launcher.submitted",
        "launcher.job_recorded",
        "removal.before_directory",
        "notifier.recorded",
        "notifier.sent",
        "orchestrator.lease_acquired",
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
        "packing.old_copied",
        "packing.new_copied",
        "packing.index_saved",
        "server.before_exchange",
        "server.after_exchange",
    }
)
ACTIONS: Final = ("kill", "raise", "stop", "sleep")
SLEEP_SECONDS: Final = 1.0


class InjectedFault(MotokoError):
    """The error of a point that is armed with ``raise``."""


@dataclass(frozen=True, slots=True)
class FaultAction:
    """The action at the ``at``-th passage of the point ``name``."""

    name: str
    action: str
    at: int = 1
    seconds: float = SLEEP_SECONDS

    def execute(self) -> None:
        """Execute the action."""
        if self.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.action == "stop":
            # A signal to the process could stop it later, in another thread.
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
        elif self.action == "sleep":
            time.sleep(self.seconds)
        else:
            raise InjectedFault(f"fault point {self.name} was armed to fail")


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """The armed faults of a process, and its passage counters."""

    faults: tuple[FaultAction, ...]
    log: str | None
    passages: dict[str, Iterator[int]] = field(
        default_factory=lambda: {name: itertools.count(1) for name in POINTS}
    )

    def record_passage(self, name: str) -> None:
        """Count and log one passage of ``name``, and execute its actions."""
        passage = next(self.passages[name])
        if self.log is not None:
            _append(self.log, f"{name} {passage} {os.getpid()} {time.time():.4f}\n")
        for fault in self.faults:
            if fault.name == name and fault.at == passage:
                fault.execute()


def point(name: str) -> None:
    """Pass the fault point ``name``; this does nothing unless the environment arms it."""
    if name not in POINTS:
        raise MotokoError(f"unknown fault point {name!r}", hint=suggestion(name, sorted(POINTS)))
    plan = _plan()
    if plan is not None:
        plan.record_passage(name)


def parse_faults(text: str) -> tuple[FaultAction, ...]:
    """Parse ``MOTOKO_FAULT``; raise MotokoError if it is invalid."""
    return tuple(_parse_one(part.strip()) for part in text.split(",") if part.strip())


def _parse_one(text: str) -> FaultAction:
    name, _, rest = text.partition(":")
    action, _, count = rest.partition(":")
    action, _, seconds = action.partition("=")
    if name not in POINTS:
        raise MotokoError(
            f"MOTOKO_FAULT={text}: unknown fault point {name!r}",
            hint=suggestion(name, sorted(POINTS)),
        )
    if action not in ACTIONS:
        raise MotokoError(
            f"MOTOKO_FAULT={text}: unknown action {action!r}", hint=suggestion(action, ACTIONS)
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
    return FaultPlan(parse_faults(armed or ""), log)


def _append(log: str, line: str) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)
