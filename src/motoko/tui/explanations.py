"""Texts that screens show: the keys, and explanations of ``motoko why``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from motoko.errors import MotokoError
from motoko.operations.why import Explainer
from motoko.operations.why_text import answer_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from motoko.views.campaign import Need
    from motoko.views.connection import ReadConnection

HELP: Final = (
    "1 2 3 4      Campaign, Runs, Events, Failures",
    "Tab          the next pane            Enter   open the row",
    "arrows, PgUp, PgDn, Home, End         Esc     back",
    "",
    "r retry      execute failed runs again",
    "c cancel     cancel runs that have not ended",
    "h hold       start no more of these runs     u   release them",
    "l logs       the output of a run             w   why it is in its state",
    "t            times of day, or how long ago",
    "",
    "Runs         /  filter, for example state = FAILED and x > 0.5; right arrow completes",
    "             s  sort by the next column      S   the other order",
    "             left, right  one study, or all  n   show new matches",
    "             Space  select a run             a   select all that match",
    "             J, K  select with the next      Esc forget the selection",
    "Logs         o  stdout    e  stderr          z   wrap",
    "             /  search    n, N  next         f   follow the end",
    "",
    "Each command first shows its effect, and asks.",
    "The line above the keys is the command line that shows or does the same.",
    "States: + or a check: finished, x: failed, * or a dot: running, ~ or a clock: queued,",
    "o: created, ?: lost, -: cancelled. q quits; nothing else stops.",
)


def reasons(word: str, run_name: str) -> Callable[[ReadConnection], Sequence[str]]:
    """Return a function that reads what ``motoko why`` prints."""

    def read(connection: ReadConnection) -> Sequence[str]:
        with connection.read() as session:
            if session is None:
                raise MotokoError("the workflow has no database yet", hint="`motoko run` makes it.")
            explainer = Explainer(connection.workflow, session)
            now = connection.workflow.store.now()
            answers = (
                explainer.word(word, run_name) if word else [explainer.workflow_answer(run_name)]
            )
            return [text for answer in answers for text in (*answer_lines(answer, now), "")]

    return read


def need_text(need: Need) -> Sequence[str]:
    """Return a need in full."""
    runs = [f"{need.number:,} runs", ""] if need.number else []
    advice = ["", "This acts on it, or explains it:", f"  {need.command}"] if need.command else []
    return [need.text, *runs, *advice]
