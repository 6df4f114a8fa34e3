"""``motoko assets``: build the assets that task functions describe."""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Sequence

HELP = "build the assets that the task functions of a module describe"


def run(arguments: Sequence[str]) -> int:
    """Run the command line of the assets package, which needs no workflow."""
    from motoko.assets.command import run as command

    return command(arguments, "motoko assets")
