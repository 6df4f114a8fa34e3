"""Tables for the terminal. Names, states and values are plain text, never markup."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final, Literal

from rich import box
from rich.console import Console
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from motoko.core.parameter_space import format_changes
from motoko.core.records import RunKey
from motoko.core.states import FAILURES, Lifecycle
from motoko.launcher.control import RESTART_HINT
from motoko.printable import join_names, one_line, printable
from motoko.runtime.ports import utc_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import ConsoleOptions, RenderableType

    from motoko.core.records import RunRecord
    from motoko.operations.history import FiringEntry
    from motoko.operations.overview import Counts, Overview, StudyOverview

ROWS: Final = 20
NAMED: Final = 6  # runs in a list
CELL: Final = 48  # characters of one value
REASON: Final = 500  # characters of a reason
UNLIMITED: Final = 100_000  # columns of an output that is not a terminal
LIFECYCLE: Final = tuple(state.value for state in Lifecycle)


class _Console(Console):
    """Prints no control characters but its own."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render as usual, and escape text that is not safe to print."""
        for segment in super().render(renderable, options):
            text = segment.text
            if segment.control or text.isprintable() or text == "\n":
                yield segment
            else:
                safe = printable(text, line_limit=UNLIMITED, limit=UNLIMITED)
                yield Segment(safe, segment.style)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # as other writers do; the entry point handles it


def console(*, stderr: bool = False) -> Console:
    """Return a console; without a terminal it does not limit the line length."""
    tty = (sys.stderr if stderr else sys.stdout).isatty()
    return _Console(stderr=stderr, markup=False, highlight=False, width=None if tty else UNLIMITED)


def safe_text(text: str, style: str = "") -> Text:
    """Return a text made safe for the terminal before its width is measured."""
    return Text(printable(text), style)


def state_text(state: str) -> Text:
    """Return a state in its colour."""
    if state in {outcome.value for outcome in FAILURES}:
        return safe_text(state, "red")
    colours = {"FINISHED": "green", "START": "cyan", "SUBMITTED": "cyan"}
    return safe_text(state, colours.get(state, ""))


def value_text(value: Any) -> str:
    """Return a value on one line, shortened if necessary."""
    if isinstance(value, float):
        text = f"{value:.10g}"
    elif isinstance(value, str) and value.isprintable():
        text = value
    else:
        text = repr(value)
    return text if len(text) <= CELL else text[: CELL - 3] + "..."


def names_text(names: Iterable[object]) -> str:
    """Return the first of these names, and their number if some are left out."""
    shown = [str(name) for name in names]
    more = f", ... ({len(shown)} runs)" if len(shown) > NAMED else ""
    return ", ".join(shown[:NAMED]) + more


def ordered_states(states: Iterable[str]) -> list[str]:
    """Return states in the order of the lifecycle, labels last by name."""
    found = set(states)
    return [s for s in LIFECYCLE if s in found] + sorted(found - set(LIFECYCLE))


def counts_line(counts: Counts) -> str:
    """Return the counts by state of every study with runs, on one line."""
    parts = []
    for study, states in counts.items():
        if states:
            numbers = ", ".join(f"{states[s]} {s}" for s in ordered_states(states))
            parts.append(f"{study}: {numbers}")
    return "; ".join(parts) if parts else "no runs yet"


def others_text(others: Mapping[str, int]) -> str:
    """Return a note about the unfinished runs of other run names, which may run first."""
    number = sum(others.values())
    if not number:
        return ""
    names = sorted(filter(others.get, others))
    shown = ", ".join(map(repr, names[:NAMED])) + (", ..." if len(names) > NAMED else "")
    return f"{number} {'run' if number == 1 else 'runs'} of {shown} also waiting or running"


def unserved_text(unserved: Mapping[str, int]) -> str:
    """Return a note about runs that no launcher serves."""
    return "; ".join(
        f"{number} {'run waits' if number == 1 else 'runs wait'}: {reason}"
        for reason, number in sorted(unserved.items())
    )


def counts_table(counts: Mapping[str, Mapping[str, int]], first: str) -> Table:
    """Return a table of run numbers, with a row for each key and a column for each state."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(safe_text(first))
    states = ordered_states(state for numbers in counts.values() for state in numbers)
    for state in states:
        table.add_column(state_text(state), justify="right")
    for name, numbers in counts.items():
        table.add_row(safe_text(name), *(safe_text(str(numbers.get(state, 0))) for state in states))
    return table


def runs_table(
    records: Sequence[RunRecord],
    *,
    run_names: bool = False,
    reasons: Mapping[int, str] | None = None,
) -> Table:
    """Return a table of the runs of one study: job values, state, fields, reason.

    ``reasons`` maps ids to reasons; by default the runs' own reasons are shown.
    """
    if reasons is None:
        reasons = {record.id: record.reason or "" for record in records}
    shown = [one_line(reasons.get(record.id, ""), limit=REASON) for record in records]
    table, columns = Table(box=box.SIMPLE_HEAD, pad_edge=False), []

    def add(title: str, cells: Iterable[Text], justify: Literal["left", "right"] = "left") -> None:
        table.add_column(safe_text(title), justify=justify)
        columns.append(list(cells))

    add("run", (safe_text(str(record.key)) for record in records))
    if run_names:
        add("run name", (safe_text(record.run_name) for record in records))
    for name in dict.fromkeys(name for record in records for name in record.job):
        add(name, (_cell(record.job, name) for record in records), "right")
    add("state", (state_text(record.state) for record in records))
    for name in dict.fromkeys(name for record in records for name in record.fields):
        add(name, (_cell(record.fields, name) for record in records), "right")
    if any(shown):
        add("reason", map(safe_text, shown))
    for row in zip(*columns, strict=True):
        table.add_row(*row)
    return table


def _cell(values: Mapping[str, Any], name: str) -> Text:
    return safe_text(value_text(values[name]) if name in values else "")


def print_runs(records: Sequence[RunRecord]) -> None:
    """Print a table of the runs of each study, with their run names."""
    out = console()
    for study in dict.fromkeys(record.study for record in records):
        out.print(runs_table([r for r in records if r.study == study], run_names=True))


def print_results(run_name: str, studies: Sequence[StudyOverview]) -> None:
    """Print the results of a run name: counts by state, the first runs, and recorded reasons."""
    out = console()
    out.print(safe_text(f"run name {run_name}"))
    out.print(counts_table({study.name: study.counts[run_name] for study in studies}, "study"))
    for study in studies:
        if study.runs:
            out.print(runs_table(study.runs))
            more = sum(study.counts[run_name].values()) - len(study.runs)
            if more > 0:
                text = f"... and {more} more runs of {study.name} (motoko info --verbose)\n"
                out.print(safe_text(text))
    for study in studies:
        _print_reasons(out, study)


def _print_reasons(out: Console, study: StudyOverview) -> None:
    """Print the reasons recorded for FINISHED runs, with the names of these runs."""
    for run_name, reasons in study.finished_reasons.items():
        for reason, run_ids in reasons.items():
            names = names_text(RunKey(study.name, run_id) for run_id in run_ids)
            out.print(safe_text(f"{run_name}: FINISHED, but {reason}: {names}"))


def print_overview(overview: Overview, *, runs: bool) -> None:
    """Print the processes of a workflow, and its runs."""
    out = console()
    out.print(safe_text(f"workflow      {overview.directory}"))
    out.print(safe_text(f"server        {_server(overview.server)}"))
    _print_processes(out, "launcher", _launchers(overview))
    _print_processes(out, "orchestrator", _orchestrators(overview))
    if overview.cut is not None:
        out.print(safe_text(f"cut off       {utc_text(overview.cut.at)}: {overview.cut}"))
    if overview.removals:
        runs_text = f"{overview.removals} deleted run{'s' * (overview.removals != 1)}"
        out.print(safe_text(f"to remove     directories of {runs_text} (motoko clean --delete)"))
    for firing in overview.unregistered:
        out.print(safe_text(f"open firing   {_unregistered(firing)}"))
    if not overview.database:
        out.print(safe_text("No database exists yet. Create it: motoko create, or motoko run."))
    for study in overview.studies:
        _print_study(out, study, runs=runs)


def _orchestrators(overview: Overview) -> list[str]:
    lines = []
    for name, holder in overview.orchestrators.items():
        stall = overview.stalls.get(name)
        stalled = "" if stall is None else f", stalled since {utc_text(stall.since)}"
        lines.append(f"{name}: {holder}{stalled}")
    return lines


def _unregistered(firing: FiringEntry) -> str:
    runs = f", runs {names_text(firing.runs)}" if firing.runs else ""
    event = f"event {firing.event}{runs}, since {utc_text(firing.opened)}"
    return f"{firing.run_name}: {event}; main does not register it"


def _server(pid: int | None) -> str:
    if pid is None:
        return "not running"
    return f"process {pid}" if pid else "running, but its process is unknown"


def _launchers(overview: Overview) -> list[str]:
    lines = []
    for found in overview.launchers:
        elsewhere = "localhost" not in found.machines
        machines = f", for runs of {', '.join(found.machines)}" if elsewhere else ""
        lines.append(f"{found}{machines}")
        if names := overview.environments.get(found.name):
            text = f"its environment differs from that of this command: {join_names(names)}"
            lines += [f"  {text}", f"  {RESTART_HINT}"]
        if problem := overview.problems.get(found.name):
            lines.append(f"  it uses an earlier configuration: {problem}")
    return lines


def _print_processes(out: Console, what: str, lines: Sequence[str]) -> None:
    for line in lines or ["not running"]:
        out.print(safe_text(f"{what:<13} {line}"))


def _print_study(out: Console, study: StudyOverview, *, runs: bool) -> None:
    out.print(safe_text(f"\nstudy {study.name}"))
    if not any(study.counts.values()):
        out.print(safe_text("no runs"))
        return
    out.print(counts_table(study.counts, "run name"))
    if study.changed:
        what = "made with other job parameters than bd.yaml declares now"
        out.print(safe_text(f"{what}: {format_changes(study.changed)}"))
    for run_name, ids in study.outdated.items():
        named = names_text(RunKey(study.name, run_id) for run_id in ids)
        what = "made with scripts that have changed since (motoko retry --changed)"
        out.print(safe_text(f"{run_name}: {what}: {named}"))
    _print_reasons(out, study)
    if study.unserved:
        out.print(safe_text(unserved_text(study.unserved)))
    if runs:
        out.print(runs_table(study.runs, run_names=True, reasons=study.reasons))
