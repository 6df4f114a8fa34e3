"""The failed runs, grouped by cause, with a sample of their standard error."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final

from textual import on

from motoko.errors import MotokoError
from motoko.operations.bulk_edit import RunSelection
from motoko.tui.draw_events import group_details, group_rows
from motoko.tui.pane import Pane, RowsPane
from motoko.tui.screen import WatchScreen
from motoko.tui.text import safe
from motoko.views.output import read_output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.app import ComposeResult

    from motoko.core.records import RunKey
    from motoko.views.campaign import Campaign
    from motoko.views.connection import ReadConnection
    from motoko.views.failures import FailureGroup

SAMPLE: Final = 200  # lines of standard error


class FailuresScreen(WatchScreen):
    """The groups of failed runs."""

    NAME: ClassVar = "failures"
    HINTS: ClassVar = (
        ("Enter", "Newest run", "open"),
        ("r", "Retry", "verb('retry')"),
        ("l", "Logs", "logs"),
        ("w", "Why", "why"),
    )
    DEFAULT_CSS = """
    FailuresScreen #groups { height: 1fr; }
    FailuresScreen #sample { height: 1fr; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._wanted: str | None = None
        self._sample: tuple[RunKey, Sequence[str]] | None = None

    def body(self) -> ComposeResult:
        """Yield the groups, and the one under the cursor."""
        yield RowsPane(id="groups")
        yield RowsPane(id="sample")

    def on_mount(self) -> None:
        """Place the cursor."""
        self.set_focus(self.pane)

    @property
    def pane(self) -> RowsPane:
        """The groups."""
        return self.query_one("#groups", RowsPane)

    @property
    def group(self) -> FailureGroup | None:
        """The group under the cursor."""
        campaign = self.latest.campaign
        groups = () if campaign is None else campaign.failures
        current = self.pane.current if self.is_mounted else None
        return next((one for one in groups if one.id == current), None)

    def select(self, group: str) -> None:
        """Place the cursor on a group."""
        self._wanted = group
        self.update()

    def update_body(self, campaign: Campaign) -> None:
        """Draw the groups."""
        look = self.watch_app.look
        head, rows = group_rows(campaign, self.size.width, look)
        self.pane.styles.height = min(len(rows) + 2, self.size.height // 2 - 2)
        self.pane.show(head, rows)
        if self._wanted is not None:
            keys = [row.key for row in self.pane.rows]
            if self._wanted in keys:
                self.pane.move_to(keys.index(self._wanted))
            self._wanted = None
        self._draw_sample()

    def _draw_sample(self) -> None:
        group = self.group
        key = group.runs[0] if group is not None and group.runs else None
        if key is not None and (self._sample is None or self._sample[0] != key):
            self._sample = key, ["reading ..."]
            self.request("sample", partial(self._read_sample, key))
        texts = self._sample[1] if self._sample is not None and self._sample[0] == key else ()
        head, rows = group_details(group, texts, self.size.width, self.watch_app.look)
        self.query_one("#sample", RowsPane).show(head, rows)

    async def _read_sample(self, key: RunKey) -> None:
        def work(connection: ReadConnection) -> Sequence[str]:
            try:
                part = read_output(connection, key, "stderr")
            except (MotokoError, OSError) as error:
                return [str(error)]
            return [part.note] if part.note else part.text.rstrip("\n").split("\n")[-SAMPLE:]

        self._sample = key, await self.watch_app.views.read(work)
        self._draw_sample()

    # -- command and selection -----------------------------------------------------------------

    @property
    def command(self) -> str:
        """The command line that explains the group."""
        group = self.group
        if group is None:
            return self.watch_app.command_of("why")
        return safe(f"motoko why {group.target}")

    def selected(self) -> RunSelection | None:
        """Return the runs of the group."""
        group = self.group
        return None if group is None else RunSelection([group.target])

    def current_run(self) -> RunKey | None:
        """Return the newest run of the group."""
        group = self.group
        return group.runs[0] if group is not None and group.runs else None

    @on(Pane.Moved, "#groups")
    def _moved(self) -> None:
        self._draw_sample()
        self.update_foot()

    @on(Pane.Chosen)
    def _chosen(self) -> None:
        self.action_open()

    def action_open(self) -> None:
        """Show the newest run of the group."""
        key = self.current_run()
        if key is not None:
            self.watch_app.open_run(key)

    def action_back(self) -> None:
        """Return to the campaign."""
        self.watch_app.action_tab("campaign")
