"""The progress of a running workflow: a live table, or a line per change."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

from motoko.cli.output import echo
from motoko.cli.tables import (
    console,
    counts_line,
    counts_table,
    others_text,
    safe_text,
    unserved_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from motoko.operations.overview import Progress
    from motoko.runtime.ports import Clock

LIVE_SECONDS = 0.25
PLAIN_SECONDS = 1.0


@contextlib.contextmanager
def progress(clock: Clock) -> Iterator[tuple[Callable[[Progress], None], float]]:
    """Yield a function that shows the progress, and the least seconds between two calls."""
    if sys.stderr.isatty():
        with _live() as show:
            yield show, LIVE_SECONDS
    else:
        yield _plain(clock), PLAIN_SECONDS


def _plain(clock: Clock) -> Callable[[Progress], None]:
    start = clock.monotonic()

    def show(found: Progress) -> None:
        seconds = int(clock.monotonic() - start)
        elapsed = f"{seconds // 60:02}:{seconds % 60:02}"
        line = "; ".join(filter(None, (counts_line(found.counts), *_notes(found))))
        echo(f"{elapsed} {line}", file=sys.stderr, flush=True)

    return show


def _notes(found: Progress) -> tuple[str, str]:
    return others_text(found.others), unserved_text(found.unserved)


@contextlib.contextmanager
def _live() -> Iterator[Callable[[Progress], None]]:
    from rich.console import Group
    from rich.live import Live

    # The output of user code appears above the table, unless it is redirected.
    with Live(
        console=console(stderr=True),
        auto_refresh=False,
        transient=True,
        redirect_stdout=sys.stdout.isatty(),
    ) as live:

        def show(found: Progress) -> None:
            notes = map(safe_text, filter(None, _notes(found)))
            live.update(Group(counts_table(found.counts, "study"), *notes), refresh=True)

        yield show
