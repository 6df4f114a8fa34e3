"""How far a workflow is, while it runs: a live table, or a line when something has changed."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING

from motoko.cli.output import say
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

LIVE_SECONDS = 0.25
PLAIN_SECONDS = 1.0


@contextlib.contextmanager
def progress() -> Iterator[tuple[Callable[[Progress], None], float]]:
    """Yield what shows the counts, and the seconds to leave between two calls of it."""
    if sys.stderr.isatty():
        with _live() as show:
            yield show, LIVE_SECONDS
    else:
        yield _plain(time.monotonic()), PLAIN_SECONDS


def _plain(start: float) -> Callable[[Progress], None]:
    def show(found: Progress) -> None:
        seconds = int(time.monotonic() - start)
        elapsed = f"{seconds // 60:02}:{seconds % 60:02}"
        line = "; ".join(filter(None, (counts_line(found.counts), *_notes(found))))
        say(f"{elapsed} {line}", file=sys.stderr, flush=True)

    return show


def _notes(found: Progress) -> tuple[str, str]:
    return others_text(found.others), unserved_text(found.unserved)


@contextlib.contextmanager
def _live() -> Iterator[Callable[[Progress], None]]:
    from rich.console import Group
    from rich.live import Live

    # What user code prints goes above the table, unless it goes elsewhere anyway.
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
