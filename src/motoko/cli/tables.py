"""Tables for the terminal. Names, states and values are plain text, never markup."""

from __future__ import annotations

import shlex
import sys
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from motoko.core.parameter_space import format_changes
from motoko.core.records import RUN_COLUMNS, RunKey
from motoko.core.run_columns import DERIVED, compact_table
from motoko.core.run_keys import NAMED
from motoko.core.run_targets import id_ranges, range_text
from motoko.core.states import FAILURES, Lifecycle
from motoko.launcher.control import RESTART_HINT
from motoko.printable import CELL, join_names, one_line, printable, value_text
from motoko.runtime.ports import utc_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import ConsoleOptions, RenderableType

    from motoko.core.records import RunRecord
    from motoko.core.run_columns import ColumnTable
    from motoko.core.run_keys import FirstIds
    from motoko.operations.history import FiringEntry
    from motoko.operations.notifications import NotificationOverview
    from motoko.operations.overview import Overview, StudyOverview
    from motoko.operations.results import StudyResults
    from motoko.orchestrator.run_ends import RunEnd

ROWS: Final = 20
REASON: Final = 500  # characters of a reason
UNLIMITED: Final = 100_000  # columns of an output that is not a terminal
STATES: Final = frozenset({"state", "lifecycle", "outcome"})
OWN_TYPES: Final = MappingProxyType({**RUN_COLUMNS, **DERIVED})
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


def names_text(names: Iterable[object], number: int | None = None) -> str:
    """Return the first of these names, and their ``number`` if some are left out.

    ``number`` may count more than the names that are given.
    """
    shown = [str(name) for name in names]
    number = len(shown) if number is None else number
    more = f", ... ({number} runs)" if number > NAMED else ""
    return ", ".join(shown[:NAMED]) + more


def ordered_states(states: Iterable[str]) -> list[str]:
    """Return states in the order of the lifecycle, labels last by name."""
    found = set(states)
    return [s for s in LIFECYCLE if s in found] + sorted(found - set(LIFECYCLE))


def counts_line(counts: Mapping[str, Mapping[str, int]]) -> str:
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


def results_table(table: ColumnTable, *, compact: bool = False) -> Table:
    """Return a table of runs for the terminal.

    With ``compact``, runs are named as ``STUDY.ID``, and columns without values are left out.
    """
    result, columns = Table(box=box.SIMPLE_HEAD, pad_edge=False), []
    for name, values in table.values.items():
        empty = all(value is None or value == "" for value in values)
        if compact and len(table) and empty:
            continue
        is_run = compact and name == "id"
        title = "run" if is_run else "run name" if compact and name == "run_name" else name
        is_text = is_run or OWN_TYPES.get(name) in ("str", "bool")
        result.add_column(safe_text(title), justify="left" if is_text else "right")
        if is_run:
            columns.append([safe_text(f"{table.study}.{value}") for value in values])
        else:
            limit = CELL if compact else REASON
            columns.append([_cell(name, value, limit) for value in values])
    for row in zip(*columns, strict=True):
        result.add_row(*row)
    return result


def print_wide(out: Console, table: Table) -> None:
    """Print a table; in a narrow terminal the lines wrap, and no word is lost."""
    widest = out.options.update(width=UNLIMITED)
    needed = Measurement.get(out, widest, table).minimum
    width = out.width
    out.width = max(width, needed)
    out.print(table)
    out.width = width


def _cell(name: str, value: Any, limit: int) -> Text:
    if value is None:
        return Text()
    if name in STATES:
        return state_text(str(value))
    if name == "reason":
        return safe_text(one_line(str(value), limit=REASON))
    return safe_text(value_text(value, limit))


def runs_table(
    records: Sequence[RunRecord],
    *,
    run_names: bool = False,
    reasons: Mapping[int, str] | None = None,
) -> Table:
    """Return a table of the runs of one study; ``reasons`` by id replace the runs' own."""
    study = records[0].study if records else ""
    table = compact_table(study, records, run_names=run_names)
    if reasons is not None:
        table.values["reason"][:] = [reasons.get(record.id) for record in records]
    return results_table(table, compact=True)


def print_runs(records: Sequence[RunRecord]) -> None:
    """Print a table of the runs of each study, with their run names."""
    out = console()
    for study in dict.fromkeys(record.study for record in records):
        out.print(runs_table([r for r in records if r.study == study], run_names=True))


def print_results(run_name: str, studies: Sequence[StudyResults]) -> None:
    """Print the results of a run name: counts by state, the first runs, and recorded reasons."""
    out = console()
    out.print(safe_text(f"run name {run_name}"))
    out.print(counts_table({study.name: study.counts for study in studies}, "study"))
    for study in studies:
        if len(study.table):
            print_wide(out, results_table(study.table, compact=True))
            if study.left_out > 0:
                command = f"motoko results {study.name} --run_name {shlex.quote(run_name)}"
                out.print(safe_text(f"... and {study.left_out} more runs ({command})\n"))
    for study in studies:
        _print_reasons(out, study.name, {run_name: study.finished_reasons})


def _print_reasons(out: Console, study: str, found: Mapping[str, Mapping[str, FirstIds]]) -> None:
    """Print the reasons recorded for FINISHED runs, with the names of these runs."""
    for run_name, reasons in found.items():
        for reason, (first, number) in reasons.items():
            names = names_text((RunKey(study, run_id) for run_id in first), number)
            out.print(safe_text(f"{run_name}: FINISHED, but {reason}: {names}"))


def print_overview(overview: Overview, *, runs: bool) -> None:
    """Print the processes of a workflow, and its runs."""
    out = console()
    out.print(safe_text(f"workflow      {overview.directory}"))
    out.print(safe_text(f"server        {_server(overview)}"))
    _print_processes(out, "launcher", _launchers(overview))
    _print_processes(out, "orchestrator", _orchestrators(overview))
    running = overview.orchestrators
    _print_ends(out, {name: end for name, end in overview.ends.items() if name not in running})
    for hold, ids in overview.holds.by_command():
        subject = f"{hold.study}.{range_text(id_ranges(ids))}" if ids else hold.subject
        since = f"since {utc_text(hold.at)}, by {hold.cause}"
        out.print(safe_text(f"held          {subject}, {since}"))
    for line in _notifications(overview.notifications):
        out.print(safe_text(line))
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


def _notifications(found: NotificationOverview) -> Iterable[str]:
    if found.notifier is not None:
        yield f"notifier      process {found.notifier}"
    if found.counts:
        numbers = ", ".join(f"{number} {state}" for state, number in found.counts.items())
        failed = found.last_failed
        why = "" if failed is None else f"; {failed.target} failed: {failed.problem}"
        yield f"notifications {numbers}{why}"


def _orchestrators(overview: Overview) -> list[str]:
    lines = []
    for name, holder in overview.orchestrators.items():
        stall = overview.stalls.get(name)
        stalled = "" if stall is None else f", stalled since {utc_text(stall.since)}"
        lines.append(f"{name}: {holder}{stalled}")
    return lines


def _print_ends(out: Console, ends: Mapping[str, RunEnd]) -> None:
    """Print the newest of these last ends of run names."""
    newest = sorted(ends.items(), key=lambda item: -item[1].time)
    for name, end in newest[:NAMED]:
        _print_processes(out, "last end", [f"{name}: {end}"])
        if end.log is not None:
            _print_processes(out, "", [f"  its log is {end.log}"])
    if len(newest) > NAMED:
        more = f"{len(newest) - NAMED} more run names: see `motoko orchestrator status`"
        _print_processes(out, "", [more])


def _unregistered(firing: FiringEntry) -> str:
    runs = f", runs {names_text(firing.runs)}" if firing.runs else ""
    event = f"event {firing.event}{runs}, since {utc_text(firing.opened)}"
    return f"{firing.run_name}: {event}; main does not register it"


def _server(overview: Overview) -> str:
    pid = overview.server
    if pid is None:
        return "not running"
    known = f"process {pid}" if pid else "running, but its process is unknown"
    return known + overview.server_suspension


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
        if directories := overview.directories.get(found.name):
            lines.append(f"  {directories} (see `motoko doctor`)")
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
        how = "see `motoko adopt --help`"
        what = f"made with other job parameters than bd.yaml declares now ({how})"
        out.print(safe_text(f"{what}: {format_changes(study.changed)}"))
    for run_name, number in study.outdated.items():
        made = "1 run was" if number == 1 else f"{number} runs were"
        what = "made with scripts that have changed since (motoko retry --changed)"
        out.print(safe_text(f"{run_name}: {made} {what}"))
    _print_reasons(out, study.name, study.finished_reasons)
    if study.unserved:
        out.print(safe_text(unserved_text(study.unserved)))
    for reason, number in study.unmanaged.items():
        active = "1 run is active" if number == 1 else f"{number} runs are active"
        out.print(safe_text(f"{active}, but {reason}: `motoko launcher` records the results"))
    if runs:
        out.print(runs_table(study.runs, run_names=True, reasons=study.reasons))
