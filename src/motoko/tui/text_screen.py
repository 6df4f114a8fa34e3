"""A screen of text: help, and explanations."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding

from motoko.errors import MotokoError
from motoko.printable import printable
from motoko.tui.pane import RowsPane
from motoko.tui.screen import WatchScreen
from motoko.tui.text import Row, line, wrapped
from motoko.tui.workers import start

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from textual.app import ComposeResult

    from motoko.views.campaign import Campaign
    from motoko.views.connection import ReadConnection


class TextScreen(WatchScreen):
    """Lines to read. ``read`` finds them in a thread."""

    BINDINGS: ClassVar = [Binding("enter", "back", show=False)]
    HINTS: ClassVar = (("Esc", "Back", "back"),)

    def __init__(
        self,
        title: str,
        command: str,
        text: Sequence[str] = (),
        read: Callable[[ReadConnection], Sequence[str]] | None = None,
    ) -> None:
        super().__init__()
        self._title = title
        self._command = command
        self._text = text
        self._read_text = read

    def body(self) -> ComposeResult:
        """Yield the text."""
        yield RowsPane(id="text")

    def on_mount(self) -> None:
        """Find the text."""
        self.query_one("#text").focus()
        if self._read_text is not None:
            self._text = ["reading ..."]
            start(self, self._load)

    async def _load(self) -> None:
        assert self._read_text is not None
        try:
            self._text = await self.watch_app.views.query(self._read_text)
        except MotokoError as error:
            self._text = str(error).split("\n")
        self.update()

    @property
    def command(self) -> str:
        """The command line that prints the same."""
        return self._command

    def update(self) -> None:
        """Draw the text also before the first reading."""
        super().update()
        if self.is_mounted and self.size.width:
            width = self.size.width - 2
            rows = [
                Row(line(f" {part}"))
                for text in self._text
                for one in printable(text).split("\n")
                for part in wrapped(one, width)
            ]
            self.query_one("#text", RowsPane).show([line((f" {self._title}", "head"))], rows)

    def update_body(self, campaign: Campaign) -> None:
        """Draw nothing of the campaign."""
