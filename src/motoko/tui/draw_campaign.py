"""Draw the campaign: pure functions from its records to lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from motoko.core.states import ACTIVE, Lifecycle
from motoko.operations.reason_text import duration
from motoko.tui.charts import sparkline, state_bar
from motoko.tui.formats import about, ago, ends_text, left_text, number, rate_text, seconds_text
from motoko.tui.signs import STYLES, word
from motoko.tui.text import (
    Column,
    Row,
    Span,
    cut,
    fit,
    line,
    pad,
    row_line,
    safe,
    spread,
    widths_of,
)
from motoko.views.campaign import Activity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from motoko.tui.signs import Signs
    from motoko.tui.text import Line
    from motoko.views.campaign import Campaign, EventView, OrchestratorView, StudyView

OLD: Final = 2.0  # seconds from which the age of the data is shown
TRIED: Final = (Lifecycle.FAILED, Lifecycle.TIMEOUT, Lifecycle.LOST, Lifecycle.CANCELLED)


@dataclass(frozen=True, slots=True)
class Look:
    """How to draw: the signs, the time in seconds since the epoch, absolute times or relative."""

    signs: Signs
    now: float
    absolute: bool = False

    def ago(self, at: float | None) -> str:
        """Return a time as it is shown."""
        return ago(at, self.now, absolute=self.absolute)


# -- the first lines ------------------------------------------------------------------------


def title_line(campaign: Campaign, look: Look) -> Line:
    """Return the name of the workflow and the run name with what its orchestrator does."""
    name = f"{safe(campaign.workflow)} / {safe(campaign.run_name)}"
    parts = [*activity(campaign.orchestrator, look)]
    forecast = ends_text(campaign.total, campaign.at)
    if forecast and campaign.orchestrator.activity in {Activity.RUNNING, Activity.NONE}:
        parts += line(look.signs.dot, forecast)
    if not campaign.served:
        parts += line(look.signs.dot, ("no server", "dim"))
    age = look.now - campaign.at
    if age > OLD:
        parts += line(look.signs.dot, (f"data {duration(age)} old", "warning"))
    return (Span(f" {name}", "title"), Span("  "), *parts)


def activity(found: OrchestratorView, look: Look) -> Line:
    """Return what the orchestrator does, and since when."""
    signs = look.signs.states
    if found.activity is Activity.NONE:
        return line(("no orchestrator", "warning"))
    at = "" if found.since is None else look.ago(found.since)
    if found.activity is Activity.RUNNING:
        span = "" if found.since is None else duration(look.now - found.since)
        since = f"since {at}" if look.absolute else span
        return line((f"{signs[Lifecycle.START]} running", "running"), f" {since}")
    if found.activity is Activity.FINISHED:
        return line((f"{signs[Lifecycle.FINISHED]} finished", "finished"), f" {at}")
    return line((f"{signs[Lifecycle.FAILED]} {found.activity}", "failed"), f" {at}")


def bar_line(campaign: Campaign, width: int, look: Look) -> Line:
    """Return the bar of all runs by state with their numbers."""
    total, counts = campaign.total, lifecycles(campaign.studies)
    active = sum(counts.get(state, 0) for state in ACTIVE)
    texts = [f"{number(total.done)} of {number(total.known)}", f"{total.percent} %"]
    texts += [text for text in (rate_text(total.rate),) if text]
    texts += [f"{number(active)} active"] if active else []
    numbers = look.signs.dot.join(texts)
    failed = f"{look.signs.dot}{number(total.failed)} failed" if total.failed else ""
    room = max(8, width - len(numbers) - len(failed) - 4)
    bar = state_bar(bar_parts(counts), room, look.signs)
    if not total.known:
        bar = line((pad("no runs yet", room), "dim"))
    return (Span(" "), *bar, Span(f"  {numbers}"), Span(failed, "failed"))


def bar_parts(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return the parts of a bar: ended runs first, CREATED ones last."""
    failed = sum(counts.get(state, 0) for state in TRIED)
    return [
        ("finished", counts.get(Lifecycle.FINISHED, 0)),
        ("failed", failed),
        ("running", counts.get(Lifecycle.START, 0)),
        ("queued", counts.get(Lifecycle.SUBMITTED, 0)),
        ("created", counts.get(Lifecycle.CREATED, 0)),
    ]


def lifecycles(studies: Sequence[StudyView]) -> dict[str, int]:
    """Return all runs by lifecycle state."""
    found: dict[str, int] = {}
    for study in studies:
        for state, runs in study.lifecycles.items():
            found[state] = found.get(state, 0) + runs
    return found


def counts_line(counts: Mapping[str, int], look: Look) -> Line:
    """Return the runs by lifecycle state; a click shows those of one."""
    spans: list[Span] = [Span(" ")]
    for state, style in STYLES.items():
        if counts.get(state):
            text = f"{look.signs.state(state)} {number(counts[state])} {word(state)}"
            spans += [Span(text, style, f"screen.show_state('{state}')"), Span("  ")]
    return tuple(spans)


# -- the panes ------------------------------------------------------------------------------

STUDY: Final = (
    Column("study", most=18),
    Column("created", right=True),
    Column("running", right=True),
    Column("finished", right=True),
    Column("failed", right=True),
    Column("mean", right=True),
    Column("rate", right=True),
    Column("left", right=True),
)


def studies(campaign: Campaign, look: Look) -> tuple[Line, list[Row]]:
    """Return the head and a row for each study."""
    cells = [_study_cells(study) for study in campaign.studies]
    least = (8, 7, 7, 8, 6, 7, 8, 9)
    widths = [max(pair) for pair in zip(widths_of(STUDY, cells), least, strict=True)]
    head = row_line(STUDY, widths, [column.title for column in STUDY], style="head")
    mark = look.signs.more
    rows = [
        Row((Span(" "), *row_line(STUDY, widths, row, mark=mark)), study.name)
        for study, row in zip(campaign.studies, cells, strict=True)
    ]
    return (Span(" "), *head), rows


def _study_cells(study: StudyView) -> list[str | Span]:
    found, progress = study.lifecycles, study.progress
    active = sum(found.get(state, 0) for state in ACTIVE)
    failed = sum(found.get(state, 0) for state in TRIED)
    return [
        safe(study.name),
        number(found.get(Lifecycle.CREATED, 0)),
        Span(number(active), "running" if active else ""),
        number(found.get(Lifecycle.FINISHED, 0)),
        Span(number(failed), "failed" if failed else ""),
        seconds_text(progress.mean),
        rate_text(progress.rate),
        left_text(progress.left),
    ]


def throughput_line(campaign: Campaign, width: int, look: Look) -> Line:
    """Return the sparkline of ended runs with its scale."""
    values = campaign.throughput
    if not any(values):
        return line((" throughput  no run has ended in the last hours", "dim"))
    most = max(values) / (campaign.interval / 60)
    after = f"  last {about(len(values) * campaign.interval)}, most {most:,.0f}/min"
    room = width - len(" throughput ") - len(after)
    return line(" throughput ", (sparkline(values, room, look.signs), "finished"), (after, "dim"))


def needs(campaign: Campaign, width: int, look: Look) -> tuple[Line, list[Row]]:
    """Return what needs a person, most urgent first."""
    found = campaign.needs
    head = section("Needs you", str(len(found)) if found else "", width)
    rows = []
    for need in found:
        times = f"{number(need.number)}x" if need.number else ""
        style = ("", "failed", "warning", "warning", "dim")[min(need.rank, 4)]
        text = (Span(f" {times:>6} "), Span(safe(need.subject), style), Span("  "))
        key = ("group", need.group) if need.group else ("need", need.subject, need.command)
        rows.append(Row(fit((*text, Span(safe(need.text))), width, look.signs.more), key))
    return head, rows or [Row(line(("        nothing", "dim")))]


def events(campaign: Campaign, width: int, look: Look) -> tuple[Line, list[Row]]:
    """Return the registered events, short."""
    found = campaign.events
    head = section("Events", "", width)
    name = min(20, max((len(event.name) for event in found), default=0))
    rows = [
        Row(fit(_event_line(event, name, look), width, look.signs.more), event.id)
        for event in found
    ]
    text = "        none is registered: an orchestrator registers them when it starts"
    return head, rows or [Row(line((cut(text, width), "dim")))]


def _event_line(event: EventView, name: int, look: Look) -> Line:
    flight = f", {event.in_flight} in flight" if event.in_flight else ""
    return line(
        " ",
        pad(safe(event.name), name, mark=look.signs.more),
        f"  fired {number(event.fired)}{flight}",
        (f"  waits: {safe(event.waits)}" if event.waits else "", "dim"),
    )


def happenings(campaign: Campaign, width: int, look: Look) -> tuple[Line, list[Row]]:
    """Return what happened, the newest first."""
    head = section("Just now", "", width)
    rows = []
    for one in campaign.happenings:
        made = f" {look.signs.arrow} {safe(one.runs)}" if one.runs else ""
        at = look.ago(one.at)
        text = line((f" {at:>10}  ", "dim"), f"{safe(one.text)}{made}")
        rows.append(Row(fit(text, width, look.signs.more), (one.at, one.text, one.runs)))
    return head, rows or [Row(line(("        nothing yet", "dim")))]


def section(title: str, note: str, width: int) -> Line:
    """Return the head of a pane."""
    right = line((note + " ", "dim")) if note else ()
    return spread(line((f" {title}", "head")), right, width)
