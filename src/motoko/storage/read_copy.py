"""A copy of a study's runs for reading: a file of columns that follows the database file.

Tables are read from it, never anything that decides. It is used in the state of the session's
snapshot only: the database file tells which objects changed since, and the session has these. The
file is written aside and renamed, and nothing changes it later. Whatever is wrong with it, the
database is read instead. It is made again after a pack. Its layout::

    MAGIC
    sections   a pickled column each, or the ids of a block
    index      pickled: (LAYOUT, SCHEMA_VERSION, VERSION), study, place (see file_changes.py),
               blocks: for each first id, number of runs, ids, and columns by name.
               A section is (position, length, CRC-32); ids are None if consecutive
    END        position, length and CRC-32 of the index
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import stat
import struct
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import quote
from zlib import crc32

from BTrees.IOBTree import IOBTree

from motoko.core.records import STORED_FIELDS, VERSION
from motoko.core.run_blocks import DIVIDED, KEYS, encode_values
from motoko.core.run_rows import ColumnRows
from motoko.core.run_targets import MAX_ID
from motoko.runtime.files import private_directory, write_atomic
from motoko.server.class_allow_list import find_class
from motoko.storage.database import Database
from motoko.storage.file_changes import Place, changed_since, place_of
from motoko.storage.run_block import BLOCK_VERSION, new_object, stored_keys
from motoko.storage.run_store import BLOCK, RunStore
from motoko.storage.schema import SCHEMA_VERSION
from motoko.storage.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from motoko.core.column_encoding import Column
    from motoko.core.run_rows import Rows
    from motoko.storage.study_table import StudyTable

Content: TypeAlias = "bytes | _Content"

log = logging.getLogger(__name__)

LAYOUT: Final = 1
VERSIONS: Final = (LAYOUT, SCHEMA_VERSION, VERSION)
MAGIC: Final = b"motoko columns\n\0"
END: Final = struct.Struct("<QQI")
DIRECTORY: Final = "copies"  # beside the database
LEAST: Final = 20_000  # runs of a study that has a copy
FOLLOWED: Final = 20_000  # changed objects that are read one by one
REWRITE: Final = 2_000  # changed objects after which the copy is written again
OTHERS: Final = 0o077
UNUSED: Final = frozenset({
    "study", "id", "identity", "token", "launcher", "outbox_offset", "not_before",
    "cancel_requested", "retry_base", "firing", "archived", "copied",
})  # fmt: skip
COPIED: Final = tuple(name for name in STORED_FIELDS if name not in UNUSED)


class CopyDamagedError(Exception):
    """A part of a copy is damaged; the database has the runs."""


@dataclass(frozen=True, slots=True)
class Copy:
    """The runs of a study as they were when the transaction at a place was the last one."""

    place: Place
    runs: RunStore


def copied_runs(session: Session, table: StudyTable) -> RunStore | None:
    """Return the runs of a study in the session's snapshot from its copy, refreshed or made.

    None: read the database.
    """
    database = session.file
    if database is None or session.pending or len(table) < LEAST:
        return None
    try:
        return _current(session, table, database)
    except Exception as error:  # noqa: BLE001 - a damaged copy may raise anything
        log.debug("the copy of %s is not used: %r", table.name, error)
        return None


def _current(session: Session, table: StudyTable, database: Path) -> RunStore | None:
    last = bytes.fromhex(session.snapshot[0])
    path = _path(database, table.name)
    copy = _read(path, table.name)
    if copy is not None and copy.place.tid > last:
        return None
    with database.open("rb") as file:
        changes = None if copy is None else changed_since(file, copy.place, last, FOLLOWED)
        if copy is None or changes is None:
            place = place_of(file, database, last)
            if place is None or not _may_write(path):
                return None
            data = _made(database, place, table.name)
        else:
            oids, place = changes
            _apply(session, table, copy.runs, oids)
            if len(oids) < REWRITE:
                return copy.runs
            data = encode_copy(place, table.name, copy.runs)
    with contextlib.suppress(OSError):  # such as a full disk
        _write(path, data)
    return decode_copy(data, table.name).runs


def _made(database: Path, place: Place, study: str) -> bytes:
    """Return a new copy. Objects are read from the file, which takes a third of the time."""
    with (
        contextlib.closing(Database.read_file(database, served=True)) as direct,
        contextlib.closing(Session(direct, at=place.tid.hex())) as session,
    ):
        return encode_copy(place, study, session.tables.study(study).runs)


def _apply(session: Session, table: StudyTable, runs: RunStore, oids: Iterable[bytes]) -> None:
    """Bring the runs of a copy to the state in the session, where these objects changed."""
    keys, _ = session.classify(oids, stored_keys)
    changed = sorted(key.id for key in keys if key.study == table.name)
    found = {record.id: record for record in table.records(changed, keep=False)}
    runs.replace({run_id: found.get(run_id) for run_id in changed})


# -- the file ----------------------------------------------------------------------------------


def _path(database: Path, study: str) -> Path:
    return database.parent / DIRECTORY / quote(study, safe="")


def discard_copy(session: Session, study: str) -> None:
    """Remove the copy of a study, because it is damaged."""
    if session.file is not None:
        with contextlib.suppress(OSError):
            _path(session.file, study).unlink()


def _may_write(path: Path) -> bool:
    """Return whether this user may make the copy."""
    state = path.parent.parent
    return state.stat().st_uid == os.getuid() and os.access(state, os.W_OK)


def _write(path: Path, data: bytes) -> None:
    private_directory(path.parent)
    for abandoned in path.parent.glob(f".{path.name}.*"):  # by a process that was killed
        abandoned.unlink(missing_ok=True)
    write_atomic(path, data)


def _read(path: Path, study: str) -> Copy | None:
    """Return the copy in a file of this user, None without a file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    content = _Content(descriptor)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & OTHERS:
        raise PermissionError(f"{path} is not a private file of this user")
    try:
        return decode_copy(content, study)
    except Exception as error:  # noqa: BLE001 - a damaged file may raise anything
        log.debug("%s is made again: %r", path, error)
        return None


class _Content:
    """The content of a file, read in parts. It stays open as long as a part may be needed."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice) -> bytes:
        start, stop, _ = part.indices(self._size)
        return os.pread(self._descriptor, stop - start, start)

    def __del__(self) -> None:
        os.close(self._descriptor)


def encode_copy(place: Place, study: str, runs: RunStore) -> bytes:
    """Return the content of the file for these runs."""
    data, blocks = bytearray(MAGIC), []
    for ids, columns in _blocks(runs):
        consecutive = ids[-1] - ids[0] == len(ids) - 1
        stored_ids = None if consecutive else _add(data, array("i", ids))
        stored = {
            name: column if column[0] in ("same", KEYS) else _add(data, column)
            for name, column in columns.items()
        }
        blocks.append((ids[0], len(ids), stored_ids, stored))
    index = {"versions": VERSIONS, "study": study, "place": tuple(place), "blocks": blocks}
    data += END.pack(*_add(data, index))
    return bytes(data)


def _add(data: bytearray, value: Any) -> tuple[int, int, int]:
    pickled = value.tobytes() if isinstance(value, array) else pickle.dumps(value, 4)
    position = len(data)
    data += pickled
    return position, len(pickled), crc32(pickled)


def decode_copy(data: Content, study: str) -> Copy:
    """Return the copy with this content; ValueError, or another error, if it is invalid."""
    if data[: len(MAGIC)] != MAGIC:
        raise ValueError("it is no copy")
    index = _load(data, END.unpack(data[-END.size :]))
    if (index["versions"], index["study"]) != (VERSIONS, study):
        raise ValueError("it is the copy of another study, or has another layout")
    blocks = IOBTree()
    for first, number, ids, columns in index["blocks"]:
        blocks[first] = new_object({
            "block": (BLOCK_VERSION, study, first, number),
            "ids": None if ids is None else _section(data, ids),
            "columns": _Columns(data, columns),
            "own": IOBTree(),
            "ended": True,
        })  # fmt: skip
    return Copy(Place(*index["place"]), RunStore(study, {"runs": IOBTree(), "blocks": blocks}))


class _Columns(Mapping[str, Any]):
    """The columns of a block, loaded when they are used."""

    def __init__(self, data: Content, columns: dict[str, Any]) -> None:
        self._data = data
        self._columns = columns

    def __getitem__(self, name: str) -> Column:
        found: Column = self.get(name)
        if found is None:
            raise KeyError(name)
        return found

    def get(self, name: str, default: Any = None) -> Any:
        """Return a column."""
        found = self._columns.get(name, default)
        return _load(self._data, found) if found and isinstance(found[0], int) else found

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


class _Unpickler(pickle.Unpickler):
    """Calls the classes only that the database may name, too."""

    def find_class(self, module: str, name: str) -> Any:
        return find_class(module, name)


def _load(data: Content, section: Sequence[Any]) -> Any:
    return _Unpickler(BytesIO(_section(data, section))).load()


def _section(data: Content, section: Sequence[Any]) -> bytes:
    position, length, checksum = section
    found = data[position : position + length]
    if crc32(found) != checksum:
        raise CopyDamagedError
    return found


# -- its content -------------------------------------------------------------------------------


def _blocks(runs: RunStore) -> Iterator[tuple[Sequence[int], dict[str, Column]]]:
    """Yield ids and columns of all runs: those of whole blocks, and of other runs together."""
    others: list[Rows] = []
    for rows in runs.every_row(0, MAX_ID, lambda part: part, None):
        is_whole = isinstance(rows, ColumnRows) and isinstance(rows.positions, range)
        if others and (is_whole or sum(map(len, others)) >= BLOCK):
            yield _encoded(others)
            others = []
        if isinstance(rows, ColumnRows) and is_whole:
            yield rows.ids, _columns(rows)
        elif len(rows):
            others.append(rows)
    if others:
        yield _encoded(others)


def _columns(rows: ColumnRows) -> dict[str, Column]:
    """Return the columns of a whole block."""
    found = {name: column for name in COPIED if (column := rows.column(name)) is not None}
    for part in DIVIDED:
        if found[part][0] == KEYS:
            names = (f"{part}.{key}" for key in found[part][1])
            found.update((name, column) for name in names if (column := rows.column(name)))
    return found


def _encoded(parts: Sequence[Rows]) -> tuple[Sequence[int], dict[str, Column]]:
    ids = [run_id for rows in parts for run_id in rows.values("id")]
    values = ((name, list(chain(*(rows.values(name) for rows in parts)))) for name in COPIED)
    return ids, encode_values(values)
