"""The evidence about an attempt: its records, its processes, and what launchers write beside them.

``stop``: why a launcher ends the attempt, written before the first signal.
``over``: written by a launcher that found the attempt ended without exit record.
``full``: written by a wrapper that waits for disk space for the exit record.
"""

from __future__ import annotations

import contextlib
import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from motoko.core.states import Lifecycle
from motoko.errors import LauncherError
from motoko.launcher.attempt_outcome import Evidence, Finding, judge
from motoko.launcher.attempt_paths import EXIT, read_marker
from motoko.launcher.attempt_processes import is_wrapper_running, search_wrapper
from motoko.launcher.attempt_records import RECLAIMED, exit_record, parse_start, read_start
from motoko.launcher.run_directory import is_intact, reclaim
from motoko.runtime import fault_points
from motoko.runtime.files import exclusive_create, write_atomic
from motoko.runtime.ports import SYSTEM
from motoko.runtime.processes import (
    Liveness,
    ProcessIdentity,
    liveness,
    predates_boot,
)
from motoko.runtime.untrusted_files import read_file, stat_file, write_error
from motoko.worker.attempt_context import ENDED

if TYPE_CHECKING:
    from motoko.core.records import RunRecord
    from motoko.launcher.attempt_paths import AttemptPaths
    from motoko.runtime.ports import Clock

STOP: Final = "stop"
FULL: Final = "full"
# Any other content of that file is not a launcher's.
STOP_REASONS: Final = frozenset({"TIMEOUT", "CANCELLED", "CREATED"})

MAX_TRIES: Final = 40
PAUSE: Final = 0.025  # seconds; a wrapper writes its start record at once
MACHINE_RESTARTED: Final = "this machine has been restarted since"

log = logging.getLogger(__name__)


def read_evidence(paths: AttemptPaths) -> tuple[Evidence, ProcessIdentity | None]:
    """Return the current evidence about an attempt, and its process if that is known."""
    start = read_start(paths.attempt_path)
    if start.missing:
        status, fault = exit_record(paths)
        return Evidence(status=status, fault=fault), None
    record = parse_start(start.text)
    process = None if record is None else record.process
    alive = process is not None and is_wrapper_running(process, paths.attempt_path)
    # Read the exit record last: a process that is dead has written it by now, or never will.
    status, fault = exit_record(paths)
    reclaimed, fault = start.text.startswith(RECLAIMED), fault or start.fault
    return Evidence(True, reclaimed, process is not None, alive, status, fault), process


def reclaim_text(launcher: str) -> bytes:
    """Return the start record with which a launcher reclaims an attempt."""
    return f"{RECLAIMED}{launcher}\n".encode()


def waits_for_space(paths: AttemptPaths) -> bool:
    """Return whether the wrapper waits for disk space for its exit record."""
    if paths.is_earlier:  # then it is empty
        found = stat_file(paths.file(EXIT))
        return found.data is not None and found.size == 0
    return os.path.lexists(paths.file(FULL))


def outbox_size(paths: AttemptPaths) -> int:
    """Return the size of the attempt's outbox, 0 if it cannot be read."""
    return stat_file(paths.outbox).size


def read_stop_reason(paths: AttemptPaths) -> Lifecycle | None:
    """Return why a launcher ended the attempt: the run's next state, CREATED to requeue it."""
    word = read_file(paths.file(STOP)).text.strip()
    return Lifecycle(word) if word in STOP_REASONS else None


def write_stop_reason(paths: AttemptPaths, outcome: Lifecycle) -> None:
    """Write why the attempt is about to be ended; log a failure, which does not prevent that."""
    try:
        write_atomic(paths.file(STOP), f"{outcome.value}\n".encode())
    except OSError as error:
        log.warning("%s cannot be written: %s", paths.file(STOP), error.strerror or error)


def mark_ended(paths: AttemptPaths) -> None:
    """Mark an attempt without exit record as ended, if possible.

    `motoko-worker` then refuses further records. Call this before the last read of the outbox.
    """
    started = os.path.lexists(paths.attempt_path)  # else the directory may be a later attempt's
    if started and exit_record(paths)[0] is None:
        with contextlib.suppress(OSError):
            exclusive_create(paths.file(ENDED))


def was_reclaimed(paths: AttemptPaths) -> bool:
    """Return whether another launcher has prevented the start of the attempt."""
    own = (paths.number, paths.stamp)
    return read_evidence(paths)[0].reclaimed or read_marker(paths.run_directory) != own


def has_started(paths: AttemptPaths) -> bool:
    """Return whether the attempt's wrapper has created its start record, readable or not."""
    start = read_start(paths.attempt_path)
    return not start.missing and not start.text.startswith(RECLAIMED)


@dataclass(frozen=True, slots=True)
class RecoveredAttempt:
    """The conclusion about an attempt, its process, its exit status, and a fault of its files."""

    finding: Finding
    process: ProcessIdentity | None = None
    status: int | None = None
    fault: str | None = None


def examine_attempt(
    record: RunRecord,
    paths: AttemptPaths,
    launcher: str,
    *,
    restarted: bool = False,
    start_noted: bool = False,
    clock: Clock = SYSTEM.clock,
) -> RecoveredAttempt:
    """Determine the state of an attempt of an earlier launcher; reclaim it if it never started.

    The database is evidence as well: an attempt whose start it knows did start. ``restarted``: the
    machine has been restarted since the claim, which may have lost the start record.
    ``start_noted``: the launcher noted the start, so a missing directory has since been removed.
    Blocks for up to two seconds if the start record is missing or incomplete.
    """
    if record.lifecycle is Lifecycle.START:
        recorded = None if record.process is None else ProcessIdentity(*record.process)
        return _judge_started(paths, recorded, None)
    if restarted:
        return _judge_started(paths, None, MACHINE_RESTARTED)
    for _ in range(MAX_TRIES):
        evidence, process = read_evidence(paths)
        finding = judge(evidence)
        if finding is Finding.NEVER_STARTED and start_noted and not is_intact(paths):
            break
        if finding is Finding.NEVER_STARTED:
            reclaimed = _reclaim(paths, launcher, clock)
            if reclaimed is not None:
                return reclaimed
        elif finding is not Finding.UNCLEAR:
            return RecoveredAttempt(finding, process, evidence.status, evidence.fault)
        elif evidence.fault is not None:
            break
        clock.sleep(PAUSE)
    return _judge_started(paths, None, None)


def _reclaim(paths: AttemptPaths, launcher: str, clock: Clock) -> RecoveredAttempt | None:
    """Reclaim an attempt; return None if it starts at this moment."""
    try:
        if not reclaim(paths, reclaim_text(launcher)):
            return None
    except (OSError, LauncherError) as error:
        trouble = write_error(paths.runs_root)
        if trouble is not None:
            raise LauncherError(
                f"attempts of earlier launchers cannot be reclaimed: {trouble}",
                hint="Correct this, then start the launcher again.",
            ) from error
        # If no launcher can create the start file, no wrapper can.
        return RecoveredAttempt(Finding.LOST, fault=f"its directory cannot be used: {error}")
    fault_points.point("launcher.reclaimed")
    # A wrapper that starts later finds this record and runs no script. One that stays alive runs
    # its script: its own start record was removed.
    for _ in range(MAX_TRIES):
        process = search_wrapper(paths.attempt_path)
        if process is None or not is_wrapper_running(process, paths.attempt_path):
            return RecoveredAttempt(Finding.RECLAIMED)
        clock.sleep(PAUSE)
    log.warning("%s: the start record of a running attempt was removed", paths.run_directory)
    return RecoveredAttempt(Finding.RUNNING, process)


def _judge_started(
    paths: AttemptPaths, recorded: ProcessIdentity | None, fault: str | None
) -> RecoveredAttempt:
    """Judge an attempt that may have started by its process and its exit record."""
    process = recorded or read_evidence(paths)[1] or search_wrapper(paths.attempt_path)
    alive = process is not None and is_wrapper_running(process, paths.attempt_path)
    # Read last: a process that is dead has written it by now, or never will.
    status, problem = exit_record(paths)
    evidence = Evidence(started=True, process_known=True, alive=alive, status=status)
    faults = (fault, _why_unknown(process), problem, read_evidence(paths)[0].fault)
    return RecoveredAttempt(judge(evidence), process, status, next(filter(None, faults), None))


def _why_unknown(process: ProcessIdentity | None) -> str | None:
    """Return why the state of a process is unknown, None if it is known."""
    if process is None:
        return None
    if liveness(process) is Liveness.UNKNOWN:
        host = process.host or "another machine"
        return f"process {process.pid} on {host}, possibly in a container, is not visible from here"
    return MACHINE_RESTARTED if predates_boot(process) else None
