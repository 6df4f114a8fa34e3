"""Options that decide how a run is executed, wherever they are given."""

from __future__ import annotations

import math
import re
import shlex
from types import MappingProxyType
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, ValidationInfo

from motoko.config.sections import Problem, Section, text, whole_number
from motoko.core.sbatch import first_fault
from motoko.core.space import GENERATORS, OLD_GENERATORS
from motoko.errors import ConfigError, suggestion

_UNITS: Final = MappingProxyType(
    {
        **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
        **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60.0),
        **dict.fromkeys(("h", "hour", "hours"), 3600.0),
        **dict.fromkeys(("d", "day", "days"), 86400.0),
    }
)
_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]+)\s*")
_NUMBER: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_CLOCK: Final = re.compile(r"(?:([0-9]+):)?([0-9]{1,2}):([0-9]{2})")


def generator_name(name: str) -> str:
    """Return the generator that ``name`` (old spellings included) means; ConfigError if none."""
    known = OLD_GENERATORS.get(name, name)
    if known not in GENERATORS:
        raise ConfigError(f"unknown generator {name!r}", hint=suggestion(name, GENERATORS))
    return known


def parse_duration(value: object) -> float | None:
    """Return a time in seconds from ``90``, ``"90s"``, ``"10 min"``, ``"1h 30min"`` or
    ``"01:30:00"``; None if it is none of these.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value) if math.isfinite(value) and value >= 0 else None
    if not isinstance(value, str):
        return None
    words = value.strip()
    if _NUMBER.fullmatch(words):
        return float(words)
    clock = _CLOCK.fullmatch(words)
    if clock:
        hours, minutes, seconds = (int(group or 0) for group in clock.groups())
        return float(hours * 3600 + minutes * 60 + seconds)
    return _sum_of_parts(words)


def _sum_of_parts(words: str) -> float | None:
    total, position = 0.0, 0
    while position < len(words):
        part = _PART.match(words, position)
        unit = None if part is None else _UNITS.get(part[2].lower())
        if part is None or unit is None:
            return None
        total += float(part[1]) * unit
        position = part.end()
    return total if position else None


def duration(value: Any, info: ValidationInfo) -> float:
    """Validate a time of more than nothing, in seconds."""
    seconds = parse_duration(value)
    if not seconds:
        raise _no_duration(value, info)
    return seconds


def delay(value: Any, info: ValidationInfo) -> float:
    """Validate a time that may be nothing, in seconds."""
    seconds = parse_duration(value)
    if seconds is None:
        raise _no_duration(value, info)
    return seconds


def duration_or_off(value: Any, info: ValidationInfo) -> float:
    """Validate a time in seconds; ``off`` is a time that never comes."""
    off = value is False or value in ("off", math.inf)
    return math.inf if off else duration(value, info)


def _no_duration(value: object, info: ValidationInfo) -> Problem:
    return Problem(
        f"{info.field_name} must be a time, not {value!r}",
        hint="Write seconds, or text such as 90s, 10 min, 1h 30min.",
    )


def _generator(value: Any, info: ValidationInfo) -> str:
    name = text(value, info)
    try:
        return generator_name(name)
    except ConfigError as error:
        raise Problem(error.message, hint=error.hint) from None


def _arguments(value: Any, info: ValidationInfo) -> tuple[str, ...]:
    if isinstance(value, str):
        try:
            value = shlex.split(value)
        except ValueError:
            raise Problem(f"{info.field_name} has a quote that is not closed: {value!r}") from None
    if not isinstance(value, list | tuple):
        raise Problem(f"{info.field_name} must be a list of texts, or one text, not {value!r}")
    for index, item in enumerate(value):
        if not isinstance(item, str) or not item or "\0" in item:
            raise Problem(
                f"{info.field_name} must be a list of texts; {item!r} is not text",
                (index,),
                "Put it in quotes.",
            )
    return tuple(value)


def _slurm_options(value: Any, info: ValidationInfo) -> tuple[str, ...]:
    options = _arguments(value, info)
    fault = first_fault(options)
    if fault is not None:
        path = () if isinstance(value, str) else (fault.index,)
        raise Problem(fault.message, path, fault.hint)
    return options


def _lines(value: Any, info: ValidationInfo) -> tuple[str, ...]:
    """Validate lines for a shell: one text of several lines, or a list of texts."""
    items = value.splitlines() if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        raise Problem(f"{info.field_name} must be a list of lines, or one text, not {value!r}")
    for index, item in enumerate(items):
        if not isinstance(item, str) or "\0" in item or "\n" in item:
            raise Problem(
                f"{info.field_name} must be a list of lines; {item!r} is not one",
                (index,),
                "Put it in quotes.",
            )
    return tuple(items)


class RunOptions(Section):
    """How a run is executed. None: not given here. Times are in seconds."""

    generator: Annotated[str | None, BeforeValidator(_generator)] = None
    nproc: Annotated[int | None, BeforeValidator(whole_number(1))] = None
    timeout: Annotated[float | None, BeforeValidator(duration)] = None
    retries: Annotated[int | None, BeforeValidator(whole_number(0))] = None
    retry_delay: Annotated[float | None, BeforeValidator(delay)] = None
    machine_name: Annotated[str | None, BeforeValidator(text)] = None
    bash_options: Annotated[tuple[str, ...] | None, BeforeValidator(_arguments)] = None
    slurm_options: Annotated[tuple[str, ...] | None, BeforeValidator(_slurm_options)] = None
    module: Annotated[tuple[str, ...] | None, BeforeValidator(_lines)] = None
    prologue: Annotated[tuple[str, ...] | None, BeforeValidator(_lines)] = None

    def merged(self, other: RunOptions) -> RunOptions:
        """Return these options, overridden by those that ``other`` gives.

        ``slurm_options`` are put one after the other: sbatch takes the last of a kind.
        """
        options = {**self.given(), **other.given()}
        if self.slurm_options and other.slurm_options:
            options["slurm_options"] = (*self.slurm_options, *other.slurm_options)
        # Not validated again: two lists that are right by themselves are so together.
        return RunOptions.model_construct(**options)

    def given(self) -> dict[str, Any]:
        """Return the run options that are given here, of whatever section this is."""
        values = {name: getattr(self, name) for name in RunOptions.model_fields}
        return {name: value for name, value in values.items() if value is not None}
