"""``notify:`` in ``motoko.yaml``: where notifications are sent, and of which events."""

from __future__ import annotations

from hashlib import blake2b
from typing import Annotated, Any, Final
from urllib.parse import SplitResult, urlsplit

from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo, model_validator

from motoko.config.option_models import duration
from motoko.config.validation import (
    LONG_NUMBER,
    TEXT,
    ConfigModel,
    InvalidValue,
    mistakes,
    model_form,
    written_as,
)
from motoko.core.notifications import DEFAULT_OCCASIONS, NotifyEvent, Occasion, Subscription
from motoko.errors import suggestion

EVENTS: Final = [event.value for event in NotifyEvent if event is not NotifyEvent.FAILURES]
COUNT: Final = {"anyOf": [{"type": "integer", "minimum": 1}, LONG_NUMBER]}
SCHEMES: Final = ("http", "https")
TIMEOUT: Final = 30.0


@written_as({"type": "array", "minItems": 1, "items": TEXT})
def _command(value: Any, info: ValidationInfo) -> tuple[str, ...]:
    valid = isinstance(value, list | tuple) and value
    if not valid or not all(isinstance(word, str) and word and "\0" not in word for word in value):
        raise InvalidValue(
            "command must be a list of texts: a program and its arguments",
            hint="Write [mail, -s, motoko, me@example.org], and numbers in quotes. For a shell, "
            'write [sh, -c, "..."].',
        )
    return tuple(value)


@written_as({"type": "string", "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://"})
def _webhook(value: Any, info: ValidationInfo) -> str:
    """Validate a URL. It may be secret, so no message shows it."""
    parts = _split(value) if isinstance(value, str) else None
    if parts is None or parts.scheme not in SCHEMES or not parts.hostname:
        raise InvalidValue("webhook must be a URL: https://... or http://...")
    if parts.username is not None:
        raise InvalidValue(
            "the URL of a webhook cannot contain a user name or a password",
            hint="Motoko sends no credentials. Use a command such as curl.",
        )
    return str(value)


def _split(url: str) -> SplitResult | None:
    if not url.isascii() or not url.isprintable() or " " in url:
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises an error if it is not a number
    except ValueError:
        return None
    return parts


@written_as({
    "type": "array",
    "minItems": 1,
    "items": {
        "anyOf": [
            {"enum": EVENTS},
            {
                "type": "object",
                "properties": {NotifyEvent.FAILURES.value: COUNT},
                "required": [NotifyEvent.FAILURES.value],
                "additionalProperties": False,
            },
        ]
    },
})  # fmt: skip
def _occasions(value: Any, info: ValidationInfo) -> tuple[Occasion, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise InvalidValue("on must be a list of events", hint=f"Known: {', '.join(EVENTS)}.")
    return tuple(_occasion(item, index) for index, item in enumerate(value))


def _occasion(item: Any, index: int) -> Occasion:
    if isinstance(item, Occasion):
        return item
    if isinstance(item, str) and item in EVENTS:
        return Occasion(NotifyEvent(item))
    if isinstance(item, dict) and item.keys() == {NotifyEvent.FAILURES}:
        number = item[NotifyEvent.FAILURES]
        if isinstance(number, int) and not isinstance(number, bool) and number >= 1:
            return Occasion(NotifyEvent.FAILURES, number)
    elif item != NotifyEvent.FAILURES:
        name = next(iter(item), "") if isinstance(item, dict) else item
        known = [*EVENTS, NotifyEvent.FAILURES.value]
        hint = suggestion(name, known) if isinstance(name, str) else f"Known: {', '.join(known)}."
        raise InvalidValue(f"on has no event {name!r}", (index,), hint)
    raise InvalidValue(
        "failures needs a number of failed runs of at least 1",
        (index,),
        "Write it as [failed, failures: 10].",
    )


class NotifyTarget(ConfigModel):
    """A command or a webhook that gets notifications. ``timeout`` in seconds."""

    command: Annotated[tuple[str, ...] | None, BeforeValidator(_command)] = Field(
        default=None,
        repr=False,
        description="a program and its arguments; it gets the message on standard input",
    )
    webhook: Annotated[str | None, BeforeValidator(_webhook)] = Field(
        default=None, repr=False, description="a URL that gets the message as JSON, with POST"
    )
    on: Annotated[tuple[Occasion, ...], BeforeValidator(_occasions)] = Field(
        default=DEFAULT_OCCASIONS, description="events that are notified"
    )
    timeout: Annotated[float, BeforeValidator(duration)] = Field(
        default=TIMEOUT, description="time limit for one notification"
    )

    @model_validator(mode="after")
    def _one_receiver(self) -> NotifyTarget:
        if (self.command is None) == (self.webhook is None):
            raise InvalidValue(
                "an entry of notify needs either a command or a webhook",
                hint="Write one entry for each.",
            )
        return self

    @property
    def id(self) -> str:
        """A digest of the receiver, under which the database records notifications."""
        return blake2b(repr((self.command, self.webhook)).encode(), digest_size=8).hexdigest()

    @property
    def name(self) -> str:
        """The receiver without its secrets: arguments, and all but the host of a URL."""
        if self.command is not None:
            return f"command {self.command[0]}"
        return f"webhook {self.public_webhook}"

    @property
    def public_webhook(self) -> str:
        """The scheme and the host of the URL."""
        parts = urlsplit(self.webhook or "")
        return f"{parts.scheme}://{parts.hostname}"

    @property
    def subscription(self) -> Subscription:
        """The events that the target asks for."""
        return Subscription(self.id, self.on)


_ENTRY: Final = model_form(NotifyTarget)


@written_as({"anyOf": [_ENTRY, {"type": "array", "items": _ENTRY}]})
def notify_targets(value: Any, info: ValidationInfo) -> Any:
    """Validate one entry or a list of entries."""
    if isinstance(value, dict):
        try:
            return (NotifyTarget.model_validate(value),)
        except ValidationError as error:
            raise InvalidValue(*mistakes(error)[0]) from None  # here, the path has no index
    if isinstance(value, list | tuple) and all(
        isinstance(one, dict | NotifyTarget) for one in value
    ):
        return tuple(value)
    raise InvalidValue(
        "notify must be an entry with command or webhook, or a list of entries",
        hint="Write `- command: [...]` or `- webhook: https://...` on lines of their own.",
    )
