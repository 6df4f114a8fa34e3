"""The command line: parsing and printing, one file a command.

Nothing heavy is imported before a command runs, so that ``motoko --help`` answers at once.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``motoko`` with these arguments (those of the process); returns its exit status."""
    from motoko.cli.entry_point import run

    return run(sys.argv[1:] if argv is None else argv)


def orchestrator_main(argv: Sequence[str] | None = None) -> int:
    """Run ``motoko orchestrator`` with these arguments; returns its exit status."""
    return main(["orchestrator", *(sys.argv[1:] if argv is None else argv)])
