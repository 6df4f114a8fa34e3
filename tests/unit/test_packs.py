"""Packs hold the directories of ended runs exactly, and a kill at any point loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from motoko.core.changes import EditRun
from motoko.core.edits import Retry
from motoko.core.records import RunKey
from motoko.launcher import directory_keeper, directory_packing
from motoko.launcher.attempt_paths import attempt_directory
from motoko.launcher.directory_keeper import DirectoryKeeper
from motoko.launcher.directory_removal import remove_pending
from motoko.launcher.packing import loose_runs, pack_runs, remove_finished
from motoko.operations.run_output import current_attempt
from motoko.runtime import fault_points, pack_joining, pack_writing, packs, run_listing
from motoko.runtime.packed_files import locate, open_file, read_end, read_file, stat_file
from motoko.runtime.packs import PACKED, find_packs, list_packs, open_pack
from motoko.runtime.processes import boot_id, pid_namespace
from tests.support.packed_runs import (
    edit,
    execute,
    on_disk,
    record_of,
    root_of,
    store_with_ended_runs,
    visible,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from motoko.storage.store import WorkflowStore

pytestmark = pytest.mark.unit


@pytest.fixture
def store(tmp_path: Path) -> Iterator[WorkflowStore]:
    yield from store_with_ended_runs(tmp_path)


def test_a_pack_holds_directories_exactly(store: WorkflowStore) -> None:
    root = root_of(store)
    odd = root / "run-1"
    (odd / "sub" / "empty").mkdir(parents=True)
    (odd / "sub" / "é\n \\ name").write_bytes(bytes(range(256)) * 20_000)  # several chunks
    (odd / "link").symlink_to("../../nowhere")
    (odd / "script").write_text("x")
    (odd / "script").chmod(0o750)
    os.utime(odd / "script", (5.0, 5.0))  # before zip files know times
    before = on_disk(root)
    result = pack_runs(store, "a", [1, 2, 3, 4, 5])
    assert (result.packed, result.left) == ([1, 2, 3, 4], {})
    assert loose_runs(root) == {}
    (pack,) = list_packs(root)
    assert (pack.first, pack.last) == (1, 4)
    assert visible(root) == before
    assert pack_runs(store, "a", [1, 2, 3, 4, 5]).packed == []
    assert list_packs(root) == [pack]


@pytest.mark.parametrize("joined", [False, True])
def test_files_of_all_sizes_are_packed(
    store: WorkflowStore, monkeypatch: pytest.MonkeyPatch, joined: bool
) -> None:
    monkeypatch.setattr(pack_joining, "SMALL", 2**23)
    root = root_of(store)
    stored, chunk = pack_writing.STORED, pack_writing.CHUNK
    for size in (0, 1, stored, stored + 1, chunk, chunk + 1):
        (root / "run-1" / f"size-{size}").write_bytes(b"\xff" * size)
    before = on_disk(root)
    for ids in ([1], [2, 3]) if joined else ([1, 2, 3],):
        assert pack_runs(store, "a", ids).packed == ids
    assert visible(root) == before
    (pack,) = list_packs(root)
    with open_pack(root, pack) as archive:
        assert archive.testzip() is None
    assert (root / PACKED / pack.name).stat().st_size < chunk


def test_files_of_other_users_are_packed(
    store: WorkflowStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They cannot be opened without their time of access being written."""
    root, open_path = root_of(store), os.open

    def refuse(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if flags & os.O_NOATIME:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), path)
        return open_path(path, flags, mode, dir_fd=dir_fd)

    before = on_disk(root)
    monkeypatch.setattr(os, "open", refuse)
    assert pack_runs(store, "a", [1, 2, 3]).packed == [1, 2, 3]
    assert visible(root) == before


def test_packed_files_are_read_as_others(store: WorkflowStore) -> None:
    root = root_of(store)
    path = root / "run-2" / "stdout"
    inner = Path("run-2", PACKED, "7-1-9.zip", "inner")
    (root / inner).parent.mkdir(parents=True)
    (root / inner).write_bytes(b"inner")
    read: list[Callable[[Path], Any]] = [
        lambda p: read_file(p).data, lambda p: read_file(p, offset=4, limit=3).data,
        lambda p: read_end(p, 4).data, lambda p: stat_file(p).size,
        lambda p: read_file(p.parent / "nothing").missing, lambda p: stat_file(p).fault,
    ]  # fmt: skip
    expected = [one(path) for one in read]
    assert locate(path.parent) == path.parent
    pack_runs(store, "a", [1, 2, 3])
    packed = locate(path.parent)
    assert packed == root / PACKED / "1-1-3.zip" / "run-2"
    assert [one(packed / "stdout") for one in read] == expected
    assert read_file(packed.parent / inner).data == b"inner"
    with open_file(path.parent, "stdout") as file:
        assert file.read() == b"out 2 token2-1\n"
    with pytest.raises(FileNotFoundError, match="nothing"):
        open_file(path.parent, "nothing")
    assert locate(root / "run-9") == root / "run-9"


def test_a_pack_that_was_rewritten_is_read_again(store: WorkflowStore) -> None:
    root = root_of(store)
    pack_runs(store, "a", [1, 2, 3])
    before = {
        run_id: read_file(locate(root / f"run-{run_id}") / "stdout").data for run_id in (2, 3)
    }
    packs.discard(str(root), [1, 2])
    assert locate(root / "run-2") == root / "run-2"
    assert read_file(root / PACKED / "1-1-3.zip" / "run-2" / "stdout").missing
    with open_file(root / "run-3", "stdout") as file:
        assert file.read() == before[3]


def test_links_in_a_pack_are_followed_inside_of_their_run(store: WorkflowStore) -> None:
    root = root_of(store)
    run = root / "run-2"
    (run / "sub").mkdir()
    links = {
        "direct": "stdout", "twice": "sub/up", "sub/up": "../direct", "here": ".",
        "out": "../run-1/stdout", "absolute": f"{root}/run-1/stdout", "cycle": "cycle",
        "missing": "nothing",
    }  # fmt: skip
    for name, target in links.items():
        (run / name).symlink_to(target)
    inside = ("direct", "twice", "sub/up", "here/here/stdout", "sub/../stdout")
    outside = ("out", "absolute", "cycle", "missing", "../run-1/stdout", "sub")
    expected = (run / "stdout").read_bytes()
    for _ in range(2):
        for name in inside:
            with open_file(run, name) as file:
                assert file.read() == expected
        pack_runs(store, "a", [1, 2, 3])
    for name in outside:
        with pytest.raises(OSError, match=r"run-[12]"):
            open_file(run, name)


def test_packed_files_have_the_same_names_as_others(store: WorkflowStore) -> None:
    root = root_of(store)
    run = root / "run-2"
    (run / "sub").mkdir()
    (run / "..name").write_text("dots")
    shutil.copy(run / "stdout", run / "sub" / "file")
    expected = (run / "stdout").read_bytes()
    same: tuple[str | Path, ...] = (
        "stdout", "./stdout", "sub//file", "missing/../stdout", "../run-2/stdout", Path("stdout"),
        run / "stdout", str(run / "sub" / ".." / "stdout"),
    )  # fmt: skip
    none: tuple[str | Path, ...] = ("", ".", "nothing", "sub", run, run / "nothing")
    outside: tuple[str | Path, ...] = (
        "..", "../run-1/stdout", "sub/../../run-1/stdout", "/", "/stdout", "/etc/hostname", root,
        root / "run-1" / "stdout", f"{run}-other/stdout",
        root / PACKED / "1-1-3.zip" / "run-2" / "stdout",
    )  # fmt: skip
    for _ in range(2):
        for name in same:
            with open_file(run, name) as file:
                assert file.read() == expected
        with open_file(run, "..name") as file:
            assert file.read() == b"dots"
        for name in none:
            with pytest.raises(OSError, match="run-2"):
                open_file(run, name)
        for name in outside:
            with pytest.raises(OSError, match=f"it is not in {run}: ") as caught:
                open_file(run, name)
            assert caught.value.errno == errno.EINVAL
        pack_runs(store, "a", [1, 2, 3])


def test_a_damaged_pack_is_a_fault(store: WorkflowStore) -> None:
    root = root_of(store)
    pack_runs(store, "a", [1, 2, 3])
    packed = locate(root / "run-2")
    (root / PACKED / "1-1-3.zip").write_bytes(b"PK\3\4 nonsense")
    assert "1-1-3.zip/run-2/stdout cannot be read" in (read_file(packed / "stdout").fault or "")
    assert locate(root / "run-2") == root / "run-2"
    assert attempt_directory(root, record_of(store, 2), 1) is None


@pytest.mark.parametrize("odd", ["FIFO", "name", "socket", "size"])
def test_a_directory_that_a_pack_cannot_hold_stays(
    store: WorkflowStore, monkeypatch: pytest.MonkeyPatch, odd: str
) -> None:
    root = root_of(store)
    if odd == "FIFO":
        os.mkfifo(root / "run-2" / "pipe")
    elif odd == "name":
        (root / "run-2" / os.fsdecode(b"caf\xe9")).touch()
    elif odd == "socket":
        os.mknod(root / "run-2" / "socket", stat.S_IFSOCK | 0o600)
    else:
        monkeypatch.setattr(run_listing, "MAX_RUN_BYTES", 1000)
        (root / "run-2" / "large").write_bytes(b"x" * 1001)
    before = on_disk(root)
    result = pack_runs(store, "a", [1, 2, 3])
    assert (result.packed, list(result.left)) == ([1, 3], [2])
    assert list(loose_runs(root)) == [2, 4]
    assert visible(root) == before


def test_only_ended_runs_with_their_own_directories_are_packed(store: WorkflowStore) -> None:
    root = root_of(store)
    (root / "run-5").mkdir()
    (root / "run-1" / ".motoko").write_text("1 99.000000 token\n")  # of another database
    (root / "run-2" / ".motoko").write_text("2 0.000000 token\n")  # of an unknown attempt
    before = on_disk(root)
    result = pack_runs(store, "a", [1, 2, 3, 4, 5])
    assert (result.packed, sorted(result.left)) == ([3, 4], [1, 2, 5])
    assert visible(root) == before
    assert remove_finished(store, "a", [1, 2, 3, 4, 5]).packed == []
    assert list(loose_runs(root)) == [1, 2, 5]


def test_packs_are_not_listed_for_each_run(
    store: WorkflowStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists: list[int] = []

    def counted(root: str | Path) -> list[packs.Pack]:
        lists[-1] += 1
        return list_packs(root)

    monkeypatch.setattr(packs, "list_packs", counted)
    for ids in ([1], [2, 3, 4]):
        lists.append(0)
        assert pack_runs(store, "a", ids).packed == ids
    assert lists[0] == lists[1] > 0


def test_few_runs_at_a_time_join_their_packs(store: WorkflowStore) -> None:
    root = root_of(store)
    before, known = on_disk(root), []
    for run_id in (1, 3, 2):
        pack_runs(store, "a", [run_id])
        known.append(locate(root / f"run-{run_id}") / "stdout")
        assert visible(root) == before
    (pack,) = list_packs(root)
    assert (pack.number, pack.first, pack.last) == (3, 1, 3)
    # Paths that a reader found before stay valid.
    assert [read_file(path).data for path in known] == [
        f"out {run_id} token{run_id}-1\n".encode() for run_id in (1, 3, 2)
    ]


def test_small_packs_join_up_to_a_size(
    store: WorkflowStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack_joining, "MAX_RUNS", 2)
    for run_id in (1, 2, 3, 4):
        pack_runs(store, "a", [run_id])
    held = [(pack.first, pack.last) for pack in list_packs(root_of(store))]
    assert held == [(3, 4), (1, 2)]


def pack_directory(root: Path, run_id: int) -> None:
    """Make a run directory and pack it alone."""
    path = root / f"run-{run_id}"
    path.mkdir(parents=True)
    (path / "stdout").write_text(f"out {run_id}")
    listing = run_listing.list_directory(str(root), path.name)
    assert packs.write_pack(str(root), [listing]) == [listing]
    assert packs.remove_directory(str(root), listing, packed=True)


def test_runs_that_end_one_at_a_time_leave_few_packs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack_joining, "SMALL", 8 * 2 * pack_joining.PATH_BYTES)
    monkeypatch.setattr(pack_joining, "MAX_RUNS", 30)
    for run_id in range(1, 51):
        pack_directory(tmp_path, run_id)
        # All but the latest hold more than seven runs.
        assert len(list_packs(tmp_path)) <= 1 + run_id // 8
    found = visible(tmp_path)
    assert {name: files["stdout"][1] for name, files in found.items()} == {
        f"run-{i}": b"out %d" % i for i in range(1, 51)
    }


def test_a_damaged_pack_is_joined_to_no_other(store: WorkflowStore) -> None:
    root = root_of(store)
    pack_runs(store, "a", [1])
    path = root / PACKED / "1-1-1.zip"
    content = path.read_bytes()
    path.write_bytes(content[:60] + bytes(8) + content[68:])  # its directory is intact
    for run_id in (2, 3):
        pack_runs(store, "a", [run_id])
    assert [pack.name for pack in list_packs(root)] == ["3-2-3.zip", "1-1-1.zip"]
    assert list(loose_runs(root)) == [4]


def test_packs_are_not_joined_without_space_for_a_copy(
    store: WorkflowStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = root_of(store)
    before = on_disk(root)
    pack_runs(store, "a", [1])

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(packs, "_take_over", fail)
    assert pack_runs(store, "a", [2]).packed == [2]
    monkeypatch.setattr(pack_writing, "_add", fail)
    with pytest.raises(OSError, match="No space left"):
        pack_runs(store, "a", [3, 4])
    assert [pack.name for pack in list_packs(root)] == ["2-2-2.zip", "1-1-1.zip"]
    assert {path.suffix for path in (root / PACKED).iterdir()} <= {".zip", ""}
    assert visible(root) == before


@pytest.mark.parametrize("point", ["packs.renamed", "packs.joining", "packs.removing"])
def test_a_kill_while_packs_are_joined_loses_and_duplicates_nothing(
    store: WorkflowStore, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    root = root_of(store)
    before = on_disk(root)
    pack_runs(store, "a", [1, 2])

    def kill(name: str) -> None:
        if name == point:
            raise KeyboardInterrupt

    monkeypatch.setattr(fault_points, "point", kill)
    with pytest.raises(KeyboardInterrupt):
        pack_runs(store, "a", [3])
    assert visible(root) == before
    monkeypatch.undo()
    assert pack_runs(store, "a", [3, 4]).left == {}
    assert len(list_packs(root)) == 1
    assert visible(root) == before
    assert loose_runs(root) == {}


@pytest.mark.parametrize("point", ["packs.written", "packs.renamed", "packs.removing"])
@pytest.mark.parametrize("passage", [1, 2, 5])
def test_a_kill_loses_and_duplicates_nothing(
    store: WorkflowStore, monkeypatch: pytest.MonkeyPatch, point: str, passage: int
) -> None:
    root = root_of(store)
    (root / "run-3" / "sub").mkdir()
    before = on_disk(root)
    left = [passage]

    def kill(name: str) -> None:
        if name == point:
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt

    monkeypatch.setattr(fault_points, "point", kill)
    monkeypatch.setattr(directory_packing, "MAX_RUNS", 2)
    killed = False
    try:
        pack_runs(store, "a", [1, 2, 3, 4])
    except KeyboardInterrupt:
        killed = True
    assert killed is (point == "packs.removing" or passage < 3)
    assert visible(root) == before
    monkeypatch.undo()
    result = pack_runs(store, "a", [1, 2, 3, 4])
    assert result.left == {}
    assert loose_runs(root) == {}
    assert visible(root) == before
    names: list[str] = []
    for pack in list_packs(root):
        with open_pack(root, pack) as archive:
            names += archive.namelist()
    assert len(names) == len(set(names))
    assert {path.suffix for path in (root / PACKED).iterdir()} <= {".zip", ""}


def test_a_directory_that_changes_while_it_is_packed_stays(
    store: WorkflowStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = root_of(store)
    monkeypatch.setattr(
        fault_points, "point",
        lambda name: (root / "run-2" / "stdout").write_text("late\n")
        if name == "packs.renamed" else None,
    )  # fmt: skip
    result = pack_runs(store, "a", [1, 2, 3])
    assert (result.packed, list(result.left)) == ([1, 3], [2])
    assert (root / "run-2" / "stdout").read_text() == "late\n"
    monkeypatch.undo()
    assert pack_runs(store, "a", [2]).packed == [2]
    assert read_file(locate(root / "run-2") / "stdout").data == b"late\n"


def test_a_file_that_appears_while_its_directory_is_removed_stays(
    store: WorkflowStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = root_of(store)
    late = root / "run-2" / "late"
    monkeypatch.setattr(
        fault_points, "point",
        lambda name: late.write_text("late\n")
        if name == "packs.removing" and not (root / "run-1").exists() and late.parent.exists()
        else None,
    )  # fmt: skip
    result = pack_runs(store, "a", [1, 2, 3])
    assert (result.packed, list(result.left)) == ([1, 3], [2])
    assert "not empty" in result.left[2]
    assert late.read_text() == "late\n"
    assert [i for i in (1, 2, 3) if find_packs(root, i)] == [1, 2, 3]


@pytest.mark.parametrize("earlier", [False, True])
def test_a_directory_with_a_running_process_stays(store: WorkflowStore, earlier: bool) -> None:
    """According to the database it is LOST."""
    execute(store, 5, "LOST")
    root = root_of(store)
    name = ".motoko/token5-1" if earlier else ".motoko-token5-1"
    outbox = root / "run-5" / name
    if earlier:
        (root / "run-5" / ".motoko").rename(root / "run-5" / "marker")
        outbox.mkdir(parents=True)
        (root / "run-5" / "marker").rename(outbox.parent / "attempt")
    start = f"process $$ {boot_id()} {pid_namespace()} - - -"
    if earlier:
        start = f"process $$\n{boot_id()}\n$(cat /proc/$$/stat)"
    with wrapper(root, outbox, f'echo "{start}" >"$1{"/start" * earlier}"'):
        shown = pack_runs(store, "a", [1, 5, 3], dry_run=True)
        result = pack_runs(store, "a", [1, 5, 3])
    assert shown == result
    assert (result.packed, list(result.left)) == ([1, 3], [5])
    assert "a process is running" in result.left[5]
    assert pack_runs(store, "a", [5]).packed == [5]


def test_a_directory_with_a_running_process_of_an_earlier_attempt_stays(
    store: WorkflowStore,
) -> None:
    """The exit status of the last attempt says nothing about it."""
    root = root_of(store)
    execute(store, 5, "LOST")
    edit(store, EditRun(RunKey("a", 5), Retry(4.0, "me")))
    execute(store, 5, "FINISHED")
    outbox = root / "run-5.attempt-1" / ".motoko-token5-1"
    start = f"process $$ {boot_id()} {pid_namespace()} - - -"
    with wrapper(root, outbox, f'echo "{start}" >"$1"'):
        assert "a process is running" in pack_runs(store, "a", [5]).left[5]
    assert pack_runs(store, "a", [5]).packed == [5]


@contextlib.contextmanager
def wrapper(root: Path, outbox: Path, first: str) -> Iterator[None]:
    """Let a process that looks like a wrapper run a command, then wait until the end."""
    script = root / "wrapper.sh"
    script.write_text(f"{first}\necho\ncat\n")
    with subprocess.Popen(
        ["sh", script, outbox], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        yield


def test_the_contents_of_a_former_pack_are_read_once(
    store: WorkflowStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise runs in the range of a large pack take minutes to pack."""
    root = root_of(store)
    pack_runs(store, "a", [1, 4])
    (root / "run-4").mkdir()  # as if its removal was interrupted
    former, opened = packs.FormerPacks(str(root)), list[packs.Pack]()
    open_file = packs._open_file

    def open_and_count(top: str, pack: packs.Pack) -> Any:
        opened.append(pack)
        return open_file(top, pack)

    monkeypatch.setattr(packs, "_open_file", open_and_count)
    for run_id in (2, 3):
        assert not former.hold(run_listing.list_directory(str(root), f"run-{run_id}"))
    assert opened == list_packs(root)
    for _ in range(2):
        assert former.hold(run_listing.list_directory(str(root), "run-4"))
    assert opened == 2 * list_packs(root)


def test_directories_of_runs_that_have_not_ended_are_no_problem(store: WorkflowStore) -> None:
    """A launcher that starts finds those of runs that it has just adopted."""
    (root_of(store) / "run-99").mkdir()
    keeper = DirectoryKeeper(store, lambda: ("packed", ["a"], True))
    asyncio.run(keeper.finish())
    assert keeper.stayed == {}
    assert list(loose_runs(root_of(store))) == [99]


def test_a_run_of_an_earlier_launcher_that_ends_during_a_step_is_packed_in_the_next(
    store: WorkflowStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, steps = root_of(store), 0
    (root / "run-5").mkdir()
    keeper = DirectoryKeeper(store, lambda: ("packed", ["a"], True))

    def pack(*args: Any) -> Any:
        nonlocal steps
        assert len(keeper), "the launcher might end"
        result = pack_runs(*args)
        steps += 1
        if steps == 1:
            (root / "run-5").rmdir()
            execute(store, 5, "FINISHED")
            keeper.add([RunKey("a", 5)])
        return result

    monkeypatch.setattr(directory_keeper, "pack_runs", pack)
    asyncio.run(keeper.finish())
    assert (steps, list(loose_runs(root)), len(keeper)) == (2, [], 0)


def test_a_change_of_keep_applies_to_directories_that_stayed(store: WorkflowStore) -> None:
    root, keep = root_of(store), ["packed"]
    os.mkfifo(root / "run-2" / "pipe")
    keeper = DirectoryKeeper(store, lambda: (keep[0], ["a"], True))
    asyncio.run(keeper.finish())
    assert list(loose_runs(root)) == [2]
    assert "run a.2 stays: pipe is no file" in keeper.stayed["a"]
    (root / "run-2" / "pipe").unlink()
    asyncio.run(keeper.finish())
    assert list(loose_runs(root)) == [2]
    keep[0] = "failed"
    asyncio.run(keeper.finish())
    assert list(loose_runs(root)) == []


def test_a_file_that_grows_while_it_is_read_leaves_its_run_out(
    store: WorkflowStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = root_of(store)
    listed = run_listing.list_directory

    def list_early(top: str, name: str) -> Any:
        found = listed(top, name)
        if name == "run-2" and not list_packs(root):
            (root / "run-2" / "stdout").write_text("later\n")
        return found

    monkeypatch.setattr(directory_packing, "list_directory", list_early)
    before = on_disk(root)
    result = pack_runs(store, "a", [1, 2, 3])
    assert (result.packed, list(result.left)) == ([1, 3], [2])
    before["run-2"]["stdout"] = (before["run-2"]["stdout"][0], b"later\n")
    assert visible(root) == before


def test_a_retried_run_has_both_attempts(store: WorkflowStore) -> None:
    root = root_of(store)
    pack_runs(store, "a", [3, 4])
    assert current_attempt(root, record_of(store, 4)) == 1
    edit(store, EditRun(RunKey("a", 4), Retry(4.0, "user")))
    execute(store, 4, "FINISHED")
    record = record_of(store, 4)
    assert current_attempt(root, record) == 2
    first = attempt_directory(root, record, 1)
    assert first is not None
    assert read_file(first / "stdout").data == b"out 4 token4-1\n"
    assert attempt_directory(root, record, 2) == root / "run-4"
    assert pack_runs(store, "a", [4]).packed == [4]
    for number in (1, 2):
        directory = attempt_directory(root, record, number)
        assert directory is not None
        assert read_file(directory / "stdout").data == f"out 4 token4-{number}\n".encode()
    assert read_file(locate(root / "run-4") / "stdout").data == b"out 4 token4-2\n"
    assert len(find_packs(root, 4)) == 2


def test_deleted_runs_leave_their_packs(store: WorkflowStore) -> None:
    from motoko.core.changes import DeleteRun

    root = root_of(store)
    before = on_disk(root)
    pack_runs(store, "a", [1, 2, 3])
    edit(store, DeleteRun(RunKey("a", 2)), DeleteRun(RunKey("a", 4)))
    assert remove_pending(store) == []
    del before["run-2"], before["run-4"]
    assert visible(root) == before
    edit(store, DeleteRun(RunKey("a", 1)), DeleteRun(RunKey("a", 3)))
    assert remove_pending(store) == []
    assert list_packs(root) == []


def test_directories_of_finished_runs_are_removed(store: WorkflowStore) -> None:
    result = remove_finished(store, "a", [1, 2, 3, 4, 5])
    assert (result.packed, result.left) == ([1, 2, 3], {})
    assert list(loose_runs(root_of(store))) == [4]


@pytest.mark.parametrize(
    ("keep", "loose", "packed"),
    [("packed", [], [1, 2, 3, 4]), ("failed", [4], []), ("all", [1, 2, 3, 4], [])],
)
def test_a_keeper_treats_directories_of_earlier_launchers(
    store: WorkflowStore, keep: str, loose: list[int], packed: list[int]
) -> None:
    root, keeper = root_of(store), DirectoryKeeper(store, lambda: (keep, ["a"], True))
    steps = 0
    while keeper.is_due(keep, ["a"], idle=True):
        assert not keeper.is_due(keep, ["a"], idle=False)
        keeper.step(keep, ["a"])
        steps += 1
    assert steps == (keep != "all")
    assert list(loose_runs(root)) == loose
    assert [i for i in range(1, 6) if find_packs(root, i)] == packed


def test_a_keeper_publishes_why_directories_stay(
    store: WorkflowStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, keeper = root_of(store), DirectoryKeeper(store, lambda: ("packed", ["a"], True))
    os.mkfifo(root / "run-2" / "pipe")
    keeper.step("packed", ["a"])
    assert "the directory of run a.2 stays: pipe is" in keeper.stayed["a"]
    (root / "run-2" / "pipe").unlink()
    for closed in (True, False):
        monkeypatch.setattr(os, "access", lambda *_, closed=closed: not closed)
        keeper.add([RunKey("a", 2)])
        keeper.step("packed", ["a"])
        assert ("Permission denied" in keeper.stayed.get("a", "")) == closed
    assert keeper.stayed == {}
    assert loose_runs(root) == {}


def test_the_newest_runs_keep_their_directories_while_an_orchestrator_works(
    store: WorkflowStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    live: Mapping[str, None] = {"r": None}
    monkeypatch.setattr(directory_keeper, "live_orchestrators", lambda *_: live)
    monkeypatch.setattr(directory_keeper, "NEWEST", 2)
    monkeypatch.setattr(directory_keeper, "BACKLOG", 4)
    monkeypatch.setattr(directory_keeper, "BATCH", 2)
    keeper, root = DirectoryKeeper(store, lambda: ("packed", ["a"], True)), root_of(store)
    keeper.add(RunKey("a", run_id) for run_id in (3, 4, 1))
    assert not keeper.is_due("packed", ["a"], idle=False)
    keeper._searched.add("a")
    assert not keeper.step("packed", ["a"])
    assert list(loose_runs(root)) == [1, 2, 3, 4]  # a step is not worth it for one
    keeper.add([RunKey("a", 2)])
    assert keeper.is_due("packed", ["a"], idle=False)
    assert not keeper.step("packed", ["a"])
    assert list(loose_runs(root)) == [1, 2]  # the last ones to end
    live = {}
    keeper.step("packed", ["a"])
    assert list(loose_runs(root)) == []


async def test_the_newest_runs_are_packed_after_the_orchestrator_ended(
    store: WorkflowStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([{"r": None}, {"r": None}])
    monkeypatch.setattr(directory_keeper, "live_orchestrators", lambda *_: next(looks, {}))
    monkeypatch.setattr(directory_keeper, "LOOK_SECONDS", 0.001)
    keeper = DirectoryKeeper(store, lambda: ("packed", ["a"], True))
    work = asyncio.create_task(keeper.run())
    keeper.add(RunKey("a", run_id) for run_id in (1, 2, 3, 4))
    while len(keeper):  # noqa: ASYNC110 - no event exists
        await asyncio.sleep(0)
    work.cancel()
    assert list(loose_runs(root_of(store))) == []


def test_moved_run_directories_take_their_packs_along(store: WorkflowStore) -> None:
    root = root_of(store)
    pack_runs(store, "a", [1])
    shutil.move(root, root.with_name("elsewhere"))
    found = locate(root.with_name("elsewhere") / "run-1")
    assert read_file(found / "stdout").data == b"out 1 token1-1\n"
