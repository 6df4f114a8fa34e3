"""The options of commands that print or write a table."""

from __future__ import annotations

import contextlib

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

TABLE, CSV, JSON, PARQUET = "table", "csv", "json", "parquet"
FORMATS = (TABLE, CSV, JSON, PARQUET)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add --format, --json and --output."""
    parser.add_argument(
        "--format",
        "-f",
        choices=FORMATS,
        help="the format (default: that of FILE's suffix, else table)",
    )
    parser.add_argument(
        "--json", dest="format", action="store_const", const=JSON, help="the same as --format json"
    )
    parser.add_argument("--output", "-o", metavar="FILE", help="write to this file")


def format_of(args: argparse.Namespace) -> str:
    """Return the format of the output; exit with an error if it cannot be written."""
    if args.output is None:
        if args.format == PARQUET:
            args.motoko_parser.error("parquet is written to a file only: give -o FILE.parquet")
        return str(args.format or TABLE)
    from pathlib import Path

    suffix = Path(args.output).suffix.lower().removeprefix(".")
    if args.format is None and suffix not in (CSV, JSON, PARQUET):
        args.motoko_parser.error(
            f"the format of {args.output!r} is unknown: give --format, or a name that ends with "
            ".csv, .json or .parquet"
        )
    return str(args.format or suffix)


def check_output(args: argparse.Namespace) -> None:
    """Raise StorageError, before anything is read, for an output that is no file."""
    if args.output is None:
        return
    from pathlib import Path

    from motoko.errors import StorageError

    path = Path(args.output)
    if path.is_dir():
        raise StorageError(f"{path} is a directory", hint="Give the name of a file in it.")
    if path.exists() and not path.is_file():
        raise StorageError(f"{path} is not a regular file")
    if not path.parent.is_dir():
        raise StorageError(f"the directory {path.parent} does not exist")


@contextlib.contextmanager
def garbage_collection_paused() -> Iterator[None]:
    """Pause it: thousands of runs contain no cycles, but reading them takes a third longer."""
    import gc

    paused = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if paused:
            gc.enable()
