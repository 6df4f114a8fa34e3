"""What commands print: everything goes through here, so that no control character does."""

from __future__ import annotations

import sys

from motoko.printable import printable

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from typing import TextIO


def say(text: object, *, file: TextIO | None = None, end: str = "\n", flush: bool = False) -> None:
    """Print a text to ``file``, by default standard output, made safe for a terminal."""
    print(printable(str(text)), file=sys.stdout if file is None else file, end=end, flush=flush)
