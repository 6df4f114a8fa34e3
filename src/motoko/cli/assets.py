"""``motoko assets``: build what task functions of a module describe."""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Sequence

HELP = "build the assets that a module's task functions describe"


def run(arguments: Sequence[str]) -> int:
    """Do what the arguments say; it has a command line of its own, which knows no workflow."""
    from motoko.assets.command import run as command

    return command(arguments, "motoko assets")
