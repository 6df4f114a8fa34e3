"""HTML tables of workflows and runs, which notebooks show.

All text from runs is escaped. The tables are small: some rows and columns, and the numbers of the
others.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any, Final

from motoko.core.values import MISSING
from motoko.errors import MotokoError
from motoko.printable import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from motoko.core.records import RunRecord

ROWS: Final = 20
COLUMNS: Final = 15
CELL: Final = 100  # characters


def table_html(
    caption: str, header: Sequence[str], rows: Iterable[Sequence[Any]], note: str = ""
) -> str:
    """Return an HTML table of plain values."""
    head = "".join(f"<th>{_text(name)}</th>" for name in header)
    body = "".join(
        f"<tr>{''.join(f'<td>{_cell(value)}</td>' for value in row)}</tr>" for row in rows
    )
    top = f"<thead><tr>{head}</tr></thead>" if header else ""
    below = f"<p>{_text(note)}</p>" if note else ""
    return f"<table><caption>{_text(caption)}</caption>{top}<tbody>{body}</tbody></table>{below}"


def runs_html(caption: str, records: Sequence[RunRecord], total: int) -> str:
    """Return an HTML table of the first runs of ``total``."""
    jobs = _names(record.job for record in records)
    fields = _names(record.fields for record in records)
    columns = [*(("job", name) for name in jobs), *(("fields", name) for name in fields)]
    shown = columns[:COLUMNS]
    rows = [
        [record.id, record.state, *(getattr(record, part).get(n, MISSING) for part, n in shown)]
        for record in records
    ]
    left = [(total - len(records), "run"), (len(columns) - len(shown), "column")]
    notes = [f"{number:,} more {noun}{'s' * (number != 1)}" for number, noun in left if number]
    return table_html(caption, ["id", "state", *(n for _, n in shown)], rows, ", ".join(notes))


def run_html(record: RunRecord) -> str:
    """Return an HTML table of one run."""
    facts: dict[str, Any] = {"state": record.state}
    if record.label is not None:
        facts["lifecycle"] = record.lifecycle.value
    facts |= {"run name": record.run_name, "reason": record.reason, "exit code": record.exit_code}
    facts |= {"attempts": record.tries}
    values = [*record.job.items(), *record.fields.items()]
    rows = [(name, value) for name, value in facts.items() if value is not None]
    left = len(values) - ROWS
    note = f"{left} more values" if left > 0 else ""
    return table_html(f"run {record.key}", (), [*rows, *values[:ROWS]], note)


def html_or_message(render: Callable[[], str], shown: object) -> str:
    """Return the result of ``render``, or the MotokoError that it raises."""
    try:
        return render()
    except MotokoError as error:
        return f"<p>{_text(repr(shown))}: {_text(error.message)}</p>"


def _names(mappings: Iterable[Any]) -> list[str]:
    return list(dict.fromkeys(name for mapping in mappings for name in mapping))


def _cell(value: Any) -> str:
    return "" if value is MISSING else _text(value if isinstance(value, str) else _repr(value))


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except ValueError:  # an integer of too many digits
        return f"a {type(value).__name__}"


def _text(text: str) -> str:
    return escape(one_line(text, limit=CELL))
