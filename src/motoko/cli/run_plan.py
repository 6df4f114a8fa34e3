"""The plan of an execution, as ``motoko run --dry-run`` prints it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from motoko.cli.output import count_runs
from motoko.cli.tables import (
    ROWS,
    console,
    names_text,
    ordered_states,
    runs_table,
    safe_text,
)
from motoko.core.parameter_space import format_changes

if TYPE_CHECKING:
    from motoko.operations.dry_run import RunPlan, StudyPlan


def print_plan(plan: RunPlan) -> None:
    """Print the runs that an execution would create and reuse, and what it would wait for."""
    out = console()
    out.print(safe_text(f"dry run of run name {plan.run_name}: nothing was started or stored"))
    out.print(_counts(plan))
    if plan.retried:
        out.print(safe_text(f"to retry: {names_text(plan.retried)}"))
    for study in plan.studies:
        for note in _notes(study):
            out.print(safe_text(f"{study.name}: {note}"))
    for study in plan.studies:
        if study.created:
            out.print(safe_text(f"to create: {count_runs(len(study.created))} of {study.name}"))
            out.print(runs_table(study.created[:ROWS]))
            if len(study.created) > ROWS:
                out.print(safe_text(f"... and {len(study.created) - ROWS} more\n"))
    out.print(safe_text(_end(plan)))
    for line in plan.waits:
        out.print(safe_text(f"  {line}"))


def _counts(plan: RunPlan) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("study")
    for title in ("created", "reused"):
        table.add_column(title, justify="right")
    table.add_column("states of reused runs")
    for study in plan.studies:
        states = Counter(record.state for record in study.reused)
        shown = ", ".join(f"{states[state]} {state}" for state in ordered_states(states))
        cells = (study.name, str(len(study.created)), str(len(study.reused)), shown)
        table.add_row(*map(safe_text, cells))
    return table


def _notes(study: StudyPlan) -> list[str]:
    notes = []
    if study.outdated:
        names = names_text(study.outdated)
        notes.append(f"reused although its scripts have changed since: {names}")
    if study.changed:
        changes = format_changes(study.changed)
        how = "see `motoko adopt --help`"
        notes.append(f"not reused, made with other job parameters ({how}): {changes}")
    return notes


def _end(plan: RunPlan) -> str:
    if plan.error is not None:
        return "it would end with the following error"
    return "it would wait for results:" if plan.waits else "it would end"
