"""Report errors to the user: the problem first, then its place, then a hint."""

from __future__ import annotations

import errno
import sys
import traceback
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from motoko.cli.output import ExitStatus, echo
from motoko.errors import (
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
_ROOM: Final = "Make room on the disk, and repeat the command: nothing is lost."
_WRITABLE: Final = "This command needs a writable directory; `motoko info` only reads."
WRITE_HINTS: Final = MappingProxyType(
    {
        errno.ENOSPC: _ROOM,
        errno.EDQUOT: _ROOM,
        errno.EROFS: _WRITABLE,
        errno.EACCES: _WRITABLE,
    }
)
SHOWN: Final = 10  # exceptions of a group
PLACE: Final = "in the "  # begins the notes that name the code which raised an exception


def report(raised: BaseException, *, verbose: bool) -> int:
    """Print the error to stderr; return the exit status."""
    single = _single(raised)
    error = single if isinstance(single, Exception) else to_exception(single)
    places = [note for note in notes(error) if note.startswith(PLACE)]
    show_traceback = verbose
    if isinstance(error, ExceptionGroup):
        lines = _group_lines(error, places)
        show_traceback = verbose or not all(isinstance(one, MotokoError) for one in leaves(error))
    elif isinstance(error, MotokoError):
        lines = _error_lines(error, places)
    elif isinstance(error, OSError) and (hint := WRITE_HINTS.get(error.errno or 0)) and not places:
        # Not a bug: the disk is full, or the directory read-only.
        place = f"{error.filename} cannot be written: " if error.filename else ""
        lines = [f"error: {place}{error.strerror}", f"  {hint}"]
    else:
        text = "".join(traceback.format_exception_only(error)).splitlines()
        where = places[0] if places else "unexpected error"
        lines = [f"error: {where}: {_summary(error)}", *text[1 : len(text) - len(notes(error))]]
        show_traceback = True
    if show_traceback:
        lines += _traceback(error, whole=verbose or not places)
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


def _group_lines(error: ExceptionGroup[Exception], places: list[str]) -> list[str]:
    members = leaves(error)
    where = f"{places[0]}: " if places else ""
    lines = [f"error: {where}{len(members)} exceptions were raised"]
    for member in members[:SHOWN]:
        text = member.message if isinstance(member, MotokoError) else _summary(member)
        lines += [f"  {text}", *(f"  {line}" for line in _user_line(member.__traceback__))]
        if isinstance(member, MotokoError) and member.hint is not None:
            lines.append(f"    {member.hint}")
    if len(members) > SHOWN:
        lines.append(f"  ... and {len(members) - SHOWN} more")
    return lines


def _error_lines(error: MotokoError, places: list[str]) -> list[str]:
    where = f"{places[0]}: " if places else ""
    lines = [f"error: {where}{error.message}"]
    if places and not isinstance(error, RunFailed):
        lines += _user_line(error.__traceback__)
    lines += [f"  {note}" for note in notes(error) if note not in places]
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
