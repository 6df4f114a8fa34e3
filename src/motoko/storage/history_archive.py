"""The archive of long histories: chunks of entries beside the records of the runs.

It is an OOBTree (run id, number of entries before) -> PersistentMapping {"moves": entries}, in the
table of a study under ``histories``; absent until the first run needs it.
"""

from __future__ import annotations

from collections import Counter
from itertools import starmap
from typing import TYPE_CHECKING, Any, Final

from persistent.mapping import PersistentMapping

from motoko.core.records import Transition, stored_history

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CHUNK: Final = 500  # entries
END: Final = 2**31


def append(tree: Any, run_id: int, archived: int, moves: Sequence[Transition]) -> None:
    """Append entries to the history of a run of which the archive has ``archived`` entries."""
    while moves:
        start = archived - archived % CHUNK
        chunk = tree.get((run_id, start))
        if chunk is None:
            chunk = tree[run_id, start] = PersistentMapping({"moves": ()})
        here = moves[: start + CHUNK - archived]
        chunk["moves"] = stored_history((*chunk["moves"], *here))
        archived, moves = archived + len(here), moves[len(here) :]


def read(tree: Any, run_id: int) -> tuple[Transition, ...]:
    """Return the archived history of a run."""
    chunks = tree.values((run_id, 0), (run_id, END))
    return tuple(entry for chunk in chunks for entry in starmap(Transition, chunk["moves"]))


def delete(tree: Any, run_id: int) -> None:
    """Delete the archived history of a run."""
    for key in list(tree.keys((run_id, 0), (run_id, END))):
        del tree[key]


def counts(tree: Mapping[tuple[int, int], Any]) -> Counter[int]:
    """Return the number of archived entries by run."""
    found: Counter[int] = Counter()
    for (run_id, _), chunk in tree.items():
        found[run_id] += len(chunk["moves"])
    return found
