"""What the models of both files share: known keys, checked values, errors in Motoko's words."""

from __future__ import annotations

import keyword
import unicodedata
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, model_validator

from motoko.errors import ConfigError, suggestion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from motoko.config.yaml_document import Document, KeyPath


OPERATORS: Final = frozenset({"and", "or", "not", "in"})


class InvalidValue(ValueError):
    """A validator's complaint: a whole sentence, and where it is, seen from the validated value."""

    def __init__(self, message: str, path: KeyPath = (), hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        self.hint = hint


class ConfigModel(BaseModel):
    """A mapping with known keys. A key without a value counts as not given."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        known = list(cls.model_fields)
        for key in data:
            if key not in known:
                raise InvalidValue(f"unknown key {key!r}", (key,), suggestion(key, known))
        return {key: value for key, value in data.items() if value is not None}


Model = TypeVar("Model", bound=ConfigModel)


def validate(model: type[Model], document: Document) -> Model:
    """Return ``document`` as a ``model``; its first problem is raised as a ConfigError."""
    try:
        return model.model_validate(document.value)
    except ValidationError as error:
        message, path, hint = min(problems(error), key=lambda found: document.line(found[1]))
        raise document.error(message, path, hint=hint) from None


def problems(error: ValidationError) -> list[tuple[str, KeyPath, str | None]]:
    """Return message, place and hint of everything that is wrong, in Motoko's words."""
    return [
        _in_words(detail["type"], detail["loc"], detail.get("ctx", {}), detail["input"])
        for detail in error.errors(include_url=False)
    ]


def _in_words(
    kind: str, place: KeyPath, context: dict[str, Any], value: object
) -> tuple[str, KeyPath, str | None]:
    problem = context.get("error")
    if isinstance(problem, InvalidValue):
        return problem.message, (*place, *problem.path), problem.hint
    key = ".".join(str(step) for step in place)
    if kind == "missing":
        return f"the key {key!r} is missing or has no value", place, None
    hint = "Write true or false." if kind == "bool_type" else None
    return f"{key} cannot be {value!r}", place, hint


def whole_number(minimum: int) -> Callable[[Any, ValidationInfo], int]:
    """Return a validator of whole numbers of at least ``minimum``."""

    def check(value: Any, info: ValidationInfo) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise InvalidValue(
                f"{info.field_name} must be a whole number of at least {minimum}, not {value!r}",
                hint=number_hint(value, "int") if isinstance(value, str) else None,
            )
        return value

    return check


def number_hint(text: str, type_name: str) -> str:
    """Return how a number is written that somebody wrote otherwise."""
    if ":" in text:
        return "A time is no number: write seconds, or declare the parameter as str."
    digits = text.lstrip("+-")
    if digits.lower() in ("inf", "infinity") and type_name == "float":
        return "Write .inf."
    if digits.isdigit() and digits.isascii() and len(text) <= len(digits) + 1:
        number = ("-" if text[0] == "-" else "") + (digits.lstrip("0") or "0")
        return f"Write it without quotes and without zeros in front: {number}."
    example = "1000, -5 or 1e3" if type_name == "int" else "0.5, -5 or 1e-3"
    return f"Write it without quotes and units, as in {example}."


def text(value: Any, info: ValidationInfo) -> str:
    """Validate printable text that is not empty."""
    if not isinstance(value, str):
        raise InvalidValue(
            f"{info.field_name} must be text, not {value!r}", hint="Put it in quotes if it is text."
        )
    if not value.strip() or not value.isprintable():
        raise InvalidValue(f"{info.field_name} must be printable text, not {value!r}")
    return value


def mapping(value: Any, info: ValidationInfo) -> dict[str, Any]:
    """Validate a mapping."""
    if not isinstance(value, dict):
        raise InvalidValue(
            f"{info.field_name} must be a mapping (`name: value`), not {value!r}",
            hint="Write one `name: value` on each line, indented.",
        )
    return value


def check_name(name: str, what: str, taken: Iterable[str]) -> None:
    """Raise Problem unless ``name`` can be written as an attribute and is not in ``taken``.

    ``what`` says what would have the name, with its article.
    """
    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
        raise InvalidValue(
            f"{name!r} cannot be the name of {what}",
            (name,),
            "Use letters, digits and underscores, a letter first, and no word of Python's own.",
        )
    seen = unicodedata.normalize("NFKC", name)
    if seen != name:
        # Python normalises identifiers: the attribute would be looked up by the other spelling.
        codes = " ".join(f"U+{ord(character):04X}" for character in seen)
        raise InvalidValue(
            f"{name!r} cannot be the name of {what}: Python reads it as {seen!r}",
            (name,),
            f"Write it as {seen!r} ({codes}).",
        )
    if name.lower() in OPERATORS:
        raise InvalidValue(
            f"{name!r} cannot be the name of {what}: constraints have the word {name.lower()!r}",
            (name,),
            f"Choose another name, such as {name}_.",
        )
    if name in taken:
        raise InvalidValue(
            f"{name!r} cannot be the name of {what}: the name is taken by Motoko",
            (name,),
            f"Choose another name, such as {name}_.",
        )


def rejected(error: ValidationError) -> ConfigError:
    """Return the first problem of a value that comes from no file."""
    message, _, hint = problems(error)[0]
    return ConfigError(message, hint=hint)
