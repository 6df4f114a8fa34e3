"""Run records and their stored form.

The stored form is a plain dictionary without class paths, so code may move freely. ``VERSION``
counts its changes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from itertools import starmap
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from motoko.core.run_options import STORED_OPTIONS
from motoko.core.states import Lifecycle
from motoko.core.values import MISSING
from motoko.errors import UnknownRunError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DIGITS: Final = 18  # of the number of a run, at most: Python refuses to read thousands
VERSION: Final = 4


class RunKey(NamedTuple):
    """A run within a workflow; prints as ``study.id``."""

    study: str
    id: int

    def __str__(self) -> str:
        return f"{self.study}.{self.id}"

    @classmethod
    def parse(cls, text: str) -> RunKey:
        """Return the run that ``STUDY.ID`` names; UnknownRunError for other text."""
        study, _, number = text.rpartition(".")
        if not study or not number.isdecimal() or len(number) > DIGITS:
            raise UnknownRunError(
                f"{text!r} does not name a run", hint="Write STUDY.ID, such as add.1."
            )
        return cls(study, int(number))


class Transition(NamedTuple):
    """One entry of a run's history: a lifecycle transition or a label.

    ``time`` is in seconds since the epoch, ``cause`` names the actor, e.g. ``"event forward"``.
    ``attempt`` counts requeued attempts too, as run directories do.
    """

    time: float
    state: str
    cause: str
    attempt: int


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run in one snapshot of the database.

    ``attempt`` numbers every attempt; ``uncounted`` of them were requeued. ``retry_base`` is the
    number of tries at the last retry on request. ``firing`` is the key of the firing that created
    the run; it is empty if ``main``, a script or an older Motoko did. ``provenance`` has one
    reference for each attempt; the last ones may be missing. ``archived`` and ``copied`` count
    entries of a long history, see archived_history.py.
    """

    study: str
    id: int
    job_id: int
    run_name: str
    identity: bytes
    job: Mapping[str, Any]
    lifecycle: Lifecycle = Lifecycle.CREATED
    label: str | None = None
    replicate: int = 0
    event_name: str = ""
    scripts: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)
    attempt: int = 0
    uncounted: int = 0
    token: str | None = None
    launcher: str | None = None
    not_before: float = 0.0
    outbox_offset: int = 0
    process: tuple[int, int, str] | tuple[int, int, str, int, str] | None = None
    exit_code: int | None = None
    reason: str | None = None
    cancel_requested: bool = False
    history: tuple[Transition, ...] = ()
    retry_base: int = 0
    firing: str = ""
    provenance: tuple[bytes, ...] = ()
    archived: int = 0
    copied: int = 0

    @property
    def key(self) -> RunKey:
        """Study and id."""
        return RunKey(self.study, self.id)

    @property
    def state(self) -> str:
        """The state that users see: the label, else the lifecycle."""
        return self.label if self.label is not None else self.lifecycle.value

    @property
    def tries(self) -> int:
        """The number of attempts without requeued ones."""
        return self.attempt - self.uncounted

    def changed(self, **changes: Any) -> RunRecord:
        """Return a copy with other values, in half the time that ``dataclasses.replace`` takes."""
        values = list(_all_values(self))
        for name, value in changes.items():
            values[_POSITIONS[name]] = value
        return RunRecord(*values)

    def column(self, name: str) -> Any:
        """Return the run's column or field ``name``, MISSING without one."""
        if name not in RUN_COLUMNS:
            return self.fields.get(name, MISSING)
        if name in STORED_OPTIONS:
            return self.options.get(name, MISSING)
        value = self.tries if name == "attempt" else getattr(self, name)
        return MISSING if value is None else value


# The columns of every run besides its fields, with types as ``bd.yaml`` spells them.
RUN_COLUMNS: Final[dict[str, str]] = {
    "id": "int",
    "job_id": "int",
    "state": "str",
    "lifecycle": "str",
    "label": "str",
    "run_name": "str",
    "replicate": "int",
    "event_name": "str",
    "attempt": "int",
    "exit_code": "int",
    "reason": "str",
    **STORED_OPTIONS,
}


def encode_record(record: RunRecord) -> dict[str, Any]:
    """Return the record as plain data: ``{"record": (version, value, value, ...)}``.

    The values are in the order of STORED_FIELDS, without names to save space. Defaults at the end
    are omitted.
    """
    values = stored_values(record)
    while len(values) > _HISTORY + 1 and values[-1] == _DEFAULTS[len(values) - 1]:
        values.pop()
    if len(values) > _FIRING:
        values[_FIRING] = values[_FIRING] or None
    return {"record": (VERSION, *values)}


def stored_history(history: Iterable[Iterable[Any]]) -> tuple[tuple[Any, ...], ...]:
    """Return entries of a history as plain data, with equal texts as one object to save space."""
    texts: dict[str, str] = {}
    same = texts.setdefault
    return tuple([(at, same(state, state), same(by, by), n) for at, state, by, n in history])


def decode_record(data: Mapping[str, Any]) -> RunRecord:
    """Return the record in ``data``, the result of ``encode_record``."""
    _, *values = data["record"]
    return record_of_values(values + list(_DEFAULTS[len(values) :]))


def stored_values(record: RunRecord) -> list[Any]:
    """Return the record's values as plain data, in the order of STORED_FIELDS."""
    values = list(_in_stored_order(record))
    values[_LIFECYCLE] = record.lifecycle.value
    values[_HISTORY] = stored_history(record.history)
    for position in _MAPPINGS:
        values[position] = dict(values[position]) or None
    values[_NOT_BEFORE] = values[_NOT_BEFORE] or 0  # shorter than 0.0
    return values


def record_of_values(values: list[Any]) -> RunRecord:
    """Return the record of ``stored_values``, which this function changes."""
    values[_LIFECYCLE] = _LIFECYCLES[values[_LIFECYCLE]]
    values[_HISTORY] = tuple(starmap(Transition, values[_HISTORY]))
    values[_NOT_BEFORE] = values[_NOT_BEFORE] or 0.0
    values[_FIRING] = values[_FIRING] or ""
    for position in _MAPPINGS:
        values[position] = values[position] or {}
    return RunRecord(*_in_field_order(values))


def default_value(name: str) -> Any:
    """Return the stored value of a field of STORED_FIELDS that was added later."""
    return _DEFAULTS[STORED_FIELDS.index(name)]


def stored_key(data: Mapping[str, Any]) -> RunKey | None:
    """Return the run of a stored record, None for other data."""
    values = data.get("record")
    return None if values is None else RunKey(values[1], values[2])


# Part of the database's format: only ever append, and count VERSION.
STORED_FIELDS: Final = (
    "study", "id", "job_id", "run_name", "identity", "job", "lifecycle", "history", "event_name",
    "scripts", "options", "fields", "attempt", "token", "launcher", "outbox_offset", "exit_code",
    "label", "process", "reason", "replicate", "uncounted", "not_before", "cancel_requested",
    "retry_base", "firing", "provenance", "archived", "copied",
)  # fmt: skip
_LIFECYCLE: Final = STORED_FIELDS.index("lifecycle")
_HISTORY: Final = STORED_FIELDS.index("history")
_FIRING: Final = STORED_FIELDS.index("firing")
_NOT_BEFORE: Final = STORED_FIELDS.index("not_before")
_MAPPINGS: Final = tuple(STORED_FIELDS.index(name) for name in ("job", "options", "fields"))
_LIFECYCLES: Final = {state.value: state for state in Lifecycle}
_POSITIONS: Final = {f.name: position for position, f in enumerate(fields(RunRecord))}
_all_values: Final = attrgetter(*_POSITIONS)
_in_stored_order: Final = attrgetter(*STORED_FIELDS)
_in_field_order: Final = itemgetter(*map(STORED_FIELDS.index, _POSITIONS))
_DEFAULTS: Final = tuple(
    None if position in _MAPPINGS else RunRecord.__dataclass_fields__[name].default
    for position, name in enumerate(STORED_FIELDS)
)
