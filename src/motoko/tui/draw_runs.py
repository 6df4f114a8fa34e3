"""Draw a list of runs: pure functions from its rows to lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from motoko.tui.formats import number, seconds_text
from motoko.tui.signs import STYLES
from motoko.tui.text import Column, Row, Span, fit, line, pad, safe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from motoko.core.states import Lifecycle
    from motoko.tui.draw_campaign import Look
    from motoko.tui.text import Line
    from motoko.views.campaign import Campaign
    from motoko.views.runs import RunRow

FIRST: Final = ("run", "state", "tries", "duration")
LAST: Final = ("when", "text")
VALUE: Final = 14  # cells of a parameter or field at most
# The columns of constraints by which the columns of the list are sorted.
SORTED: Final[Mapping[str, str]] = {"run": "id", "tries": "attempt", "when": "ended", "text": ""}


def state_span(lifecycle: Lifecycle, state: str, look: Look) -> Span:
    """Return the sign of a lifecycle state with the state that constraints select on."""
    return Span(f"{look.signs.state(lifecycle)} {safe(state, 20)}", STYLES[lifecycle])


def columns_of(rows: Sequence[RunRow], known: Sequence[str]) -> list[str]:
    """Return the columns of parameters and fields: the known ones, then new ones of the rows."""
    own = [name for row in rows for name in row.job]
    fields = [name for row in rows for name in row.fields]
    return list(dict.fromkeys([*known, *own, *fields]))


def cell(row: RunRow, name: str, look: Look) -> str | Span:
    """Return a cell of a run."""
    if name == "run":
        return str(row.key)
    if name == "state":
        return state_span(row.lifecycle, row.state, look)
    if name == "tries":
        return str(row.attempt or "")
    if name == "duration":
        return seconds_text(row.duration)
    if name == "when":
        return look.ago(row.ended or row.started or row.created)
    if name == "text":
        return Span(safe(row.text), "dim")
    return safe(row.job.get(name, row.fields.get(name, "")), 60)


def table_columns(values: Sequence[str]) -> list[Column]:
    """Return the columns of a list with these parameters and fields."""
    right = ("tries", "duration", "when")
    names = [*FIRST, *values, *LAST]
    return [Column(n, n in right or n in values, VALUE if n in values else 22) for n in names]


def head_cells(columns: Sequence[Column], sort: str, look: Look) -> list[Span]:
    """Return the titles; that of the sorted column has an arrow."""
    name, sign = sort.removeprefix("-"), look.signs.down if sort.startswith("-") else look.signs.up
    found = []
    for column in columns:
        own = SORTED.get(column.title, column.title)
        arrow = sign if own and own == name else ""
        action = f"screen.sort_by({own!r})" if own and own.isidentifier() else ""
        found.append(Span(column.title + arrow, "head", action))
    return found


def counts_tabs(campaign: Campaign, study: str | None, look: Look) -> Line:
    """Return the studies, the shown one marked, and its runs by state."""
    spans: list[Span] = [Span(" ")]
    for name in (None, *(one.name for one in campaign.studies)):
        style = "found" if name == study else ""
        shown = "all" if name is None else safe(name, 20)
        action = "screen.study('')" if name is None else f"screen.study({name!r})"
        spans += [Span(f" {shown} ", style, action)]
    counts: dict[str, int] = {}
    for one in campaign.studies:
        if study in (None, one.name):
            for state, runs in one.lifecycles.items():
                counts[state] = counts.get(state, 0) + runs
    spans.append(Span("  "))
    for state, style in STYLES.items():
        if counts.get(state):
            text = f"{look.signs.state(state)} {number(counts[state])}"
            spans += [Span(text, style, f"screen.show_state('{state.value}')"), Span("  ")]
    return tuple(spans)


def preview(row: RunRow, width: int, look: Look) -> tuple[Line, list[Row]]:
    """Return the head and the lines of one run beside the list."""
    head = line((f" {row.key}  ", "head"), state_span(row.lifecycle, row.state, look))
    pairs = [("run name", safe(row.run_name)), ("attempts", str(row.attempt or ""))]
    if row.exit_code is not None:
        pairs.append(("exit code", str(row.exit_code)))
    pairs += [("created", look.ago(row.created)), ("started", look.ago(row.started))]
    pairs += [("ended", look.ago(row.ended)), ("duration", seconds_text(row.duration))]
    found = [_pair(name, value, width, look) for name, value in pairs if value]
    for title, values in (("Parameters", row.job), ("Fields", row.fields)):
        if values:
            found += [Row(()), Row(line((f" {title}", "bold")))]
            found += [_pair(safe(n, 40), safe(v, 100), width, look) for n, v in values.items()]
    if row.text:
        found += [Row(()), Row(line((" Why", "bold")))]
        found += [Row(line(f"  {part}")) for part in _pieces(safe(row.text), width - 3)]
    return head, found


def _pair(name: str, value: str, width: int, look: Look) -> Row:
    text = line("  ", (pad(name, 14, mark=look.signs.more), "dim"), " ", value)
    return Row(fit(text, width, look.signs.more))


def _pieces(text: str, width: int) -> list[str]:
    from motoko.tui.text import wrapped

    return wrapped(text, width)
