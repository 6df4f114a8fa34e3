"""What went into steps and came out of them, by the index of the step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pydantic

from motoko.errors import UnknownNodeError
from motoko.pipeline.base import BaseModel
from motoko.pipeline.values import snapshot, values_equal

if TYPE_CHECKING:
    from collections.abc import Mapping


class Extracts(BaseModel):
    """Copies of dictionaries of values, by index."""

    data: dict[int, dict[str, Any]] = pydantic.Field(default_factory=dict)
    # What cannot be copied may change unseen.
    _uncopied: set[int] = pydantic.PrivateAttr(default_factory=set)

    def __init__(self, data: Mapping[int, Mapping[str, Any]] | None = None) -> None:
        fields: dict[str, Any] = {"data": data or {}}
        super().__init__(**fields)

    def compared_by(self) -> Any:
        """Return the data."""
        return self.data

    def get(self, index: int) -> dict[str, Any]:
        """Return a copy of what is kept. KeyError if nothing is."""
        if index not in self.data:
            raise UnknownNodeError(f"nothing is kept of step {index!r}")
        return _copied(self.data[index])[0]

    def add(self, index: int, values: Mapping[str, Any]) -> None:
        """Keep a copy; what cannot be copied is kept as it is."""
        self.data[index], whole = _copied(values)
        self._uncopied.discard(index)
        if not whole:
            self._uncopied.add(index)

    def remove(self, index: int) -> None:
        """Forget what is kept, if something is."""
        self.data.pop(index, None)
        self._uncopied.discard(index)

    def equal(self, index: int, values: Mapping[str, Any]) -> bool:
        """Whether the same is kept; False if nothing is, or if there is no telling."""
        return index in self.data and not self.changes(index, values)

    def changes(self, index: int, values: Mapping[str, Any]) -> list[str]:
        """Return the names of the values that are not known to be the same as those kept."""
        kept = self.data[index]
        names = dict.fromkeys([*values, *kept])
        if index in self._uncopied:
            return [*names]
        return [
            name
            for name in names
            if name not in values or name not in kept or not values_equal(values[name], kept[name])
        ]

    def __contains__(self, index: object) -> bool:
        return index in self.data


def _copied(values: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return a copy of each value, and whether that could be done with all of them."""
    made: dict[str, Any] = {}
    whole = True
    for name, value in values.items():
        try:
            made[name] = snapshot(value)
        except Exception:  # noqa: BLE001 - a class may raise anything when it is copied
            made[name], whole = value, False
    return made, whole
