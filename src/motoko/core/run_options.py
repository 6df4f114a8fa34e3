"""Run options: how one run is executed.

The fields of ``RunOptions`` are the one declaration of these options. Configuration models,
stored columns, defaults, validation, the JSON schema and the reserved names of workers follow
from ``OPTIONS``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from motoko.core.durations import EXAMPLES, parse_duration
from motoko.core.sbatch_options import user_arguments
from motoko.core.values import coerce
from motoko.errors import ConfigError, ParameterError, suggestion

if TYPE_CHECKING:
    from collections.abc import Mapping

BASH: Final = "bash"  # runs are processes of this machine and use its cores
SLURM: Final = "slurm"
GENERATORS: Final = (BASH, SLURM)
OLD_GENERATORS: Final = MappingProxyType({"bashCoat": BASH, "slurmCoat": SLURM})

OptionKind: TypeAlias = Literal[
    "generator", "count", "duration", "text", "arguments", "sbatch_options", "shell_lines"
]
_COLUMN_TYPES: Final[Mapping[OptionKind, str]] = MappingProxyType(
    {"generator": "str", "text": "str", "count": "int", "duration": "float"}
)


def generator_name(name: str) -> str:
    """Return the generator that ``name`` or its old spelling means, or raise ConfigError."""
    known = OLD_GENERATORS.get(name, name)
    if known not in GENERATORS:
        raise ConfigError(f"unknown generator {name!r}", hint=suggestion(name, GENERATORS))
    return known


@dataclass(frozen=True, slots=True)
class RunOption:
    """The declaration of one run option.

    A value is at least ``minimum``, or larger if that is ``exclusive``. ``stored``: a run may have
    its own value, which is a column. ``cumulative``: later lists are appended to earlier ones.
    """

    name: str
    kind: OptionKind
    default: Any
    description: str
    minimum: int = 0
    exclusive: bool = False
    stored: bool = True
    cumulative: bool = False

    @property
    def type_name(self) -> str:
        """The type of the option's column, spelled as in ``bd.yaml``."""
        return _COLUMN_TYPES.get(self.kind, "list")

    def check(self, value: Any, study: str) -> Any:
        """Return a run's own value of this option, converted; ParameterError if it is invalid."""
        if self.kind == "duration" and not isinstance(value, int | float):
            seconds = parse_duration(value)
            value = value if seconds is None else seconds
        value = coerce(value, self.type_name, f"study {study!r}: run field {self.name!r}")
        try:
            if self.kind == "generator":
                return generator_name(value)
            if self.kind == "sbatch_options":
                user_arguments(map(str, value))
        except ConfigError as error:
            message = f"study {study!r}: run_params: {error.message}"
            raise ParameterError(message, hint=error.hint) from None
        if self.kind in ("count", "duration") and not self._in_range(value):
            hint = f"Give at least {self.minimum}."
            if self.exclusive:
                hint = f"Give seconds, more than {self.minimum}, or {EXAMPLES}."
            if self.default is None:
                hint += f" Without a {self.name} there is no limit."
            raise ParameterError(f"study {study!r}: {self.name} cannot be {value!r}", hint=hint)
        return value

    def _in_range(self, value: float) -> bool:
        above = value > self.minimum if self.exclusive else value >= self.minimum
        return above and value < math.inf

    def resolve(self, value: Any) -> Any:
        """Return a given value in the type of ``RunOptions``, the default for an empty one."""
        if not value:
            return self.default
        if self.kind == "count":
            return max(self.minimum, int(value))
        if self.kind == "duration":
            return float(value)
        return str(value) if self.type_name == "str" else tuple(map(str, value))


def _option(kind: OptionKind, default: Any, description: str, **more: Any) -> Any:
    return field(default=default, metadata={"kind": kind, "description": description, **more})


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How one run is executed. Times are in seconds."""

    machine_name: str | None = _option("text", None, "the machine that executes the runs")
    nproc: int = _option(
        "count", 1, "processes of a run: slots of bash, tasks on one node of slurm", minimum=1
    )
    timeout: float | None = _option(
        "duration", None, "the time after which a run is stopped: TIMEOUT", exclusive=True
    )
    retries: int = _option("count", 0, "further attempts after a failure")
    retry_delay: float = _option(
        "duration", 0.0, "the delay before the first retry, doubled for each further one"
    )
    generator: str = _option("generator", BASH, "how runs are executed: bash or slurm")
    bash_options: tuple[str, ...] = _option("arguments", (), "arguments of bash")
    slurm_options: tuple[str, ...] = _option(
        "sbatch_options", (), "arguments of sbatch, added to earlier ones", cumulative=True
    )
    module: tuple[str, ...] = _option(
        "shell_lines", (), "with slurm: arguments of `module load`", stored=False
    )
    prologue: tuple[str, ...] = _option(
        "shell_lines", (), "with slurm: shell lines before the script", stored=False
    )

    @property
    def slots(self) -> int:
        """The slots of a launcher that the run uses; a scheduler counts runs only."""
        return self.nproc if self.generator == BASH else 1

    @classmethod
    def resolve(cls, defaults: Mapping[str, Any], given: Mapping[str, Any]) -> RunOptions:
        """Return the options of a study, overridden by those of a run."""
        # An empty list adds nothing.
        own = {name: v for name, v in given.items() if v or not OPTIONS[name].cumulative}
        merged = merge_options(defaults, own)
        return cls(**{name: OPTIONS[name].resolve(value) for name, value in merged.items()})


OPTIONS: Final[Mapping[str, RunOption]] = MappingProxyType(
    {f.name: RunOption(name=f.name, default=f.default, **f.metadata) for f in fields(RunOptions)}
)
STORED_OPTIONS: Final = MappingProxyType(
    {name: option.type_name for name, option in OPTIONS.items() if option.stored}
)


def merge_options(earlier: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """Return the earlier options, overridden by the later ones; cumulative ones are appended."""
    merged = {**earlier, **later}
    for name, option in OPTIONS.items():
        if option.cumulative and earlier.get(name) and later.get(name):
            merged[name] = (*earlier[name], *later[name])
    return merged
