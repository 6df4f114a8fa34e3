"""Safe printing of untrusted text: without control characters, and of bounded length.

Fields, reasons, output, file names and run names are untrusted. Raw they can clear the screen, set
the clipboard, reorder a line or forge one in a log.
"""

from __future__ import annotations

import re
from itertools import islice

TYPE_CHECKING = False  # type checkers assume True; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Iterable

LINE_LIMIT = 2000  # characters of one line
TEXT_LIMIT = 64_000  # characters of one text
CELL = 48  # characters of one value
LONG_BITS = 4096  # of an integer that is shown by its length

# C0 and C1 controls, line and paragraph separators, bidirectional controls, interlinear
# annotations, invisible tags, and lone surrogates; not tabs and line feeds.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def printable(text: str, *, line_limit: int = LINE_LIMIT, limit: int = TEXT_LIMIT) -> str:
    """Return ``text`` with escapes such as ``\\x1b`` for unsafe characters.

    Carriage returns become line feeds. Lines longer than ``line_limit`` and text longer than
    ``limit`` are cut, with a note of their length.
    """
    if len(text) <= line_limit and text.isprintable():
        return text
    lines: list[str] = []
    left = limit
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if left <= 0:
            lines.append(f"... ({len(text):,} characters in all)")
            break
        lines.append(_line(line, min(line_limit, left)))
        left -= len(line) + 1
    return "\n".join(lines)


def one_line(text: str, *, limit: int = LINE_LIMIT) -> str:
    """Return ``text`` as a single safe line; white space becomes one space."""
    return _line(" ".join(text[: 4 * limit].split()), limit)


def indented(text: str, indent: str = "    ") -> str:
    """Return safe ``text`` with continuation lines indented, so none looks like a log entry."""
    return printable(text).replace("\n", f"\n{indent}")


def join_names(names: Iterable[object], limit: int = 8) -> str:
    """Return at most ``limit`` names and the number of the others."""
    remaining = iter(names)
    shown = list(map(str, islice(remaining, limit)))
    number = getattr(names, "__len__", None)  # then the others need not be made
    left = sum(1 for _ in remaining) if number is None else number() - len(shown)
    return ", ".join(shown) + (f" and {left} more" if left else "")


def count_runs(number: int) -> str:
    """Return ``1 run`` or ``7 runs``."""
    return f"{number} run" if number == 1 else f"{number} runs"


def value_text(value: object, limit: int = CELL) -> str:
    """Return a value on one line, shortened if necessary."""
    from datetime import datetime

    if isinstance(value, float):
        text = f"{value:.10g}"
    elif isinstance(value, str) and value.isprintable():
        text = value
    elif isinstance(value, datetime):
        text = value.isoformat(timespec="seconds")
    elif isinstance(value, int) and value.bit_length() > LONG_BITS:
        text = f"an integer of {value.bit_length():,} bits"  # Python refuses to convert longer ones
    else:
        text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _line(line: str, limit: int) -> str:
    escaped = _UNSAFE.sub(_escape, line[:limit])
    more = len(line) - limit
    return escaped if more <= 0 else f"{escaped}... ({more:,} more characters)"


def _escape(found: re.Match[str]) -> str:
    code = ord(found.group())
    if code > 0xFFFF:
        return f"\\U{code:08x}"
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}"
