"""Long histories: a record keeps their end, and the archive beside it has the entries before.

``archived`` entries of a run's history are in the archive. The first ``copied`` entries of
``record.history`` are copies of some of them, those that readers of one record need: the first of
all, and of the current attempt the first and the last in each state. The others follow the archive.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from motoko.core.states import Lifecycle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from motoko.core.records import RunRecord, Transition

TAIL: Final = 50  # entries of a record besides copies
_STATES: Final = frozenset(state.value for state in Lifecycle)


def archive(record: RunRecord) -> tuple[RunRecord, tuple[Transition, ...]]:
    """Return a record with a shorter history, and the entries to append to its archive, if any."""
    tail = record.history[record.copied :]
    if len(tail) <= TAIL:
        return record, ()
    *moved, last = tail
    copies = _needed(record.history[:-1], record.attempt)
    shorter = replace(
        record,
        history=(*copies, last),
        archived=record.archived + len(moved),
        copied=len(copies),
    )
    return shorter, tuple(moved)


def complete(record: RunRecord, archived: Sequence[Transition]) -> RunRecord:
    """Return a record with its whole history; ``archived``: the entries in the archive."""
    history = (*archived[: record.archived], *record.history[record.copied :])
    return replace(record, history=history, archived=0, copied=0)


def _needed(entries: Sequence[Transition], attempt: int) -> list[Transition]:
    """Return the entries of which the record keeps copies, in their order."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for position, entry in enumerate(entries):
        if entry.attempt == attempt and entry.state in _STATES:
            first.setdefault(entry.state, position)
            last[entry.state] = position
    return [entries[position] for position in sorted({0, *first.values(), *last.values()})]
