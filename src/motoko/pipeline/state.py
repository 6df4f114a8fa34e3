"""States: named values that steps read and write."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import pydantic

from motoko.errors import ImmutableStateError, UnknownStateNameError, suggestion
from motoko.pipeline.base import BaseModel

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Interface(BaseModel):
    """What all states have in common.

    ``backend`` is where values are. A name is posted once, unless the state is ``mutable``.
    """

    backend: Any = None
    mutable: bool = False

    @abstractmethod
    def extract(self, name: str) -> Any:
        """Return a value. UnknownStateNameError (a KeyError) if there is none of that name."""

    @abstractmethod
    def post(self, data: Any, name: str) -> None:
        """Keep a value; ImmutableStateError (a ValueError) if the name is taken."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Forget a value. UnknownStateNameError (a KeyError) if there is none of that name."""

    @abstractmethod
    def __contains__(self, name: object) -> bool:
        """Whether there is a value of that name."""

    def names(self) -> list[str]:
        """Return the names of all values, in the order in which they were first posted."""
        return []

    def post_all(self, values: Mapping[str, Any]) -> None:
        """Post several values; none of them if a name is taken."""
        self.check_postable(values)
        for name, value in values.items():
            self.post(value, name=name)

    def check_postable(self, names: Iterable[str]) -> None:
        """Raise ImmutableStateError if one of ``names`` is taken and must not be posted again."""
        if not self.mutable:
            for name in names:
                if name in self:
                    raise immutable(name)

    def unknown(self, name: str) -> UnknownStateNameError:
        """Return the error for a name that the state does not have."""
        return UnknownStateNameError(
            f"the state has no {name!r}", hint=suggestion(name, self.names())
        )


class State(Interface):
    """A state in memory: a dictionary. The one that is given as ``backend`` stays as it is.

    Values are kept as they are, not copied.
    """

    backend: dict[str, Any] = pydantic.Field(default_factory=dict)

    def __init__(self, backend: Mapping[str, Any] | None = None, mutable: bool = False) -> None:
        super().__init__(backend=dict(backend or {}), mutable=mutable)

    def extract(self, name: str) -> Any:
        """Return a value. UnknownStateNameError (a KeyError) if there is none of that name."""
        if name not in self.backend:
            raise self.unknown(name)
        return self.backend[name]

    def post(self, data: Any, name: str) -> None:
        """Keep a value; ImmutableStateError (a ValueError) if the name is taken."""
        self.check_postable([name])
        self.backend[name] = data

    def delete(self, name: str) -> None:
        """Forget a value. UnknownStateNameError (a KeyError) if there is none of that name."""
        if name not in self.backend:
            raise self.unknown(name)
        del self.backend[name]

    def __contains__(self, name: object) -> bool:
        return name in self.backend

    def names(self) -> list[str]:
        """Return the names of all values, in the order in which they were first posted."""
        return [*self.backend]


def immutable(name: str) -> ImmutableStateError:
    """Return the error for a name that is posted again."""
    return ImmutableStateError(
        f"Cannot mutate key: {name}",
        hint="Use a new state, or one with mutable=True.",
    )
