"""The details of one run on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from motoko.cli.tables import console, safe_text, state_text
from motoko.printable import value_text
from motoko.runtime.ports import utc_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from rich.text import Text

    from motoko.operations.run_details import AttemptDetails, RunDetails, SeriesSummary

COMMIT = 10  # characters of a git commit


def print_details(found: RunDetails) -> None:
    """Print a run: state, values, directory, attempts, quantities."""
    record, out = found.record, console()
    out.print(safe_text(f"run           {record.key}"))
    state = safe_text("state         ").append_text(state_text(record.state))
    if record.label is not None:
        state.append_text(safe_text(f" (lifecycle {record.lifecycle})"))
    out.print(state)
    if found.waits:
        out.print(safe_text(f"reason        {found.waits}"))
    out.print(safe_text(f"run name      {record.run_name}"))
    _print_values("job", record.job)
    _print_values("fields", record.fields)
    _print_values("options", record.options)
    if record.replicate:
        out.print(safe_text(f"replicate     {record.replicate}"))
    if record.history:
        created = f"{utc_text(record.history[0].time)} by {found.creator}"
        out.print(safe_text(f"created       {created}"))
    out.print(safe_text(f"directory     {found.directory}"))
    if found.attempts:
        out.print(_attempts_table(found.attempts))
    if found.quantities:
        out.print(_quantities_table(found.quantities))


def _print_values(title: str, values: Mapping[str, Any]) -> None:
    for number, (name, value) in enumerate(values.items()):
        shown = title if number == 0 else ""
        console().print(safe_text(f"{shown:<13} {name} = {value_text(value)}"))


def _attempts_table(attempts: Sequence[AttemptDetails]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("attempt", "started", "seconds", "outcome", "host", "commit", "cause"):
        table.add_column(title, justify="right" if title == "seconds" else "left")
    for found in attempts:
        facts = found.provenance
        table.add_row(
            safe_text(str(facts.number)),
            _time(facts.started),
            safe_text("" if found.duration is None else f"{found.duration:.1f}"),
            state_text(facts.outcome or ""),
            safe_text(facts.host or ""),
            safe_text(_commit(facts.git_commit, dirty=facts.git_dirty)),
            safe_text(found.cause),
        )
    return table


def _commit(commit: str | None, *, dirty: bool | None) -> str:
    return "" if commit is None else commit[:COMMIT] + (" (changed)" if dirty else "")


def _time(at: float | None) -> Text:
    return safe_text("" if at is None else utc_text(at))


def _quantities_table(quantities: Sequence[SeriesSummary]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("quantity", "steps", "last step", "last value"):
        table.add_column(title, justify="left" if title == "quantity" else "right")
    for series in quantities:
        numbers = (str(series.steps), value_text(series.last_step), value_text(series.last_value))
        table.add_row(safe_text(series.name), *map(safe_text, numbers))
    return table
