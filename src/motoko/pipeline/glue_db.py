"""A state in an SQLite database."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pydantic

from motoko.errors import StateStoreError
from motoko.pipeline.json_codec import decode, encode
from motoko.pipeline.state import Interface, immutable_error

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS left_by (name TEXT PRIMARY KEY, run TEXT NOT NULL)",
)
INSERT: Final = "INSERT INTO state VALUES (?, ?)"
INSERT_LEFT_BY: Final = "INSERT INTO left_by VALUES (?, ?)"
DELETE_LEFT_BY: Final = "DELETE FROM left_by WHERE name = ?"
UPSERT: Final = f"{INSERT} ON CONFLICT (name) DO UPDATE SET value = excluded.value"
TIMEOUT: Final = 30.0  # seconds to wait for another process


class StateWithGlueDb(Interface):
    """A state in an SQLite database: values are copies and persist.

    ``backend`` is the path of the file, which is created if necessary. Without it, or with a
    dictionary of first values, the database is in memory. Values are plain data, times, models,
    NumPy arrays and data frames; NotEncodableError (a ValueError) for others. StateStoreError if
    the file cannot be used.
    """

    backend: str | None = None
    _database: SqliteStore = pydantic.PrivateAttr()

    def __init__(
        self,
        backend: str | os.PathLike[str] | Mapping[str, Any] | None = None,
        mutable: bool = False,
        *,
        left_by: Mapping[str, str] | None = None,
    ) -> None:
        values = backend if isinstance(backend, Mapping) else {}
        path = None if backend is None or isinstance(backend, Mapping) else os.fspath(backend)
        super().__init__(backend=path, mutable=mutable)
        self._database = SqliteStore(self.backend)
        self._post(values, left_by or {})

    def comparison_key(self) -> Any:
        """Return the path of the database, or the values of one in memory."""
        return [self.mutable, self.backend, self._memory_values()]

    def json_fields(self) -> dict[str, Any]:
        """Return the path of the database, or the values of one in memory."""
        if self.backend is not None:
            return {"backend": self.backend, "mutable": self.mutable}
        left_by = dict(self._database.query("SELECT name, run FROM left_by ORDER BY name"))
        more = {"left_by": left_by} if left_by else {}
        return {"backend": self._memory_values(), "mutable": self.mutable, **more}

    def extract(self, name: str) -> Any:
        """Return a value. UnknownStateNameError (a KeyError) for an unknown name."""
        rows = self._database.query("SELECT value FROM state WHERE name = ?", name)
        if not rows:
            raise self.unknown_name_error(name)
        return decode(json.loads(rows[0][0]))

    def post(self, data: Any, name: str) -> None:
        """Keep a value; ImmutableStateError (a ValueError) if the name is in use."""
        self.post_all({name: data})

    def post_all(self, values: Mapping[str, Any]) -> None:
        """Post several values in one transaction; none of them if one cannot be posted."""
        self._post(values, {})

    def post_step_output(self, values: Mapping[str, Any], run: str) -> None:
        """Post the outputs of a step in one transaction; ``run`` names this run of the step."""
        self._post(values, dict.fromkeys(values, run))

    def left_by(self, name: str) -> str | None:
        """Return the run of a step that left this value; None if the user posted it."""
        rows = self._database.query("SELECT run FROM left_by WHERE name = ?", name)
        return rows[0][0] if rows else None

    def _post(self, values: Mapping[str, Any], left_by: Mapping[str, str]) -> None:
        if not values:
            return
        rows = {name: json.dumps(encode(value, repr(name))) for name, value in values.items()}
        insert = UPSERT if self.mutable else INSERT
        with self._database.transaction() as connection:
            for row in rows.items():
                try:
                    connection.execute(insert, row)
                except sqlite3.IntegrityError:
                    raise immutable_error(row[0]) from None
            connection.executemany(DELETE_LEFT_BY, [(name,) for name in rows])
            connection.executemany(INSERT_LEFT_BY, [*left_by.items()])

    def delete(self, name: str) -> None:
        """Remove a value. UnknownStateNameError (a KeyError) for an unknown name."""
        with self._database.transaction() as connection:
            count = connection.execute("DELETE FROM state WHERE name = ?", (name,)).rowcount
            connection.execute(DELETE_LEFT_BY, (name,))
        if not count:
            raise self.unknown_name_error(name)

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        return bool(self._database.query("SELECT 1 FROM state WHERE name = ?", name))

    def names(self) -> list[str]:
        """Return the names of all values, in the order of their first posts."""
        return [row[0] for row in self._database.query("SELECT name FROM state ORDER BY rowid")]

    def _memory_values(self) -> dict[str, Any]:
        if self.backend is not None:
            return {}
        return {name: self.extract(name) for name in self.names()}


class SqliteStore:
    """An SQLite file that is opened for each use, or a database in memory."""

    def __init__(self, path: str | None) -> None:
        self._path = None if path is None else Path(path)
        self._lock = threading.Lock()
        self._memory: sqlite3.Connection | None = None
        if self._path is None:
            self._memory = sqlite3.connect(":memory:", check_same_thread=False)
            _prepare(self._memory)
            weakref.finalize(self, self._memory.close)

    def query(self, statement: str, *values: str) -> list[tuple[Any, ...]]:
        """Return the rows of a statement."""
        with self.transaction() as connection:
            return connection.execute(statement, values).fetchall()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Give a connection; commit unless the block raises."""
        try:
            with self._lock, self._connected() as connection, connection:
                yield connection
        except (sqlite3.Error, OSError) as error:
            raise StateStoreError(
                f"the state in {self._path or 'memory'} cannot be used: {error}",
                hint="The path must be writable, and an SQLite database if it exists.",
            ) from error

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        if self._memory is not None:
            yield self._memory
            return
        assert self._path is not None
        if not self._path.exists():
            os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600))
        with contextlib.closing(sqlite3.connect(self._path, timeout=TIMEOUT)) as connection:
            _prepare(connection)
            yield connection

    def __deepcopy__(self, memo: object) -> SqliteStore:
        copy = SqliteStore(None if self._path is None else str(self._path))
        if self._memory is not None and copy._memory is not None:
            self._memory.backup(copy._memory)
        return copy

    def __reduce__(self) -> Any:
        raise TypeError("a connection to a database cannot be pickled; use to_json")


def _prepare(connection: sqlite3.Connection) -> None:
    for table in SCHEMA:
        connection.execute(table)
