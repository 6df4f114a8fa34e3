"""Show which runs a command would change, and ask before it changes several."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from motoko.cli.output import ExitStatus, count_runs, echo, size_text

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence
    from typing import TextIO

    from motoko.core.records import RunRecord
    from motoko.operations.preview import Preview

YES = frozenset({"y", "yes"})
ANSWER_BYTES = 1000  # of a line that is read


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add --dry-run and --yes."""
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="show what the command would change, and change nothing",
    )
    parser.add_argument(
        "--yes",
        "-y",
        action="store_true",
        help="do not ask before several runs are changed; required without a terminal",
    )


def show(preview: Preview, effect: str, *, file: TextIO | None = None) -> None:
    """Print a preview; ``effect`` completes "7 runs would"."""
    from motoko.cli.tables import counts_line, names_text

    if preview.runs:
        echo(counts_line(preview.counts), file=file)
        if len(preview.runs) > 1:
            echo(f"runs: {names_text(preview.keys)}", file=file)
    _show_unaffected(preview, file)
    if preview.usage is not None and preview.usage.directories:
        usage = preview.usage
        directories = "directory" if usage.directories == 1 else "directories"
        size = size_text(usage.size)
        echo(f"{usage.directories} {directories} would be removed ({size})", file=file)
    echo(f"{count_runs(len(preview.runs))} would {effect}", file=file)


def _show_unaffected(preview: Preview, file: TextIO | None) -> None:
    if preview.unaffected:
        number = sum(preview.unaffected.values())
        states = ", ".join(f"{count} {state}" for state, count in preview.unaffected.items())
        echo(f"not affected: {count_runs(number)} ({states})", file=file)


def confirm(
    args: argparse.Namespace, found: Preview, effect: str, again: Callable[[], Preview]
) -> Sequence[RunRecord]:
    """Return the runs to change; for several runs, ask before.

    After the answer, call ``again`` for the present state, and leave out runs that were not shown.
    Raise ConfirmationError without a terminal, and SystemExit if the user declines.
    """
    if args.yes or len(found.runs) <= 1:
        _show_unaffected(found, sys.stderr)
        return found.runs
    check_terminal(len(found.runs), effect)
    show(found, effect, file=sys.stderr)
    ask()
    shown = set(found.keys)
    return [record for record in again().runs if record.key in shown]


def has_terminal() -> bool:
    """Return whether standard input and output are a terminal."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()


def check_terminal(number: int, effect: str) -> None:
    """Raise ConfirmationError if there is no terminal."""
    from motoko.errors import ConfirmationError

    if not has_terminal():
        raise ConfirmationError(
            f"{count_runs(number)} would {effect}, and there is no terminal to ask",
            hint="Add --yes to continue, or --dry-run to see the runs.",
        )


def ask() -> None:
    """Ask whether to continue; raise SystemExit if the user declines."""
    echo("Continue? [y/N] ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.buffer.readline(ANSWER_BYTES).decode("utf-8", "replace")
    if answer.strip().lower() not in YES:
        echo("nothing was changed", file=sys.stderr)
        raise SystemExit(ExitStatus.ERROR)
