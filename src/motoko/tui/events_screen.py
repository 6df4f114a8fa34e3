"""The events: what each waits for, and how often it fired."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual import on

from motoko.tui.draw_events import event_details, event_rows
from motoko.tui.pane import Pane, RowsPane
from motoko.tui.screen import WatchScreen
from motoko.tui.text import safe

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from motoko.views.campaign import Campaign


class EventsScreen(WatchScreen):
    """The registered events."""

    NAME: ClassVar = "events"
    HINTS: ClassVar = (("Enter", "Why", "why"), ("t", "Times", "app.times"))
    DEFAULT_CSS = """
    EventsScreen #events { height: 1fr; }
    EventsScreen #event { height: 9; }
    """

    def body(self) -> ComposeResult:
        """Yield the list, and the event under the cursor in full."""
        yield RowsPane(id="events")
        yield RowsPane(id="event")

    def on_mount(self) -> None:
        """Place the cursor."""
        self.set_focus(self.pane)

    @property
    def pane(self) -> RowsPane:
        """The list."""
        return self.query_one("#events", RowsPane)

    def update_body(self, campaign: Campaign) -> None:
        """Draw the events."""
        look, width = self.watch_app.look, self.size.width
        self.pane.show(*event_rows(campaign, width, look))
        self._draw_details()

    def _draw_details(self) -> None:
        campaign = self.latest.campaign
        events = () if campaign is None else campaign.events
        found = next((one for one in events if one.id == self.pane.current), None)
        head, rows = event_details(found, self.size.width, self.watch_app.look)
        self.query_one("#event", RowsPane).show(head, rows)

    @property
    def command(self) -> str:
        """The command line that explains the event."""
        if self.pane.current is None:
            return f"motoko why --run_name {self.watch_app.run_name}"
        return f"motoko why {safe(str(self.pane.current))} --run_name {self.watch_app.run_name}"

    @on(Pane.Moved)
    def _moved(self) -> None:
        self._draw_details()
        self.update_foot()

    @on(Pane.Chosen)
    def _chosen(self) -> None:
        self.action_why()

    def action_why(self) -> None:
        """Explain the event under the cursor."""
        if self.pane.current is not None:
            self.watch_app.explain(str(self.pane.current))

    def action_back(self) -> None:
        """Return to the campaign."""
        self.watch_app.action_tab("campaign")
