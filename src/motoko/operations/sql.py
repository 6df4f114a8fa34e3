"""SQL queries over the runs of studies, by DuckDB in the memory of this process."""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from motoko.core.run_columns import ColumnTable
from motoko.errors import MotokoError, SqlError, nearest
from motoko.handles.frames import require_pandas, to_flat_frame
from motoko.storage.columns import read_columns
from motoko.storage.query import check_run_name_exists

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping

    from motoko.api.task_manager import TaskManager
    from motoko.api.workflow import Workflow

# The queries come from their user, but a file must not be read or written by accident.
CLOSED: Final = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
    "temp_directory": "",
}
READING: Final = ("SELECT", "EXPLAIN")
RESERVED: Final = "SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category = 'reserved'"
SETTINGS: Final = ("SET TimeZone = 'UTC'", "SET lock_configuration = true")
_TABLE: Final = re.compile(r"Table with name (.+?) does not exist")
_COLUMN: Final = re.compile(
    r'Referenced column "(.+?)" not found|does not have a column named "(.+?)"'
)
_PLACE: Final = re.compile(r"^(LINE \d+: )(.*)\n( *)\^", re.MULTILINE)


def query_runs(workflow: Workflow, query: str, run_name: str | None = None) -> ColumnTable:
    """Return the result of an SQL query in which studies are tables of their runs.

    The tables have the columns of ``TaskManager.frame`` of all run names, or of one; times are
    TIMESTAMP in UTC. Only the studies that the query names are read. Raise SqlError for an invalid
    query, or one that does more than read.
    """
    require_pandas("sql", "sql")
    duckdb = _require_duckdb()
    with contextlib.closing(duckdb.connect(":memory:", config=CLOSED)) as connection:
        for setting in SETTINGS:
            connection.execute(setting)
        tables: dict[str, ColumnTable] = {}
        try:
            _check_reads(connection.extract_statements(query))
            for name in _named_studies(workflow, query):
                tables[name] = _read(workflow, workflow.task_manager(name), run_name)
                connection.register(name, _frame(tables[name]))
            found = connection.execute(query)
            names = _unique([column[0] for column in found.description or ()])
            rows = found.fetchall()
        except duckdb.Error as error:
            words = connection.execute(RESERVED).fetchall()
            quoted = partial(_quoted, reserved={word for (word,) in words})
            raise _translated(error, workflow, tables, quoted) from error
    values = {name: [_plain(row[i]) for row in rows] for i, name in enumerate(names)}
    return ColumnTable("", dict.fromkeys(names), values, length=len(rows))


def _require_duckdb() -> Any:
    try:
        import duckdb
    except ImportError as error:
        raise MotokoError(
            "sql needs duckdb, which is not installed", hint="pip install 'motoko[sql]'"
        ) from error
    return duckdb


def _check_reads(statements: list[Any]) -> None:
    if len(statements) != 1:
        what = "is empty" if not statements else f"has {len(statements)} statements"
        raise SqlError(f"the query {what}", hint="Give one SELECT statement.")
    kind = statements[0].type.name
    if kind not in READING:
        raise SqlError(
            f"`motoko sql` only reads, and the query is of type {kind}",
            hint="Give a SELECT statement.",
        )


def _named_studies(workflow: Workflow, query: str) -> list[str]:
    """Return the studies and aliases that a query contains as words; SQL ignores capitals."""
    words = {word.casefold() for word in re.findall(r"\w+", query)}
    found = {name.casefold(): name for name in (*workflow.aliases, *workflow.task_managers)}
    return [name for word, name in found.items() if word in words]


def _read(workflow: Workflow, manager: TaskManager, run_name: str | None) -> ColumnTable:
    with workflow.store.autocommit_scope.read() as session:
        if run_name is not None:
            check_run_name_exists(session, run_name)
        return read_columns(session, manager.columns, run_name, root=manager.bd_dir, copied=True)


def _frame(table: ColumnTable) -> Any:
    """Return a frame with times that DuckDB handles without an extension."""
    frame = to_flat_frame(table)
    for name in table.names:
        if frame[name].dtype.kind == "M":
            frame[name] = frame[name].dt.tz_localize(None).astype("datetime64[us]")
    return frame


def _unique(names: list[str]) -> list[str]:
    """Return names of which repeated ones have a number."""
    found: dict[str, None] = {}
    for name in names:
        free, number = name, 1
        while free in found:
            free, number = f"{name}_{number}", number + 1
        found[free] = None
    return list(found)


def _plain(value: Any) -> Any:
    """Return a value of DuckDB as plain data."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, date | time | timedelta | UUID):
        return str(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


# -- errors ------------------------------------------------------------------------------------


def _translated(
    error: Exception,
    workflow: Workflow,
    tables: Mapping[str, ColumnTable],
    quoted: Callable[[str], str],
) -> SqlError:
    text = str(error)
    first = text.partition("\n")[0]
    message = first.partition("Error: ")[2] or first
    if found := _PLACE.search(text):
        mark = len(found[3]) - len(found[1])
        message += f"\n    {found[2]}\n    {' ' * mark}^"
    hint = _hint(text, workflow, tables, quoted)
    return SqlError(f"the query is invalid: {message}", hint=hint)


def _hint(
    text: str,
    workflow: Workflow,
    tables: Mapping[str, ColumnTable],
    quoted: Callable[[str], str],
) -> str | None:
    studies = sorted({*workflow.task_managers, *workflow.aliases})
    if unknown := _TABLE.search(text):
        near = nearest(unknown[1], studies)
        known = ", ".join(map(quoted, studies))
        return f"Did you mean {quoted(near)}?" if near else f"The studies are {known}."
    if found := _COLUMN.search(text):
        names = list(dict.fromkeys(name for table in tables.values() for name in table.names))
        near = nearest(found[1] or found[2], names)
        known = ", ".join(map(quoted, names))
        return f"Did you mean {quoted(near)}?" if near else f"Known: {known}."
    special = [name for name in studies if quoted(name) != name]
    if "syntax error" in text and special:
        return f"Write the study {quoted(special[0])} in double quotes: SQL reserves the word."
    return None


def _quoted(name: str, reserved: Container[str]) -> str:
    """Return a name as SQL spells it."""
    if re.fullmatch(r"[A-Za-z_]\w*", name) and name.lower() not in reserved:
        return name
    doubled = name.replace('"', '""')
    return f'"{doubled}"'
