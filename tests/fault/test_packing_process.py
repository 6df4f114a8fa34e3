"""A helper packs runs; neither its end nor its launcher's loses anything."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from motoko.launcher import packing
from motoko.launcher.attempt_paths import run_stamp
from motoko.launcher.directory_keeper import DirectoryKeeper
from motoko.launcher.packing import loose_runs, pack_runs
from motoko.runtime.daemons import module_command
from motoko.runtime.file_lock import is_locked
from motoko.runtime.helper_process import HelperProcess
from motoko.runtime.packs import list_packs, packs_lock
from tests.support.command_line import wait_until
from tests.support.packed_runs import (
    on_disk,
    record_of,
    root_of,
    store_with_ended_runs,
    visible,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from motoko.storage.store import WorkflowStore

pytestmark = pytest.mark.fault


@pytest.fixture
def store(tmp_path: Path) -> Iterator[WorkflowStore]:
    yield from store_with_ended_runs(tmp_path)


def test_a_helper_packs_like_the_launcher(store: WorkflowStore) -> None:
    root = root_of(store)
    (root / "run-2" / os.fsdecode(b"caf\xe9 \n")).touch()
    before = on_disk(root)
    result = pack_runs(store, "a", [1, 2, 3, 4, 5], helper=True)
    assert (result.packed, list(result.left)) == ([1, 3, 4], [2])
    assert "no UTF-8" in result.left[2]
    assert visible(root) == before
    assert list(loose_runs(root)) == [2]


@pytest.mark.parametrize(
    "fault", ["packs.written:kill", "packs.renamed:kill", "packs.removing:kill:2"]
)
def test_the_launcher_packs_what_a_killed_helper_left(
    store: WorkflowStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault: str
) -> None:
    root, log = root_of(store), tmp_path / "faults"
    before = on_disk(root)
    monkeypatch.setenv("MOTOKO_FAULT", fault)
    monkeypatch.setenv("MOTOKO_FAULT_LOG", str(log))
    result = pack_runs(store, "a", [1, 2, 3, 4], helper=True)
    assert fault.partition(":")[0] in log.read_text()
    assert result.left == {}
    assert loose_runs(root) == {}
    assert visible(root) == before
    assert len(list_packs(root)) == 1


@pytest.mark.parametrize("program", ["/bin/false", "/nonexistent"])
def test_the_launcher_packs_if_no_helper_starts(
    store: WorkflowStore, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setattr("sys.executable", program)
    assert pack_runs(store, "a", [1, 2, 3, 4], helper=True).packed == [1, 2, 3, 4]


def test_a_helper_that_cannot_write_is_an_error(
    store: WorkflowStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = root_of(store)
    packed = root / "packed"
    packed.mkdir()
    (packed / ".1-1-4.zip.tmp").mkdir()
    with pytest.raises(OSError, match=r"1-1-4\.zip\.tmp"):
        pack_runs(store, "a", [1, 2, 3, 4], helper=True)
    assert list(loose_runs(root)) == [1, 2, 3, 4]


def test_a_helper_holds_the_lock_of_the_packs_until_it_exits_with_its_launcher(
    store: WorkflowStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root, log = root_of(store), tmp_path / "faults"
    before = on_disk(root)
    monkeypatch.setenv("MOTOKO_FAULT", "packs.renamed:sleep=1000")
    monkeypatch.setenv("MOTOKO_FAULT_LOG", str(log))
    lock = packs_lock(root)
    lock.acquire()
    assert lock.descriptor is not None
    record = record_of(store, 1)
    runs = [(1, 1, run_stamp(record), ["run-1"])]
    command = module_command("motoko.launcher.packing_process")
    with HelperProcess(command, descriptors=[lock.descriptor]) as helper:
        pipe = helper._process.stdin
        assert pipe is not None
        pipe.write(f"{json.dumps([str(root), runs])}\n".encode())
        pipe.flush()
        wait_until(lambda: log.exists() and "packs.renamed" in log.read_text(), "a pack")
        os.close(lock.descriptor)  # as if the launcher were killed
        assert is_locked(lock.path)
        with open(os.devnull, "wb") as other:
            os.dup2(other.fileno(), pipe.fileno())
        assert helper._process.wait() == 1
        assert not is_locked(lock.path)
    monkeypatch.undo()
    assert visible(root) == before
    assert pack_runs(store, "a", [1, 2, 3, 4]).left == {}
    assert visible(root) == before


@pytest.mark.parametrize("idle", [True, False])
async def test_a_keeper_uses_a_helper_beside_runs(
    store: WorkflowStore, monkeypatch: pytest.MonkeyPatch, idle: bool
) -> None:
    from motoko.launcher import directory_keeper

    asked: list[str] = []

    def ask(root: str, *_: object) -> dict[int, str]:
        asked.append(root)
        return {}

    monkeypatch.setattr(packing, "_ask_helper", ask)
    monkeypatch.setattr(directory_keeper, "BACKLOG", 1)
    keeper = DirectoryKeeper(store, lambda: ("packed", ["a"], idle))
    keeper.add([record_of(store, 1).key])
    await keeper.finish()
    assert asked == ([] if idle else [str(root_of(store))])
