"""Are clocks, file systems and permissions fit for a workflow?"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from motoko.errors import SharedStudyError, StorageError
from motoko.operations.doctor.findings import Finding, fault, ok, warning
from motoko.printable import join_names
from motoko.runtime import processes
from motoko.runtime.file_system import (
    NETWORK_TYPES,
    Space,
    WriteProbe,
    file_system_type,
    space,
)
from motoko.runtime.ports import utc_text
from motoko.storage.database import Database
from motoko.storage.query import query_database
from motoko.storage.run_directory_owner import check_owner
from motoko.storage.store import runs_directory

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from motoko.operations.doctor.patient import Patient

SKEW: Final = 2.0  # seconds between the clocks of machine and file server
JUMP: Final = 5.0  # seconds of a change of the wall clock worth reporting
FUTURE: Final = 60.0  # seconds by which a file may be newer than now
SLOW_SYNC: Final = 0.1  # seconds of an fsync
FEW_INODES: Final = 10_000
LITTLE_SPACE: Final = 64 * 2**20
LOW_SPACE: Final = 2**30
MEGABYTE: Final = 2**20
READ_ONLY: Final = "Commands that only read still work. To run, use a writable directory."


# -- clock -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClockFacts:
    """The clocks of machine and file system. Times are in seconds.

    ``jump``: change of the time of day, relative to the uptime, since the first process of this
    boot used the workflow; None if unknown. ``skew``: the time of a new file minus the time of day,
    None without one. ``newest``: the time of the last change of the database.
    """

    now: float
    jump: float | None = None
    skew: float | None = None
    newest: float = 0.0


def examine_clock(patient: Patient) -> list[Finding]:
    """Examine the clock of this machine."""
    clock = patient.runtime.clock
    boot, probe = _recorded_boot(patient), patient.probe(patient.writable_directory)
    return judge_clock(
        ClockFacts(
            clock.now(),
            None if boot is None else clock.now() - clock.uptime() - boot,
            None if probe.error else probe.skew,
            patient.state.database.stat().st_mtime if patient.has_database else 0.0,
        )
    )


def _recorded_boot(patient: Patient) -> float | None:
    """Return the time of this boot as the database knows it, None if it is unknown."""
    if patient.has_database:
        path = patient.state.database
        with (
            contextlib.suppress(StorageError, OSError),  # the check of the database reports it
            contextlib.closing(Database.read_file(path, runtime=patient.runtime)) as database,
        ):
            return query_database(database, lambda s: s.tables.boot_time(processes.boot_id()))
    return None


def judge_clock(facts: ClockFacts) -> list[Finding]:
    """Return the findings about the clocks."""
    return [*_judge_clock(facts)] or [ok("clock", "clock", f"{utc_text(facts.now)}, no jump")]


def _judge_clock(facts: ClockFacts) -> Iterator[Finding]:
    if facts.jump is not None and abs(facts.jump) > JUMP:
        message = f"the time of day was changed by {facts.jump:+,.0f} s since the machine booted"
        step = "Durations and time limits are unaffected; times in histories may be wrong."
        yield warning("clock-jump", "clock", message, step)
    if facts.skew is not None and abs(facts.skew) > SKEW:
        message = f"the file system's clock differs from this machine's by {facts.skew:+,.1f} s"
        step = "Synchronise both clocks (NTP): times of files and runs disagree."
        yield warning("clock-skew", "clock", message, step)
    if facts.newest > facts.now + FUTURE:
        message = f"the database was changed at {utc_text(facts.newest)}, which is in the future"
        step = "Correct the clock of this machine, or of the one that wrote it."
        yield warning("clock-behind", "clock", message, step)


# -- file systems ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FileSystemFacts:
    """One file system: the directories of the workflow on it, and its properties."""

    directories: Sequence[str]
    kind: str
    space: Space
    probe: WriteProbe


def examine_file_systems(patient: Patient) -> list[Finding]:
    """Examine the file systems of the state directory and of all study directories."""
    groups: dict[int, list[Path]] = {}
    studies = [study.directory for study in patient.diagnosis.studies.values()]
    for directory in (patient.writable_directory, *studies):
        with contextlib.suppress(OSError):
            groups.setdefault(directory.stat().st_dev, []).append(directory)
    findings: list[Finding] = []
    for directories in groups.values():
        first = directories[0]
        names = [os.path.relpath(path, patient.directory) for path in directories]
        facts = FileSystemFacts(names, file_system_type(first), space(first), patient.probe(first))
        findings += judge_file_system(facts)
    return findings


def judge_file_system(facts: FileSystemFacts) -> list[Finding]:
    """Return the findings about a file system."""
    subject = f"file system of {facts.directories[0]}"
    found = [*_judge_space(subject, facts.space), *_judge_locks(subject, facts)]
    sync = facts.probe.sync_seconds
    if not facts.probe.error and sync is None:
        step = "A power cut may lose commits. Use another file system for the workflow."
        found.append(fault("sync-failed", subject, "fsync does not work", step))
    elif not facts.probe.error and sync is not None and sync > SLOW_SYNC:
        message = f"an fsync takes {sync * 1000:,.0f} ms, and each commit needs one"
        found.append(warning("sync-slow", subject, message, "Use a faster disk, or wait."))
    if facts.kind in NETWORK_TYPES:
        message = f"is a network file system ({facts.kind})"
        step = "Run all commands on one machine if possible; results of other nodes arrive late."
        found.append(warning("network-file-system", subject, message, step))
    if found:
        return found
    free = f"{facts.space.free / 2**30:,.1f} GB free"
    return [ok("file-system", subject, f"{facts.kind or 'unknown type'}, {free}, locks work")]


def _judge_space(subject: str, found: Space) -> Iterator[Finding]:
    if found.free < LOW_SPACE:
        message = f"{found.free / MEGABYTE:,.0f} MB are free"
        step = "Free disk space: `motoko clean` lists runs to delete."
        make = fault if found.free < LITTLE_SPACE else warning
        yield make("space", subject, message, step)
    if found.inodes is not None and found.inodes < FEW_INODES:
        message = f"{found.inodes:,} more files can be created"
        step = "Delete files: each run needs about ten. `motoko clean` lists runs to delete."
        make = fault if found.inodes < FEW_INODES / 100 else warning
        yield make("inodes", subject, message, step)


def _judge_locks(subject: str, facts: FileSystemFacts) -> Iterator[Finding]:
    probe = facts.probe
    if probe.error:
        return  # the check of permissions reports it
    step = "Use a file system that supports locks (flock), such as a local one."
    if probe.locks is None:
        yield fault("locks-fail", subject, f"files cannot be locked: {probe.lock_error}", step)
    elif not probe.locks:
        message = "locks have no effect: two processes can hold the same one"
        yield fault("locks-ineffective", subject, message, step)


# -- permissions -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PermissionFacts:
    """The rights on the state directory and on run directories.

    ``owner``: of ``.wf``, None if it does not exist; ``user``: of this process. ``open_files``:
    files in ``.wf`` that others may use, with their modes. ``unwritable``: directories and
    why. ``shared``: errors about run directories that another workflow owns, with their hints.
    """

    user: int
    owner: int | None = None
    mode: int = 0o700
    open_files: Sequence[tuple[str, int]] = ()
    unwritable: Sequence[tuple[str, str]] = ()
    shared: Sequence[tuple[str, str]] = ()


def examine_permissions(patient: Patient) -> list[Finding]:
    """Examine the permissions of the workflow's directories."""
    state, user = patient.state.path, os.getuid()
    owner, mode, open_files = None, 0o700, []
    if state.exists() and not state.is_dir():
        message = f"{state} is not a directory"
        return [fault("state-replaced", "permissions", message, "Move it out of the way.")]
    if state.exists():
        found = state.stat()
        owner, mode = found.st_uid, stat.S_IMODE(found.st_mode)
        for path in [*state.iterdir(), *state.glob("logs/*")]:
            with contextlib.suppress(OSError):
                bits = path.lstat().st_mode
                if bits & 0o077 and not stat.S_ISLNK(bits):
                    open_files.append((os.path.relpath(path, state.parent), stat.S_IMODE(bits)))
    unwritable, shared = [], []
    for directory in _written_directories(patient):
        error = patient.probe(directory).error
        if error:
            unwritable.append((os.path.relpath(directory, patient.directory), error))
    for study in patient.diagnosis.studies.values():
        try:
            check_owner(patient.state, runs_directory(study))
        except SharedStudyError as error:
            shared.append((error.message, error.hint or ""))
    return judge_permissions(PermissionFacts(user, owner, mode, open_files, unwritable, shared))


def _written_directories(patient: Patient) -> Iterator[Path]:
    """Yield the directories in which processes of the workflow create files."""
    yield patient.writable_directory
    for study in patient.diagnosis.studies.values():
        runs = runs_directory(study)
        yield runs if runs.is_dir() else study.directory


def judge_permissions(facts: PermissionFacts) -> list[Finding]:
    """Return the findings about permissions."""
    return [*_judge_permissions(facts)] or [
        ok("permissions", "permissions", "only you can use .wf; run directories are writable")
    ]


def _judge_permissions(facts: PermissionFacts) -> Iterator[Finding]:
    subject = "permissions"
    if facts.owner not in (None, facts.user):
        message = f".wf belongs to another user (uid {facts.owner})"
        step = "Work as that user, or on a copy of the workflow's directory."
        yield warning("state-owner", subject, message, step)
    if facts.mode & 0o077:
        message = f".wf has mode {facts.mode:04o}: other users may act as you"
        yield fault("state-mode", subject, message, "`chmod 700 .wf`")
    if facts.open_files:
        names = join_names(f"{name} ({mode:04o})" for name, mode in facts.open_files)
        message = f"other users have rights on {names}"
        yield warning("file-mode", subject, message, "`chmod -R go-rwx .wf`")
    for name, error in facts.unwritable:
        message = f"{name} cannot be written: {error}"
        yield warning("unwritable", subject, message, READ_ONLY)
    for message, step in facts.shared:
        yield fault("study-shared", subject, message, step)
