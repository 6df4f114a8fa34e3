"""Report errors to the user: the problem first, then its place, then a hint."""

from __future__ import annotations

import sys
import traceback
from typing import Final

from motoko.cli.json_errors import print_exception
from motoko.cli.output import echo
from motoko.errors import WRITE_HINTS, MotokoError, RunFailed
from motoko.orchestrator.error_summary import (
    LOCATION_PREFIX,
    is_internal,
    leaves,
    notes,
    single_exception,
    status_of,
    type_and_text,
    user_line,
)

SHOWN: Final = 10  # exceptions of a group


def report(raised: BaseException, *, verbose: bool, as_json: bool = False) -> int:
    """Print the error to stderr, or as JSON to stdout; return the exit status."""
    error = single_exception(raised)
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
        lines = [
            f"error: {where}: {type_and_text(error)}",
            *text[1 : len(text) - len(notes(error))],
        ]
        show_traceback = True
    if as_json:
        print_exception(error)
        lines = []
    if show_traceback:
        lines += _traceback(error, whole=verbose or not location_notes)
    if lines:
        echo("\n".join(lines), file=sys.stderr)
    return status_of(error)


def _group_lines(error: ExceptionGroup[Exception], location_notes: list[str]) -> list[str]:
    members = leaves(error)
    where = f"{location_notes[0]}: " if location_notes else ""
    lines = [f"error: {where}{len(members)} exceptions were raised"]
    for member in members[:SHOWN]:
        text = member.message if isinstance(member, MotokoError) else type_and_text(member)
        lines += [f"  {text}", *(f"  {line}" for line in user_line(member.__traceback__))]
        if isinstance(member, MotokoError) and member.hint is not None:
            lines.append(f"    {member.hint}")
    if len(members) > SHOWN:
        lines.append(f"  ... and {len(members) - SHOWN} more")
    return lines


def _error_lines(error: MotokoError, location_notes: list[str]) -> list[str]:
    where = f"{location_notes[0]}: " if location_notes else ""
    lines = [f"error: {where}{error.message}"]
    if location_notes and not isinstance(error, RunFailed):
        lines += user_line(error.__traceback__)
    lines += [f"  {note}" for note in notes(error) if note not in location_notes]
    if error.hint is not None:
        lines.append(f"  {error.hint}")
    return lines


def _traceback(error: Exception, *, whole: bool) -> list[str]:
    trace = error.__traceback__
    while not whole and trace is not None:
        if not is_internal(trace.tb_frame):
            break
        trace = trace.tb_next
    shown = error.__traceback__ if trace is None else trace
    return "".join(traceback.format_exception(type(error), error, shown)).splitlines()
