"""Draw one run: pure functions from its records to lines."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

from motoko.core.states import Lifecycle
from motoko.printable import printable, value_text
from motoko.tui.charts import plot
from motoko.tui.draw_runs import state_span
from motoko.tui.formats import seconds_text
from motoko.tui.signs import STYLES
from motoko.tui.text import Row, Span, fit, line, pad, safe, width_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from motoko.operations.run_details import AttemptDetails
    from motoko.tui.draw_campaign import Look
    from motoko.tui.text import Line
    from motoko.views.run import RunView, Series

PLOT_ROWS: Final = 4
PLOTS: Final = 60  # cells of a plot at most
NAME: Final = 12


def head_line(view: RunView, look: Look) -> Line:
    """Return the name of a run with its state."""
    row = view.row
    spans = [Span(f" {row.key}  ", "title"), state_span(row.lifecycle, row.state, look)]
    if row.exit_code is not None:
        spans.append(Span(f"  exit {row.exit_code}"))
    if row.duration is not None:
        spans.append(Span(f"  {seconds_text(row.duration)}"))
    if row.state != row.lifecycle.value:
        spans.append(Span(f"  ({row.lifecycle.value})", "dim"))
    return (*spans, Span(f"  run name {safe(row.run_name)}", "dim"))


def run_rows(view: RunView, width: int, look: Look) -> list[Row]:
    """Return everything about a run but its output."""
    found = [
        *_why(view, width),
        *_attempts(view, width, look),
        *_values(view, width),
        *_quantities(view, width, look),
        *_files(view, width),
        *_history(view, look),
    ]
    return [Row(fit(one, width, look.signs.more)) for one in found]


def _title(text: str) -> Line:
    return line((f" {text}", "head"))


def _why(view: RunView, width: int) -> Iterable[Line]:
    from motoko.tui.text import wrapped

    yield _title("Why")
    for text in view.why[1:]:
        yield from (line(f" {part}") for part in wrapped(printable(text), width - 2))


def _attempts(view: RunView, width: int, look: Look) -> Iterable[Line]:
    attempts = view.attempts
    if not attempts:
        return
    yield ()
    yield _title("Attempts")
    starts = [one.provenance.claimed or one.provenance.started for one in attempts]
    first = min((at for at in starts if at is not None), default=None)
    ends = [one.provenance.ended or view.at for one in attempts]
    last = max(ends)
    room = max(10, min(50, width - 40))
    for attempt in attempts:
        yield _attempt(attempt, first, last, room, view, look)


def _attempt(
    attempt: AttemptDetails, first: float | None, last: float, room: int, view: RunView, look: Look
) -> Line:
    found = attempt.provenance
    outcome = found.outcome or view.row.lifecycle.value
    lifecycle = Lifecycle(outcome) if outcome in Lifecycle.__members__ else Lifecycle.LOST
    bar = attempt_bar(
        (found.claimed, found.started, found.ended or view.at), first, last, room, look
    )
    sign = look.signs.state(lifecycle)
    cause = f", {safe(attempt.cause, 60)}" if attempt.cause else ""
    text = f" {seconds_text(attempt.duration)} {outcome}{cause}"
    host = f" on {safe(found.host, 40)}" if found.host else ""
    number = f" {found.number:>3} "
    return (Span(number, "dim"), *bar, Span(f" {sign}", STYLES[lifecycle]), Span(text + host))


def attempt_bar(
    times: tuple[float | None, float | None, float],
    first: float | None,
    last: float,
    room: int,
    look: Look,
) -> Line:
    """Return a bar of an attempt on the time line of all: queued, then running."""
    claimed, started, ended = times
    claimed = claimed if claimed is not None else started
    if first is None or claimed is None:
        return (Span(" " * room),)
    span = max(last - first, 1e-9)
    places = [round((at - first) / span * room) for at in (claimed, started or ended, ended)]
    if places[2] <= places[0]:  # at least one cell
        places[0] = min(places[0], room - 1)
        places[1], places[2] = places[0], places[0] + 1
    elif started is not None and places[2] <= places[1]:
        places[1] = places[2] - 1
    places = [max(0, min(room, place)) for place in places]
    queued, running = (right - left for left, right in pairwise(places))
    fill = look.signs.fill
    return (
        Span(" " * places[0]),
        Span(fill["queued"] * queued, "queued"),
        Span(fill["running"] * running, "running"),
        Span(" " * (room - places[2])),
    )


def _values(view: RunView, width: int) -> Iterable[Line]:
    for title, values in (("Parameters", view.row.job), ("Fields", view.row.fields)):
        if values:
            yield ()
            yield _title(title)
            yield from value_lines({safe(k, 40): safe(v, 200) for k, v in values.items()}, width)


def value_lines(values: dict[str, str], width: int) -> Iterable[Line]:
    """Yield names with values, several in a line if they are short."""
    texts = [
        (f" {pad(name, NAME) if len(name) < NAME else name} ", v) for name, v in values.items()
    ]
    cell = max((width_of(name + value) for name, value in texts), default=0) + 2
    columns = max(1, min(3, width // max(cell, 1)))
    for start in range(0, len(texts), columns):
        spans: list[Span] = []
        for name, value in texts[start : start + columns]:
            spans += [Span(name, "dim"), Span(pad(value, max(0, cell - width_of(name))))]
        yield tuple(spans)


def _quantities(view: RunView, width: int, look: Look) -> Iterable[Line]:
    if view.series:
        yield ()
        yield _title("Quantities")
    for series in view.series:
        last = value_text(series.last)
        yield line(
            f" {safe(series.name, 40)}  ", (f"{series.number:,} points, last {safe(last)}", "dim")
        )
        yield from _plot(series, min(PLOTS, width - 14), look)


def _plot(series: Series, width: int, look: Look) -> Iterable[Line]:
    if len(series.values) < 2:
        return
    rows = plot(series.steps, series.values, width, PLOT_ROWS, look.signs)
    labels = [f"{max(series.values):.4g}", *[""] * (PLOT_ROWS - 2), f"{min(series.values):.4g}"]
    for label, text in zip(labels, rows, strict=True):
        yield line((f"{label:>11} {look.signs.side}", "dim"), (text, "running"))
    low, high = f"{min(series.steps):g}", f"{max(series.steps):g}"
    yield line((f"{'':13}{low}{high.rjust(max(1, width - len(low)))}", "dim"))


def _files(view: RunView, width: int) -> Iterable[Line]:
    yield ()
    yield _title("Files")
    directory = safe(str(view.details.directory), 500)
    for start in range(0, len(directory), max(20, width - 2)):
        yield line(f" {directory[start : start + max(20, width - 2)]}")


def _history(view: RunView, look: Look) -> Iterable[Line]:
    yield ()
    yield _title("History")
    if view.history_left_out:
        yield line((f" {view.history_left_out:,} earlier entries", "dim"))
    for entry in view.history:
        lifecycle = Lifecycle.__members__.get(entry.state, Lifecycle.FINISHED)
        at = look.ago(entry.at)
        sign = look.signs.state(lifecycle)
        yield line(
            (f" {at:>10} ", "dim"),
            (f"{sign} {safe(entry.state, 30)}", STYLES[lifecycle]),
            f"  {safe(entry.cause, 120)}",
            (f"  attempt {entry.attempt}" if entry.attempt else "", "dim"),
        )


def log_rows(texts: Sequence[str], width: int, *, wrap: bool, find: str = "") -> list[Row]:
    """Return the lines of an output; those that contain ``find`` are marked."""
    rows: list[Row] = []
    for text in texts:
        parts = pieces(text, width) if wrap else [text]
        rows += [Row(marked(part, find)) for part in parts]
    return rows


def pieces(text: str, width: int) -> list[str]:
    """Return a text in parts that fill at most ``width`` cells."""
    if width_of(text) <= width:
        return [text]
    from rich.cells import chop_cells

    return chop_cells(text, max(1, width))


def marked(text: str, find: str) -> Line:
    """Return a text with each occurrence of ``find`` marked."""
    text = text.expandtabs(8)
    if not find:
        return (Span(text),)
    spans: list[Span] = []
    low, wanted, at = text.lower(), find.lower(), 0
    while (found := low.find(wanted, at)) >= 0 and len(low) == len(text):
        spans += [Span(text[at:found]), Span(text[found : found + len(find)], "found")]
        at = found + len(find)
    return (*spans, Span(text[at:]))
