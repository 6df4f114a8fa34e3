"""Validation shared by the models of both files: known keys, checked values, clear errors."""

from __future__ import annotations

import keyword
import unicodedata
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from motoko.errors import suggestion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

    from motoko.config.yaml_document import Document, KeyPath


T = TypeVar("T")

# Forms of values in JSON Schema. YAML 1.2 reads some numbers and truth values of YAML 1.1 as text.
BOOLEAN: Final[dict[str, Any]] = {
    "anyOf": [{"type": "boolean"}, {"enum": ["yes", "no", "on", "off", "Yes", "No", "On", "Off"]}]
}
LONG_NUMBER: Final[dict[str, Any]] = {"type": "string", "pattern": "^[-+]?[0-9]+(_[0-9]+)+"}
NUMBER: Final[dict[str, Any]] = {"anyOf": [{"type": "number"}, LONG_NUMBER]}
TEXT: Final[dict[str, Any]] = {"type": "string", "minLength": 1}
NAME: Final[dict[str, Any]] = {"pattern": "^[^0-9\\s_.-][^\\s.-]*$"}  # not exactly an identifier
TEXTS: Final[dict[str, Any]] = {"type": "array", "items": TEXT}

OPERATORS: Final = frozenset({"and", "or", "not", "in"})


class InvalidValue(ValueError):
    """An invalid value: a sentence, and its path from the validated value."""

    def __init__(self, message: str, path: KeyPath = (), hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        self.hint = hint


def written_as(form: dict[str, Any]) -> Callable[[T], T]:
    """Return a decorator that adds to a validator the JSON Schema of the values it accepts."""

    def declare(validator: T) -> T:
        vars(validator)["written_form"] = form
        return validator

    return declare


def written_form(validator: object) -> dict[str, Any]:
    """Return the JSON Schema of the values that a validator accepts."""
    form: dict[str, Any] = vars(validator)["written_form"]
    return form


class ConfigModel(BaseModel):
    """A mapping with known keys. A key without a value is ignored."""

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


def model_form(model: type[ConfigModel]) -> dict[str, Any]:
    """Return the JSON Schema of the mappings that a model accepts."""
    fields = model.model_fields
    required = [name for name, field in fields.items() if field.is_required()]
    return {
        "type": "object",
        "properties": {name: _property(field) for name, field in fields.items()},
        **({"required": required} if required else {}),
        "additionalProperties": False,
    }


def _property(field: FieldInfo) -> dict[str, Any]:
    checks = (one.func for one in field.metadata if isinstance(one, BeforeValidator))
    form = next((written_form(check) for check in checks), BOOLEAN)
    described = {} if field.description is None else {"description": field.description}
    if field.is_required():
        return {**described, **form}
    choices = form["anyOf"] if form.keys() == {"anyOf"} else [form]
    return {**described, "anyOf": [*choices, {"type": "null"}]}  # a key without a value is ignored


Model = TypeVar("Model", bound=ConfigModel)
Mistake: TypeAlias = "tuple[str, KeyPath, str | None]"  # message, path, hint


def validate(model: type[Model], document: Document) -> Model:
    """Return ``document`` as a ``model``, or raise a ConfigError about its first mistake."""
    try:
        return model.model_validate(document.value)
    except ValidationError as error:
        message, path, hint = min(mistakes(error), key=lambda found: document.line(found[1]))
        raise document.error(message, path, hint=hint) from None


def mistakes(error: ValidationError) -> list[Mistake]:
    """Return message, path and hint of every mistake."""
    return [_mistake(detail) for detail in error.errors(include_url=False)]


def _mistake(detail: ErrorDetails) -> Mistake:
    path, problem = detail["loc"], detail.get("ctx", {}).get("error")
    if isinstance(problem, InvalidValue):
        return problem.message, (*path, *problem.path), problem.hint
    key = ".".join(str(step) for step in path)
    if detail["type"] == "missing":
        return f"the key {key!r} is missing or has no value", path, None
    hint = "Write true or false." if detail["type"] == "bool_type" else None
    return f"{key} cannot be {detail['input']!r}", path, hint


def whole_number(minimum: int) -> Callable[[Any, ValidationInfo], int]:
    """Return a validator of whole numbers of at least ``minimum``."""

    @written_as({"anyOf": [{"type": "integer", "minimum": minimum}, LONG_NUMBER]})
    def check(value: Any, info: ValidationInfo) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise InvalidValue(
                f"{info.field_name} must be a whole number of at least {minimum}, not {value!r}",
                hint=number_hint(value, "int") if isinstance(value, str) else None,
            )
        return value

    return check


def number_hint(text: str, type_name: str) -> str:
    """Return a hint on the notation of a number."""
    if ":" in text:
        return "A time is not a number: write seconds, or declare the parameter as str."
    digits = text.lstrip("+-")
    if digits.lower() in ("inf", "infinity") and type_name == "float":
        return "Write .inf."
    if digits.isdigit() and digits.isascii() and len(text) <= len(digits) + 1:
        number = ("-" if text[0] == "-" else "") + (digits.lstrip("0") or "0")
        return f"Write it without quotes and without zeros in front: {number}."
    example = "1000, -5 or 1e3" if type_name == "int" else "0.5, -5 or 1e-3"
    return f"Write it without quotes and units, as in {example}."


@written_as(TEXT)
def text(value: Any, info: ValidationInfo) -> str:
    """Validate non-empty printable text."""
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


def check_name(name: str, what: str, reserved: Iterable[str]) -> None:
    """Raise InvalidValue unless ``name`` is a valid attribute of ``what`` and not reserved."""
    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
        raise InvalidValue(
            f"{name!r} cannot be the name of {what}",
            (name,),
            "Use letters, digits and underscores, a letter first, and no keyword of Python.",
        )
    seen = unicodedata.normalize("NFKC", name)
    if seen != name:
        # Python normalises identifiers: attribute access would use the other spelling.
        codes = " ".join(f"U+{ord(character):04X}" for character in seen)
        raise InvalidValue(
            f"{name!r} cannot be the name of {what}: Python reads it as {seen!r}",
            (name,),
            f"Write it as {seen!r} ({codes}).",
        )
    if name.lower() in OPERATORS:
        raise InvalidValue(
            f"{name!r} cannot be the name of {what}: constraints use {name.lower()!r} as operator",
            (name,),
            f"Choose another name, such as {name}_.",
        )
    if name in reserved:
        raise InvalidValue(
            f"{name!r} cannot be the name of {what}: Motoko reserves the name",
            (name,),
            f"Choose another name, such as {name}_.",
        )
