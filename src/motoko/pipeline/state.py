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
    # A value that a run of a step left is stale once that step's output is another one.
    _left_by: dict[str, str] = pydantic.PrivateAttr(default_factory=dict)

    def compared_by(self) -> Any:
        """Return what two states are compared by: not which runs of steps left their values."""
        private = self.__pydantic_private__ or {}
        return [self.__dict__, {name: private[name] for name in private if name != "_left_by"}]

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

    def post_of_step(self, values: Mapping[str, Any], run: str) -> None:
        """Post what a step passes on, all of it or none; ``run`` names this run of the step."""
        self.post_all(values)
        self._left_by.update(dict.fromkeys(values, run))

    def left_by(self, name: str) -> str | None:
        """Return which run of a step left the value of that name; None if none did."""
        return self._left_by.get(name)

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

    def __init__(
        self,
        backend: Mapping[str, Any] | None = None,
        mutable: bool = False,
        *,
        left_by: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(backend=dict(backend or {}), mutable=mutable)
        self._left_by = dict(left_by or {})

    def written_as(self) -> dict[str, Any]:
        """Return the fields, and which runs of steps left values, if some did."""
        return {**super().written_as(), **({"left_by": self._left_by} if self._left_by else {})}

    def extract(self, name: str) -> Any:
        """Return a value. UnknownStateNameError (a KeyError) if there is none of that name."""
        if name not in self.backend:
            raise self.unknown(name)
        return self.backend[name]

    def post(self, data: Any, name: str) -> None:
        """Keep a value; ImmutableStateError (a ValueError) if the name is taken."""
        self.check_postable([name])
        self.backend[name] = data
        self._left_by.pop(name, None)

    def delete(self, name: str) -> None:
        """Forget a value. UnknownStateNameError (a KeyError) if there is none of that name."""
        if name not in self.backend:
            raise self.unknown(name)
        del self.backend[name]
        self._left_by.pop(name, None)

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
