"""What all screens have: a title, the equivalent command line, a line of keys, and the verbs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final, cast

from textual.binding import Binding, BindingType
from textual.screen import Screen

from motoko.operations.verbs import Verb
from motoko.tui.draw_campaign import title_line
from motoko.tui.pane import Lines, Pane
from motoko.tui.text import Span, fit, line, safe, spread, width_of
from motoko.tui.verb_dialog import VerbDialog
from motoko.tui.workers import Work, start

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.widget import Widget

    from motoko.core.records import RunKey
    from motoko.operations.bulk_edit import RunSelection
    from motoko.tui.text import Line
    from motoko.tui.watcher import Watcher
    from motoko.views.campaign import Campaign
    from motoko.views.live import Latest

NAMED_TABS: Final = 112  # cells from which the title has room for the names of the screens
TABS: Final = (("1", "campaign"), ("2", "runs"), ("3", "events"), ("4", "failures"))
VERB_KEYS: Final = (("r", Verb.RETRY), ("c", Verb.CANCEL), ("h", Verb.HOLD), ("u", Verb.RELEASE))


class WatchScreen(Screen[None]):
    """A screen of the workflow. ``update`` draws it anew."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(key, f"verb('{verb}')", verb.value.capitalize()) for key, verb in VERB_KEYS),
        Binding("l", "logs", "Logs"),
        Binding("w", "why", "Why"),
        Binding("t", "app.times", "Times", show=False),
        Binding("escape", "back", show=False),
    ]
    HINTS: ClassVar[tuple[tuple[str, str, str], ...]] = ()  # key, word, action; the foremost stay
    NAME: ClassVar = ""  # of its tab

    def __init__(self) -> None:
        super().__init__()
        self._working: set[str] = set()
        self._waiting: dict[str, Work] = {}

    def compose(self) -> ComposeResult:
        """Place the title above the body, the command line and the keys below."""
        yield Lines(id="title")
        yield from self.body()
        yield Lines(id="foot")

    def body(self) -> ComposeResult:
        """Yield the widgets between."""
        yield from ()

    @property
    def watch_app(self) -> Watcher:
        """The application."""
        return cast("Watcher", self.app)

    @property
    def latest(self) -> Latest:
        """The latest reading."""
        return self.watch_app.latest

    # -- drawing -----------------------------------------------------------------------------

    def on_screen_resume(self) -> None:
        """Draw the changes since this screen was last visible."""
        self.update()

    def on_resize(self) -> None:
        """Draw for the new size."""
        self.call_after_refresh(self.update)

    def update(self) -> None:
        """Draw the latest reading."""
        if not self.is_mounted or not self.size.width:
            return
        campaign = self.latest.campaign
        self.query_one("#title", Lines).show(self.title_lines(campaign))
        if campaign is not None:
            self.update_body(campaign)
        self.update_foot()

    def update_foot(self) -> None:
        """Draw the command line, or the last message, and the keys."""
        self.query_one("#foot", Lines).show([self._command_line(), self._keys_line()])

    def update_body(self, campaign: Campaign) -> None:
        """Draw the body."""

    def title_lines(self, campaign: Campaign | None) -> list[Line]:
        """Return the lines at the top."""
        app, width = self.watch_app, self.size.width
        more = app.signs.more
        if campaign is None:
            text = self.latest.problem or "reading the workflow ..."
            title = line((f" {safe(app.run_name)}", "title"), f"  {safe(text)}")
        else:
            title = title_line(campaign, app.look)
        if self.latest.problem and campaign is not None:
            problem = safe(self.latest.problem)
            title = (*title[:2], Span(f"not connected: {problem}; trying again", "failed"))
        return [spread(title, self._tabs(), width, more)]

    def _tabs(self) -> Line:
        spans, named = [], self.size.width >= NAMED_TABS
        for key, name in TABS:
            style = "found" if name == self.NAME else ""
            text = f"{key} {name.capitalize()}" if named else key
            spans += [Span(text, style, f"app.tab('{name}')"), Span("  " if named else " ")]
        return tuple(spans[:-1]) + line(" ")

    def _command_line(self) -> Line:
        app = self.watch_app
        if app.message:
            text, style = app.message
            return fit(line((f" {text}", style)), self.size.width, app.signs.more)
        return fit(line((" $ ", "dim"), self.command), self.size.width, app.signs.more)

    def _keys_line(self) -> Line:
        width = self.size.width
        fixed = line(Span("? Help", "", "app.help"), "  ", Span("q Quit", "", "app.leave"), " ")
        room, spans = width - width_of(fixed) - 2, [Span(" ")]
        screens = (("1-4", "Screens", ""),) if width < NAMED_TABS else ()
        for key, word, action in (*screens, *self.HINTS):
            text = f"{key} {word}"
            if width_of(text) + 2 <= room:
                spans += [Span(key, "key", action), Span(f" {word}", "", action), Span("  ")]
                room -= width_of(text) + 2
        return spread(tuple(spans), fixed, width)

    # -- what screens show and select --------------------------------------------------------

    @property
    def command(self) -> str:
        """The command line that shows the same."""
        return self.watch_app.command_of("watch")

    def selected(self) -> RunSelection | None:
        """Return the runs that a verb would change, None if none is selected."""
        return None

    def current_run(self) -> RunKey | None:
        """Return the run whose logs and reasons are asked for."""
        return None

    def focused_pane(self) -> Pane | None:
        """Return the pane with the keyboard focus."""
        found: Widget | None = self.focused
        return found if isinstance(found, Pane) else None

    # -- actions -----------------------------------------------------------------------------

    def action_verb(self, name: str) -> None:
        """Preview a verb for the selected runs."""
        found = self.selected()
        if found is None:
            self.watch_app.say(f"{name}: first select a run, a study or a group of failures")
            return
        self.app.push_screen(VerbDialog(Verb(name), found))

    def action_logs(self) -> None:
        """Show the output of the selected run."""
        key = self.current_run()
        if key is None:
            self.watch_app.say("logs: first select a run")
        else:
            self.watch_app.open_logs(key)

    def action_why(self) -> None:
        """Explain the state of the selected run."""
        key = self.current_run()
        if key is None:
            self.watch_app.say("why: first select a run")
        else:
            self.watch_app.explain(str(key))

    def action_back(self) -> None:
        """Return to the screen before."""
        if len(self.app.screen_stack) > 2:
            self.app.pop_screen()

    def request(self, name: str, work: Work) -> None:
        """Start ``work``; if the last work of this name still runs, start it afterwards.

        Of several requests that wait, only the last is kept.
        """
        if name in self._working:
            self._waiting[name] = work
            return
        self._working.add(name)
        start(self, partial(self._work, name, work))

    async def _work(self, name: str, work: Work | None) -> None:
        try:
            while work is not None:
                await work()
                work = self._waiting.pop(name, None)
        finally:
            self._working.discard(name)
