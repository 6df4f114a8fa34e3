"""What the pipeline logs, and where to if the program did not say so."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from typing import TextIO

LOG: Final = logging.getLogger("motoko.pipeline")
FORMAT: Final = "%(asctime)s :: %(levelname)s :: %(message)s"


class StandardError(logging.StreamHandler["TextIO"]):
    """Writes to what is standard error at that moment."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(logging.Formatter(FORMAT))

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        """Standard error."""
        return sys.stderr


def enable_default_logging() -> None:
    """Have INFO lines written to standard error, if logging was not configured at all."""
    if not LOG.hasHandlers():
        LOG.addHandler(StandardError())
        if LOG.level == logging.NOTSET:
            LOG.setLevel(logging.INFO)
