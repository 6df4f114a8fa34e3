"""Two clients of one index of identities, with parts of a few entries."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
import transaction
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping
from ZODB.FileStorage import FileStorage

from motoko.storage import identities, sorted_parts
from motoko.storage.commit import abort
from motoko.storage.database import Database
from motoko.storage.identities import Identities

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

INDEX = "by_identity"
# Many have the same first four bytes; the first and the last of all are among them.
DIGESTS = [
    head + bytes(11) + bytes([tail])
    for head in (bytes(4), b"\0\0\0\1", b"\1\0\0\0", b"\xff" * 4)
    for tail in range(4)
]


@contextlib.contextmanager
def small_parts(*, recent: int = 5, step: int = 3) -> Iterator[None]:
    """Cut parts into leaves of two entries, and merge two of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identities, "RECENT", recent)
        patch.setattr(identities, "STEP", step)
        patch.setattr(identities, "FAN_IN", 2)
        patch.setattr(sorted_parts, "LEAF", 2)
        yield


def empty_table() -> PersistentMapping:
    return PersistentMapping({INDEX: OOBTree()})


class Client:
    """A connection with a snapshot."""

    def __init__(self, database: Database) -> None:
        self.manager = transaction.TransactionManager(explicit=True)
        self._connection = database.open(self.manager)
        self.manager.begin()

    @property
    def root(self) -> Any:
        return self._connection.root()

    @property
    def index(self) -> Identities:
        return Identities(self.root["table"], INDEX)

    def begin(self) -> None:
        abort(self.manager)
        self.manager.begin()

    def commit(self) -> None:
        """Commit; after a conflict the changes are dropped."""
        try:
            self.manager.commit()
        finally:
            self.begin()

    def freeze(self) -> None:
        self.index.freeze(0)
        self.commit()

    def finish_steps(self) -> None:
        while self.index.step(0):
            self.commit()

    def close(self) -> None:
        abort(self.manager)
        self._connection.close()


@contextlib.contextmanager
def open_index(path: Path) -> Iterator[Database]:
    """Yield a database file with an empty index."""
    database = Database(FileStorage(str(path)))
    try:
        client = Client(database)
        client.root["table"] = empty_table()
        client.root["runs"] = PersistentMapping({d: PersistentMapping() for d in DIGESTS})
        client.commit()
        client.close()
        yield database
    finally:
        database.close()
