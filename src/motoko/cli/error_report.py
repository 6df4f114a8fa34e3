"""What a user is told when something went wrong."""

from __future__ import annotations

import errno
import sys
import traceback
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from motoko.cli import exit_status
from motoko.cli.output import say
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
    from types import TracebackType

# Modules whose frames say nothing about the user's code.
MACHINERY: Final = ("motoko", "anyio", "asyncio", "concurrent", "threading", "contextlib")
_ROOM: Final = "Make room on the disk, and do it again: nothing is lost."
_WRITABLE: Final = "It needs a directory it can write to; `motoko info` only reads."
UNWRITABLE: Final = MappingProxyType(
    {
        errno.ENOSPC: _ROOM,
        errno.EDQUOT: _ROOM,
        errno.EROFS: _WRITABLE,
        errno.EACCES: _WRITABLE,
    }
)
MEMBERS: Final = 10  # of a group, which are named
PLACE: Final = "in the "  # how the notes begin that say in whose code an exception was raised


def report(raised: BaseException, *, verbose: bool) -> int:
    """Print the error to stderr, what is wrong first; returns the exit status that it means."""
    single = _single(raised)
    error = single if isinstance(single, Exception) else to_exception(single)
    places = [note for note in notes(error) if note.startswith(PLACE)]
    if isinstance(error, ExceptionGroup):
        lines = _group(error, places)
        show_traceback = verbose or not all(isinstance(one, MotokoError) for one in leaves(error))
    elif isinstance(error, MotokoError):
        lines = _own(error, places)
        show_traceback = verbose
    elif isinstance(error, OSError) and (advice := UNWRITABLE.get(error.errno or 0)) and not places:
        # Nobody's mistake in a program: the disk is full, or the directory read-only.
        place = f"{error.filename} cannot be written: " if error.filename else ""
        lines = [f"error: {place}{error.strerror}", f"  {advice}"]
        show_traceback = verbose
    else:
        what = "".join(traceback.format_exception_only(error)).splitlines()
        where = places[0] if places else "this was not expected"
        lines = [
            f"error: {where}: {_without_module(error)}",
            *what[1 : len(what) - len(notes(error))],
        ]
        show_traceback = True
    if show_traceback:
        lines += _traceback(error, whole=verbose or not places)
    say("\n".join(lines), file=sys.stderr)
    return status_of(error)


def status_of(error: Exception) -> int:
    """Return the exit status for an error; for a group the one that all its members have."""
    if isinstance(error, ExceptionGroup):
        statuses = {status_of(one) for one in leaves(error)}
        return statuses.pop() if len(statuses) == 1 else exit_status.ERROR
    if isinstance(error, RunFailed):
        return exit_status.FAILED
    if isinstance(error, WorkflowStalled):
        return exit_status.STALLED
    if isinstance(error, ConfigError | RunNameError):
        return exit_status.USAGE
    if isinstance(error, ConstraintError | UnknownNameError) and not notes(error):
        return exit_status.USAGE  # raised for an argument of the command line
    return exit_status.ERROR


def notes(error: BaseException) -> list[str]:
    """Return the notes that were added to an exception."""
    return [str(note) for note in getattr(error, "__notes__", ())]


def leaves(group: ExceptionGroup[Exception]) -> list[Exception]:
    """Return the exceptions of a group and of the groups in it."""
    found: list[Exception] = []
    for one in group.exceptions:
        found += leaves(one) if isinstance(one, ExceptionGroup) else [one]
    return found


def _single(error: BaseException) -> BaseException:
    """Return the only exception of a group, which gets the notes of the group; else ``error``."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        member = error.exceptions[0]
        for note in notes(error):
            if note not in notes(member):
                member.add_note(note)
        error = member
    return error


def _group(error: ExceptionGroup[Exception], places: list[str]) -> list[str]:
    members = leaves(error)
    where = f"{places[0]}: " if places else ""
    lines = [f"error: {where}{len(members)} exceptions were raised"]
    for member in members[:MEMBERS]:
        text = member.message if isinstance(member, MotokoError) else _without_module(member)
        lines += [f"  {text}", *(f"  {line}" for line in _users_line(member.__traceback__))]
        if isinstance(member, MotokoError) and member.hint is not None:
            lines.append(f"    {member.hint}")
    if len(members) > MEMBERS:
        lines.append(f"  ... and {len(members) - MEMBERS} more")
    return lines


def _own(error: MotokoError, places: list[str]) -> list[str]:
    where = f"{places[0]}: " if places else ""
    lines = [f"error: {where}{error.message}"]
    if places and not isinstance(error, RunFailed):
        lines += _users_line(error.__traceback__)
    lines += [f"  {note}" for note in notes(error) if note not in places]
    if error.hint is not None:
        lines.append(f"  {error.hint}")
    return lines


def _without_module(error: Exception) -> str:
    try:
        text = str(error).splitlines()
    except Exception:  # noqa: BLE001 - the user's
        text = ["(it cannot be printed)"]
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def _users_line(trace: TracebackType | None) -> list[str]:
    found = []
    for frame, line in traceback.walk_tb(trace):
        if not _is_machinery(frame.f_globals.get("__name__", "")):
            found.append((frame.f_code, line))
    if not found:
        return []
    code, line = found[-1]
    return [f"  at {code.co_filename}:{line}, in {code.co_name}"]


def _traceback(error: Exception, *, whole: bool) -> list[str]:
    trace = error.__traceback__
    while not whole and trace is not None:
        if not _is_machinery(trace.tb_frame.f_globals.get("__name__", "")):
            break
        trace = trace.tb_next
    shown = error.__traceback__ if trace is None else trace
    return "".join(traceback.format_exception(type(error), error, shown)).splitlines()


def _is_machinery(module: str) -> bool:
    return module.partition(".")[0] in MACHINERY
