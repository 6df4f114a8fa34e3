"""Lines of styled text, measured in terminal cells. Nothing in a text is ever read as markup."""

from __future__ import annotations

import re
from dataclasses import dataclass
from textwrap import wrap
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style

from motoko.printable import one_line

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

SAFE: Final = 400  # characters of an untrusted text in one line
GAP: Final = 2  # cells between two columns
_COLUMN: Final = re.compile(r" *\w+ {2,}")  # as in "  why       it waits"

# The terminal's own colours: they suit dark and light backgrounds, and terminals with eight.
STYLES: Final[Mapping[str, Style]] = MappingProxyType(
    {
        "": Style(),
        "dim": Style(dim=True),
        "bold": Style(bold=True),
        "title": Style(bold=True),
        "head": Style(bold=True, underline=True),
        "running": Style(color="cyan"),
        "queued": Style(color="blue"),
        "created": Style(),
        "finished": Style(color="green"),
        "failed": Style(color="red", bold=True),
        "cancelled": Style(color="magenta"),
        "lost": Style(color="yellow", bold=True),
        "warning": Style(color="yellow"),
        "key": Style(bold=True),
        "found": Style(reverse=True),
        "cursor": Style(reverse=True),
    }
)


@dataclass(frozen=True, slots=True)
class Span:
    """A text in one style. ``action``: what a click on it does."""

    text: str
    style: str = ""
    action: str = ""


Line: TypeAlias = "tuple[Span, ...]"


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a list. ``key`` identifies it when the list changes; None: no cursor stops here."""

    line: Line
    key: Hashable = None


def safe(text: str, limit: int = SAFE) -> str:
    """Return an untrusted text as one line without control characters."""
    return one_line(text, limit=limit)


def line(*parts: str | Span | tuple[str, str]) -> Line:
    """Return a line of texts, spans, and pairs of a text with its style."""
    return tuple(
        part
        if isinstance(part, Span)
        else Span(part)
        if isinstance(part, str)
        else Span(part[0], part[1])
        for part in parts
    )


def width_of(text: Line | str) -> int:
    """Return the number of cells that a line fills."""
    return cell_len(text) if isinstance(text, str) else sum(cell_len(span.text) for span in text)


def cut(text: str, width: int, mark: str = "~") -> str:
    """Return a text that fits; ``mark`` stands for the rest."""
    if cell_len(text) <= width:
        return text
    room = width - cell_len(mark)
    return set_cell_size(text, room).rstrip() + mark if room > 0 else set_cell_size(text, width)


def pad(text: str, width: int, *, right: bool = False, mark: str = "~") -> str:
    """Return a text that fills the width, at its right end if ``right``."""
    found = cut(text, width, mark)
    space = " " * (width - cell_len(found))
    return space + found if right else found + space


def fit(found: Line, width: int, mark: str = "~") -> Line:
    """Return a line that fits; ``mark`` stands for the rest."""
    if width_of(found) <= width:
        return found
    kept: list[Span] = []
    for span in found:
        room = width - width_of(tuple(kept))
        if cell_len(span.text) > room:
            return (*kept, Span(cut(span.text, room, mark), span.style, span.action))
        kept.append(span)
    return tuple(kept)


def spread(left: Line, right: Line, width: int, mark: str = "~") -> Line:
    """Return a line with ``right`` at its right end; ``left`` is cut if necessary."""
    room = width - width_of(right)
    if room < GAP:
        return fit(left, width, mark)
    left = fit(left, room - GAP, mark) if right else fit(left, room, mark)
    return (*left, Span(" " * (room - width_of(left))), *right)


def segments(found: Line, width: int, base: Style, *, cursor: bool = False) -> Iterable[Segment]:
    """Yield the segments of a line that fills the width."""
    if cursor:
        base = base + STYLES["cursor"]
    filled = 0
    for span in fit(found, width):
        filled += cell_len(span.text)
        yield Segment(span.text, base + STYLES[span.style])
    yield Segment(" " * (width - filled), base)


def action_at(found: Line, x: int) -> str:
    """Return the action of the span at a cell, empty without one."""
    at = 0
    for span in found:
        at += cell_len(span.text)
        if x < at:
            return span.action
    return ""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its title, whether its cells are right-aligned, its greatest width."""

    title: str
    right: bool = False
    most: int = 24


def widths_of(columns: Sequence[Column], rows: Iterable[Sequence[str | Span]]) -> list[int]:
    """Return the widths that columns need for their titles and these rows."""
    found = [cell_len(column.title) for column in columns]
    for row in rows:
        for number, cell in enumerate(row):
            text = cell if isinstance(cell, str) else cell.text
            found[number] = max(found[number], cell_len(text))
    return [min(width, column.most) for width, column in zip(found, columns, strict=True)]


def row_line(
    columns: Sequence[Column],
    widths: Sequence[int],
    cells: Sequence[str | Span],
    *,
    style: str = "",
    mark: str = "~",
) -> Line:
    """Return a row of a table; the cells of columns without width are left out."""
    spans: list[Span] = []
    for column, width, cell in zip(columns, widths, cells, strict=True):
        if width <= 0:
            continue
        span = cell if isinstance(cell, Span) else Span(cell, style)
        text = pad(span.text, width, right=column.right, mark=mark)
        spans += [Span(text, span.style, span.action), Span(" " * GAP)]
    return tuple(spans[:-1])


def wrapped(text: str, width: int) -> list[str]:
    """Return a text in lines that fit; further lines stand below its last column."""
    column = _COLUMN.match(text)
    indent = " " * (column.end() if column else len(text) - len(text.lstrip()))
    if len(indent) > width // 2:
        indent = ""
    return wrap(text, max(20, width), subsequent_indent=indent) or [""]
