"""Sorted parts: immutable tables of (digest, number), in the order of the digests.

A part is a PersistentMapping of plain data::

    size     number of entries
    firsts   tuple of the first digest of each leaf
    heads    tuple of PersistentMappings {"heads": the first four bytes of each digest of a leaf}
    leaves   tuple of PersistentMappings {"digests": joined, "numbers": of each digest}

Heads and numbers are unsigned integers of four bytes, the least significant byte first. A look-up
loads the heads of one leaf. Only if a head is equal does it load the leaf, of four times the size.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left, bisect_right
from itertools import islice, pairwise, repeat
from struct import unpack
from typing import TYPE_CHECKING, Any, Final

from persistent.mapping import PersistentMapping

from motoko.storage.bulk_read import prefetch, prefetch_leaves

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Entries = list[tuple[bytes, int]]

WIDTH: Final = 16  # bytes of a digest
LEAF: Final = 4000  # entries, about
UINT32: Final = "I"


def new_part() -> PersistentMapping:
    """Return an empty part."""
    return PersistentMapping({"size": 0, "firsts": (), "heads": (), "leaves": ()})


def append(part: Any, digests: Sequence[bytes], numbers: Sequence[int]) -> None:
    """Append entries, sorted and behind those of the part, in leaves of equal size."""
    count = max(1, round(len(digests) / LEAF))
    cuts = [len(digests) * cut // count for cut in range(count + 1)]
    heads, leaves = [], []
    for low, high in pairwise(cuts):
        within = digests[low:high]
        heads.append(PersistentMapping({"heads": _packed(_heads(within))}))
        packed = _packed(array(UINT32, numbers[low:high]))
        leaves.append(PersistentMapping({"digests": b"".join(within), "numbers": packed}))
    if digests:
        part["size"] += len(digests)
        part["firsts"] += tuple(digests[cut] for cut in cuts[:-1])
        part["heads"] += tuple(heads)
        part["leaves"] += tuple(leaves)


def find(source: Any, digests: Sequence[bytes]) -> dict[bytes, int]:
    """Return the numbers of those of the sorted ``digests`` that a part or an OOBTree has."""
    if not is_part(source):
        prefetch_leaves(source, digests)
        return {one: number for one in digests if (number := source.get(one)) is not None}
    leaf_of = list(map(bisect_right, repeat(source["firsts"]), digests))  # counted from 1
    needed = sorted({*leaf_of} - {0})
    prefetch([source["heads"][leaf - 1] for leaf in needed])
    wanted = _heads(digests)
    found: dict[bytes, int] = {}
    for leaf in needed:
        low, high = bisect_left(leaf_of, leaf), bisect_right(leaf_of, leaf)
        heads = _unpacked(source["heads"][leaf - 1]["heads"])
        places = map(bisect_left, repeat(heads), wanted[low:high])
        for position, place in enumerate(places, low):
            if place < len(heads) and heads[place] == wanted[position]:
                number = _number(source["leaves"][leaf - 1], place, digests[position])
                if number is not None:
                    found[digests[position]] = number
    return found


def get(sources: Sequence[Any], digest: bytes) -> int | None:
    """Return the number of a digest in the first of these parts and OOBTrees that has it.

    One alone takes a third of the time of ``find``, and one request for all parts.
    """
    prefetch(sources)
    prefetch([heads for source in sources if (heads := _heads_of(source, digest)) is not None])
    head = int.from_bytes(digest[:4], "big")
    for source in sources:
        number = _get(source, digest, head)
        if number is not None:
            return number
    return None


def _heads_of(source: Any, digest: bytes) -> Any:
    leaf = bisect_right(source["firsts"], digest) if is_part(source) else 0
    return source["heads"][leaf - 1] if leaf else None


def _get(source: Any, digest: bytes, head: int) -> int | None:
    if not is_part(source):
        number: int | None = source.get(digest)
        return number
    leaf = bisect_right(source["firsts"], digest)
    if not leaf:
        return None
    heads = _unpacked(source["heads"][leaf - 1]["heads"])
    place = bisect_left(heads, head)
    if place == len(heads) or heads[place] != head:
        return None
    return _number(source["leaves"][leaf - 1], place, digest)


def _number(leaf: Any, place: int, digest: bytes) -> int | None:
    """Return the number of a digest in a leaf, whose first equal head is at ``place``."""
    digests = leaf["digests"]
    while (here := digests[place * WIDTH : (place + 1) * WIDTH]) < digest and here:
        place += 1
    return _unpacked(leaf["numbers"])[place] if here == digest else None


def entries_after(source: Any, digest: bytes, limit: int) -> Entries:
    """Return the next entries of a part or an OOBTree behind ``digest``, at most ``limit``."""
    if not is_part(source):
        return list(islice(source.items(digest, excludemin=True), limit))
    return list(islice(_entries_after(source, digest), limit))


def _entries_after(part: Any, digest: bytes) -> Iterator[tuple[bytes, int]]:
    for leaf in part["leaves"][max(0, bisect_right(part["firsts"], digest) - 1) :]:
        digests, numbers = leaf_columns(leaf)
        start = bisect_right(digests, digest)
        yield from zip(digests[start:], numbers[start:], strict=True)


def leaf_columns(leaf: Any) -> tuple[Sequence[bytes], Sequence[int]]:
    """Return the digests and the numbers of a leaf."""
    joined = leaf["digests"]
    digests = unpack(f"{WIDTH}s" * (len(joined) // WIDTH), joined)
    return digests, _unpacked(leaf["numbers"])


def is_part(source: Any) -> bool:
    """Return whether a source is a part, else it is an OOBTree."""
    return isinstance(source, PersistentMapping)


def problems(part: Any) -> Iterator[str]:
    """Yield the faults in the structure of a part."""
    last, size = b"", 0
    for first, heads, leaf in zip(part["firsts"], part["heads"], part["leaves"], strict=True):
        digests, numbers = leaf_columns(leaf)
        if not digests or list(digests) != sorted({*digests}) or digests[0] <= last:
            yield "a leaf is not in order"
        if digests[:1] != (first,) or list(_heads(digests)) != list(_unpacked(heads["heads"])):
            yield "the heads of a leaf differ from its digests"
        if len(digests) != len(numbers):
            yield "a leaf has digests without numbers"
        last, size = max(digests, default=last), size + len(digests)
    if size != part["size"]:
        yield f"it has {size} entries, not {part['size']}"


def _heads(digests: Sequence[bytes]) -> array[int]:
    """Return the first four bytes of each digest as a number, in the same order."""
    heads = array(UINT32, b"".join([digest[:4] for digest in digests]))
    if sys.byteorder == "little":
        heads.byteswap()
    return heads


def _packed(numbers: array[int]) -> bytes:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def _unpacked(data: bytes) -> Sequence[int]:
    if sys.byteorder == "little":
        return memoryview(data).cast(UINT32)
    numbers = array(UINT32, data)
    numbers.byteswap()
    return numbers
