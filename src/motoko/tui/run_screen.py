"""One run: attempts, values, quantities, why, files and history; its output live."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from textual import on
from textual.binding import Binding
from textual.containers import Container

from motoko.core.run_targets import RunTarget
from motoko.errors import MotokoError
from motoko.operations.bulk_edit import RunSelection
from motoko.tui.draw_run import head_line, log_rows, run_rows
from motoko.tui.output_follower import OutputFollower
from motoko.tui.pane import Pane, RowsPane
from motoko.tui.screen import WatchScreen
from motoko.tui.text import Row, line, safe, spread
from motoko.views.run import read_run

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from motoko.core.records import RunKey
    from motoko.tui.text import Line
    from motoko.views.campaign import Campaign
    from motoko.views.connection import ReadConnection
    from motoko.views.run import RunView

BESIDE: Final = 130  # cells from which the output is beside, not below
OUTPUT: Final = 0.5  # seconds between two readings of the output


class RunScreen(WatchScreen):
    """A run."""

    BINDINGS: ClassVar = [
        Binding("o", "stream('stdout')", show=False),
        Binding("e", "stream('stderr')", show=False),
        Binding("left", "sibling(-1)", show=False),
        Binding("right", "sibling(1)", show=False),
    ]
    HINTS: ClassVar = (
        ("Esc", "Back", "back"),
        ("r", "Retry", "verb('retry')"),
        ("l", "Logs", "logs"),
        ("c", "Cancel", "verb('cancel')"),
        ("e", "Stderr", "stream('stderr')"),
        ("o", "Stdout", "stream('stdout')"),
        ("h", "Hold", "verb('hold')"),
        ("u", "Release", "verb('release')"),
        ("w", "Why", "why"),
    )
    DEFAULT_CSS = """
    RunScreen #run { layout: vertical; height: 1fr; }
    RunScreen #facts { height: 1fr; }
    RunScreen #output { height: 7; }
    RunScreen.-wide #run { layout: horizontal; }
    RunScreen.-wide #facts { width: 1fr; }
    RunScreen.-wide #output { width: 1fr; height: 1fr; padding-left: 1; }
    """

    def __init__(self, key: RunKey) -> None:
        super().__init__()
        self.key = key
        self.view: RunView | None = None
        self._problem = "reading ..."
        self._output = OutputFollower(key, "stdout")
        self._chosen_stream = False

    def body(self) -> ComposeResult:
        """Yield facts and output."""
        with Container(id="run"):
            yield RowsPane(id="facts")
            yield RowsPane(id="output")

    def on_mount(self) -> None:
        """Read the run, and follow its output."""
        self.query_one("#facts").focus()
        self.set_interval(OUTPUT, self._read_output)
        self._read_output()

    def update_body(self, campaign: Campaign) -> None:
        """Read the run again."""
        self.set_class(self.size.width >= BESIDE, "-wide")
        self.request("run", self._read)

    async def _read(self) -> None:
        key = self.key
        try:
            self.view = await self.watch_app.views.read(lambda c: read_run(c, key))
            self._problem = "" if self.view is not None else f"{key} does not exist"
        except (MotokoError, OSError) as error:
            self._problem = str(error)
        view = self.view
        if view is not None and not self._chosen_stream:
            self._chosen_stream = True
            if view.row.lifecycle.is_failure:
                self._output = OutputFollower(key, "stderr")
                self._read_output()
        self._draw()

    def _draw(self) -> None:
        pane = self.query_one("#facts", RowsPane)
        if self.view is None:
            pane.show([line((f" {self.key}", "title"))], [Row(line(f" {safe(self._problem)}"))])
            return
        look = self.watch_app.look
        width = pane.size.width or self.size.width
        pane.show([head_line(self.view, look)], run_rows(self.view, width, look))

    def _read_output(self) -> None:
        if self.is_current and not self._output.ended:
            self.request("output", self._follow)

    async def _follow(self) -> None:
        output = self._output

        def work(connection: ReadConnection) -> bool:
            try:
                return output.read(connection)
            except (MotokoError, OSError):
                return False

        await self.watch_app.views.read(work)
        self._draw_output()

    def _draw_output(self) -> None:
        pane = self.query_one("#output", RowsPane)
        width = max(20, pane.size.width - 1)
        output = self._output
        texts = [*output.lines]
        while texts and not texts[-1]:
            texts.pop()
        rows = log_rows(texts[-300:], width, wrap=True)
        head: Line = spread(
            line((f" {output.stream}", "head"), (f"  {safe(output.note)}", "dim")),
            line(("l: all ", "dim")),
            width,
        )
        at_end = pane.top >= pane.count - pane.visible_rows
        pane.show([head], rows)
        if at_end:
            pane.scroll_rows(len(rows))

    # -- command and selection -----------------------------------------------------------------

    @property
    def command(self) -> str:
        """The command line that prints the same."""
        return f"motoko info {self.key}"

    def selected(self) -> RunSelection | None:
        """Return this run."""
        return RunSelection([RunTarget(self.key.study, ((self.key.id, self.key.id),))])

    def current_run(self) -> RunKey | None:
        """Return this run."""
        return self.key

    @on(Pane.Chosen)
    def _chosen(self) -> None:
        self.action_logs()

    def action_stream(self, stream: str) -> None:
        """Show the other stream."""
        self._chosen_stream = True
        self._output = OutputFollower(self.key, stream)
        self._read_output()

    def action_sibling(self, step: int) -> None:
        """Show the run before or after."""
        from motoko.core.records import RunKey

        if self.key.id + step > 0:
            self.key = RunKey(self.key.study, self.key.id + step)
            self.view, self._chosen_stream = None, False
            self._output = OutputFollower(self.key, "stdout")
            self.query_one("#facts", RowsPane).top = 0
            self.update()
            self._read_output()
