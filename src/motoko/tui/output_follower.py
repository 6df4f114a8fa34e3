"""The lines of a run's output as they arrive, as many as memory allows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from motoko.views.output import read_output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from motoko.core.records import RunKey
    from motoko.views.connection import ReadConnection
    from motoko.views.output import OutputView

KEPT: Final = 20_000  # lines


class OutputFollower:
    """Reads one stream of a run further at each ``read``. Call it from one thread at a time."""

    def __init__(self, key: RunKey, stream: str) -> None:
        self.key = key
        self.stream = stream
        self.lines: Sequence[str] = ()
        self.note = "reading ..."
        self.ended = False
        self._position: int | None = None
        self._attempt: int | None = None

    def read(self, connection: ReadConnection) -> bool:
        """Read what the output has gained; return whether anything changed."""
        part = read_output(
            connection, self.key, self.stream, position=self._position, follows=self._attempt
        )
        before = self.note, self.ended
        changed = bool(part.text) or part.restarted
        if changed:
            self.lines = self._joined(part)
        self._position, self._attempt, self.ended = part.position, part.attempt, part.ended
        self.note = self._note(part)
        if part.attempt is None:
            self._position = None
        return changed or before != (self.note, self.ended)

    def _joined(self, part: OutputView) -> Sequence[str]:
        if part.restarted:
            return part.text.split("\n")
        lines = [*self.lines] or [""]
        first, *rest = part.text.split("\n")
        return [*lines[:-1], lines[-1] + first, *rest][-KEPT:]

    def _note(self, part: OutputView) -> str:
        if part.note:
            return part.note
        attempt = f"attempt {part.attempt}" if part.attempt else ""
        if not part.size and part.ended:
            return f"{attempt}, empty"
        size = f"{part.size:,} bytes"
        skipped = f", the first {part.skipped:,} left out" if part.skipped else ""
        return f"{attempt}, {size}{skipped}" + ("" if part.ended else ", still growing")
