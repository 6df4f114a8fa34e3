"""States: the named values that steps read and write."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import pydantic

from motoko.errors import ImmutableStateError, NotAModelError, UnknownStateNameError, suggestion
from motoko.pipeline.base import BaseModel

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Interface(BaseModel):
    """The interface of all states; a name is posted once unless the state is ``mutable``."""

    backend: Any = None
    mutable: bool = False
    # The run of a step that left each value.
    _left_by: dict[str, str] = pydantic.PrivateAttr(default_factory=dict)

    def comparison_key(self) -> Any:
        """Return the data to compare, without the runs that left the values."""
        private = self.__pydantic_private__ or {}
        return [self.__dict__, {name: private[name] for name in private if name != "_left_by"}]

    @abstractmethod
    def extract(self, name: str) -> Any:
        """Return a value. UnknownStateNameError (a KeyError) for an unknown name."""

    @abstractmethod
    def post(self, data: Any, name: str) -> None:
        """Keep a value; ImmutableStateError (a ValueError) if the name is in use."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove a value. UnknownStateNameError (a KeyError) for an unknown name."""

    @abstractmethod
    def __contains__(self, name: object) -> bool:
        """Whether the state has a value with this name."""

    def names(self) -> list[str]:
        """Return the names of all values, in the order of their first posts."""
        return []

    def post_all(self, values: Mapping[str, Any]) -> None:
        """Post several values; none of them if a name is in use."""
        self.check_postable(values)
        for name, value in values.items():
            self.post(value, name=name)

    def post_step_output(self, values: Mapping[str, Any], run: str) -> None:
        """Post all outputs of a step, or none; ``run`` names this run of the step."""
        self.post_all(values)
        self._left_by.update(dict.fromkeys(values, run))

    def left_by(self, name: str) -> str | None:
        """Return the run of a step that left this value; None if the user posted it."""
        return self._left_by.get(name)

    def check_postable(self, names: Iterable[str]) -> None:
        """Raise ImmutableStateError if one of ``names`` cannot be posted again."""
        if not self.mutable:
            for name in names:
                if name in self:
                    raise immutable_error(name)

    def unknown_name_error(self, name: str) -> UnknownStateNameError:
        """Return the error for an unknown name."""
        return UnknownStateNameError(
            f"the state has no {name!r}", hint=suggestion(name, self.names())
        )


class State(Interface):
    """A state in memory. Its dictionary is a copy of ``backend``; values are not copied."""

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

    def json_fields(self) -> dict[str, Any]:
        """Return the fields, and the runs of steps that left values, if any."""
        return {**super().json_fields(), **({"left_by": self._left_by} if self._left_by else {})}

    def extract(self, name: str) -> Any:
        """Return a value. UnknownStateNameError (a KeyError) for an unknown name."""
        if name not in self.backend:
            raise self.unknown_name_error(name)
        return self.backend[name]

    def post(self, data: Any, name: str) -> None:
        """Keep a value; ImmutableStateError (a ValueError) if the name is in use."""
        self.check_postable([name])
        self.backend[name] = data
        self._left_by.pop(name, None)

    def delete(self, name: str) -> None:
        """Remove a value. UnknownStateNameError (a KeyError) for an unknown name."""
        if name not in self.backend:
            raise self.unknown_name_error(name)
        del self.backend[name]
        self._left_by.pop(name, None)

    def __contains__(self, name: object) -> bool:
        return name in self.backend

    def names(self) -> list[str]:
        """Return the names of all values, in the order of their first posts."""
        return [*self.backend]


def immutable_error(name: str) -> ImmutableStateError:
    """Return the error for posting a name again."""
    return ImmutableStateError(
        f"Cannot mutate key: {name}", hint="Use a new state, or one with mutable=True."
    )


def check_state(state: object) -> None:
    """Raise NotAModelError (a TypeError) unless ``state`` is a state."""
    if not isinstance(state, Interface):
        raise NotAModelError(
            f"a {type(state).__name__} is not a state", hint="Use State({name: value, ...})."
        )
