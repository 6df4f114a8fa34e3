"""Options that decide how a run is executed, wherever they are given."""

from __future__ import annotations

import math
import shlex
from typing import Annotated, Any

from pydantic import BeforeValidator, ValidationInfo

from motoko.config.validation import ConfigModel, InvalidValue, text, whole_number
from motoko.core.durations import EXAMPLES, parse_duration
from motoko.core.parameter_space import GENERATORS, OLD_GENERATORS
from motoko.core.sbatch_options import first_fault
from motoko.errors import ConfigError, suggestion


def generator_name(name: str) -> str:
    """Return the generator that ``name`` (old spellings included) means; ConfigError if none."""
    known = OLD_GENERATORS.get(name, name)
    if known not in GENERATORS:
        raise ConfigError(f"unknown generator {name!r}", hint=suggestion(name, GENERATORS))
    return known


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
    if value is False or value in ("off", math.inf):
        return math.inf
    try:
        return duration(value, info)
    except InvalidValue as problem:
        raise InvalidValue(
            problem.message, problem.path, f"{problem.hint} `off` stands for never."
        ) from None


def _no_duration(value: object, info: ValidationInfo) -> InvalidValue:
    return InvalidValue(
        f"{info.field_name} must be a time, not {value!r}",
        hint=f"Write seconds, or text such as {EXAMPLES}.",
    )


def _generator(value: Any, info: ValidationInfo) -> str:
    name = text(value, info)
    try:
        return generator_name(name)
    except ConfigError as error:
        raise InvalidValue(error.message, hint=error.hint) from None


def _arguments(value: Any, info: ValidationInfo) -> tuple[str, ...]:
    if isinstance(value, str):
        try:
            value = shlex.split(value)
        except ValueError:
            raise InvalidValue(
                f"{info.field_name} has a quote that is not closed: {value!r}"
            ) from None
    if not isinstance(value, list | tuple):
        raise InvalidValue(f"{info.field_name} must be a list of texts, or one text, not {value!r}")
    for index, item in enumerate(value):
        if not isinstance(item, str) or not item or "\0" in item:
            raise InvalidValue(
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
        raise InvalidValue(fault.message, path, fault.hint)
    return options


def _lines(value: Any, info: ValidationInfo) -> tuple[str, ...]:
    """Validate lines for a shell: one text of several lines, or a list of texts."""
    items = value.splitlines() if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        raise InvalidValue(f"{info.field_name} must be a list of lines, or one text, not {value!r}")
    for index, item in enumerate(items):
        if not isinstance(item, str) or "\0" in item or "\n" in item:
            raise InvalidValue(
                f"{info.field_name} must be a list of lines; {item!r} is not one",
                (index,),
                "Put it in quotes.",
            )
    return tuple(items)


class RunOptions(ConfigModel):
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
