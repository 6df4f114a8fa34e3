"""Read an attempt's outbox, and turn its records into changes of the run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from motoko.core.changes import EditRun, PushQuantities
from motoko.core.edits import ApplyOutbox
from motoko.core.values import coerce_result
from motoko.errors import ParameterError
from motoko.runtime.untrusted_files import read_file
from motoko.worker import MAX_RECORD, read_outbox

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from motoko.core.changes import Change
    from motoko.core.records import RunKey

CHUNK_BYTES: Final = 2**20  # bytes per read; other runs wait for the commit of their records
MAX_FIELD_CHARACTERS: Final = 16 * 2**20  # all fields of a run, which one commit writes
MAX_SEARCH: Final = 256 * 2**20  # bytes to search for the end of an oversized record
MAX_REASON: Final = 10_000  # characters of a script's failure reason
SHOWN_LINE: Final = 200


@dataclass(frozen=True, slots=True)
class OutboxUpdate:
    """The content of an outbox between two offsets.

    ``failure``: the reason given to ``fail``; ``finished``: ``finish`` was called after that.
    ``fault``: why the outbox cannot be read.
    """

    end_offset: int
    fields: dict[str, Any] = field(default_factory=dict)
    label: str | None = None
    points: dict[str, tuple[tuple[int, Any], ...]] = field(default_factory=dict)
    failure: str | None = None
    finished: bool = False
    damaged_lines: tuple[str, ...] = ()
    has_more: bool = False
    fault: str | None = None

    def changes(self, key: RunKey, token: str, at: float) -> list[Change]:
        """Return the changes that write this update to the database."""
        if not self.fields and not self.points and self.label is None:
            return []
        pushes: list[Change] = [
            PushQuantities(key, token, self.end_offset, name, points)
            for name, points in self.points.items()
        ]
        # The last one advances the offset, up to which changes are ignored as outdated.
        edit = ApplyOutbox(token, self.end_offset, at, self.fields, self.label)
        return [*pushes, EditRun(key, edit)]


def read_updates(
    path: str, offset: int, *, chunk: int = CHUNK_BYTES, whole: bytes | None = None
) -> OutboxUpdate:
    """Read the records of the outbox ``path`` after byte ``offset``.

    ``whole``: its content, if that is complete.
    """
    if whole is not None:
        records, used = read_outbox(whole[offset:])
        return fold_records(records, offset + used)
    length = chunk
    while True:
        found = read_file(path, offset=offset, limit=length)
        if not found.data:
            return OutboxUpdate(offset, fault=found.fault)
        records, used = read_outbox(found.data)
        more = offset + length < found.size
        if used or not more:
            return fold_records(records, offset + used, more=more)
        if length >= MAX_RECORD:
            line = found.data[:SHOWN_LINE].decode(errors="replace")
            return OutboxUpdate(
                _end_of_line(path, offset + length, found.size),
                damaged_lines=(line,),
                has_more=True,
            )
        length *= 4  # one record larger than a chunk


def _end_of_line(path: str, offset: int, size: int) -> int:
    """Return the end of the line at ``offset``; the file's ``size`` if that is too far."""
    for start in range(offset, offset + MAX_SEARCH, MAX_RECORD):
        data = read_file(path, offset=start, limit=MAX_RECORD).data or b""
        if b"\n" in data:
            return start + data.index(b"\n") + 1
        if len(data) < MAX_RECORD:
            break
    return size


def fold_records(
    records: Iterable[dict[str, Any]], consumed: int, *, more: bool = False
) -> OutboxUpdate:
    """Return the sum of the records: the last value of each field, all points, and so on."""
    fields: dict[str, Any] = {}
    points: dict[str, list[tuple[int, Any]]] = {}
    damaged: list[str] = []
    label: str | None = None
    failed: str | None = None
    finished = False
    for record in records:
        op = record["op"]
        if op == "set":
            fields[record["field"]] = record["value"]
        elif op == "push":
            points.setdefault(record["name"], []).append((record["step"], record["value"]))
        elif op == "state":
            label = record["label"]
        elif op == "fail":
            failed = record["reason"][:MAX_REASON] or "its script reported a failure"
            finished = False
        elif op == "finish":
            failed, finished = None, True
        elif op == "damaged":
            damaged.append(record["line"])
    series = {name: tuple(pairs) for name, pairs in points.items()}
    return OutboxUpdate(consumed, fields, label, series, failed, finished, tuple(damaged), more)


def convert_fields(
    fields: Mapping[str, Any], types: Mapping[str, str], run: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the fields converted to their declared types, and errors by name.

    A field that cannot be converted keeps its value.
    """
    converted, errors = dict(fields), {}
    for name in fields.keys() & types.keys():
        try:
            converted[name] = coerce_result(fields[name], types[name], f"{run}: field {name!r}")
        except ParameterError as error:
            errors[name] = error.message
    return converted, errors


def drop_oversized_fields(update: OutboxUpdate, known: Mapping[str, Any]) -> OutboxUpdate:
    """Return the update without fields that are too large together with those ``known``.

    They count as damaged lines.
    """
    if update.end_offset <= MAX_FIELD_CHARACTERS:
        return update  # no field is larger than the outbox
    sizes = {name: len(repr(value)) for name, value in {**known, **update.fields}.items()}
    dropped: list[str] = []
    while sum(sizes.values()) > MAX_FIELD_CHARACTERS and (
        new := sizes.keys() & update.fields.keys()
    ):
        dropped.append(max(new, key=sizes.__getitem__))
        del sizes[dropped[-1]]
    fields = {name: value for name, value in update.fields.items() if name not in dropped}
    lines = (f"field {name!r} is too large" for name in dropped)
    return replace(update, fields=fields, damaged_lines=(*update.damaged_lines, *lines))


def failure_before(path: str, end: int) -> str | None:
    """Return the failure that the first ``end`` bytes of an outbox report."""
    failed, offset = None, 0
    while offset < end:
        update = read_updates(path, offset, chunk=min(CHUNK_BYTES, end - offset))
        if update.end_offset == offset:
            break
        offset = update.end_offset
        failed = None if update.finished else update.failure or failed
    return failed
