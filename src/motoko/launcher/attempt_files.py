"""What passes between an attempt's wrapper and launchers through files, read and written.

``start``: ``process PID``, boot id, the line of ``/proc/PID/stat``, PID namespace and host, by the
wrapper; or
``launcher NAME``, by one that took the attempt back. ``exit``: ``exit STATUS``, by the wrapper.
``stop``: the outcome for which a launcher ends the attempt, written before the first signal.
``over``: left by a launcher that found the attempt ended without ``exit``.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from motoko.core.states import Lifecycle
from motoko.errors import LauncherError
from motoko.launcher.outcome import Evidence, Finding, judge
from motoko.launcher.run_directory import PRIVATE, is_intact, read_marker, reclaim_start_file
from motoko.runtime import fault_points
from motoko.runtime.files import exclusive_create, write_atomic
from motoko.runtime.processes import (
    PROC,
    Liveness,
    ProcessIdentity,
    identify,
    is_alive,
    liveness,
    predates_boot,
)
from motoko.runtime.untrusted_files import read_file, stat_file, write_error
from motoko.worker import OUTBOX
from motoko.worker.attempt_context import OVER

if TYPE_CHECKING:
    from motoko.core.records import RunRecord
    from motoko.launcher.run_directory import AttemptPaths
    from motoko.runtime.untrusted_files import FileContent

START: Final = "start"
EXIT: Final = "exit"
STOP: Final = "stop"
# For which a launcher ends an attempt. No other word in that file is a launcher's.
STOP_REASONS: Final = frozenset({"TIMEOUT", "CANCELLED", "CREATED"})
RECLAIMED_PREFIX: Final = "launcher "

# Numbers have a bounded length: Python refuses to read those of thousands of digits.
_START: Final = re.compile(
    r"process ([0-9]{1,9})\n([^\n]{0,200})\n([^\n]{0,4096})\n(?:([0-9]{0,20})\n([^\n]{0,300})\n)?"
)
_STAT: Final = re.compile(r".*\) \S(?: -?[0-9]+){18} ([0-9]{1,19})(?: .*)?")
_EXIT: Final = re.compile(r"exit ([0-9]{1,3})\n")

TRIES: Final = 40
PAUSE: Final = 0.025  # seconds; a wrapper fills its start file at once
MACHINE_RESTARTED: Final = "this machine was restarted since"

log = logging.getLogger(__name__)


def read_evidence(paths: AttemptPaths) -> tuple[Evidence, ProcessIdentity | None]:
    """Return what there is to know of an attempt now, and its process if that is known."""
    start = _read(paths, START)
    if start.missing:
        status, fault = exit_record(paths)
        return Evidence(status=status, fault=fault), None
    process = parse_start(start.text)
    alive = process is not None and is_wrapper_running(process, paths.attempt_directory)
    # The exit record is read last: a process that was seen dead has left it by then, or never.
    status, fault = exit_record(paths)
    evidence = Evidence(
        started=True,
        reclaimed=start.text.startswith(RECLAIMED_PREFIX),
        process_known=process is not None,
        alive=alive,
        status=status,
        fault=fault or start.fault,
    )
    return evidence, process


def start_file_text(launcher: str) -> bytes:
    """Return what a launcher writes into the start file of an attempt that it takes back."""
    return f"{RECLAIMED_PREFIX}{launcher}\n".encode()


def parse_start(text: str) -> ProcessIdentity | None:
    """Return the process that a start file names, None if it names none or is incomplete."""
    found = _START.match(text)
    if found is None or int(found[1]) < 1:
        return None
    pid, boot, line = int(found[1]), found[2], found[3]
    if not line:  # no /proc here: the pid alone has to do
        return identify(pid) or ProcessIdentity(pid, 0, boot)
    # The command's name is in parentheses and may contain anything, parentheses too.
    stat = _STAT.fullmatch(line)
    if stat is None:
        return None
    # An older wrapper wrote neither PID namespace nor host.
    return ProcessIdentity(pid, int(stat[1]), boot, int(found[4] or 0), found[5] or "")


def exit_record(paths: AttemptPaths) -> tuple[int | None, str | None]:
    """Return the exit record's status, None if there is no complete one, and what is wrong then."""
    found = _read(paths, EXIT)
    record = _EXIT.fullmatch(found.text)
    if record is not None:
        return int(record[1]), None
    if found.missing and not os.path.isdir(paths.attempt_directory):
        return None, f"{paths.attempt_directory} does not exist"
    if not found.data:
        return None, found.fault
    return None, f"{paths.file(EXIT)} is damaged"


def exit_status(paths: AttemptPaths) -> int | None:
    """Return the exit record's status, None if there is no complete one."""
    return exit_record(paths)[0]


def describe_missing_exit(paths: AttemptPaths) -> str:
    """Return what is to be said of an exit record that is not complete, and names the file."""
    _, fault = exit_record(paths)
    what = "is empty" if exit_is_empty(paths) else "does not exist"
    return fault or f"{paths.file(EXIT)} {what}"


def exit_is_empty(paths: AttemptPaths) -> bool:
    """Return whether there is an exit record without content."""
    found = stat_file(paths.file(EXIT))
    return found.data is not None and found.size == 0


def outbox_size(paths: AttemptPaths) -> int:
    """Return how many bytes the attempt's outbox has, 0 if there is none to be read."""
    return stat_file(paths.file(OUTBOX)).size


def file_time(paths: AttemptPaths, name: str) -> float | None:
    """Return when a file of the attempt was written, in seconds since the epoch."""
    return stat_file(paths.file(name)).modified or None


def read_stop_reason(paths: AttemptPaths) -> Lifecycle | None:
    """Return the outcome for which a launcher ended the attempt, CREATED if it was recalled."""
    word = _read(paths, STOP).text.strip()
    return Lifecycle(word) if word in STOP_REASONS else None


def write_stop_reason(paths: AttemptPaths, outcome: Lifecycle) -> None:
    """Note why the attempt is about to be ended, for whoever harvests it, where that is possible.

    It is ended in any case, whatever has become of its directory.
    """
    try:
        write_atomic(paths.file(STOP), f"{outcome.value}\n".encode())
    except OSError as error:
        log.warning("%s cannot be written: %s", paths.file(STOP), error.strerror or error)


def mark_ended(paths: AttemptPaths) -> None:
    """Mark an attempt as over where it left no exit record, as far as that is possible.

    `motoko-worker` then refuses records of processes that are still alive. Call this before the
    outbox is read for the last time.
    """
    if not os.path.exists(paths.file(EXIT)):
        with contextlib.suppress(OSError):
            exclusive_create(paths.file(OVER))


def find_process_in(run: str) -> ProcessIdentity | None:
    """Return the living process of an attempt that a run directory holds, None if there is none."""
    for start in Path(run, PRIVATE).glob(f"*/{START}"):
        process = parse_start(read_file(start).text)
        if process is not None and is_wrapper_running(process, start.parent):
            return process
    return None


def is_wrapper_running(process: ProcessIdentity, attempt: str | Path) -> bool:
    """Return whether a process lives and is the wrapper of the attempt in this private directory.

    It is another's where the directory is a copy of the one that it was started with, or where
    the process was named by somebody else than the wrapper.
    """
    if not is_alive(process):
        return False
    arguments = _arguments(str(process.pid))
    if not arguments:
        return True  # they are not known here
    path = _attempt_of(arguments)
    if not path.startswith("/"):
        return False
    if path == str(attempt):
        return True
    try:
        return os.path.samefile(path, attempt)
    except OSError:  # one of them was moved or removed since
        return not os.path.exists(path)


def _attempt_of(arguments: list[bytes]) -> str:
    """Return which attempt a wrapper was started for, empty if these are not its arguments."""
    # `sh wrapper.sh ATTEMPT ...`, or `bash --posix wrapper.sh ATTEMPT ...`
    names = (os.fsdecode(argument) for argument in arguments[2:4])
    return next((name for name in names if f"/{PRIVATE}/" in name), "")


def find_by_token(token: str) -> ProcessIdentity | None:
    """Return the wrapper process that was started for an attempt, by its arguments."""
    wanted = f"/{PRIVATE}/{token}"
    for name in filter(str.isdigit, os.listdir(PROC) if _proc() else ()):
        if _attempt_of(_arguments(name)).endswith(wanted):
            return identify(int(name))
    return None


def _arguments(pid: str) -> list[bytes]:
    """Return the arguments of a process, none where they are not known."""
    try:
        return (PROC / pid / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def _proc() -> bool:
    return (PROC / "self/cmdline").exists()


def _read(paths: AttemptPaths, name: str) -> FileContent:
    return read_file(paths.file(name))


def was_reclaimed(paths: AttemptPaths) -> bool:
    """Return whether an attempt that did not start never will: another launcher has seen to it."""
    return read_evidence(paths)[0].reclaimed or read_marker(paths.run_directory) != (
        paths.number,
        paths.stamp,
    )


def has_started(paths: AttemptPaths) -> bool:
    """Return whether the attempt's wrapper took its start file, whatever has become of that."""
    start = _read(paths, START)
    return not start.missing and not start.text.startswith(RECLAIMED_PREFIX)


@dataclass(frozen=True, slots=True)
class RecoveredAttempt:
    """What is known of an attempt, its process where there is one, and what is wrong with files."""

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
        return _judge_started(paths, recorded, None)
    if restarted:
        return _judge_started(paths, None, MACHINE_RESTARTED)
    for _ in range(TRIES):
        evidence, process = read_evidence(paths)
        finding = judge(evidence)
        if finding is Finding.NEVER_STARTED and begun and not is_intact(paths):
            break
        if finding is Finding.NEVER_STARTED:
            taken = _reclaim(paths, launcher)
            if taken is not None:
                return taken
        elif finding is not Finding.UNCLEAR:
            return RecoveredAttempt(finding, process, evidence.status, evidence.fault)
        elif evidence.fault is not None:
            break
        time.sleep(PAUSE)
    return _judge_started(paths, None, None)


def _reclaim(paths: AttemptPaths, launcher: str) -> RecoveredAttempt | None:
    """Take an attempt back; None if it starts at this moment."""
    try:
        if not reclaim_start_file(paths, START, start_file_text(launcher)):
            return None
    except (OSError, LauncherError) as error:
        trouble = write_error(paths.runs_root)
        if trouble is not None:
            raise LauncherError(
                f"attempts of former launchers cannot be taken back: {trouble}",
                hint="Start the launcher again when this is put right.",
            ) from error
        # Where no launcher can take the start file, no wrapper can.
        return RecoveredAttempt(Finding.LOST, fault=f"its directory cannot be used: {error}")
    fault_points.point("launcher.taken_back")
    # A wrapper that comes later does not run its script. One that lives on does so, and its start
    # file was removed.
    for _ in range(TRIES):
        process = find_by_token(paths.token)
        if process is None or not is_wrapper_running(process, paths.attempt_directory):
            return RecoveredAttempt(Finding.RECLAIMED)
        time.sleep(PAUSE)
    log.warning("%s: its start file was removed while it runs", paths.run_directory)
    return RecoveredAttempt(Finding.RUNNING, process)


def _judge_started(
    paths: AttemptPaths, recorded: ProcessIdentity | None, fault: str | None
) -> RecoveredAttempt:
    """Judge an attempt that started, or may have, by its process and its exit record."""
    process = recorded or read_evidence(paths)[1] or find_by_token(paths.token)
    alive = process is not None and is_wrapper_running(process, paths.attempt_directory)
    # Read last: a process that was seen dead has left it by then, or never.
    status, problem = exit_record(paths)
    evidence = Evidence(started=True, process_known=True, alive=alive, status=status)
    faults_seen = (fault, _why_unknown(process), problem, read_evidence(paths)[0].fault)
    return RecoveredAttempt(judge(evidence), process, status, next(filter(None, faults_seen), None))


def _why_unknown(process: ProcessIdentity | None) -> str | None:
    """Return why nothing can be said of a process."""
    if process is None or liveness(process) is not Liveness.UNKNOWN:
        return None if process is None or not predates_boot(process) else MACHINE_RESTARTED
    where = process.host or "another machine"
    return f"process {process.pid} on {where}, in a container perhaps, cannot be seen from here"
