"""Draw events and groups of failures: pure functions from records to lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from motoko.printable import join_names
from motoko.tui.charts import sparkline
from motoko.tui.formats import number
from motoko.tui.text import Column, Row, Span, fit, line, row_line, safe, widths_of, wrapped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from motoko.tui.draw_campaign import Look
    from motoko.tui.text import Line
    from motoko.views.campaign import Campaign, EventView
    from motoko.views.failures import FailureGroup

EVENT: Final = (
    Column("event", most=24),
    Column("fired", right=True),
    Column("in flight", right=True),
    Column("condition", most=44),
    Column("waits for", most=200),
)
GROUP: Final = (
    Column("runs", right=True),
    Column("study", most=18),
    Column("cause", most=14),
    Column("last", right=True, most=19),
    Column("over time", most=24),
    Column("last line of stderr", most=300),
)


def event_rows(campaign: Campaign, width: int, look: Look) -> tuple[Sequence[Line], list[Row]]:
    """Return the head and a row for each event."""
    cells: list[list[str | Span]] = [
        [
            safe(event.id),
            number(event.fired),
            number(event.in_flight) if event.in_flight else "",
            safe(event.condition),
            Span(safe(event.waits), "dim"),
        ]
        for event in campaign.events
    ]
    head, rows = _table(EVENT, cells, [event.id for event in campaign.events], width, look)
    empty = " No event is registered. An orchestrator registers them when it starts."
    return head, rows or [Row(line((empty, "dim")))]


def event_details(
    event: EventView | None, width: int, look: Look
) -> tuple[Sequence[Line], list[Row]]:
    """Return an event in full."""
    if event is None:
        return (), []
    facts = [
        ("condition", event.condition),
        ("action", event.action),
        ("matching", f"{event.matching:,} runs now" + (", once for each" if event.once else "")),
        ("waits for", event.waits),
    ]
    rows = []
    for name, value in facts:
        for n, part in enumerate(wrapped(safe(value, 1000), width - 14)):
            rows.append(Row(line((f" {'' if n else name:<11} ", "dim"), part)))
    head = [line((look.signs.rule * width, "dim")), line((f" {safe(event.id)}", "head"))]
    return head, rows


def group_rows(campaign: Campaign, width: int, look: Look) -> tuple[Sequence[Line], list[Row]]:
    """Return the head and a row for each group of failures."""
    cells: list[list[str | Span]] = [
        [
            Span(number(group.number), "failed"),
            safe(group.study),
            group.cause,
            look.ago(group.last),
            Span(sparkline(group.counts, 24, look.signs), "failed"),
            safe(group.text),
        ]
        for group in campaign.failures
    ]
    head, rows = _table(GROUP, cells, [group.id for group in campaign.failures], width, look)
    if campaign.failures_left_out:
        text = f" {campaign.failures_left_out:,} older failed runs are in no group"
        rows.append(Row(line((text, "dim"))))
    sign = line((" No run has failed.", "finished"))
    return head, rows or [Row(sign)]


def group_details(
    group: FailureGroup | None, stderr: Sequence[str], width: int, look: Look
) -> tuple[Sequence[Line], list[Row]]:
    """Return a group in full, with the end of the standard error of its newest run."""
    if group is None:
        return (), []
    names = join_names(group.runs, len(group.runs))
    rest = group.number - len(group.runs)
    more = f" and {rest:,} more" if rest > 0 else ""
    span = f"first {look.ago(group.first)}, last {look.ago(group.last)}"
    head = [
        line((look.signs.rule * width, "dim")),
        fit(line((f" {names}{more}", "bold"), (f"  {span}", "dim")), width, look.signs.more),
        line((f" stderr of {group.runs[0]}" if group.runs else "", "head")),
    ]
    rows = [Row(fit(line(f" {text.expandtabs(8)}"), width, look.signs.more)) for text in stderr]
    return head, rows or [Row(line((" empty", "dim")))]


def _table(
    columns: Sequence[Column],
    cells: Sequence[Sequence[str | Span]],
    keys: Sequence[str],
    width: int,
    look: Look,
) -> tuple[Sequence[Line], list[Row]]:
    widths = widths_of(columns, cells)
    titles = row_line(columns, widths, [column.title for column in columns], style="head")
    more = look.signs.more
    rows = [
        Row(fit((Span(" "), *row_line(columns, widths, row, mark=more)), width, more), key)
        for row, key in zip(cells, keys, strict=True)
    ]
    return [fit((Span(" "), *titles), width, more)], rows
