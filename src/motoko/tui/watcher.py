"""The part of the application that its screens use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from motoko.core.records import RunKey
    from motoko.operations.bulk_edit import RunSelection
    from motoko.operations.verbs import Verb
    from motoko.tui.draw_campaign import Look
    from motoko.tui.signs import Signs
    from motoko.views.campaign import Need
    from motoko.views.live import Latest, LiveViews


class Watcher(Protocol):
    """``message``: a text with its style that replaces the command line."""

    views: LiveViews
    run_name: str
    signs: Signs
    latest: Latest
    message: tuple[str, str] | None

    @property
    def look(self) -> Look:
        """How to draw at this time."""

    def say(self, text: str, style: str = "warning") -> None:
        """Show a message."""

    def command_of(self, command: str, *words: str, where: str = "") -> str:
        """Return a command line about this run name."""

    def action_tab(self, name: str) -> None:
        """Switch to a screen."""

    def show_runs(self, *, study: str | None = None, where: str = "") -> None:
        """Show a list of runs."""

    def show_group(self, group: str) -> None:
        """Show a group of failures."""

    def show_target(self, text: str) -> None:
        """Show the first of some runs."""

    def open_run(self, key: RunKey) -> None:
        """Show a run."""

    def open_logs(self, key: RunKey) -> None:
        """Show the output of a run."""

    def explain(self, word: str) -> None:
        """Explain a run, a study, an event or the workflow."""

    def explain_need(self, need: Need) -> None:
        """Show a need in full."""

    def perform(self, verb: Verb, selection: RunSelection) -> None:
        """Perform a verb in a thread."""
