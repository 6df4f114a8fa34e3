"""Complete a constraint: the names of columns and the states of runs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from textual.suggester import Suggester

from motoko.core.records import RUN_COLUMNS
from motoko.core.states import Lifecycle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

OPERATORS: Final = ("and", "or", "not", "in")
_WORD: Final = re.compile(r"[\w.]+$")
_STATE: Final = re.compile(
    r"\b(?:state|lifecycle|outcome)\s*(?:!?[=~]|(?:not\s+)?in\s*\([^)]*)\s*$"
)


def completed(text: str, columns: Iterable[str], states: Iterable[str]) -> str | None:
    """Return a text with its last word completed, None if no name begins with it.

    After ``state =`` the names are those of states, elsewhere those of columns.
    """
    found = _WORD.search(text)
    word = found.group() if found else ""
    before = text[: len(text) - len(word)]
    after_state = _STATE.search(before) is not None
    if not word:
        return None
    known = states if after_state else [*columns, *OPERATORS]
    matches = [name for name in known if name.lower().startswith(word.lower()) and name != word]
    return before + matches[0] if matches else None


class ConstraintSuggester(Suggester):
    """Suggests the rest of a constraint's last word."""

    def __init__(self, names: Callable[[], tuple[Iterable[str], Iterable[str]]]) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._names = names

    async def get_suggestion(self, value: str) -> str | None:
        """Return the completed text."""
        columns, labels = self._names()
        found = completed(value, [*columns, *RUN_COLUMNS], [*Lifecycle, *labels])
        # A suggestion extends the text as it is written.
        return found if found is not None and found.startswith(value) else None


def error_lines(message: str, hint: str | None, text: str) -> tuple[str, list[str]]:
    """Return the line with the caret below ``text``, and the error in lines without the text."""
    first, *rest = message.split("\n")
    caret = next((line for line in rest if line.strip() == "^"), "")
    shown = first.split(f"{text!r}, ", 1)[-1]
    return caret[4:], [shown, *([hint] if hint else [])]
