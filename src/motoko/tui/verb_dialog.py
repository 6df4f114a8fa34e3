"""The dialog before a verb: its effect, and the equal command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final, cast

from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen

from motoko.errors import MotokoError
from motoko.operations.verbs import Verb, command_line, preview_verb
from motoko.printable import join_names
from motoko.tui.pane import Lines
from motoko.tui.text import cut, line, safe
from motoko.tui.workers import start

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from motoko.operations.bulk_edit import RunSelection
    from motoko.operations.verbs import VerbPreview
    from motoko.tui.text import Line
    from motoko.tui.watcher import Watcher
    from motoko.views.connection import ReadConnection

WIDTH: Final = 72


class VerbDialog(ModalScreen[None]):
    """Asks once. Enter performs a verb that destroys nothing; cancelling needs a ``y``."""

    BINDINGS: ClassVar = [
        Binding("y", "perform", show=False),
        Binding("enter", "confirm", show=False),
        Binding("escape,n,q", "dismiss_dialog", show=False),
    ]
    DEFAULT_CSS = """
    VerbDialog { align: center middle; background: transparent; }
    VerbDialog Vertical {
        width: 76; height: auto; border: round ansi_default; padding: 0 1;
        background: ansi_default;
    }
    VerbDialog.-ascii Vertical { border: ascii ansi_default; }
    """

    def __init__(self, verb: Verb, selection: RunSelection) -> None:
        super().__init__()
        self.verb = verb
        self.selection = selection
        self.preview: VerbPreview | None = None
        self._problem = ""

    def compose(self) -> ComposeResult:
        """Yield the text."""
        with Vertical():
            yield Lines(id="text")

    @property
    def watch_app(self) -> Watcher:
        """The application."""
        return cast("Watcher", self.app)

    def on_mount(self) -> None:
        """Read the preview."""
        self.set_class(not self.watch_app.signs.braille, "-ascii")
        self._draw()
        start(self, self._read)

    async def _read(self) -> None:
        try:
            self.preview = await self.watch_app.views.query(self._preview)
        except MotokoError as error:
            self._problem = str(error)
        self._draw()

    def _preview(self, connection: ReadConnection) -> VerbPreview:
        with connection.read() as session:
            if session is None:
                raise MotokoError("the workflow has no database yet", hint="Start it first.")
            return preview_verb(connection.workflow, self.verb, self.selection)

    def _draw(self) -> None:
        self.query_one("#text", Lines).show(self.lines())

    def lines(self) -> list[Line]:
        """Return the text of the dialog."""
        command = command_line(self.verb, self.selection)
        found: list[Line] = [line((self.verb.value.capitalize(), "title")), ()]
        if self._problem:
            found += [
                line((cut(safe(text), WIDTH), "failed")) for text in self._problem.split("\n")
            ]
        elif self.preview is None:
            found.append(line(("reading which runs it would change ...", "dim")))
        else:
            found += self._effect(self.preview)
        found += [(), line(("$ ", "dim"), cut(safe(command), WIDTH - 2)), ()]
        if self.preview is None or not self.preview.number:
            return [*found, line(("Esc", "key"), " back")]
        keys = "y" if self.needs_y else "Enter"
        return [*found, line((keys, "key"), f" {self.verb.value}   ", ("Esc", "key"), " back")]

    def _effect(self, preview: VerbPreview) -> list[Line]:
        found = [line((cut(preview.text, WIDTH), "warning" if self.needs_y else ""))]
        for study, counts in list(preview.counts.items())[:6]:
            text = ", ".join(f"{number:,} {state}" for state, number in counts.items())
            found.append(line((cut(f"  {safe(study)}: {safe(text)}", WIDTH), "dim")))
        names = join_names(preview.first, len(preview.first))
        rest = preview.number - len(preview.first)
        more = f" and {rest:,} more" if rest > 0 else ""
        if names:
            found.append(line((cut(f"  {names}{more}", WIDTH), "dim")))
        return found

    @property
    def needs_y(self) -> bool:
        """Whether Enter does not suffice."""
        return self.verb is Verb.CANCEL

    def action_confirm(self) -> None:
        """Perform a verb that destroys nothing."""
        if not self.needs_y:
            self.action_perform()

    def action_perform(self) -> None:
        """Perform the verb."""
        if self.preview is not None and self.preview.number:
            self.watch_app.perform(self.verb, self.selection)
            self.dismiss()
        elif self.preview is not None or self._problem:
            self.dismiss()

    def action_dismiss_dialog(self) -> None:
        """Change nothing."""
        self.dismiss()
