"""The output of one run in parts: its end first, then its additions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from motoko.launcher.attempt_paths import attempt_directory
from motoko.operations.run_output import STREAMS, current_attempt
from motoko.printable import printable
from motoko.runtime.file_tail import read_addition
from motoko.runtime.packed_files import stat_file
from motoko.storage.query import existing_records

if TYPE_CHECKING:
    from motoko.core.records import RunKey
    from motoko.views.connection import ReadConnection

TAIL: Final = 48_000  # bytes of the end of a file that a first part has
PARTIAL: Final = 3  # bytes of a character that may not have arrived yet


@dataclass(frozen=True, slots=True)
class OutputView:
    """A part of a stream: safe text, and where the next part begins.

    ``attempt``: the one that was read, None if there is none. ``note``: why nothing was read.
    ``restarted``: this part begins anew: another attempt, or a truncated file. ``skipped``: bytes
    before this part that are not shown. ``ended``: the run has ended, so nothing follows.
    """

    text: str
    position: int
    attempt: int | None = None
    size: int = 0
    note: str = ""
    restarted: bool = False
    skipped: int = 0
    ended: bool = False


def read_output(
    connection: ReadConnection,
    key: RunKey,
    stream: str,
    *,
    attempt: int | None = None,
    position: int | None = None,
    follows: int | None = None,
) -> OutputView:
    """Return what a stream (``stdout`` or ``stderr``) of a run has from ``position`` on.

    ``attempt``: which one, None: the latest. ``position`` None: its end. ``follows``: the attempt
    of the part before.
    """
    if stream not in STREAMS:
        raise ValueError(f"{stream!r} is no stream")
    store = connection.workflow.store
    with connection.read() as session:
        found = [] if session is None else existing_records(session, [key])
    if not found:
        return OutputView("", 0, note=f"{key} does not exist", ended=True)
    record, root = found[0], store.runs_root(key.study)
    number = attempt or current_attempt(root, record)
    ended = record.lifecycle.is_terminal or (number is not None and number < record.attempt)
    directory = None if number is None else attempt_directory(root, record, number)
    if directory is None:
        note = "it has not started" if not record.attempt else "its directory does not exist"
        return OutputView("", 0, number, note=note, ended=ended)
    path, skipped = directory / stream, 0
    restarted = position is None or number != follows
    if restarted or position is None:
        position = skipped = max(0, stat_file(path).size - TAIL)
    part = read_addition(path, position)
    if part.truncated:
        restarted, skipped = True, 0
    data = part.data
    if not (ended and part.position >= part.size):
        data = data[: len(data) - _partial(data)]
    at = part.position - len(part.data) + len(data)
    return OutputView(
        printable(data.decode("utf-8", "replace")),
        at,
        number,
        part.size,
        part.fault or "",
        restarted,
        skipped,
        ended and at >= part.size,
    )


def _partial(data: bytes) -> int:
    """Return the number of bytes at the end that begin a character without its rest."""
    for back in range(1, min(PARTIAL, len(data)) + 1):
        byte = data[-back]
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return back if length > back else 0
        if byte < 0x80:
            return 0
    return 0
