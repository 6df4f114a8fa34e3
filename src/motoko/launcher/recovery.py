"""Attempts that another launcher began: what became of them.

What the database recorded is evidence as well as what is in the run's directory: an attempt whose
start it knows was started, whatever has become of its files.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from motoko.core.states import Lifecycle
from motoko.errors import LauncherError
from motoko.launcher.attempt_files import (
    START,
    exit_record,
    find_by_token,
    is_wrapper_running,
    read_evidence,
    start_file_text,
)
from motoko.launcher.claiming import Evidence, Finding, judge
from motoko.launcher.run_directory import is_whole, reclaim_start_file
from motoko.runtime import fault_points
from motoko.runtime.processes import ProcessIdentity, Standing, before_restart, standing
from motoko.runtime.untrusted_files import trouble_writing

if TYPE_CHECKING:
    from motoko.core.records import RunRecord
    from motoko.launcher.run_directory import AttemptPaths

TRIES: Final = 40
PAUSE: Final = 0.025  # seconds; a wrapper fills its start file at once
RESTARTED: Final = "this machine was restarted since"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RecoveredAttempt:
    """What is known of an attempt, its process where there is one, and what is wrong with files."""

    finding: Finding
    process: ProcessIdentity | None = None
    status: int | None = None
    fault: str | None = None


def examine_attempt(
    record: RunRecord,
    place: AttemptPaths,
    launcher: str,
    *,
    restarted: bool = False,
    begun: bool = False,
) -> RecoveredAttempt:
    """Find out what became of an attempt. One that never started is taken back at once.

    ``restarted``: the machine was, since the attempt was claimed. What was written before may be
    lost, so that a start file that is missing tells nothing. ``begun``: the attempt's launcher
    noted that it starts it, so that a directory that is missing was removed since. Blocks for up to
    a second or two where the start file is missing or incomplete.
    """
    if record.lifecycle is Lifecycle.START:
        recorded = None if record.process is None else ProcessIdentity(*record.process)
        return _started(place, recorded, None)
    if restarted:
        return _started(place, None, RESTARTED)
    for _ in range(TRIES):
        evidence, process = read_evidence(place)
        finding = judge(evidence)
        if finding is Finding.NEVER_STARTED and begun and not is_whole(place):
            break
        if finding is Finding.NEVER_STARTED:
            taken = _take_back(place, launcher)
            if taken is not None:
                return taken
        elif finding is not Finding.UNCLEAR:
            return RecoveredAttempt(finding, process, evidence.status, evidence.fault)
        elif evidence.fault is not None:
            break
        time.sleep(PAUSE)
    return _started(place, None, None)


def _take_back(place: AttemptPaths, launcher: str) -> RecoveredAttempt | None:
    """Take an attempt back; None if it starts at this moment."""
    try:
        if not reclaim_start_file(place, START, start_file_text(launcher)):
            return None
    except (OSError, LauncherError) as error:
        trouble = trouble_writing(place.root)
        if trouble is not None:
            raise LauncherError(
                f"attempts of former launchers cannot be taken back: {trouble}",
                hint="Start the launcher again when this is put right.",
            ) from error
        # Where no launcher can take the start file, no wrapper can.
        return RecoveredAttempt(Finding.GONE, fault=f"its directory cannot be used: {error}")
    fault_points.point("launcher.taken_back")
    # A wrapper that comes later does not run its script. One that lives on does so, and its start
    # file was removed.
    for _ in range(TRIES):
        process = find_by_token(place.token)
        if process is None or not is_wrapper_running(process, place.private):
            return RecoveredAttempt(Finding.TAKEN_BACK)
        time.sleep(PAUSE)
    log.warning("%s: its start file was removed while it runs", place.run)
    return RecoveredAttempt(Finding.RUNNING, process)


def _started(
    place: AttemptPaths, recorded: ProcessIdentity | None, fault: str | None
) -> RecoveredAttempt:
    """Judge an attempt that started, or may have, by its process and its exit record."""
    process = recorded or read_evidence(place)[1] or find_by_token(place.token)
    alive = process is not None and is_wrapper_running(process, place.private)
    # Read last: a process that was seen dead has left it by then, or never.
    status, problem = exit_record(place)
    evidence = Evidence(started=True, known=True, alive=alive, status=status)
    faults_seen = (fault, _unseen(process), problem, read_evidence(place)[0].fault)
    return RecoveredAttempt(judge(evidence), process, status, next(filter(None, faults_seen), None))


def _unseen(process: ProcessIdentity | None) -> str | None:
    """Return why nothing can be said of a process."""
    if process is None or standing(process) is not Standing.UNSEEN:
        return None if process is None or not before_restart(process) else RESTARTED
    where = process.host or "another machine"
    return f"process {process.pid} on {where}, in a container perhaps, cannot be seen from here"
