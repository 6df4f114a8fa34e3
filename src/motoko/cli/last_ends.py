"""Print the last ends of run names, which are readable without the database."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from motoko.cli.output import echo

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from motoko.orchestrator.run_ends import RunEnd
    from motoko.server.state_dir import StateDir


def end_lines(end: RunEnd) -> list[str]:
    """Return a description of the last end of a run name."""
    lines = [f"run name {end.run_name}: ended {end}"]
    return lines if end.log is None else [*lines, f"  its log is {end.log}"]


def print_ends(
    state: StateDir, run_name: str | None = None, *, without: Collection[str] = ()
) -> None:
    """Print the last end of one run name or of all, except those named ``without``."""
    from motoko.orchestrator.run_ends import last_ends

    for name, end in last_ends(state).items():
        if name not in without and run_name in (None, name):
            echo("\n".join(end_lines(end)))


@contextlib.contextmanager
def ends_if_unreadable(state: StateDir, run_name: str | None = None) -> Iterator[None]:
    """If the database cannot be read in the block, print the last ends before the error."""
    from motoko.errors import StorageError

    try:
        yield
    except StorageError:
        print_ends(state, run_name)
        raise
