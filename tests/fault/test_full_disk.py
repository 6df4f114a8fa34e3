"""No room on the disk, or nothing that can be written: it stops loudly, and goes on afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from motoko.core.changes import SetVariable
from motoko.core.values import MISSING
from motoko.errors import ServerError, StorageError
from motoko.storage.address import StateDirectory
from motoko.storage.server import create_database, ensure_server, stop_server
from motoko.storage.session import Session
from motoko.storage.store import Store
from motoko.testing.clients import commit
from tests.support.serving import STUDIES, add_one, increment, make, process_of, variable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.fault


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    place = tmp_path / "small"
    place.mkdir()
    mount(place, "-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs")
    yield place
    stop_server(StateDirectory.of(place / "wf"))
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def mount(place: Path, *arguments: str) -> None:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small file system")
    done = subprocess.run(
        ["mount", *arguments, str(place)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")


def fill(place: Path) -> Path:
    """Use all the room there is, to the last page."""
    stuff = place / "stuff"
    with stuff.open("ab", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(b"\1" * size)
            except OSError:
                continue
    return stuff


def write_until_refused(store: Store) -> tuple[StorageError, int]:
    for number in range(1000):
        session = Session(store.database)
        try:
            session.add(SetVariable(None, f"v{number}", "x" * 50_000))
            add_one(session)
            commit(store.database, session)
        except StorageError as error:
            return error, number
        finally:
            session.close()
    raise AssertionError("the disk was not full")


def test_a_full_disk_stops_loudly_and_is_gone_on_from(small: Path) -> None:
    state = make(small / "wf")
    store = Store(state, {})
    stuff = small / "stuff"
    stuff.write_bytes(b"\1" * 1_000_000)
    error, done = write_until_refused(store)
    assert error.message.startswith("there is no room left on the disk")
    assert done > 2
    for _ in range(3):  # it stays so, and the same server goes on serving what there is
        with pytest.raises(StorageError, match="no room left"):
            store.script.write(SetVariable(None, "big", "x" * 500_000))
    assert variable(store, "n") == done
    assert variable(store, f"v{done}") is MISSING
    process = process_of(state)
    stuff.unlink()
    increment(store)
    increment(store)
    assert process_of(state) == process
    assert variable(store, "n") == done + 2
    store.close()
    stop_server(state)
    look = Store(state, {}, look=True)
    assert variable(look, "n") == done + 2
    assert variable(look, f"v{done - 1}") == "x" * 50_000
    look.close()
    ensure_server(state)
    assert "truncated" not in (state.logs / "server.log").read_text()


def test_no_room_to_start_in(small: Path) -> None:
    state = make(small / "wf")
    store = Store(state, {})
    increment(store)
    store.close()
    stop_server(state)
    (state.path / "wf.db.tmp").unlink()  # it would be emptied, and make room
    stuff = fill(small)
    with pytest.raises(ServerError, match="No space left on device") as caught:
        ensure_server(state)
    assert "\n" not in caught.value.message
    look = Store(state, {}, look=True)
    assert variable(look, "n") == 1
    look.close()
    stuff.unlink()
    increment(store)
    assert variable(store, "n") == 2
    store.close()


def test_a_directory_that_can_only_be_read(tmp_path: Path) -> None:
    state = make(tmp_path / "wf")
    store = Store(state, {})
    increment(store)
    store.close()
    stop_server(state)
    mount(tmp_path / "wf", "--bind", str(tmp_path / "wf"))
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(tmp_path / "wf")], check=True)
        with pytest.raises(ServerError, match="cannot be used: Read-only file system") as caught:
            increment(store)
        assert "motoko info" in str(caught.value)
        with pytest.raises(ServerError, match="Read-only file system"):
            create_database(state, STUDIES, replace=True)
        with pytest.raises(ServerError, match="Read-only file system"):
            stop_server(state)
        look = Store(state, {}, look=True)
        assert variable(look, "n") == 1
        look.close()
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path / "wf")], check=True)
    increment(store)
    assert variable(store, "n") == 2
    store.close()
    stop_server(state)
