"""From an attempt's outbox to changes of its run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from motoko.core.changes import EditRun, PushQuantities
from motoko.core.edits import ApplyOutbox
from motoko.core.values import coerce_result
from motoko.errors import ParameterError
from motoko.runtime.untrusted_files import read_file
from motoko.worker import HEADER, MAX_RECORD, read_outbox

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from motoko.core.changes import Change
    from motoko.core.records import RunKey

CHUNK_BYTES: Final = 2**20  # bytes read at a time: other runs wait for the commit of what they hold
MAX_FIELD_CHARACTERS: Final = (
    16 * 2**20
)  # characters of all fields of a run: a commit writes them together
MAX_SEARCH: Final = 256 * 2**20  # bytes of a record too large in which its end is looked for
MAX_REASON: Final = 10_000  # characters of a reason that a script gives
SHOWN_LINE: Final = 200


@dataclass(frozen=True, slots=True)
class OutboxUpdate:
    """What an outbox says from where it was left to byte ``consumed``.

    ``failed``: the reason given by ``fail``; ``finished``: ``finish`` came after it, if it came.
    ``more``: there is more to read. ``fault``: why it cannot be read.
    """

    consumed: int
    fields: dict[str, Any] = field(default_factory=dict)
    label: str | None = None
    points: dict[str, tuple[tuple[int, Any], ...]] = field(default_factory=dict)
    failed: str | None = None
    finished: bool = False
    damaged: tuple[str, ...] = ()
    more: bool = False
    fault: str | None = None

    def changes(self, key: RunKey, token: str, at: float) -> list[Change]:
        """Return the changes that put these news into the database."""
        if not self.fields and not self.points and self.label is None:
            return []
        pushes: list[Change] = [
            PushQuantities(key, token, self.consumed, name, points)
            for name, points in self.points.items()
        ]
        # Last: it moves the mark by which what was taken already is told apart.
        return [
            *pushes,
            EditRun(key, ApplyOutbox(token, self.consumed, at, self.fields, self.label)),
        ]


def read_updates(path: str, offset: int, *, chunk: int = CHUNK_BYTES) -> OutboxUpdate:
    """Read what was appended to the outbox ``path`` after byte ``offset``."""
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
                _end_of_line(path, offset + length, found.size), damaged=(line,), more=True
            )
        length *= 4  # one record larger than a chunk


def _end_of_line(path: str, offset: int, size: int) -> int:
    """Return where the line ends that ``offset`` is in; the file's ``size`` if that is far."""
    for start in range(offset, offset + MAX_SEARCH, MAX_RECORD):
        data = read_file(path, offset=start, limit=MAX_RECORD).data or b""
        if b"\n" in data:
            return start + data.index(b"\n") + 1
        if len(data) < MAX_RECORD:
            break
    return size


def outbox_loss(path: str, read: int) -> str | None:
    """Return what became of the outbox ``path`` of which ``read`` bytes were read, if it is gone.

    A script can remove it, or put another file in its place, with results that nobody has read.
    """
    found = read_file(path, limit=len(HEADER))
    if found.fault is not None:
        return found.fault
    if found.missing:
        return f"{path} was removed"
    if found.data != HEADER:
        return f"{path} was replaced"
    return f"{path} was cut" if found.size < read else None


def fold_records(
    records: Iterable[dict[str, Any]], consumed: int, *, more: bool = False
) -> OutboxUpdate:
    """Return what the records of an outbox come to: the last value of each field and so on."""
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
            failed = record["reason"][:MAX_REASON] or "its script said that it failed"
            finished = False
        elif op == "finish":
            failed, finished = None, True
        elif op == "damaged":
            damaged.append(record["line"])
    series = {name: tuple(pairs) for name, pairs in points.items()}
    return OutboxUpdate(consumed, fields, label, series, failed, finished, tuple(damaged), more)


def convert_fields(
    fields: Mapping[str, Any], types: Mapping[str, str], what: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the fields of the run ``what``, those of ``types`` converted where they can be.

    The others are kept as they are; what is wrong with them is the second, by name.
    """
    converted, misfits = dict(fields), {}
    for name in fields.keys() & types.keys():
        try:
            converted[name] = coerce_result(fields[name], types[name], f"{what}: field {name!r}")
        except ParameterError as error:
            misfits[name] = error.message
    return converted, misfits


def drop_oversized_fields(news: OutboxUpdate, known: Mapping[str, Any]) -> OutboxUpdate:
    """Return the news without the fields for which a run that has the fields ``known`` has no room.

    They count as damaged.
    """
    if news.consumed <= MAX_FIELD_CHARACTERS:
        return news  # nothing larger than all of the outbox can come from it
    sizes = {name: len(repr(value)) for name, value in {**known, **news.fields}.items()}
    dropped: list[str] = []
    while sum(sizes.values()) > MAX_FIELD_CHARACTERS and (new := sizes.keys() & news.fields.keys()):
        dropped.append(max(new, key=sizes.__getitem__))
        del sizes[dropped[-1]]
    fields = {name: value for name, value in news.fields.items() if name not in dropped}
    said = (f"field {name!r}: there is no room for it" for name in dropped)
    return replace(news, fields=fields, damaged=(*news.damaged, *said))


def failure_before(path: str, end: int) -> str | None:
    """Return why the script said that it failed in the first ``end`` bytes of its outbox."""
    failed, offset = None, 0
    while offset < end:
        news = read_updates(path, offset, chunk=min(CHUNK_BYTES, end - offset))
        if news.consumed == offset:
            break
        offset = news.consumed
        failed = None if news.finished else news.failed or failed
    return failed
