"""Foreign pickles in the files of a workflow are never executed."""

from __future__ import annotations

import contextlib
import gc
import itertools
import shutil
import sys
import warnings
from functools import partial
from typing import TYPE_CHECKING

import pytest
import transaction
from persistent.mapping import PersistentMapping
from ZODB.Connection import TransactionMetaData
from ZODB.POSException import ConflictError, POSError
from ZODB.serialize import referencesf
from ZODB.utils import z64

from motoko.errors import DatabaseDamagedError, ForbiddenClassError, MotokoError
from motoko.operations.backup import back_up, restore
from motoko.server.create import create_database_file
from motoko.server.file_integrity import check_file
from motoko.server.file_storage import AtomicFileStorage
from motoko.server.safe_file import SafeFileStorage, saved_index, saved_position
from motoko.server.state_dir import StateDir
from motoko.storage.backup import summarise
from motoko.storage.database import Database
from motoko.storage.schema import write_database
from tests.support.gadgets import MODULE, RECORDS, SHAPES, plant_extension, plant_record, run, whole

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.unit

OBJECTS = ("root", "another object")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    state = StateDir.of(tmp_path_factory.mktemp("made"))
    state.path.mkdir(mode=0o700)
    create_database_file(state, partial(write_database, studies=["s"]))
    return state.database


@pytest.fixture
def state(made: Path, tmp_path: Path) -> StateDir:
    state = StateDir.of(tmp_path)
    state.path.mkdir(mode=0o700)
    state.logs.mkdir()
    shutil.copy(made, state.database)
    return state


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory that is created if a gadget runs or its module is imported."""
    directory = tmp_path / "ran"
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / f"{MODULE}.py").write_text(
        f"import os\nos.mkdir({str(directory)!r})\n\nclass Thing:\n"
        "    def _p_resolveConflict(self, old, saved, new):\n        return new\n"
    )
    monkeypatch.syspath_prepend(str(modules))
    yield directory
    sys.modules.pop(MODULE, None)


@pytest.mark.parametrize("shape", SHAPES)
def test_each_gadget_runs_when_unpickled(trap: Path, shape: str) -> None:
    with contextlib.suppress(Exception):
        run(whole(shape, trap))
    assert trap.is_dir()


def objects(file: Path) -> list[bytes]:
    """Return the ids of the root and of an object that it refers to."""
    storage = SafeFileStorage(file)
    try:
        return [z64, referencesf(storage.load(z64)[0])[0]]
    finally:
        storage.close()
        file.with_name("wf.db.index").unlink()


def read_all(file: Path) -> None:
    """Load every object of a file."""
    database = Database.read_file(file)
    manager = transaction.TransactionManager(explicit=True)
    connection = database.open(manager)
    manager.begin()
    try:
        for oid in list(database._storage._index):
            with contextlib.suppress(MotokoError, POSError):
                connection.get(oid)._p_activate()
    finally:
        manager.abort()
        connection.close()
        database.close()


def serve(file: Path) -> None:
    """Use a file as its server does."""
    served = AtomicFileStorage(file)
    try:
        for oid in list(served._index):
            served.history(oid, 100)
            data, serial = served.load(oid)
            with contextlib.suppress(ConflictError):
                served.tryToResolveConflict(oid, serial, serial, data)
            meta = TransactionMetaData()
            with contextlib.suppress(ConflictError, POSError):
                served.tpc_begin(meta)
                served.store(oid, z64, data, "", meta)
                served.tpc_vote(meta)
            served.tpc_abort(meta)
        served.pack(2**33, referencesf)
    finally:
        served.close()


def use(state: StateDir, file: Path) -> None:
    """Use a file in all ways in which Motoko uses one."""
    again = StateDir(state.path.parent / "again" / ".wf")
    again.path.mkdir(parents=True, mode=0o700)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for work in (
            lambda: check_file(file),
            lambda: summarise(file),
            lambda: read_all(file),
            lambda: back_up(state, state.path.parent / "copy"),
            lambda: restore(again, file, replace=True),
            lambda: serve(file),
        ):
            with contextlib.suppress(MotokoError, POSError, ValueError, TypeError):
                work()
        gc.collect()


# One combination in eleven: each shape and each kind occurs in several places.
@pytest.mark.parametrize(
    ("shape", "kind", "which"), list(itertools.product(SHAPES, RECORDS, OBJECTS))[::11]
)
def test_records_do_not_run_code(
    state: StateDir, trap: Path, shape: str, kind: str, which: str
) -> None:
    oid = objects(state.database)[OBJECTS.index(which)]
    plant_record(state.database, oid, RECORDS[kind](SHAPES[shape](str(trap))))
    use(state, state.database)
    assert not trap.exists()
    assert MODULE not in sys.modules


@pytest.mark.parametrize("shape", SHAPES)
def test_transaction_extensions_do_not_run_code(state: StateDir, trap: Path, shape: str) -> None:
    plant_extension(state.database, whole(shape, trap))
    use(state, state.database)
    assert not trap.exists()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("place", ["beside a backup", "the server's own"])
def test_indexes_do_not_run_code(state: StateDir, trap: Path, shape: str, place: str) -> None:
    file = state.database
    if place == "beside a backup":
        file = state.path.parent / "backup"
        shutil.copy(state.database, file)
    file.with_name(f"{file.name}.index").write_bytes(whole(shape, trap))
    assert saved_position(file) == 0
    assert saved_index(file) is None
    use(state, file)
    assert not trap.exists()


def test_a_refused_class_is_named(state: StateDir, trap: Path) -> None:
    gadget = RECORDS["state"](SHAPES["reduce"](str(trap)))
    plant_record(state.database, objects(state.database)[1], gadget)
    with pytest.raises(DatabaseDamagedError, match=r"wf\.db: a record names posix\.mkdir") as told:
        summarise(state.database)
    assert isinstance(told.value, ForbiddenClassError)


@pytest.mark.parametrize("spoil", ["other", "link", "writable", "elsewhere"])
def test_only_the_servers_own_index_is_read(state: StateDir, spoil: str) -> None:
    served = AtomicFileStorage(state.database)
    size = served.getSize()
    served.close()
    index = state.path / "wf.db.index"
    file = state.database
    assert saved_position(file) == size
    found = saved_index(file)
    assert found is not None
    assert list(found[1].keys()) != []
    if spoil == "writable":
        index.chmod(0o666)
    elif spoil == "other":
        state.path.chmod(0o777)
    elif spoil == "link":
        index.rename(state.path / "other")
        index.symlink_to("other")
    else:
        file = state.path.parent / "wf.db"
        shutil.copy(state.database, file)
        shutil.copy(index, file.with_name("wf.db.index"))
    assert saved_position(file) == 0
    assert saved_index(file) is None


def test_conflicts_between_trees_are_still_resolved(state: StateDir) -> None:
    database = Database(AtomicFileStorage(state.database))
    managers = [transaction.TransactionManager(explicit=True) for _ in range(2)]
    connections = [database.open(manager) for manager in managers]
    for key, (manager, connection) in enumerate(zip(managers, connections, strict=True)):
        manager.begin()
        connection.root()["motoko"]["leases"][f"l{key}"] = PersistentMapping()
    for manager in managers:
        manager.commit()
    managers[0].begin()
    assert list(connections[0].root()["motoko"]["leases"]) == ["l0", "l1"]
    managers[0].abort()
    for connection in connections:
        connection.close()
    database.close()
