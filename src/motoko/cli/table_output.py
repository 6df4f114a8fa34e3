"""Print or write a table of values: for the terminal, or as CSV, JSON or Parquet."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from motoko.cli.output import echo
from motoko.cli.table_arguments import CSV, JSON, TABLE, format_of
from motoko.errors import MotokoError, StorageError
from motoko.operations.table_text import csv_text, json_text
from motoko.printable import printable

if TYPE_CHECKING:
    import argparse

    from motoko.core.run_columns import ColumnTable

LINE: Final = 100_000_000  # characters: no limit for data


def put_table(args: argparse.Namespace, table: ColumnTable, *, compact: bool = False) -> None:
    """Print the table, or write it to the file of --output and report its number of rows."""
    kind = format_of(args)
    if args.output is None:
        _print(kind, table, compact=compact)
        return
    from motoko.runtime.files import write_atomic

    path = Path(os.path.realpath(args.output))  # a link stays a link
    try:
        write_atomic(path, _content(kind, table, compact=compact), mode=None)
    except OSError as error:
        raise StorageError(f"{args.output} cannot be written: {error.strerror}") from error
    rows = f"{len(table):,} row{'s' * (len(table) != 1)}"
    echo(f"wrote {rows} to {args.output}", file=sys.stderr)


def _print(kind: str, table: ColumnTable, *, compact: bool) -> None:
    if kind == TABLE:
        from motoko.cli.tables import console, print_wide, results_table

        print_wide(console(), results_table(table, compact=compact))
        return
    content = _content(kind, table, compact=compact)
    if sys.stdout.isatty():
        text = content.decode("utf-8").replace("\r\n", "\n")
        sys.stdout.write(printable(text, line_limit=LINE, limit=LINE))
    else:
        sys.stdout.flush()
        # Buffered even if Python's own streams are not: a raw stream may write a part only.
        with open(sys.stdout.fileno(), "wb", closefd=False) as out:
            out.write(content)


def _content(kind: str, table: ColumnTable, *, compact: bool) -> bytes:
    if kind == CSV:
        text = csv_text(table)
    elif kind == JSON:
        text = json_text(table)
    elif kind == TABLE:
        text = _plain_text(table, compact=compact)
    else:
        return _parquet(table)
    return text.encode("utf-8", "backslashreplace")


def _plain_text(table: ColumnTable, *, compact: bool) -> str:
    from motoko.cli.tables import UNLIMITED, console, results_table

    out = console()
    out.file, out.width, out.no_color = io.StringIO(), UNLIMITED, True
    out.print(results_table(table, compact=compact))
    return out.file.getvalue()


def _parquet(table: ColumnTable) -> bytes:
    from motoko.handles.frames import require_pandas, to_flat_frame

    require_pandas("parquet", "parquet")
    try:
        import pyarrow  # noqa: F401 - pandas reports its absence at length
    except ImportError as error:
        raise MotokoError(
            "parquet needs pyarrow, which is not installed", hint="pip install 'motoko[parquet]'"
        ) from error
    out = io.BytesIO()
    to_flat_frame(table).to_parquet(out, engine="pyarrow", index=False)
    return out.getvalue()
