"""Errors that end a workflow: their exit status, their place, and a summary on one line."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Final

from motoko.errors import (
    ConfigError,
    ConfirmationError,
    ConstraintError,
    ExitStatus,
    MotokoError,
    RunFailed,
    RunNameError,
    SqlError,
    UnknownNameError,
    UnknownRunError,
    WorkflowStalled,
)
from motoko.orchestrator.actions import to_exception
from motoko.printable import one_line

if TYPE_CHECKING:
    from types import FrameType, TracebackType

# Packages whose frames are not the user's code.
INTERNAL_PACKAGES: Final = ("motoko", "anyio", "asyncio", "concurrent", "threading", "contextlib")
LOCATION_PREFIX: Final = "in the "  # begins the notes that name the code which raised an exception
STDERR_PREFIX: Final = "stderr of "  # begins the output of a run in a message
SUMMARY: Final = 500  # characters


def status_of(error: Exception) -> int:
    """Return the exit status of an error; of a group, the one that all its members share."""
    if isinstance(error, ExceptionGroup):
        statuses = {status_of(one) for one in leaves(error)}
        return statuses.pop() if len(statuses) == 1 else ExitStatus.ERROR
    if isinstance(error, RunFailed):
        return ExitStatus.FAILED
    if isinstance(error, WorkflowStalled):
        return ExitStatus.STALLED
    if isinstance(error, ConfigError | ConfirmationError | RunNameError):
        return ExitStatus.USAGE
    caused_by_argument = ConstraintError | SqlError | UnknownNameError | UnknownRunError
    if isinstance(error, caused_by_argument) and not notes(error):
        return ExitStatus.USAGE
    return ExitStatus.ERROR


def summary(error: Exception) -> str:
    """Return the error and its place on one line."""
    members = leaves(error) if isinstance(error, ExceptionGroup) else [error]
    first = members[0]
    lines = first.message.split("\n") if isinstance(first, MotokoError) else [type_and_text(first)]
    shown = [line.strip() for line in lines]
    stderr = [at for at, line in enumerate(shown) if line.startswith(STDERR_PREFIX)]
    text = "; ".join(shown[: stderr[0]] if stderr else shown)
    where = "" if isinstance(first, RunFailed) else _place(error, first)
    count = "" if len(members) == 1 else f"{len(members)} exceptions, the first of which: "
    return one_line(f"{count}{text}{where}", limit=SUMMARY)


def _place(error: Exception, first: Exception) -> str:
    located = [note for note in (*notes(error), *notes(first)) if note.startswith(LOCATION_PREFIX)]
    if not located and isinstance(first, MotokoError):
        return ""
    lines = user_line(first.__traceback__) or located
    return f" ({lines[0].strip()})" if lines else ""


def notes(error: BaseException) -> list[str]:
    """Return the notes of an exception."""
    return [str(note) for note in getattr(error, "__notes__", ())]


def leaves(group: ExceptionGroup[Exception]) -> list[Exception]:
    """Return the exceptions of a group and of its nested groups."""
    found: list[Exception] = []
    for one in group.exceptions:
        found += leaves(one) if isinstance(one, ExceptionGroup) else [one]
    return found


def single_exception(error: BaseException) -> Exception:
    """Return the only exception of a group, with the group's notes; otherwise ``error``."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        member = error.exceptions[0]
        for note in notes(error):
            if note not in notes(member):
                member.add_note(note)
        error = member
    return error if isinstance(error, Exception) else to_exception(error)


def type_and_text(error: Exception) -> str:
    """Return the type of an exception and the first line of its text."""
    try:
        text = str(error).splitlines()
    except Exception:  # noqa: BLE001 - raised by user code
        text = ["(it cannot be printed)"]
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def user_line(trace: TracebackType | None) -> list[str]:
    """Return the last line of the user's code in a traceback, as a list of at most one."""
    frames = [(f, line) for f, line in traceback.walk_tb(trace) if not is_internal(f)]
    return [f"  at {f.f_code.co_filename}:{n}, in {f.f_code.co_name}" for f, n in frames[-1:]]


def is_internal(frame: FrameType) -> bool:
    """Return whether a frame is not of the user's code."""
    module: str = frame.f_globals.get("__name__", "")
    return module.partition(".")[0] in INTERNAL_PACKAGES
