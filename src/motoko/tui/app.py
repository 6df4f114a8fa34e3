"""The application: it follows the views of one run name, and opens the screens."""

from __future__ import annotations

import asyncio
from functools import partial
from shlex import quote
from typing import TYPE_CHECKING, ClassVar

from textual.app import App
from textual.binding import Binding

from motoko.core.records import RunKey
from motoko.errors import MotokoError, UnknownRunError
from motoko.operations.verbs import perform
from motoko.tui.campaign_screen import CampaignScreen
from motoko.tui.draw_campaign import Look
from motoko.tui.explanations import HELP, need_text, reasons
from motoko.tui.screen import WatchScreen
from motoko.tui.text import safe
from motoko.tui.text_screen import TextScreen
from motoko.tui.workers import start
from motoko.views.live import Latest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from textual.screen import Screen

    from motoko.api.workflow import Workflow
    from motoko.operations.bulk_edit import RunSelection
    from motoko.operations.verbs import Verb, VerbResult
    from motoko.tui.signs import Signs
    from motoko.views.campaign import Need
    from motoko.views.live import LiveViews

CAUSE = "motoko watch"
TICK = 1.0  # seconds between two looks at the age of the data
MESSAGE = 8.0  # seconds that a message replaces the command line


class WatchApp(App[int]):
    """Watches one run name. ``open_writer`` opens the workflow for a verb, in a thread."""

    BINDINGS: ClassVar = [
        Binding("1", "tab('campaign')", show=False),
        Binding("2", "tab('runs')", show=False),
        Binding("3", "tab('events')", show=False),
        Binding("4", "tab('failures')", show=False),
        Binding("question_mark", "help", show=False),
        Binding("q", "leave", show=False),
        Binding("ctrl+c,ctrl+q", "leave(True)", show=False, priority=True),
    ]
    ENABLE_COMMAND_PALETTE = False
    CSS = "WatchScreen { background: ansi_default; color: ansi_default; }"

    def __init__(
        self,
        views: LiveViews,
        open_writer: Callable[[], AbstractContextManager[Workflow]],
        run_name: str,
        signs: Signs,
        signals: Iterable[int] = (),
    ) -> None:
        super().__init__(ansi_color=True)
        self.views = views
        self.run_name = run_name
        self.signs = signs
        self.latest = Latest()
        self.absolute = False
        self.message: tuple[str, str] | None = None
        self._open_writer = open_writer
        self._said = 0.0
        self._performing = 0
        self._signals = signals
        self._clock = views.workflow.store.clock

    # -- following ---------------------------------------------------------------------------

    def on_mount(self) -> None:
        """Show the first screen, and follow the workflow; exit on signals."""
        loop = asyncio.get_running_loop()
        for number in self._signals:
            loop.add_signal_handler(number, self.exit, 128 + number)
        self.push_screen(CampaignScreen())
        start(self, self.views.run)
        start(self, self._follow)
        self.set_interval(TICK, self._tick)

    async def _follow(self) -> None:
        with self.views.watch(self.run_name) as watch:
            while True:
                self.latest = await watch.newer(self.latest.number)
                self._update()

    def _update(self) -> None:
        for screen in reversed(self.screen_stack):
            if isinstance(screen, WatchScreen):
                screen.update()
                return

    def _tick(self) -> None:
        """Draw the age of old data; end a message."""
        if self.message and self._clock.monotonic() - self._said > MESSAGE:
            self.message = None
            self._update()
        campaign = self.latest.campaign
        if campaign is None or self.views.workflow.store.now() - campaign.at > TICK:
            self._update()

    @property
    def look(self) -> Look:
        """How to draw at this time."""
        return Look(self.signs, self.views.workflow.store.now(), self.absolute)

    def say(self, text: str, style: str = "warning") -> None:
        """Show a message instead of the command line for some seconds."""
        self.message = safe(text), style
        self._said = self._clock.monotonic()
        self._update()

    def command_of(self, command: str, *words: str, where: str = "") -> str:
        """Return a command line about this run name."""
        found = ["motoko", command, *words]
        if where.strip():
            found += ["--where", quote(where.strip())]
        return " ".join([*found, "--run_name", quote(self.run_name)])

    # -- screens -----------------------------------------------------------------------------

    def action_tab(self, name: str) -> None:
        """Switch to one of the screens with a key of its own."""
        while len(self.screen_stack) > 2:
            self.pop_screen()
        self.switch_screen(self._tab_screen(name))

    def _tab_screen(self, name: str) -> Screen[None]:
        if not self.is_screen_installed(name):
            self.install_screen(_make_tab(name), name)
        return self.get_screen(name)

    def show_runs(self, *, study: str | None = None, where: str = "") -> None:
        """Show the runs of a study, or those that match."""
        from motoko.tui.runs_screen import RunsScreen

        self.action_tab("runs")
        screen = self.get_screen("runs")
        assert isinstance(screen, RunsScreen)
        screen.ask(study=study, where=where)

    def show_group(self, group: str) -> None:
        """Show a group of failures."""
        from motoko.tui.failures_screen import FailuresScreen

        self.action_tab("failures")
        screen = self.get_screen("failures")
        assert isinstance(screen, FailuresScreen)
        screen.select(group)

    def show_target(self, text: str) -> None:
        """Show the first of some runs, named as commands name them."""
        from motoko.core.run_targets import RunTarget

        try:
            target = RunTarget.parse(text)
        except UnknownRunError:
            return
        if target.ranges:
            self.open_run(RunKey(target.study, target.ranges[0][0]))

    def open_run(self, key: RunKey) -> None:
        """Show a run."""
        from motoko.tui.run_screen import RunScreen

        self.push_screen(RunScreen(key))

    def open_logs(self, key: RunKey) -> None:
        """Show the output of a run."""
        from motoko.tui.logs_screen import LogsScreen

        self.push_screen(LogsScreen(key))

    def explain(self, word: str) -> None:
        """Explain a run, a study or an event, without a word what the workflow waits for."""
        words = [quote(word)] if word else []
        command = self.command_of("why", *words) if "." not in word else f"motoko why {word}"
        title = f"Why {safe(word)}" if word else "What the workflow waits for"
        self.push_screen(TextScreen(title, safe(command), read=reasons(word, self.run_name)))

    def explain_need(self, need: Need) -> None:
        """Show a need in full with what to do."""
        text = need_text(need)
        self.push_screen(TextScreen(safe(need.subject), safe(need.command), text))

    def action_help(self) -> None:
        """Show the keys."""
        if not isinstance(self.screen, TextScreen):
            self.push_screen(TextScreen("Keys", "motoko watch --help", HELP))

    def action_times(self) -> None:
        """Show times of day, or how long ago."""
        self.absolute = not self.absolute
        self._update()

    # -- verbs -------------------------------------------------------------------------------

    def perform(self, verb: Verb, selection: RunSelection) -> None:
        """Perform a verb in a thread, and report its result."""
        self._performing += 1
        self.say(f"{verb}: working ...", "dim")
        start(self, partial(self._perform, verb, selection))

    async def _perform(self, verb: Verb, selection: RunSelection) -> None:
        from anyio.to_thread import run_sync

        def work() -> VerbResult:
            with self._open_writer() as workflow:
                return perform(workflow, verb, selection, CAUSE)

        try:
            result = await run_sync(work)
        except MotokoError as error:
            hint = f" {error.hint}" if error.hint else ""
            self.say(f"{verb} failed: {error.message}{hint}", "failed")
        else:
            problem = f"; {result.problem}" if result.problem else ""
            self.say(f"{verb}: {result.text}{problem}", "warning" if problem else "finished")
        finally:
            self._performing -= 1

    def action_leave(self, at_once: bool = False) -> None:
        """Quit, unless a verb is still working."""
        if self._performing and not at_once:
            self.say("a command is still working; Ctrl-C quits without its result")
            return
        self.exit(0)


def _make_tab(name: str) -> WatchScreen:
    if name == "runs":
        from motoko.tui.runs_screen import RunsScreen

        return RunsScreen()
    if name == "events":
        from motoko.tui.events_screen import EventsScreen

        return EventsScreen()
    if name == "failures":
        from motoko.tui.failures_screen import FailuresScreen

        return FailuresScreen()
    return CampaignScreen()
