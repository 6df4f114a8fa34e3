"""The files of attempts that an earlier version prepared, in a directory of their own.

``<run directory>/.motoko/<token>/`` contains the files ``inputs.json``, ``outbox``, ``start``,
``exit`` and others; ``<run directory>/.motoko/attempt`` names the attempt.
"""

from __future__ import annotations

import os

VARIABLE = "MOTOKO_ATTEMPT_DIR"
HEADER = b'{"t":0,"op":"start"}\n'  # the first line of the outbox


def inputs(attempt: str) -> str:
    """Return the inputs file in an attempt's directory."""
    return f"{attempt}/inputs.json"


def outbox(attempt: str) -> str:
    """Return the outbox in an attempt's directory."""
    return f"{attempt}/outbox"


def has_ended(attempt: str) -> bool:
    """Return whether the wrapper or a launcher has recorded the end of an attempt."""
    return any(os.path.exists(f"{attempt}/{name}") for name in ("exit", "over"))
