"""The last execution of each run name: its start, and its end.

Each run name has a file in ``.wf/ends``. An orchestrator writes it when it starts and when it ends.
It needs no database, so the failure of the server is recorded too.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from motoko.errors import ExitStatus
from motoko.runtime.file_lock import is_locked
from motoko.runtime.files import file_identity
from motoko.runtime.ports import SYSTEM, utc_text
from motoko.runtime.processes import Liveness, ProcessIdentity, boot_id, liveness
from motoko.runtime.untrusted_files import read_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from motoko.runtime.ports import Clock
    from motoko.server.state_dir import StateDir

MAX_STEM: Final = 150  # bytes of a run name in a file's name
UNSEEN_SECONDS: Final = 120.0  # after which an orchestrator on another machine counts as dead


class EndKind(StrEnum):
    """The kinds of end. DIED: the process died without recording one."""

    FINISHED = "finished"
    FAILED = "failed"  # runs failed, and nothing handled them
    ERROR = "error"
    STALLED = "stalled"
    INTERRUPTED = "interrupted"
    DIED = "died"


@dataclass(frozen=True, slots=True)
class Ending:
    """How an execution ended. ``status``: the exit status of the command."""

    kind: EndKind
    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class RunEnd:
    """The last end of a run name. ``reason`` is one line.

    ``time`` and ``started`` are in seconds since the epoch. ``log``: the file with the output, None
    if it went to a terminal.
    """

    run_name: str
    kind: EndKind
    status: int
    reason: str
    time: float
    started: float
    command: tuple[str, ...]
    detached: bool
    log: Path | None

    def __str__(self) -> str:
        return f"{utc_text(self.time)}, exit status {self.status}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Execution:
    """The stored record of an execution.

    ``alone``: its process exits with it. ``seen``: when the record was last written or the lease
    renewed, in seconds since the epoch. ``copied``: the record was copied with its directory.
    ``recorded`` is the end if the process has recorded one, ``previous`` the end before this start.
    """

    file: Path
    run_name: str
    token: str
    process: ProcessIdentity
    started: float
    command: tuple[str, ...]
    detached: bool
    alone: bool
    log: Path | None
    seen: float
    copied: bool
    recorded: RunEnd | None
    previous: RunEnd | None

    def is_running(self, now: float) -> bool:
        """Return whether the execution must be assumed to be running; ``now``: since the epoch."""
        if self.recorded is not None or self.copied:
            return False
        found = liveness(self.process)
        if found is Liveness.UNKNOWN and self.process.boot == boot_id():  # in another container
            return is_locked(self.file)
        if found is Liveness.UNKNOWN:
            return abs(now - self.seen) < UNSEEN_SECONDS
        return found is Liveness.ALIVE

    def end(self, now: float) -> RunEnd | None:
        """Return the end of this execution, None while it is running."""
        if self.recorded is not None:
            return self.recorded
        if self.is_running(now):
            return None
        if self.copied:
            reason = "no end is known: it was running when this directory was copied"
        else:
            reason = f"died without recording an end; last seen {utc_text(self.seen)}"
        return RunEnd(
            self.run_name, EndKind.DIED, ExitStatus.ERROR, reason, self.seen,
            self.started, self.command, self.detached, self.log,
        )  # fmt: skip


def last_ends(state: StateDir, clock: Clock = SYSTEM.clock) -> dict[str, RunEnd]:
    """Return the last end of each run name that has one.

    While a run name is executed, this is the end of its execution before.
    """
    now = clock.now()
    found = {
        name: execution.end(now) or execution.previous
        for name, execution in executions(state).items()
    }
    return {name: end for name, end in found.items() if end is not None}


def executions(state: StateDir) -> dict[str, Execution]:
    """Return the last execution of each run name, in order of the names; skip invalid records."""
    found = (read_execution(file) for file in state.ends.glob("*.json"))
    by_name = {one.run_name: one for one in found if one is not None}
    return dict(sorted(by_name.items()))


def end_file(state: StateDir, run_name: str) -> Path:
    """Return the file with the last execution of a run name."""
    return state.ends / f"{file_stem(run_name)}.json"


def file_stem(run_name: str) -> str:
    """Return a run name quoted and shortened for use in a file name."""
    quoted = quote(run_name, safe=" ")
    if len(quoted) <= MAX_STEM:
        return quoted
    digest = hashlib.blake2b(run_name.encode(), digest_size=8).hexdigest()
    return f"{quoted[:MAX_STEM]}-{digest}"


def read_execution(file: Path) -> Execution | None:
    """Return the recorded execution; None if the file does not exist or is invalid."""
    content = read_file(file)
    try:
        stored = json.loads(content.text)
        run_name, started = str(stored["run_name"]), float(stored["started"])
        log = _path(file, stored["log"])
        command, detached = tuple(map(str, stored["command"])), bool(stored["detached"])
        end = stored["end"]
        if end is not None:
            common = {"run_name": run_name, "started": started, "command": command}
            end = _decode(file, {**end, **common, "detached": detached, "log": stored["log"]})
        return Execution(
            file, run_name, str(stored["token"]), ProcessIdentity(**stored["process"]), started,
            command, detached, bool(stored["alone"]), log, content.modified,
            stored["home"] != file_identity(file.parent), end, _decode(file, stored["previous"]),
        )  # fmt: skip
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None


def encode_end(end: RunEnd | None) -> dict[str, Any] | None:
    """Return an end as plain data, with the log relative to the state directory."""
    if end is None:
        return None
    return {**asdict(end), "log": None if end.log is None else f"logs/{end.log.name}"}


def _decode(file: Path, stored: Mapping[str, Any] | None) -> RunEnd | None:
    if stored is None:
        return None
    return RunEnd(
        str(stored["run_name"]),
        EndKind(stored["kind"]),
        int(stored["status"]),
        str(stored["reason"]),
        float(stored["time"]),
        float(stored["started"]),
        tuple(map(str, stored["command"])),
        bool(stored["detached"]),
        _path(file, stored["log"]),
    )


def _path(file: Path, log: str | None) -> Path | None:
    """Return the log of a stored execution, in the directory where the record is now."""
    return None if log is None else file.parent.parent / "logs" / Path(log).name
