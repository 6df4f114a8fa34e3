"""The command line: parsing and printing, one file per command.

Modules import heavy packages only when a command runs, so that ``motoko --help`` is fast.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``motoko`` with these arguments, by default the process's; return the exit status."""
    if "_ARGCOMPLETE" in os.environ:  # a shell asks for completions
        from motoko.cli.complete import complete

        complete()
    from motoko.cli.entry_point import run

    return run(sys.argv[1:] if argv is None else argv)


def orchestrator_main(argv: Sequence[str] | None = None) -> int:
    """Run ``motoko orchestrator`` with these arguments; return the exit status."""
    return main(["orchestrator", *(sys.argv[1:] if argv is None else argv)])
