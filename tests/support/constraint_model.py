"""A model of constraints that is independent of the code under test: three-valued logic."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from motoko.core.constraints import Columns
from motoko.core.states import Lifecycle

if TYPE_CHECKING:
    from motoko.core.records import RunRecord

COLUMNS = Columns(
    "s", {"x": "float", "n": "int", "name": "str", "ok": "bool", "when": "datetime"}, {}
)
STATES = ["FINISHED", "FAILED", "FORWARDED", "needs a look", "CREATED"]
ABSENT = object()


@dataclass(frozen=True)
class Atom:
    """A comparison in the model's own syntax tree."""

    column: str
    operator: str
    values: tuple[Any, ...]

    def text(self) -> str:
        values = [quote(value) for value in self.values]
        if self.operator in ("in", "not in"):
            return f"{self.column} {self.operator} ({', '.join(values)})"
        return f"{self.column}{self.operator}{values[0]}"

    def truth(self, record: RunRecord) -> bool | None:
        value = lookup(self.column, record)
        if value is ABSENT:
            return None
        if self.operator in ("!=", "!~", "!~*", "not in"):
            positive = {"!=": "=", "!~": "~", "!~*": "~*", "not in": "in"}[self.operator]
            return not Atom(self.column, positive, self.values).truth(record)
        return any(holds(self.operator, value, other) for other in self.values)


@dataclass(frozen=True)
class Joined:
    word: str
    items: tuple[Any, ...]

    def text(self) -> str:
        if self.word == "not":
            return f"not ({self.items[0].text()})"
        return f" {self.word} ".join(f"({item.text()})" for item in self.items)

    def truth(self, record: RunRecord) -> bool | None:
        known = [item.truth(record) for item in self.items]
        if self.word == "not":
            return None if known[0] is None else not known[0]
        decisive = self.word == "or"
        if decisive in known:
            return decisive
        return None if None in known else not decisive


def quote(value: Any) -> str:
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int | float):
        return repr(value)
    text = value.isoformat() if isinstance(value, datetime) else value
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def lookup(column: str, record: RunRecord) -> Any:
    if column in ("id", "state"):
        return getattr(record, column)
    if column == "exit_code":
        return ABSENT if record.exit_code is None else record.exit_code
    place = record.job if column in COLUMNS.job else record.fields
    return place.get(column, ABSENT)


def kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    return "number" if isinstance(value, int | float) else type(value).__name__


def holds(operator: str, value: Any, other: Any) -> bool:
    if isinstance(value, datetime) and other == "2024-05-01":
        other = datetime(2024, 5, 1, tzinfo=UTC)
    if operator in ("~", "~*"):
        flags = re.IGNORECASE if operator == "~*" else 0
        return isinstance(value, str) and bool(re.search(other, value, flags))
    if kind(value) != kind(other):
        return False
    if operator in ("=", "in"):
        return bool(value == other)
    less, same = value < other, value == other
    more = value > other
    return bool({"<": less, "<=": less or same, ">": more, ">=": more or same}[operator])


def as_stored(state: str) -> dict[str, Any]:
    if state in list(Lifecycle):
        return {"lifecycle": Lifecycle(state), "label": None}
    return {"lifecycle": Lifecycle.FINISHED, "label": state}
