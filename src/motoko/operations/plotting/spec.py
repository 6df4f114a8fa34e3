"""The specification of a plot: the columns to draw, the runs, and the kind of plot."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from motoko.errors import PlotError

if TYPE_CHECKING:
    from collections.abc import Sequence

SCATTER, LINE, HIST, PARALLEL, QUANTITY = KINDS = (
    "scatter", "line", "hist", "parallel", "quantity",
)  # fmt: skip
DEFAULT_SIZE: Final = (6.4, 4.8)
SIZES: Final = (1.0, 40.0)  # inches
MAX_COLUMNS: Final = 50
MAX_TEXT: Final = 2000  # characters of a name or constraint

_COLUMN_COUNTS: Final = {SCATTER: (2, 2), LINE: (2, 2), HIST: (1, 1), PARALLEL: (2, MAX_COLUMNS),
                         QUANTITY: (1, 1)}  # fmt: skip
_NEEDS: Final = {
    SCATTER: "two columns, X and Y", LINE: "two columns, X and Y", HIST: "one column, X",
    PARALLEL: f"2 to {MAX_COLUMNS} columns", QUANTITY: "the name of one quantity",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class PlotSpec:
    """A plot of the runs of one study.

    ``columns`` are those on the axes, of kind quantity its name. ``color`` and ``by`` are further
    columns; ``by`` divides the runs into groups. ``where`` are constraints that must all hold.
    ``run_name`` None stands for all. ``size`` is width and height in inches.
    """

    study: str
    kind: str
    columns: tuple[str, ...]
    color: str | None = None
    by: str | None = None
    where: tuple[str, ...] = ()
    run_name: str | None = None
    logx: bool = False
    logy: bool = False
    size: tuple[float, float] = DEFAULT_SIZE

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise PlotError(f"{self.kind!r} is not a kind of plot: {', '.join(KINDS)}")
        low, high = _COLUMN_COUNTS[self.kind]
        if not low <= len(self.columns) <= high:
            raise PlotError(
                f"a plot of kind {self.kind} takes {_NEEDS[self.kind]}, not {len(self.columns)}"
            )
        if self.kind == PARALLEL and (self.logx or self.logy):
            raise PlotError("a plot of kind parallel has no log scales")
        if self.kind == HIST and self.color and self.by:
            raise PlotError("a plot of kind hist takes --color or --by, not both")
        if not all(math.isfinite(inch) and SIZES[0] <= inch <= SIZES[1] for inch in self.size):
            raise PlotError(f"width and height must be from {SIZES[0]:g} to {SIZES[1]:g} inches")

    @property
    def quantity(self) -> str | None:
        """The quantity to draw, None for other kinds."""
        return self.columns[0] if self.kind == QUANTITY else None

    def used_columns(self) -> list[str]:
        """Return the columns of runs that the plot reads, each once."""
        own = () if self.kind == QUANTITY else self.columns
        return list(dict.fromkeys(filter(None, (*own, self.color, self.by))))

    def title(self) -> str:
        """Return the study and the selection of its runs."""
        run_name = [] if self.run_name is None else [f"run name {self.run_name}"]
        return ", ".join([self.study, *run_name, *self.where])

    def to_json(self) -> dict[str, Any]:
        """Return the specification as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> PlotSpec:
        """Return the specification in untrusted JSON values; PlotError if it is invalid."""
        if not isinstance(data, dict) or not data.keys() >= {"study", "kind", "columns"}:
            raise PlotError("its specification of the plot is incomplete")
        unknown = data.keys() - {field.name for field in fields(cls)}
        if unknown:
            raise PlotError(
                f"its specification of the plot has the unknown entry {min(unknown)!r}",
                hint="A newer Motoko may have written it.",
            )
        return cls(**{name: _checked(name, value) for name, value in data.items()})


def default_kind(columns: Sequence[str]) -> str:
    """Return the kind that suits a number of columns."""
    return {1: HIST, 2: SCATTER}.get(len(columns), PARALLEL)


def _checked(name: str, value: Any) -> Any:
    """Return an entry of an untrusted specification in its type."""
    if name in ("columns", "where", "size"):
        valid = isinstance(value, list | tuple) and len(value) <= MAX_COLUMNS
        valid = valid and all(map(_is_length if name == "size" else _is_text, value))
        value = tuple(value) if valid else None
    elif name in ("logx", "logy"):
        valid = isinstance(value, bool)
    else:
        valid = _is_text(value) or (value is None and name in ("color", "by", "run_name"))
    if not valid or (name == "size" and len(value) != 2):
        raise PlotError(f"its specification of the plot has an invalid {name}")
    return value


def _is_length(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= SIZES[1]


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_TEXT
