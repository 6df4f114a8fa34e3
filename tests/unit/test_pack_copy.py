"""A file that is packed in rounds beside its server equals one that ZODB packs at once."""

from __future__ import annotations

import random
import shutil
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest
import transaction
import ZODB
from BTrees.IOBTree import IOBTree
from persistent.mapping import PersistentMapping

from motoko.server.class_allow_list import references
from motoko.server.pack_process import PackCopy
from motoko.server.safe_file import SafeFileStorage

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit

COMMITS = 40


def write(path: Path, rng: random.Random) -> list[tuple[bytes, int]]:
    """Write random commits; return (id, size of the file) after each."""
    database = ZODB.DB(SafeFileStorage(path))
    connection = database.open()
    places: list[Any] = [IOBTree() for _ in range(3)]
    connection.root()["places"] = PersistentMapping(dict(enumerate(places)))
    transaction.commit()
    found = []
    for number in range(COMMITS):
        for _ in range(rng.randrange(1, 6)):
            change(places, number, rng)
        transaction.commit()
        storage = database.storage
        found.append((storage.lastTransaction(), storage.getSize()))
        if rng.random() < 0.1:  # its records refer to earlier ones
            database.undo(database.undoInfo(0, 1)[0]["id"])
            transaction.commit()
            found.append((storage.lastTransaction(), storage.getSize()))
    database.close()
    return found


def change(places: list[Any], number: int, rng: random.Random) -> None:
    """Add, edit, move or drop an object."""
    source, target = rng.choice(places), rng.choice(places)
    if not source or rng.random() < 0.4:
        source[rng.randrange(10**6)] = PersistentMapping({"n": number})
        return
    key = rng.choice(list(source))
    action = rng.randrange(3)
    if action == 0:
        source[key]["n"] = number
    elif action == 1:
        target[rng.randrange(10**6)] = source.pop(key)
    else:
        del source[key]


@pytest.mark.parametrize("seed", range(5))
def test_a_copy_in_rounds_equals_a_pack_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    module = import_module("ZODB.FileStorage.FileStorage")
    monkeypatch.setattr(module, "fsync", lambda _: None)  # it is slow
    rng = random.Random(seed)
    path, copy = tmp_path / "file", tmp_path / "copy"
    commits = write(path, rng)
    size = path.stat().st_size
    stop, _ = rng.choice(commits)
    first = rng.choice([end for tid, end in commits if tid >= stop])
    middle = rng.choice([end for _, end in commits if end >= first])
    with copy.open("w+b", buffering=0) as file:
        target = file.fileno()
        packing = PackCopy(path, target, stop=stop, size=first)
        copied = packing.copy_old()
        for end in (first, middle):
            copied = packing.copy_new(copied.read, end)
        packing.close()
        rest = PackCopy(path, target, index=packing.index)
        copied = rest.copy_new(copied.read, size)
        rest.close()
    assert (copied.read, copied.written) == (size, copy.stat().st_size)

    once = tmp_path / "once"
    shutil.copy(path, once)
    storage = SafeFileStorage(once)
    packed = SafeFileStorage.packer(storage, references, stop, True)
    storage._commit_lock.release()
    storage.close()
    assert packed is not None
    _, index = packed
    assert copy.read_bytes() == (tmp_path / "once.pack").read_bytes()
    assert dict(rest.index.items()) == dict(index.items())
