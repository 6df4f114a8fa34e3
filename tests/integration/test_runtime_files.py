"""Atomic files, private directories, exclusive creation, locks."""

from __future__ import annotations

import errno
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from motoko.errors import LauncherError, StorageError
from motoko.runtime.file_lock import FileLock
from motoko.runtime.files import exclusive_create, private_directory, write_atomic

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize("durable", [False, True])
def test_an_atomic_file_is_private_and_leaves_no_temporary_file(
    tmp_path: Path, durable: bool
) -> None:
    path = tmp_path / "a file"
    write_atomic(path, b"one", durable=durable)
    write_atomic(path, b"two", durable=durable)
    assert path.read_bytes() == b"two"
    assert mode(path) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_an_atomic_file_can_be_executable(tmp_path: Path) -> None:
    write_atomic(tmp_path / "x", b"", mode=0o755)
    assert mode(tmp_path / "x") == 0o755


@pytest.mark.parametrize("action", ["raise", "kill"])
def test_an_interrupted_write_keeps_the_former_content(tmp_path: Path, action: str) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"one")
    script = (
        "import pathlib, sys; from motoko.runtime.files import write_atomic;"
        " write_atomic(pathlib.Path(sys.argv[1]), b'two')"
    )
    log = tmp_path.parent / f"{tmp_path.name}.log"
    environment = {
        **os.environ,
        "MOTOKO_FAULT": f"files.before_rename:{action}",
        "MOTOKO_FAULT_LOG": str(log),
    }
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == (1 if action == "raise" else -9)
    assert log.read_text().split()[:2] == ["files.before_rename", "1"]
    assert path.read_bytes() == b"one"
    left = len(list(tmp_path.iterdir())) - 1
    assert left == (0 if action == "raise" else 1)  # a killed process cannot clean up


def test_a_failed_write_keeps_the_content(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_atomic(tmp_path / "directory", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["directory"]


def test_exclusive_creation_succeeds_once(tmp_path: Path) -> None:
    path = tmp_path / "start"
    gate = threading.Barrier(8)
    results: list[bool] = []

    def create(name: int) -> None:
        gate.wait()
        results.append(exclusive_create(path, str(name).encode()))

    threads = [threading.Thread(target=create, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False] * 7 + [True]
    assert path.read_bytes().isdigit()
    assert mode(path) == 0o600


def test_a_private_directory_is_made_with_its_parents(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    assert private_directory(path) == path
    assert mode(path) == 0o700


def test_permissions_of_an_open_directory_are_restricted(tmp_path: Path) -> None:
    path = tmp_path / "open"
    path.mkdir()
    path.chmod(0o777)
    private_directory(path)
    assert mode(path) == 0o700


def test_a_file_in_place_of_a_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="is not a directory"):
        private_directory(tmp_path / "file")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    path, link = tmp_path / "theirs", tmp_path / "link"
    path.mkdir()
    os.chown(path, 12345, 12345)
    with pytest.raises(StorageError, match="belongs to another user"):
        private_directory(path)
    (tmp_path / "mine").mkdir(mode=0o755)
    link.symlink_to(tmp_path / "mine")
    assert private_directory(link) == link
    os.lchown(link, 12345, 12345)
    with pytest.raises(StorageError, match="belongs to another user"):
        private_directory(link)


def test_a_lock_is_exclusive_and_names_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with FileLock(path, purpose="the launcher") as first:
        assert first.held
        second = FileLock(path, timeout=0.05, error=LauncherError)
        with pytest.raises(LauncherError) as caught:
            second.acquire()
        assert str(caught.value).startswith(f"{path} is held by process {os.getpid()} on ")
        assert "(the launcher) since 2" in str(caught.value)
        assert not second.held
        with pytest.raises(StorageError, match="already locked by this object"):
            first.acquire()
    with second:
        assert second.held
    assert mode(path) == 0o600


def test_a_lock_works_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.pwrite", full)
    with FileLock(tmp_path / "lock") as lock:
        assert lock.held
        with pytest.raises(StorageError, match="held by an unknown process"):
            FileLock(tmp_path / "lock", timeout=0).acquire()
    assert not lock.held


def test_a_lock_can_be_awaited(tmp_path: Path) -> None:
    first = FileLock(tmp_path / "lock")
    first.acquire()
    timer = threading.Timer(0.1, first.release)
    began = time.monotonic()
    timer.start()
    with FileLock(tmp_path / "lock", timeout=30):
        assert time.monotonic() - began >= 0.09
    timer.join()


def hold(path: Path, ready: multiprocessing.synchronize.Event) -> None:
    FileLock(path).acquire()
    ready.set()
    time.sleep(60)


def test_a_lock_is_released_when_its_holder_is_killed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    holder = context.Process(target=hold, args=(tmp_path / "lock", ready))
    holder.start()
    assert ready.wait(60)
    with pytest.raises(StorageError, match=f"is held by process {holder.pid} on"):
        FileLock(tmp_path / "lock", timeout=0).acquire()
    holder.kill()
    holder.join()
    with FileLock(tmp_path / "lock", timeout=0) as lock:
        assert lock.held
