"""The base of models: pydantic with a dotted path and a round trip through JSON."""

from __future__ import annotations

import json
from typing import Any, Self

import pydantic

from motoko.errors import NotAModelError
from motoko.pipeline.import_paths import path_of
from motoko.pipeline.json_codec import decode, encode
from motoko.pipeline.values import values_equal


class BaseModel(pydantic.BaseModel):
    """A pydantic model that forbids unknown fields and can be written as JSON.

    A model for a :class:`~motoko.pipeline.Step` has a method ``run()`` that returns a dictionary.
    Models are equal if they have the same class and the same field values, including arrays and
    data frames.
    """

    model_config = pydantic.ConfigDict(
        extra="forbid", arbitrary_types_allowed=True, protected_namespaces=()
    )

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return values_equal(self, other)

    __hash__ = None  # type: ignore[assignment]  # fields may be assigned

    def comparison_key(self) -> Any:
        """Return the data by which two models of this class are compared."""
        return [self.__dict__, self.__pydantic_private__]

    def json_fields(self) -> dict[str, Any]:
        """Return the values that are written as JSON: the fields, by alias."""
        return {
            field.alias or name: getattr(self, name)
            for name, field in type(self).model_fields.items()
            if not field.exclude
        }

    @classmethod
    def get_uri(cls) -> str:
        """Return ``module.Class``."""
        return path_of(cls)

    def to_dict(self) -> dict[str, Any]:
        """Return ``{"model": dotted path, "contents": plain JSON}``, or raise NotEncodableError."""
        encoded: dict[str, Any] = encode(self, type(self).__name__)
        return encoded

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Return the model that :meth:`to_dict` wrote; its module must be imported.

        NotAModelError (a TypeError) if its class is neither this one nor a subclass.
        """
        decoded = decode(data)
        if not isinstance(decoded, cls):
            raise NotAModelError(f"this is a {type(decoded).__name__}, not a {cls.__name__}")
        return decoded

    def to_json(self, *, indent: int | None = None) -> str:
        """Return :meth:`to_dict` as text."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Return the model that :meth:`to_json` wrote; its module must be imported."""
        return cls.from_dict(json.loads(text))

    getUri = get_uri
    toDict = to_dict
    toJson = to_json

    @classmethod
    def fromDict(cls, data: dict[str, Any]) -> Self:
        """See :meth:`from_dict`."""
        return cls.from_dict(data)

    @classmethod
    def fromJson(cls, text: str | bytes) -> Self:
        """See :meth:`from_json`."""
        return cls.from_json(text)
