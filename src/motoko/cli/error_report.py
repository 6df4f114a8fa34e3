"""Report errors to the user: the problem first, then its place, then a hint."""

from __future__ import annotations

import sys
import traceback
from typing import TYPE_CHECKING, Final

from motoko.cli.output import ExitStatus, echo
from motoko.errors import (
    WRITE_HINTS,
    ConfigError,
    ConstraintError,
    MotokoError,
    RunFailed,
    RunNameError,
    UnknownNameError,
    WorkflowStalled,
)
from motoko.orchestrator.actions import to_exception

if TYPE_CHECKING:
    from types import FrameType, TracebackType

# Packages whose frames are not the user's code.
INTERNAL_PACKAGES: Final = ("motoko", "anyio", "asyncio", "concurrent", "threading", "contextlib")
SHOWN: Final = 10  # exceptions of a group
LOCATION_PREFIX: Final = "in the "  # begins the notes that name the code which raised an exception


def report(raised: BaseException, *, verbose: bool) -> int:
    """Print the error to stderr; return the exit status."""
    single = _single(raised)
    error = single if isinstance(single, Exception) else to_exception(single)
    location_notes = [note for note in notes(error) if note.startswith(LOCATION_PREFIX)]
    show_traceback = verbose
    if isinstance(error, ExceptionGroup):
        lines = _group_lines(error, location_notes)
        show_traceback = verbose or not all(isinstance(one, MotokoError) for one in leaves(error))
    elif isinstance(error, MotokoError):
        lines = _error_lines(error, location_notes)
    elif isinstance(error, OSError) and not location_notes and (error.errno or 0) in WRITE_HINTS:
        # Not a bug: the disk is full, or the directory read-only.
        subject = f"{error.filename} cannot be written: " if error.filename else ""
        lines = [f"error: {subject}{error.strerror}", f"  {WRITE_HINTS[error.errno or 0]}"]
    else:
        text = "".join(traceback.format_exception_only(error)).splitlines()
        where = location_notes[0] if location_notes else "unexpected error"
        lines = [f"error: {where}: {_summary(error)}", *text[1 : len(text) - len(notes(error))]]
        show_traceback = True
    if show_traceback:
        lines += _traceback(error, whole=verbose or not location_notes)
    echo("\n".join(lines), file=sys.stderr)
    return status_of(error)


def status_of(error: Exception) -> int:
    """Return the exit status of an error; of a group, the one that all its members share."""
    if isinstance(error, ExceptionGroup):
        statuses = {status_of(one) for one in leaves(error)}
        return statuses.pop() if len(statuses) == 1 else ExitStatus.ERROR
    if isinstance(error, RunFailed):
        return ExitStatus.FAILED
    if isinstance(error, WorkflowStalled):
        return ExitStatus.STALLED
    if isinstance(error, ConfigError | RunNameError):
        return ExitStatus.USAGE
    if isinstance(error, ConstraintError | UnknownNameError) and not notes(error):
        return ExitStatus.USAGE  # caused by a command-line argument
    return ExitStatus.ERROR


def notes(error: BaseException) -> list[str]:
    """Return the notes of an exception."""
    return [str(note) for note in getattr(error, "__notes__", ())]


def leaves(group: ExceptionGroup[Exception]) -> list[Exception]:
    """Return the exceptions of a group and of its nested groups."""
    found: list[Exception] = []
    for one in group.exceptions:
        found += leaves(one) if isinstance(one, ExceptionGroup) else [one]
    return found


def _single(error: BaseException) -> BaseException:
    """Return the only exception of a group, with the group's notes; otherwise ``error``."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        member = error.exceptions[0]
        for note in notes(error):
            if note not in notes(member):
                member.add_note(note)
        error = member
    return error


def _group_lines(error: ExceptionGroup[Exception], location_notes: list[str]) -> list[str]:
    members = leaves(error)
    where = f"{location_notes[0]}: " if location_notes else ""
    lines = [f"error: {where}{len(members)} exceptions were raised"]
    for member in members[:SHOWN]:
        text = member.message if isinstance(member, MotokoError) else _summary(member)
        lines += [f"  {text}", *(f"  {line}" for line in _user_line(member.__traceback__))]
        if isinstance(member, MotokoError) and member.hint is not None:
            lines.append(f"    {member.hint}")
    if len(members) > SHOWN:
        lines.append(f"  ... and {len(members) - SHOWN} more")
    return lines


def _error_lines(error: MotokoError, location_notes: list[str]) -> list[str]:
    where = f"{location_notes[0]}: " if location_notes else ""
    lines = [f"error: {where}{error.message}"]
    if location_notes and not isinstance(error, RunFailed):
        lines += _user_line(error.__traceback__)
    lines += [f"  {note}" for note in notes(error) if note not in location_notes]
    if error.hint is not None:
        lines.append(f"  {error.hint}")
    return lines


def _summary(error: Exception) -> str:
    try:
        text = str(error).splitlines()
    except Exception:  # noqa: BLE001 - raised by user code
        text = ["(it cannot be printed)"]
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def _user_line(trace: TracebackType | None) -> list[str]:
    frames = [(f, line) for f, line in traceback.walk_tb(trace) if not _is_internal(f)]
    return [f"  at {f.f_code.co_filename}:{n}, in {f.f_code.co_name}" for f, n in frames[-1:]]


def _traceback(error: Exception, *, whole: bool) -> list[str]:
    trace = error.__traceback__
    while not whole and trace is not None:
        if not _is_internal(trace.tb_frame):
            break
        trace = trace.tb_next
    shown = error.__traceback__ if trace is None else trace
    return "".join(traceback.format_exception(type(error), error, shown)).splitlines()


def _is_internal(frame: FrameType) -> bool:
    module: str = frame.f_globals.get("__name__", "")
    return module.partition(".")[0] in INTERNAL_PACKAGES
