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
from motoko.pipeline.state import Interface, immutable

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS left_by (name TEXT PRIMARY KEY, run TEXT NOT NULL)",
)
INSERT: Final = "INSERT INTO state VALUES (?, ?)"
LEFT_BY: Final = "INSERT INTO left_by VALUES (?, ?)"
FORGET: Final = "DELETE FROM left_by WHERE name = ?"
INSERT_OR_UPDATE: Final = f"{INSERT} ON CONFLICT (name) DO UPDATE SET value = excluded.value"
TIMEOUT: Final = 30.0  # seconds that another process may hold the database


class StateWithGlueDb(Interface):
    """A state in an SQLite database: values outlive the process, and are copies.

    ``backend`` is the path of the file, which is created where there is none; without it, or with
    a dictionary of first values, the database is in memory. Values are plain data, times, models,
    NumPy arrays, data frames; NotEncodableError (a ValueError) for others. StateStoreError if the
    file cannot be used.
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

    def compared_by(self) -> Any:
        """Return where the database is; of one in memory what it holds."""
        return [self.mutable, self.backend, self._in_memory()]

    def written_as(self) -> dict[str, Any]:
        """Return where the database is; of one in memory what it holds."""
        if self.backend is not None:
            return {"backend": self.backend, "mutable": self.mutable}
        left_by = dict(self._database.ask("SELECT name, run FROM left_by ORDER BY name"))
        more = {"left_by": left_by} if left_by else {}
        return {"backend": self._in_memory(), "mutable": self.mutable, **more}

    def extract(self, name: str) -> Any:
        """Return a value. UnknownStateNameError (a KeyError) if there is none of that name."""
        rows = self._database.ask("SELECT value FROM state WHERE name = ?", name)
        if not rows:
            raise self.unknown(name)
        return decode(json.loads(rows[0][0]))

    def post(self, data: Any, name: str) -> None:
        """Keep a value; ImmutableStateError (a ValueError) if the name is taken."""
        self.post_all({name: data})

    def post_all(self, values: Mapping[str, Any]) -> None:
        """Post several values in one transaction; none of them if one cannot be posted."""
        self._post(values, {})

    def post_of_step(self, values: Mapping[str, Any], run: str) -> None:
        """Post what a step passes on, in one transaction; ``run`` names this run of the step."""
        self._post(values, dict.fromkeys(values, run))

    def left_by(self, name: str) -> str | None:
        """Return which run of a step left the value of that name; None if none did."""
        rows = self._database.ask("SELECT run FROM left_by WHERE name = ?", name)
        return rows[0][0] if rows else None

    def _post(self, values: Mapping[str, Any], left_by: Mapping[str, str]) -> None:
        if not values:
            return
        rows = {name: json.dumps(encode(value, repr(name))) for name, value in values.items()}
        insert = INSERT_OR_UPDATE if self.mutable else INSERT
        with self._database.transaction() as connection:
            for row in rows.items():
                try:
                    connection.execute(insert, row)
                except sqlite3.IntegrityError:
                    raise immutable(row[0]) from None
            connection.executemany(FORGET, [(name,) for name in rows])
            connection.executemany(LEFT_BY, [*left_by.items()])

    def delete(self, name: str) -> None:
        """Forget a value. UnknownStateNameError (a KeyError) if there is none of that name."""
        with self._database.transaction() as connection:
            gone = connection.execute("DELETE FROM state WHERE name = ?", (name,)).rowcount
            connection.execute(FORGET, (name,))
        if not gone:
            raise self.unknown(name)

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        return bool(self._database.ask("SELECT 1 FROM state WHERE name = ?", name))

    def names(self) -> list[str]:
        """Return the names of all values, in the order in which they were first posted."""
        return [row[0] for row in self._database.ask("SELECT name FROM state ORDER BY rowid")]

    def _in_memory(self) -> dict[str, Any]:
        if self.backend is not None:
            return {}
        return {name: self.extract(name) for name in self.names()}


class SqliteStore:
    """An SQLite file, opened for each use; without a path a database in memory."""

    def __init__(self, path: str | None) -> None:
        self._path = None if path is None else Path(path)
        self._lock = threading.Lock()
        self._kept: sqlite3.Connection | None = None
        if self._path is None:
            self._kept = sqlite3.connect(":memory:", check_same_thread=False)
            _prepare(self._kept)
            weakref.finalize(self, self._kept.close)

    def ask(self, query: str, *values: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with self.transaction() as connection:
            return connection.execute(query, values).fetchall()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Give a connection; what was done with it is kept if the block does not raise."""
        try:
            with self._lock, self._connected() as connection, connection:
                yield connection
        except (sqlite3.Error, OSError) as error:
            raise StateStoreError(
                f"the state in {self._path or 'memory'} cannot be used: {error}",
                hint="The path must be an SQLite database, or not be there, and be writable.",
            ) from error

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        if self._kept is not None:
            yield self._kept
            return
        assert self._path is not None
        if not self._path.exists():
            os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600))
        with contextlib.closing(sqlite3.connect(self._path, timeout=TIMEOUT)) as connection:
            _prepare(connection)
            yield connection

    def __deepcopy__(self, memo: object) -> SqliteStore:
        made = SqliteStore(None if self._path is None else str(self._path))
        if self._kept is not None and made._kept is not None:
            self._kept.backup(made._kept)
        return made

    def __reduce__(self) -> Any:
        raise TypeError("a connection to a database cannot be pickled; use to_json")


def _prepare(connection: sqlite3.Connection) -> None:
    for table in SCHEMA:
        connection.execute(table)
