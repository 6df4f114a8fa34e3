"""Facts about the processes of a workflow, and the code that they execute."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from motoko.operations.doctor.findings import Finding, warning
from motoko.operations.doctor.installation import PACKAGE
from motoko.runtime.ports import process_age, utc_text
from motoko.runtime.processes import Liveness, is_stopped, is_visible, liveness
from motoko.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from motoko.runtime.daemons import PidFile
    from motoko.runtime.ports import Clock
    from motoko.runtime.processes import ProcessIdentity

PROC: Final = Path("/proc")
TOLERANCE: Final = 2.0  # seconds between a process's start and a change of its code


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """One process. ``memory`` in bytes, 0 if unknown; ``started`` in seconds since the epoch.

    ``version``: of its Motoko, "" if unknown.
    """

    pid: int
    host: str
    liveness: Liveness
    suspended: bool = False
    memory: int = 0
    version: str = ""
    started: float | None = None


def read_process(file: PidFile, clock: Clock) -> ProcessFacts | None:
    """Return the process that a pid file names, None without one."""
    record = file.read()
    if record is None:
        return None
    found = liveness(record.process)
    if found is Liveness.UNKNOWN and file.owner_alive():  # in another container
        found = Liveness.ALIVE
    version = record.info.get("version")
    return describe(record.process, found, clock, version if isinstance(version, str) else "")


def describe(
    process: ProcessIdentity, found: Liveness, clock: Clock, version: str = ""
) -> ProcessFacts:
    """Return the facts about a process whose liveness is known."""
    visible = found is Liveness.ALIVE and is_visible(process)
    return ProcessFacts(
        process.pid,
        process.host,
        found,
        is_stopped(process),
        _memory(process.pid) if visible else 0,
        version,
        clock.now() - process_age(process.started) if visible else None,
    )


def _memory(pid: int) -> int:
    """Return the resident memory of a process in bytes, 0 if unknown."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = int((PROC / str(pid) / "statm").read_bytes().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    return 0


def newest(files: Iterable[Path]) -> float:
    """Return the time of the latest change of these files, 0 without one."""
    latest = 0.0
    for file in files:
        with contextlib.suppress(OSError):
            latest = max(latest, file.stat().st_mtime)
    return latest


def code_findings(
    subject: str, process: ProcessFacts, restart: str, changed: float | None = None
) -> Iterator[Finding]:
    """Yield the differences between the code of a process and this one's.

    ``changed``: when the code of this process changed last, by default read from its files.
    """
    step = f"Restart it: `{restart}`."
    if process.version not in ("", __version__):
        message = f"process {process.pid} is Motoko {process.version}, this is {__version__}"
        yield warning("code-version", subject, message, step)
        return
    changed = newest(PACKAGE.rglob("*.py")) if changed is None else changed
    if process.started is not None and changed > process.started + TOLERANCE:
        message = f"process {process.pid} runs code from before {utc_text(changed)}"
        yield warning("code-changed", subject, message, step)
