"""Warnings that point at the user's line."""

from __future__ import annotations

import inspect
import warnings
from typing import Final

from motoko.errors import ProductWarning

BETWEEN: Final = frozenset({"motoko", "asyncio", "concurrent", "threading"})


def warn(message: str) -> None:
    """Give a ProductWarning at the line outside Motoko that led here, if there is one."""
    level, frame = 1, inspect.currentframe()
    while frame is not None and _root(frame.f_globals) in BETWEEN:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, ProductWarning, stacklevel=2 if frame is None else level)


def _root(names: dict[str, object]) -> str:
    return str(names.get("__name__")).partition(".")[0]
