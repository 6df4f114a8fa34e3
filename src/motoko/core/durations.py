"""Durations as people and Slurm write them, in seconds."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from types import MappingProxyType
from typing import Final

EXAMPLES: Final = "90s, 10 min, 1h 30min, 01:30:00 or 1-12:00:00"
_UNITS: Final = MappingProxyType(
    {
        **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
        **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60.0),
        **dict.fromkeys(("h", "hour", "hours"), 3600.0),
        **dict.fromkeys(("d", "day", "days"), 86400.0),
        **dict.fromkeys(("w", "week", "weeks"), 604800.0),
    }
)
_SMALLER: Final = MappingProxyType({604800.0: 86400.0, 86400.0: 3600.0, 3600.0: 60.0, 60.0: 1.0})
_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]*)\s*")
_NUMBER: Final = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_CLOCK: Final = re.compile(r"(?:([0-9]+):)?([0-9]+):([0-9]{2})")
_DAYS: Final = re.compile(r"([0-9]+)-([0-9]+)(?::([0-9]{1,2})(?::([0-9]{2}))?)?")


def parse_duration(value: object) -> float | None:
    """Return a duration in seconds, None if ``value`` is not one.

    Numbers are seconds. Text is ``90``, ``90s``, ``10 min``, ``1h 30min``, ``1h30``, ``12:30``
    (minutes and seconds), ``01:30:00``, or Slurm's ``1-12`` (days and hours), ``1-12:30`` and
    ``1-12:00:00``.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, int | float):
        return float(value) if 0 <= value < math.inf else None
    if not isinstance(value, str):
        return None
    words = value.strip()
    if _NUMBER.fullmatch(words):
        return parse_duration(float(words))
    clock = _CLOCK.fullmatch(words)
    if clock:
        return _clock(None, *clock.groups())
    days = _DAYS.fullmatch(words)
    return _clock(*days.groups()) if days else _sum_of_parts(words)


def _clock(
    days: str | None, hours: str | None, minutes: str | None, seconds: str | None
) -> float | None:
    if int(seconds or 0) >= 60 or (hours is not None and int(minutes or 0) >= 60):
        return None
    whole_hours = int(days or 0) * 24 + int(hours or 0)
    return float(whole_hours * 3600 + int(minutes or 0) * 60 + int(seconds or 0))


def _sum_of_parts(words: str) -> float | None:
    total, position, unit = 0.0, 0, 0.0
    while position < len(words):
        part = _PART.match(words, position)
        if part is None:
            return None
        if part[2]:
            unit = _UNITS.get(part[2].lower(), 0.0)
        else:  # 1h30
            larger, unit = unit, _SMALLER.get(unit, 0.0)
            if part.end() < len(words) or float(part[1]) * unit >= larger:
                return None
        if not unit:
            return None
        total += float(part[1]) * unit
        position = part.end()
    return total if position else None
