"""The list of runs: it reads and draws only visible lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from motoko.core.run_targets import RunTarget, id_ranges
from motoko.operations.bulk_edit import RunSelection
from motoko.tui.draw_runs import cell, columns_of, head_cells, table_columns
from motoko.tui.pane import Pane
from motoko.tui.text import GAP, Span, fit, line, row_line, widths_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from motoko.core.records import RunKey
    from motoko.tui.draw_campaign import Look
    from motoko.tui.text import Column, Line
    from motoko.views.runs import RunList, RunRow

KEPT: Final = 2_000  # rows that stay in memory


class RunTable(Pane):
    """A list of runs with a cursor and a selection. ``put`` gives it rows that it lacks."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.found: RunList | None = None
        self.marked: set[RunKey] = set()
        self.all_marked = False
        self._rows: dict[RunKey, RunRow] = {}
        self._values: list[str] = []
        self._columns: list[Column] = []
        self._widths: list[int] = []
        self._look: Look | None = None

    @property
    def count(self) -> int:
        """The number of runs."""
        return 0 if self.found is None else len(self.found)

    def key_at(self, index: int) -> RunKey | None:
        """Return a run."""
        return None if self.found is None else self.found.keys[index]

    @property
    def current_key(self) -> RunKey | None:
        """The run under the cursor."""
        return self.key_at(self.cursor) if self.cursor < self.count else None

    @property
    def current_row(self) -> RunRow | None:
        """The row under the cursor, None until it has been read."""
        key = self.current_key
        return None if key is None else self._rows.get(key)

    def replace(self, found: RunList) -> None:
        """Show another list; the cursor stays on its run if a short list still has it."""
        key, before = self.current_key, self.found
        self.found = found
        same = before is not None and before.query == found.query
        at = None
        if same and key is not None and self.cursor:
            near = range(max(0, self.cursor - KEPT), min(len(found), self.cursor + KEPT))
            at = next((index for index in near if found.keys[index] == key), None)
        if not same:
            self.marked, self.all_marked = set(), False
            self._widths, self._values = [], []
        offset = self.cursor - self.top
        self.cursor = at if at is not None else 0
        self.top = max(0, self.cursor - offset) if at is not None else 0
        self.move_to(self.cursor)

    def window(self) -> Sequence[RunKey]:
        """Return the visible runs."""
        if self.found is None:
            return ()
        return self.found.keys[self.top : self.top + self.visible_rows]

    def put(self, rows: Sequence[RunRow], look: Look) -> None:
        """Take rows, and draw them."""
        if len(self._rows) > KEPT:
            self._rows.clear()
        self._rows.update((row.key, row) for row in rows)
        self._look = look
        self._values = columns_of(rows, self._values)
        self._columns = table_columns(self._values)
        cells = [[cell(row, column.title, look) for column in self._columns] for row in rows]
        sort = "" if self.found is None else self.found.query.sort
        titles = head_cells(self._columns, sort, look)
        widths = widths_of(self._columns, [titles, *cells])
        if len(self._widths) == len(widths):  # columns never shrink while somebody reads
            widths = [max(pair) for pair in zip(widths, self._widths, strict=True)]
        self._widths = widths
        self.head = [(Span("  "), *row_line(self._columns, self._fitted(), titles))]
        self.refresh()

    def _fitted(self) -> list[int]:
        """Return the widths for this terminal: the text last, without columns that do not fit."""
        room, fitted = self.size.width - 2, [0] * len(self._widths)
        text = len(self._widths) - 1
        when = text - 1
        order = [0, 1, when, 3, *range(4, when), 2, text]
        for number in order:
            width = self._widths[number]
            if number == text:
                fitted[number] = max(0, room)
            elif width + GAP <= room:
                fitted[number] = width
                room -= width + GAP
        return fitted

    def draw(self, index: int, width: int) -> Line:
        """Return the line of a run, its name only until its row has been read."""
        key = self.key_at(index)
        assert key is not None
        look = self._look
        is_marked = self.all_marked or key in self.marked
        sign = "" if look is None else look.signs.mark
        mark = Span(f"{sign} " if is_marked else "  ", "key")
        row = self._rows.get(key)
        if row is None or look is None or not self._widths:
            return line(mark, str(key), ("  ...", "dim"))
        cells = [cell(row, column.title, look) for column in self._columns]
        more = look.signs.more
        found = row_line(self._columns, self._fitted(), cells, mark=more)
        return fit((mark, *found), width, more)

    # -- selection ---------------------------------------------------------------------------

    def toggle(self) -> None:
        """Add the run under the cursor to the selection, or take it out."""
        key = self.current_key
        if key is not None:
            self.all_marked = False
            self.marked ^= {key}
            self.move_to(self.cursor + 1)

    def extend(self, step: int) -> None:
        """Add the run under the cursor and the next to the selection."""
        for move in (0, step):
            self.move_to(self.cursor + move)
            key = self.current_key
            if key is not None:
                self.marked.add(key)

    def selection(self) -> RunSelection | None:
        """Return the selected runs as commands select them, else the one under the cursor."""
        if self.all_marked and self.found is not None:
            return self.found.query.selection
        keys = self.marked or {key for key in [self.current_key] if key is not None}
        studies = sorted({key.study for key in keys})
        targets = [
            RunTarget(study, tuple(id_ranges(sorted(key.id for key in keys if key.study == study))))
            for study in studies
        ]
        return RunSelection(targets) if targets else None
