"""Run options as they are written in ``motoko.yaml`` and ``bd.yaml``."""

from __future__ import annotations

import math
import re
import shlex
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from pydantic import BeforeValidator, Field, ValidationInfo, create_model

from motoko.config.validation import (
    TEXT,
    TEXTS,
    ConfigModel,
    InvalidValue,
    text,
    whole_number,
    written_as,
)
from motoko.core.durations import EXAMPLES, parse_duration
from motoko.core.run_options import (
    GENERATORS,
    OLD_GENERATORS,
    OPTIONS,
    RunOptions,
    generator_name,
    merge_options,
)
from motoko.core.sbatch_options import SbatchOptionFault, user_arguments
from motoko.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from motoko.core.run_options import OptionKind, RunOption


def _duration_form(**limit: float) -> dict[str, Any]:
    return {"anyOf": [{"type": "number", **limit}, TEXT]}


@written_as(_duration_form(exclusiveMinimum=0))
def duration(value: Any, info: ValidationInfo, *, positive: bool = True) -> float:
    """Validate a duration, in seconds."""
    seconds = parse_duration(value)
    if seconds is None or (positive and not seconds):
        raise InvalidValue(
            f"{info.field_name} must be a time, not {value!r}",
            hint=f"Write seconds, or text such as {EXAMPLES}.",
        )
    return seconds


@written_as({"anyOf": [*_duration_form(exclusiveMinimum=0)["anyOf"], {"const": False}]})
def duration_or_off(value: Any, info: ValidationInfo) -> float:
    """Validate a positive duration in seconds; ``off`` is infinite."""
    if value is False or value in ("off", math.inf):
        return math.inf
    try:
        return duration(value, info)
    except InvalidValue as problem:
        raise InvalidValue(
            problem.message, problem.path, f"{problem.hint} `off` stands for never."
        ) from None


@written_as({"enum": [*GENERATORS, *OLD_GENERATORS]})
def _generator(value: Any, info: ValidationInfo) -> str:
    name = text(value, info)
    try:
        return generator_name(name)
    except ConfigError as error:
        raise InvalidValue(error.message, hint=error.hint) from None


@written_as({"anyOf": [{"type": "string"}, TEXTS]})
def _arguments(value: Any, info: ValidationInfo) -> tuple[str, ...]:
    if isinstance(value, str):
        try:
            value = shlex.split(value)
        except ValueError:
            raise InvalidValue(f"{info.field_name} has an unclosed quote: {value!r}") from None
    return _texts(value, info, "texts", re.compile(r"[^\0]+"))


@written_as({"anyOf": [{"type": "string"}, TEXTS]})
def _sbatch_options(value: Any, info: ValidationInfo) -> tuple[str, ...]:
    options = _arguments(value, info)
    try:
        user_arguments(options)
    except SbatchOptionFault as fault:
        path = () if isinstance(value, str) else (fault.index,)
        raise InvalidValue(fault.message, path, fault.hint) from None
    return options


@written_as({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})
def _shell_lines(value: Any, info: ValidationInfo) -> tuple[str, ...]:
    """Validate lines for a shell: one text of several lines, or a list of texts."""
    lines = value.splitlines() if isinstance(value, str) else value
    return _texts(lines, info, "lines", re.compile(r"[^\0\n]*"))


def _texts(value: Any, info: ValidationInfo, what: str, valid: re.Pattern[str]) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise InvalidValue(
            f"{info.field_name} must be a list of {what}, or one text, not {value!r}"
        )
    for index, item in enumerate(value):
        if not isinstance(item, str) or not valid.fullmatch(item):
            raise InvalidValue(
                f"{info.field_name} must be a list of {what}; {item!r} is not one",
                (index,),
                "Put it in quotes.",
            )
    return tuple(value)


def _validator(option: RunOption) -> Callable[[Any, ValidationInfo], Any]:
    limit = "exclusiveMinimum" if option.exclusive else "minimum"
    validators: dict[OptionKind, Callable[[Any, ValidationInfo], Any]] = {
        "generator": _generator,
        "count": whole_number(option.minimum),
        "duration": written_as(_duration_form(**{limit: option.minimum}))(
            partial(duration, positive=option.exclusive)
        ),
        "text": text,
        "arguments": _arguments,
        "sbatch_options": _sbatch_options,
        "shell_lines": _shell_lines,
    }
    return validators[option.kind]


def _fields() -> dict[str, Any]:
    types = get_type_hints(RunOptions)
    return {
        name: (
            Annotated[types[name] | None, BeforeValidator(_validator(option))],
            Field(None, description=option.description),
        )
        for name, option in OPTIONS.items()
    }


if TYPE_CHECKING:
    _OptionFields = ConfigModel
else:
    _OptionFields = create_model("_OptionFields", __base__=ConfigModel, **_fields())


class GivenOptions(_OptionFields):
    """The run options of one section, None where it gives none. Times are in seconds."""

    def merged(self, other: GivenOptions) -> GivenOptions:
        """Return these options, overridden by the given ones of ``other``."""
        # Merging valid options needs no validation.
        return GivenOptions.model_construct(**merge_options(self.given(), other.given()))

    def given(self) -> dict[str, Any]:
        """Return the run options that this section gives."""
        values = {name: getattr(self, name) for name in OPTIONS}
        return {name: value for name, value in values.items() if value is not None}
