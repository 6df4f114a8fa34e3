"""The output of a run on the whole screen: live, with search."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.binding import Binding
from textual.widgets import Input

from motoko.core.run_targets import RunTarget
from motoko.errors import MotokoError
from motoko.operations.bulk_edit import RunSelection
from motoko.tui.draw_run import log_rows
from motoko.tui.output_follower import OutputFollower
from motoko.tui.pane import RowsPane
from motoko.tui.run_screen import OUTPUT
from motoko.tui.screen import WatchScreen
from motoko.tui.text import line, safe

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from motoko.core.records import RunKey
    from motoko.views.connection import ReadConnection


class LogsScreen(WatchScreen):
    """The output of a run."""

    BINDINGS: ClassVar = [
        Binding("o", "stream('stdout')", show=False),
        Binding("e", "stream('stderr')", show=False),
        Binding("z", "wrap", show=False),
        Binding("f", "follow", show=False),
        Binding("slash", "search", show=False),
        Binding("n", "next(1)", show=False),
        Binding("N", "next(-1)", show=False),
    ]
    HINTS: ClassVar = (
        ("Esc", "Back", "back"),
        ("e", "Stderr", "stream('stderr')"),
        ("o", "Stdout", "stream('stdout')"),
        ("/", "Search", "search"),
        ("n", "Next", "next(1)"),
        ("z", "Wrap", "wrap"),
        ("f", "Follow", "follow"),
        ("r", "Retry", "verb('retry')"),
        ("w", "Why", "why"),
    )
    DEFAULT_CSS = """
    LogsScreen #search { display: none; }
    LogsScreen.-searching #search { display: block; }
    """

    def __init__(self, key: RunKey, stream: str = "stdout") -> None:
        super().__init__()
        self.key = key
        self.wraps = True
        self.follows = True
        self.find = ""
        self._output = OutputFollower(key, stream)
        self._errors_first = True

    def body(self) -> ComposeResult:
        """Yield the output, and the field for a search."""
        yield RowsPane(id="log")
        field = Input(compact=True, id="search", placeholder="search; Enter finds, Esc ends")
        field.cursor_blink = False
        yield field

    def on_mount(self) -> None:
        """Follow the output."""
        self.set_focus(self.pane)
        self.set_interval(OUTPUT, self._read)
        self._read()

    @property
    def pane(self) -> RowsPane:
        """The lines."""
        return self.query_one("#log", RowsPane)

    def _read(self) -> None:
        if self.is_current and not self._output.ended:
            self.request("output", self._follow)

    async def _follow(self) -> None:
        output = self._output

        def work(connection: ReadConnection) -> bool:
            try:
                return output.read(connection)
            except (MotokoError, OSError) as error:
                output.note = str(error)
                return True

        changed = await self.watch_app.views.read(work)
        empty = output.ended and not any(output.lines)
        if empty and output.stream == "stdout" and self._errors_first:
            self.action_stream("stderr")  # nothing else to see
        elif changed:
            self._draw()

    def on_resize(self) -> None:
        """Wrap for the new width."""
        self.call_after_refresh(self._draw)

    def _draw(self) -> None:
        pane, output = self.pane, self._output
        width = max(20, pane.size.width - 1)
        texts = [*output.lines]
        while texts and not texts[-1]:
            texts.pop()
        rows = log_rows(texts, width, wrap=self.wraps, find=self.find)
        notes = [output.note, "" if self.wraps else "not wrapped"]
        notes += ["following" if self.follows and not output.ended else ""]
        text = ", ".join(note for note in notes if note)
        head = line((f" {self.key} {output.stream}", "head"), (f"  {safe(text)}", "dim"))
        pane.show([head], rows)
        if self.follows:
            pane.scroll_rows(len(rows))

    # -- command and selection -----------------------------------------------------------------

    @property
    def command(self) -> str:
        """The command line that prints the same."""
        return f"motoko logs {self.key} --{self._output.stream}" + (
            "" if self._output.ended else " -f"
        )

    def selected(self) -> RunSelection | None:
        """Return the run."""
        return RunSelection([RunTarget(self.key.study, ((self.key.id, self.key.id),))])

    def current_run(self) -> RunKey | None:
        """Return the run."""
        return self.key

    # -- actions -----------------------------------------------------------------------------

    def action_logs(self) -> None:
        """Stay."""

    def action_stream(self, stream: str) -> None:
        """Show the other stream."""
        self._errors_first = False
        self._output = OutputFollower(self.key, stream)
        self._read()
        self.update_foot()

    def action_wrap(self) -> None:
        """Wrap long lines, or cut them."""
        self.wraps = not self.wraps
        self._draw()

    def action_follow(self) -> None:
        """Show the end as it grows, or stay."""
        self.follows = not self.follows
        self._draw()

    def action_search(self) -> None:
        """Ask for a text."""
        self.add_class("-searching")
        self.set_focus(self.query_one("#search", Input))

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        self.find = event.value
        self.remove_class("-searching")
        self.set_focus(self.pane)
        self.follows = False
        self._draw()
        self.action_next(-1, include=True)

    def action_next(self, step: int, include: bool = False) -> None:
        """Show the next line that contains the text, or the one before."""
        if not self.find:
            return
        self.follows = False
        pane = self.pane
        hits = [
            number
            for number, row in enumerate(pane.rows)
            if any(span.style == "found" for span in row.line)
        ]
        if not hits:
            self.watch_app.say(f"{self.find!r} is not in the {len(pane.rows):,} lines shown")
            return
        if include:
            at = hits[-1]
        elif step > 0:
            at = next((hit for hit in hits if hit > pane.top), hits[0])
        else:
            at = next((hit for hit in reversed(hits) if hit < pane.top), hits[-1])
        pane.scroll_rows(at - pane.top)
        text = f"{self.find!r} is in {len(hits):,} of {len(pane.rows):,} lines"
        self.watch_app.say(text, "dim")

    def action_back(self) -> None:
        """End the search, or leave."""
        if self.has_class("-searching"):
            self.remove_class("-searching")
            self.set_focus(self.pane)
        elif self.find:
            self.find = ""
            self._draw()
        else:
            super().action_back()
