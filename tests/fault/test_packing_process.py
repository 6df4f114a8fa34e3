"""A helper packs runs; neither its end nor its launcher's loses anything."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from typing import TYPE_CHECKING

import pytest

from motoko.launcher.attempt_paths import run_stamp
from motoko.launcher.directory_keeper import DirectoryKeeper
from motoko.launcher.packing import PackingHelper, loose_runs, pack_runs
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


@pytest.fixture
def helper() -> Iterator[PackingHelper]:
    made = PackingHelper()
    yield made
    made.close()


def test_a_helper_packs_like_the_launcher(store: WorkflowStore, helper: PackingHelper) -> None:
    root = root_of(store)
    (root / "run-2" / os.fsdecode(b"caf\xe9 \n")).touch()
    before = on_disk(root)
    result = pack_runs(store, "a", [1, 2, 3, 4, 5], helper)
    assert (result.packed, list(result.left)) == ([1, 3, 4], [2])
    assert "no UTF-8" in result.left[2]
    assert visible(root) == before
    assert list(loose_runs(root)) == [2]


def test_a_helper_stays_and_locks_packs_only_while_it_packs(
    store: WorkflowStore, helper: PackingHelper
) -> None:
    root = root_of(store)
    before, seen = on_disk(root), set()
    for ids in ([1, 2], [3], [4]):
        assert pack_runs(store, "a", ids, helper).packed == ids
        assert helper._process is not None
        seen.add(helper._process._process.pid)
        assert not is_locked(packs_lock(root).path)
    assert len(seen) == 1
    assert visible(root) == before


def test_a_helper_that_was_killed_between_packs_is_replaced(
    store: WorkflowStore, helper: PackingHelper
) -> None:
    root = root_of(store)
    before = on_disk(root)
    assert pack_runs(store, "a", [1], helper).packed == [1]
    assert helper._process is not None
    helper._process.kill()
    helper._process._process.wait()
    assert pack_runs(store, "a", [2], helper).packed == [2]
    assert not helper.is_running
    assert pack_runs(store, "a", [3], helper).packed == [3]
    assert helper.is_running
    assert visible(root) == before


@pytest.mark.parametrize(
    "fault", ["packs.written:kill", "packs.renamed:kill", "packs.removing:kill:2"]
)
def test_the_launcher_packs_what_a_killed_helper_left(
    store: WorkflowStore,
    helper: PackingHelper,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    fault: str,
) -> None:
    root, log = root_of(store), tmp_path / "faults"
    before = on_disk(root)
    monkeypatch.setenv("MOTOKO_FAULT", fault)
    monkeypatch.setenv("MOTOKO_FAULT_LOG", str(log))
    result = pack_runs(store, "a", [1, 2, 3, 4], helper)
    assert fault.partition(":")[0] in log.read_text()
    assert result.left == {}
    assert loose_runs(root) == {}
    assert visible(root) == before
    assert len(list_packs(root)) == 1


@pytest.mark.parametrize("program", ["/bin/false", "/nonexistent"])
def test_the_launcher_packs_if_no_helper_starts(
    store: WorkflowStore, helper: PackingHelper, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setattr("sys.executable", program)
    assert pack_runs(store, "a", [1, 2, 3, 4], helper).packed == [1, 2, 3, 4]


def test_a_helper_that_cannot_write_is_an_error(
    store: WorkflowStore, helper: PackingHelper
) -> None:
    root = root_of(store)
    packed = root / "packed"
    packed.mkdir()
    (packed / ".1-1-4.zip.tmp").mkdir()
    with pytest.raises(OSError, match=r"1-1-4\.zip\.tmp"):
        pack_runs(store, "a", [1, 2, 3, 4], helper)
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
    with HelperProcess(command) as process:
        process.send(json.dumps([str(root), runs]), descriptors=[lock.descriptor])
        wait_until(lambda: log.exists() and "packs.renamed" in log.read_text(), "a pack")
        os.close(lock.descriptor)  # as if the launcher were killed
        assert is_locked(lock.path)
        process._requests.close()
        assert process._process.wait() == 1
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

    def ask(_: PackingHelper, root: str, *__: object) -> dict[int, str]:
        asked.append(root)
        return {}

    monkeypatch.setattr(PackingHelper, "pack", ask)
    monkeypatch.setattr(directory_keeper, "BACKLOG", 1)
    keeper = DirectoryKeeper(store, lambda: ("packed", ["a"], idle))
    keeper.add([record_of(store, 1).key])
    await keeper.finish()
    assert asked == ([] if idle else [str(root_of(store))])


@pytest.mark.parametrize("end", ["unused", "cancelled", "finished"])
async def test_a_keeper_ends_its_helper(
    store: WorkflowStore, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    from motoko.launcher import directory_keeper

    monkeypatch.setattr(directory_keeper, "BACKLOG", 1)
    monkeypatch.setattr(directory_keeper, "LOOK_SECONDS", 0.01)
    if end == "unused":
        monkeypatch.setattr(directory_keeper, "UNUSED_SECONDS", 0.0)
    started: list[HelperProcess] = []
    start = HelperProcess.__init__

    def noted(process: HelperProcess, command: list[str]) -> None:
        start(process, command)
        started.append(process)

    monkeypatch.setattr(HelperProcess, "__init__", noted)
    keeper = DirectoryKeeper(store, lambda: ("packed", ["a"], False))
    keeper.add([record_of(store, 1).key])
    if end == "finished":
        await keeper.finish()
    else:
        work = asyncio.create_task(keeper.run())
        while len(keeper) or (end == "unused" and keeper._helper.is_running):  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert keeper._helper.is_running is (end == "cancelled")
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
    (process,) = started
    assert process._process.returncode is not None
    assert loose_runs(root_of(store)) == {}
