"""The first screen: how far, how fast, when done, what failed, and what needs a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.containers import Container

from motoko.core.run_targets import RunTarget
from motoko.operations.bulk_edit import RunSelection
from motoko.tui import draw_campaign
from motoko.tui.arrange import Contents, arrange
from motoko.tui.draw_campaign import bar_line, counts_line, lifecycles
from motoko.tui.pane import Lines, Pane, RowsPane
from motoko.tui.screen import WatchScreen
from motoko.tui.text import safe

if TYPE_CHECKING:
    from collections.abc import Hashable

    from textual.app import ComposeResult

    from motoko.core.records import RunKey
    from motoko.tui.arrange import Place
    from motoko.tui.text import Line
    from motoko.views.campaign import Campaign, Need
    from motoko.views.failures import FailureGroup

PANES = ("studies", "needs", "events", "happenings")
TWO_LINES = 24  # rows from which the title has a line of counts


class CampaignScreen(WatchScreen):
    """The state of one run name."""

    NAME: ClassVar = "campaign"
    HINTS: ClassVar = (
        ("Enter", "Open", "open"),
        ("r", "Retry", "verb('retry')"),
        ("w", "Why", "why"),
        ("c", "Cancel", "verb('cancel')"),
        ("h", "Hold", "verb('hold')"),
        ("u", "Release", "verb('release')"),
        ("l", "Logs", "logs"),
        ("Tab", "Next pane", "app.focus_next"),
    )
    DEFAULT_CSS = """
    CampaignScreen #body { height: 1fr; }
    CampaignScreen #body > * { position: absolute; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._places: dict[str, Place] = {}
        self._focused = False

    def body(self) -> ComposeResult:
        """Yield the panes; ``update_body`` places them."""
        with Container(id="body"):
            yield RowsPane(id="studies")
            yield Lines(id="throughput")
            for name in PANES[1:]:
                yield RowsPane(id=name)

    def title_lines(self, campaign: Campaign | None) -> list[Line]:
        """Add the bar of all runs, and the numbers that it stands for."""
        found = super().title_lines(campaign)
        if campaign is not None:
            look = self.watch_app.look
            found.append(bar_line(campaign, self.size.width, look))
            if self.size.height > TWO_LINES or len(campaign.studies) < 6:
                found.append(counts_line(lifecycles(campaign.studies), look))
        return found

    def update_body(self, campaign: Campaign) -> None:
        """Place the panes for their contents, and draw them."""
        look = self.watch_app.look
        rows = Contents(
            len(campaign.studies),
            len(campaign.needs),
            len(campaign.events),
            len(campaign.happenings),
        )
        height = self.size.height - len(self.title_lines(campaign)) - 2
        places = arrange(self.size.width, height, rows)
        for name, place in places.items():
            self._put(name, place)
        head, studies = draw_campaign.studies(campaign, look)
        self.pane("studies").show([head], studies)
        width = places["throughput"].width
        line = draw_campaign.throughput_line(campaign, width, look)
        self.query_one("#throughput", Lines).show([line])
        for name in PANES[1:]:
            draw = getattr(draw_campaign, name)
            head, drawn = draw(campaign, places[name].width, look)
            self.pane(name).show([head], drawn)
        if not self._focused:
            self._focused = True
            self.set_focus(self.pane("needs" if campaign.needs else "studies"))

    def _put(self, name: str, place: Place) -> None:
        if self._places.get(name) != place:
            self._places[name] = place
            styles = self.query_one(f"#{name}").styles
            styles.offset = (place.x, place.y)
            styles.width, styles.height = place.width, place.height

    def pane(self, name: str) -> RowsPane:
        """Return a pane."""
        return self.query_one(f"#{name}", RowsPane)

    # -- selection ---------------------------------------------------------------------------

    @property
    def command(self) -> str:
        """The command line for the row under the cursor, or for this screen."""
        pane = self.focused_pane()
        if pane is not None and pane.id == "needs":
            need = self._need(pane.current)
            if need is not None and need.command:
                return safe(need.command)
        if pane is not None and pane.id == "events" and pane.current is not None:
            return f"motoko why {safe(str(pane.current))} --run_name {self.watch_app.run_name}"
        if pane is not None and pane.id == "studies" and pane.current is not None:
            return self.watch_app.command_of("info", safe(str(pane.current)))
        return super().command

    def _need(self, key: Hashable) -> Need | None:
        campaign = self.latest.campaign
        for need in campaign.needs if campaign is not None else ():
            if key in (("group", need.group), ("need", need.subject, need.command)):
                return need
        return None

    def _group(self) -> FailureGroup | None:
        pane, campaign = self.focused_pane(), self.latest.campaign
        if pane is None or campaign is None or not isinstance(pane.current, tuple):
            return None
        return next((one for one in campaign.failures if one.id == pane.current[-1]), None)

    def selected(self) -> RunSelection | None:
        """Return the group of failures or the study under the cursor."""
        pane = self.focused_pane()
        if pane is not None and pane.id == "studies" and pane.current is not None:
            target = RunTarget(str(pane.current))
            return RunSelection([target], run_name=self.watch_app.run_name)
        group = self._group() if pane is not None and pane.id == "needs" else None
        return None if group is None else RunSelection([group.target])

    def current_run(self) -> RunKey | None:
        """Return the newest run of the group under the cursor."""
        pane = self.focused_pane()
        group = self._group() if pane is not None and pane.id == "needs" else None
        return group.runs[0] if group is not None and group.runs else None

    @on(Pane.Moved)
    def _moved(self) -> None:
        self.update_foot()

    @on(Pane.Chosen)
    def _chosen(self, event: Pane.Chosen) -> None:
        app = self.watch_app
        if event.pane.id == "studies":
            app.show_runs(study=str(event.key))
        elif event.pane.id == "events":
            app.explain(str(event.key))
        elif event.pane.id == "needs":
            group, need = self._group(), self._need(event.key)
            if group is not None:
                app.show_group(group.id)
            elif need is not None:
                app.explain_need(need)
        elif event.pane.id == "happenings" and isinstance(event.key, tuple):
            app.show_target(str(event.key[-1]))

    def action_open(self) -> None:
        """Open the row under the cursor."""
        pane = self.focused_pane()
        if pane is not None:
            pane.action_choose()

    def action_why(self) -> None:
        """Explain the row under the cursor, or the waits of the workflow."""
        pane = self.focused_pane()
        key = self.current_run()
        if key is not None:
            self.watch_app.explain(str(key))
        elif pane is not None and pane.id in ("events", "studies") and pane.current is not None:
            self.watch_app.explain(str(pane.current))
        else:
            self.watch_app.explain("")

    def action_show_state(self, state: str) -> None:
        """Show the runs of a lifecycle state."""
        self.watch_app.show_runs(where=f"lifecycle = {state}")
