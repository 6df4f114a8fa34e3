"""An index digest -> number: the newest entries in a tree, the older ones in sorted parts.

Digests are random, so new entries change nearly all leaves of a tree, however large. Hence the tree
of the newest entries stays small. Layout in the table of a study, for the index ``by_identity``::

    by_identity        OOBTree   digest -> number; number 0: deleted, whatever the sources say
    by_identity_parts  PersistentMapping, absent until the first ``freeze``
        sources    tuple, oldest first: parts (sorted_parts.py), and former trees of the newest
        frozen     the last number that was reserved at the last ``freeze``
        building   None, or a dict: ``part`` will replace sources[start:stop], and has their entries
                   up to the digest ``done``

A newer source hides the entries of the older ones. Two transactions that add one digest write the
same key of the same tree, so they conflict. Only ``freeze`` exchanges the tree. It writes the table
of the study, and each change of an entry checks that this did not change (``readCurrent``). The
steps that follow change no entry, so they need no such check.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping

from motoko.storage import sorted_parts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

RECENT: Final = 20_000  # entries of the tree, about
STEP: Final = 20_000  # entries that one step moves at most
MOVES: Final = 4  # of one entry, more than there are on average
FAN_IN: Final = 10  # parts of similar size that are merged
DELETED: Final = 0
PARTS: Final = "_parts"


class Identities:
    """One index in one transaction; ``table`` is the mapping of a study's trees."""

    def __init__(self, table: Any, name: str) -> None:
        self._table = table
        self._checked_tree: Any = None
        self.name = name

    @property
    def _parts(self) -> Any:
        return self._table.get(self.name + PARTS)

    @property
    def _older(self) -> Sequence[Any]:
        """The sources, newest first."""
        parts = self._parts
        return () if parts is None else parts["sources"][::-1]

    # -- reading ---------------------------------------------------------------------------

    def get(self, digest: bytes) -> int | None:
        """Return the number of a digest, None without one."""
        number = self._table[self.name].get(digest)
        if number is None:
            number = sorted_parts.get(self._older, digest)
        return number or None

    def first(self, digests: Iterable[bytes | None]) -> int | None:
        """Return the number of the first of these digests that has one, None without one."""
        found = (self.get(digest) for digest in digests if digest)
        return next((int(number) for number in found if number is not None), None)

    def find(self, digests: Iterable[bytes]) -> dict[bytes, int]:
        """Return the numbers of those digests that have one; many take little time together."""
        wanted = sorted(set(digests))
        found: dict[bytes, int] = {}
        for source in (self._table[self.name], *self._older):
            here = sorted_parts.find(source, wanted) if wanted else {}
            if here:
                found |= here
                wanted = [digest for digest in wanted if digest not in here]
        return {digest: number for digest, number in found.items() if number}

    def items(self) -> dict[bytes, int]:
        """Return all entries. This loads everything."""
        entries: dict[bytes, int] = {}
        for source in (*reversed(self._older), self._table[self.name]):
            entries.update(sorted_parts.entries_after(source, b"", 2**31))
        return {digest: number for digest, number in entries.items() if number}

    def problems(self) -> Iterator[str]:
        """Yield the faults in the structure of the sources."""
        for source in filter(sorted_parts.is_part, self._older):
            yield from sorted_parts.problems(source)

    # -- writing ---------------------------------------------------------------------------

    def add(self, digest: bytes, number: int) -> None:
        """Set the number of a digest."""
        self._tree()[digest] = number

    def remove(self, digest: bytes) -> None:
        """Remove a digest."""
        tree = self._tree()
        if sorted_parts.get(self._older, digest):
            tree[digest] = DELETED
        else:
            del tree[digest]

    def _tree(self) -> Any:
        """Return the tree for a change; the commit fails if it was exchanged meanwhile."""
        if self._checked_tree is None:
            connection = getattr(self._table, "_p_jar", None)
            if connection is not None:
                connection.readCurrent(self._table)
            self._checked_tree = self._table[self.name]
        return self._checked_tree

    # -- moving entries to parts ------------------------------------------------------------

    def step(self, reserved: int) -> bool:
        """Make one bounded step, if any is due; return whether one was. Commit it on its own.

        ``reserved``: the last number that was reserved. Their difference bounds the tree's size.
        """
        parts = self._parts
        if reserved - (0 if parts is None else parts["frozen"]) >= RECENT:
            self.freeze(reserved)
            return True
        if parts is None:
            return False
        if parts["building"] is None:
            span = to_merge([_size(source) for source in parts["sources"]])
            if span is None:
                return False
            start, stop = span
            part = sorted_parts.new_part()
            parts["building"] = {"start": start, "stop": stop, "done": b"", "part": part}
        self._build(parts, **parts["building"])
        return True

    def freeze(self, reserved: int) -> None:
        """Make the tree the newest source, and begin a new one. This writes two small objects.

        An empty tree too: another transaction may be adding entries to it.
        """
        parts = self._parts
        if parts is None:
            parts = self._table[self.name + PARTS] = PersistentMapping(
                {"sources": (), "frozen": 0, "building": None}
            )
        parts["sources"] = (*parts["sources"], self._table[self.name])
        parts["frozen"] = reserved
        self._table[self.name] = OOBTree()
        self._checked_tree = None

    @staticmethod
    def _build(parts: Any, start: int, stop: int, done: bytes, part: Any) -> None:
        """Move the next entries of some sources to the part that will replace them."""
        sources = parts["sources"][start:stop]
        share = max(1, STEP // len(sources))
        following = [sorted_parts.entries_after(source, done, share) for source in sources]
        # A source of which there may be more: of the others, take no entries behind these.
        ends = [entries[-1][0] for entries in following if len(entries) == share]
        merged: dict[bytes, int] = {}
        for entries in following:
            merged.update(entries)
        digests = sorted(digest for digest in merged if not ends or digest <= min(ends))
        if start == 0:  # nothing is left to hide
            digests = [digest for digest in digests if merged[digest] != DELETED]
        sorted_parts.append(part, digests, [merged[digest] for digest in digests])
        if ends:
            parts["building"] = {"start": start, "stop": stop, "done": min(ends), "part": part}
            return
        built = (part,) if part["size"] else ()
        parts["sources"] = (*parts["sources"][:start], *built, *parts["sources"][stop:])
        parts["building"] = None


def steps_after(created: int) -> int:
    """Return how many steps to make after a commit that created so many runs."""
    return 1 + MOVES * created // STEP


def _size(source: Any) -> int | None:
    return int(source["size"]) if sorted_parts.is_part(source) else None


def to_merge(sizes: Sequence[int | None]) -> tuple[int, int] | None:
    """Return which sources to merge next as (start, stop), None if none.

    ``sizes``: their numbers of entries, oldest first; None for a tree, which becomes a part alone.
    """
    if None in sizes:
        start = sizes.index(None)
        return start, start + 1
    levels = [round(math.log10(max(1, (size or 0) / RECENT))) for size in sizes]
    for level in sorted(set(levels)):
        start = len(levels)
        while start and levels[start - 1] <= level:
            start -= 1
        if levels[start:].count(level) >= FAN_IN:
            return start, len(levels)
    return None
