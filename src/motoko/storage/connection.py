"""Connections to a database: they translate errors about records, and read many together."""

from __future__ import annotations

import contextlib
from io import BytesIO
from itertools import islice, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from persistent.mapping import PersistentMapping
from ZEO.Exceptions import ServerException
from ZODB._compat import PersistentUnpickler, Pickler, _protocol
from ZODB.Connection import Connection
from ZODB.POSException import POSError, POSKeyError, StateLoadError
from ZODB.serialize import ObjectWriter
from ZODB.utils import p64, u64

from motoko.errors import DatabaseDamagedError, ForbiddenClassError, PastStateError
from motoko.server.class_allow_list import find_class
from motoko.server.file_integrity import (
    CLOSED_MESSAGE,
    PARSE_ERRORS,
    UNREADABLE_OBJECT,
    damaged_error,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BATCH: Final = 500  # records unpickled together
_OF_RUN: Final = frozenset({"record"})  # the keys of a stored run, see core/records.py
PARSE_ERROR_NAMES: Final = frozenset(f"{kind.__module__}.{kind.__name__}" for kind in PARSE_ERRORS)


class _Writer(ObjectWriter):  # type: ignore[misc]
    """Writes all objects of one commit; ZODB makes a writer for each.

    Objects of runs refer to no others. They are pickled without a call for each value.
    """

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._p: Any
        self._jar = connection
        self._looking, self._plain = self._p, Pickler(self._file, _protocol)

    def persistent_id(self, obj: Any) -> Any:
        """Return the reference to an object, None for a value; most values are ids."""
        return None if type(obj) is int else ObjectWriter.persistent_id(self, obj)

    def serialize(self, obj: Any) -> bytes:
        """Return the stored form of an object."""
        of_run = type(obj) is PersistentMapping and obj.data.keys() == _OF_RUN
        # Both write the same bytes.
        self._p = self._plain if of_run else self._looking
        return bytes(super().serialize(obj))


class TranslatingConnection(Connection):  # type: ignore[misc]
    """A connection that raises DatabaseDamagedError for corrupt records.

    If it reads an earlier state, it raises PastStateError for objects without one.
    """

    _activating: Any = None
    _writer: Any = None

    def _commit(self, transaction: Any) -> None:
        self._writer = _Writer(self)
        try:
            super()._commit(transaction)
        finally:
            self._writer = None

    def _store_objects(self, writer: Any, transaction: Any) -> None:
        self._writer._stack.extend(writer._stack)  # noqa: SLF001 - see above
        super()._store_objects(self._writer, transaction)

    def get(self, oid: bytes) -> Any:
        """Return an object."""
        try:
            return super().get(oid)
        except POSKeyError as error:
            raise self._missing(error) from error
        except ForbiddenClassError as error:
            raise self._forbidden(error) from error
        except POSError:
            raise
        except UNREADABLE_OBJECT as error:
            if CLOSED_MESSAGE in str(error):
                raise
            raise self._unreadable(type(error).__name__) from error

    def setstate(self, obj: Any) -> None:
        """Load an object."""
        try:
            record, self._activating = self._activating, None
            if record is None:
                super().setstate(obj)
            else:
                self._set_state(obj, *record[:2])
        except POSKeyError as error:
            raise self._missing(error) from error
        except (StateLoadError, ServerException) as error:
            self._raise_translated(error)

    def activate(self, ghost: Any, record: Any) -> None:
        """Load an object from the record that ``stored_states`` yielded in this snapshot."""
        self._activating = record
        try:
            ghost._p_activate()
        finally:
            self._activating = None

    def rely_on(self, ghost: Any, record: Any) -> None:
        """Do what ``readCurrent`` does, with a record that ``stored_states`` yielded."""
        self._readCurrent[ghost._p_oid] = record[1]  # noqa: SLF001 - see above

    def _set_state(self, ghost: Any, data: bytes, serial: bytes) -> None:
        """Do what ``setstate`` does with what it loads."""
        self._reader.setGhostState(ghost, data)
        ghost._p_serial = serial  # noqa: SLF001
        ghost._p_estimated_size = len(data)  # noqa: SLF001
        self._cache.update_object_size_estimation(ghost._p_oid, len(data))  # noqa: SLF001

    def stored_states(self, ghosts: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        """Yield the stored states and records of objects that are not loaded, and stay so."""
        oids = [ghost._p_oid for ghost in ghosts]  # noqa: SLF001 - ZODB's public names begin so
        load_many = getattr(self.db().storage, "load_many", None)
        before = self.before or self._storage._start  # noqa: SLF001 - it has no public name
        found = repeat(None) if load_many is None else load_many(oids, before)
        loaded = zip(oids, found, strict=False)
        try:
            while batch := list(islice(loaded, BATCH)):
                # Of an object that the storage did not load with the others, it raises the error.
                records = [self._storage.load(oid) if one is None else one for oid, one in batch]
                yield from zip(self._states([data for data, *_ in records]), records, strict=True)
        except POSKeyError as error:
            raise self._missing(error) from error
        except (StateLoadError, ServerException) as error:
            self._raise_translated(error)

    def _states(self, records: Sequence[bytes]) -> list[Any]:
        """Return the states of records, with one unpickler if they name one class only."""
        header = _class_header(records[0])
        if header and all(data.startswith(header) for data in records):
            states = b"".join([data[len(header) :] for data in records])
            file = BytesIO(states)
            unpickler = PersistentUnpickler(find_class, None, file)
            # Any error: a state refers to other objects, or is damaged.
            with contextlib.suppress(Exception):
                found = [unpickler.load() for _ in records]
                if file.tell() == len(states):
                    return found
        return [self._reader.getState(data) for data in records]

    def _raise_translated(self, error: Exception) -> NoReturn:
        if isinstance(error.__cause__, ForbiddenClassError):
            raise self._forbidden(error.__cause__) from error
        corruption = _corruption_error_name(error)
        if corruption is None:
            raise error
        raise self._unreadable(corruption) from error

    def prefetch(self, *objects: Any) -> None:
        """Load objects in one request, if the storage supports that."""
        if self.before is None:
            super().prefetch(*objects)
        elif request := getattr(self.db().storage, "prefetch", None):
            request(self._prefetch_flatten(objects), self.before)

    def _missing(self, error: Exception) -> Exception:
        if self.before is None:
            return error
        return past_state_error(self.db().file, p64(u64(self.before) - 1))

    def _forbidden(self, error: ForbiddenClassError) -> ForbiddenClassError:
        return ForbiddenClassError(f"{self._file()}: {error.message}", hint=error.hint)

    def _unreadable(self, error: str) -> DatabaseDamagedError:
        return damaged_error(self._file(), f"is damaged: an object cannot be read ({error})")

    def _file(self) -> Path:
        return self.db().file or Path("the database")


def _class_header(data: bytes) -> bytes:
    """Return the first pickle of a record, which names its class; empty if it is damaged."""
    file = BytesIO(data)
    try:
        PersistentUnpickler(find_class, None, file).load()
    except Exception:  # noqa: BLE001 - reading the state raises the right error
        return b""
    return data[: file.tell()]


def past_state_error(file: Path | None, tid: bytes) -> PastStateError:
    """Return the error for an object without a state at a transaction."""
    return PastStateError(
        f"{file or 'the database'} has no complete state at transaction {tid.hex()}: it was "
        "packed since, or the transaction is that of another database"
    )


def _corruption_error_name(error: Exception) -> str | None:
    """Return the name of the error that a corrupt record caused, None for another error."""
    if isinstance(error, ServerException):
        name, details = error.args  # of the server's exception
        if name in PARSE_ERROR_NAMES and CLOSED_MESSAGE not in str(details):
            return str(name).rpartition(".")[2]
        return None
    # A corrupt pickle may raise anything.
    return None if isinstance(error.__cause__, MemoryError) else type(error.__cause__).__name__
