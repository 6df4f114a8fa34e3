"""Widgets that draw lines: only those that are visible, also of a list of a million."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from textual.binding import Binding
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from motoko.tui.text import action_at, segments

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from textual import events

    from motoko.tui.text import Line, Row

WHEEL: Final = 3  # lines


class Lines(Widget):
    """A few lines. A click on a span with an action does it."""

    DEFAULT_CSS = "Lines { height: 0; }"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._lines: Sequence[Line] = ()

    def show(self, lines: Sequence[Line]) -> None:
        """Replace the lines."""
        if lines == self._lines:
            return
        resized = len(lines) != len(self._lines)
        self._lines = lines
        if resized:
            self.styles.height = len(lines)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """Draw a line."""
        width = self.size.width
        found = self._lines[y] if y < len(self._lines) else ()
        return Strip(segments(found, width, self.rich_style), width)

    async def on_click(self, event: events.Click) -> None:
        """Do the action of the clicked span."""
        if event.y < len(self._lines):
            action = action_at(self._lines[event.y], event.x)
            if action:
                await self.app.run_action(action, self.screen)


class Pane(Widget, can_focus=True):
    """A list of lines below a head, with a cursor. Subclasses give ``count`` and ``draw``."""

    BINDINGS: ClassVar = [
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("home", "move(-1000000000)", show=False),
        Binding("end", "move(1000000000)", show=False),
        Binding("enter", "choose", show=False),
    ]
    DEFAULT_CSS = "Pane { height: 1fr; }"

    class Chosen(Message):
        """Enter, or a click on the cursor's row."""

        def __init__(self, pane: Pane, key: Hashable) -> None:
            super().__init__()
            self.pane = pane
            self.key = key

        @property
        def control(self) -> Pane:
            """The pane."""
            return self.pane

    class Moved(Message):
        """The cursor moved, or other rows became visible."""

        def __init__(self, pane: Pane) -> None:
            super().__init__()
            self.pane = pane

        @property
        def control(self) -> Pane:
            """The pane."""
            return self.pane

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.head: Sequence[Line] = ()
        self.cursor = 0
        self.top = 0

    # -- what subclasses give ----------------------------------------------------------------

    @property
    def count(self) -> int:
        """The number of rows."""
        return 0

    def draw(self, index: int, width: int) -> Line:
        """Return the line of a row."""
        raise NotImplementedError

    def key_at(self, index: int) -> Hashable:
        """Return what identifies a row, None if no cursor stops there."""
        return index

    # -- the cursor --------------------------------------------------------------------------

    @property
    def current(self) -> Hashable:
        """The key of the cursor's row, None without one."""
        return self.key_at(self.cursor) if 0 <= self.cursor < self.count else None

    @property
    def visible_rows(self) -> int:
        """The number of rows that have room."""
        return max(0, self.size.height - len(self.head))

    def move_to(self, index: int) -> None:
        """Place the cursor on the nearest row with a key, and show it."""
        index = max(0, min(index, self.count - 1))
        step = 1 if index >= self.cursor else -1
        self.cursor = self._nearest(index, step)
        room = self.visible_rows
        if self.cursor < self.top:
            self.top = self.cursor
        elif room and self.cursor >= self.top + room:
            self.top = self.cursor - room + 1
        self._bound()
        self.refresh()
        self.post_message(self.Moved(self))

    def _nearest(self, index: int, step: int) -> int:
        for direction in (step, -step):
            at = index
            while 0 <= at < self.count:
                if self.key_at(at) is not None:
                    return at
                at += direction
        return index

    def _bound(self) -> None:
        self.top = max(0, min(self.top, self.count - self.visible_rows))

    def scroll_rows(self, rows: int) -> None:
        """Show other rows; the cursor stays on its row."""
        self.top += rows
        self._bound()
        self.refresh()
        self.post_message(self.Moved(self))

    def action_move(self, rows: int) -> None:
        """Move the cursor."""
        if self.current is None:  # text without a cursor
            self.scroll_rows(rows)
            return
        before = self.cursor
        self.move_to(self.cursor + rows)
        if self.cursor == before:
            self.scroll_rows(rows)

    def action_page(self, pages: int) -> None:
        """Move by a page."""
        self.action_move(pages * max(1, self.visible_rows - 1))

    def action_choose(self) -> None:
        """Announce the cursor's row."""
        if self.current is not None:
            self.post_message(self.Chosen(self, self.current))

    # -- drawing -----------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """Draw a visible line."""
        width, index = self.size.width, self.top + y - len(self.head)
        cursor = False
        if y < len(self.head):
            found: Line = self.head[y]
        elif index < self.count:
            found = self.draw(index, width)
            cursor = self.has_focus and index == self.cursor and self.key_at(index) is not None
        else:
            found = ()
        return Strip(segments(found, width, self.rich_style, cursor=cursor), width)

    def on_resize(self) -> None:
        """Keep the cursor visible."""
        if self.visible_rows and self.count:
            if self.current is not None:
                self.move_to(self.cursor)
            else:
                self._bound()

    def on_focus(self) -> None:
        """Show the cursor."""
        self.post_message(self.Moved(self))

    def on_mouse_scroll_down(self) -> None:
        """Scroll."""
        self.scroll_rows(WHEEL)

    def on_mouse_scroll_up(self) -> None:
        """Scroll."""
        self.scroll_rows(-WHEEL)

    async def on_click(self, event: events.Click) -> None:
        """Do the action of the head, or place the cursor; a second click chooses the row."""
        if event.y < len(self.head):
            action = action_at(self.head[event.y], event.x)
            if action:
                await self.app.run_action(action, self.screen)
            return
        index = self.top + event.y - len(self.head)
        if index >= self.count:
            return
        if index == self.cursor:
            self.action_choose()
        else:
            self.move_to(index)


class RowsPane(Pane):
    """A pane of given rows. When they change, the cursor stays on its key."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.rows: Sequence[Row] = ()

    @property
    def count(self) -> int:
        """The number of rows."""
        return len(self.rows)

    def draw(self, index: int, width: int) -> Line:
        """Return the line of a row."""
        del width
        return self.rows[index].line

    def key_at(self, index: int) -> Hashable:
        """Return the key of a row."""
        return self.rows[index].key

    def show(self, head: Sequence[Line], rows: Sequence[Row]) -> None:
        """Replace head and rows."""
        if head == self.head and rows == self.rows:
            return
        current = self.current
        self.head, self.rows = head, rows
        at = next((n for n, row in enumerate(rows) if row.key == current), None)
        index = min(self.cursor, max(0, len(rows) - 1)) if current is None or at is None else at
        self.top += index - self.cursor if at is not None and current is not None else 0
        self.cursor = self._nearest(index, 1) if rows else 0
        self._bound()
        self.refresh()
