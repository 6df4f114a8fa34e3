"""Whether all records of a database agree with its indexes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import transaction
from BTrees.check import check as check_tree
from ZODB.POSException import POSError

from motoko.errors import MotokoError
from motoko.server.class_allow_list import check_record, references
from motoko.server.integrity import SENSELESS, check_file
from motoko.server.safe_file import SafeFileStorage
from motoko.storage.commit import abort
from motoko.storage.database import Database
from motoko.storage.tables import Tables

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def check_database_file(path: Path) -> list[str]:
    """Return what is wrong with a database file, reading all of it; nothing if it is whole.

    DatabaseDamagedError where it cannot be opened at all.
    """
    database = Database.read_file(path)
    manager = transaction.TransactionManager(explicit=True)
    try:
        wrong = list(_objects(path))
        connection = database.open(manager)
        manager.begin()
        try:
            return wrong + check_tables(connection.root())
        finally:
            abort(manager)
            connection.close()
    finally:
        database.close()


def _objects(path: Path) -> Iterator[str]:
    """Yield which objects cannot be loaded, or refer to others that are missing."""
    storage = SafeFileStorage(path, committed=check_file(path).committed)
    try:
        known = {oid for oid in storage._index}  # noqa: SLF001, C416 - it is no Iterable to mypy
        for oid in sorted(known):
            try:
                data, _ = storage.load(oid)
                check_record(data)
                missing = [one for one in references(data) if one not in known]
            except Exception as error:  # noqa: BLE001 - of a record that makes no sense, anything
                yield f"object {oid.hex()} cannot be read: {error}"
                continue
            for one in missing:
                yield f"object {oid.hex()} refers to {one.hex()}, which is missing"
    finally:
        storage.close()


def check_tables(root: Any) -> list[str]:
    """Return every disagreement between the records in a snapshot and the indexes of them."""
    try:
        return [*_trees(root["motoko"], "motoko"), *_disagreements(Tables(root))]
    except (MotokoError, POSError, *SENSELESS) as error:
        return [f"its tables cannot be read: {type(error).__name__}: {error}"]


def _disagreements(tables: Tables) -> Iterator[str]:
    for name in tables.study_names():
        yield from tables.study(name).recount()
    yield from tables.recount()


def _trees(table: Any, place: str) -> Iterator[str]:
    """Yield the trees that are not in order within themselves."""
    for name, item in table.items():
        where = f"{place}.{name}"
        if hasattr(item, "_check"):
            try:
                item._check()  # noqa: SLF001 - the name is BTrees'
                check_tree(item)
            except AssertionError as error:
                yield f"{where} is not in order: {error}"
        if hasattr(item, "items"):
            inner = {key: one for key, one in item.items() if hasattr(one, "_p_oid")}
            yield from _trees(inner, where)
