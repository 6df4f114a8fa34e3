"""Read the end of a file, and what is appended to it; the file may be untrusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from motoko.runtime.packed_files import read_file, stat_file

if TYPE_CHECKING:
    from pathlib import Path

SHOWN_BYTES: Final = 1_000_000  # of the end of a file
SEARCHED_BYTES: Final = 16_000_000  # of the end of a file, for a number of lines
CHUNK: Final = 65_536  # bytes of one read


@dataclass(frozen=True, slots=True)
class Addition:
    """What a file has gained. ``position``: where the next read begins; ``size``: of the file.

    ``truncated``: the file was shorter than before, so ``data`` is its beginning. ``fault``: why it
    cannot be read. ``missing``: it does not exist.
    """

    data: bytes
    position: int
    size: int = 0
    truncated: bool = False
    fault: str | None = None
    missing: bool = False


def read_addition(path: Path, position: int) -> Addition:
    """Return at most CHUNK bytes from ``position``."""
    found = read_file(path, offset=position, limit=CHUNK)
    truncated = found.data is not None and found.size < position
    if truncated:
        position, found = 0, read_file(path, limit=CHUNK)
    data = found.data or b""
    return Addition(
        data, position + len(data), found.size, truncated, found.fault, missing=found.missing
    )


def tail_position(path: Path, lines: int | None = None) -> int:
    """Return where the last ``lines`` lines of a file begin; None stands for SHOWN_BYTES.

    It is 0 for a file that cannot be read, and never further from the end than SEARCHED_BYTES.
    """
    size = stat_file(path).size
    if lines is None:
        return max(0, size - SHOWN_BYTES)
    first = max(0, size - SEARCHED_BYTES)
    data = read_file(path, offset=first, limit=size - first).data or b""
    at = len(data) - data.endswith(b"\n")  # a line feed ends the last line
    if lines == 0:
        return first + len(data)
    for _ in range(lines):
        at = data.rfind(b"\n", 0, at)
        if at < 0:
            break
    return first + at + 1
