"""Any file or content in a run directory is read in bounded time, and faults name the file."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from motoko.core.records import RunRecord, Transition
from motoko.core.states import Lifecycle
from motoko.errors import Fenced, LauncherError, StorageError
from motoko.launcher import attempt_files, attempt_processes, attempt_records, start_notes
from motoko.launcher.attempt_files import MACHINE_RESTARTED, examine_attempt
from motoko.launcher.attempt_outcome import Finding, outcome_of_exit
from motoko.launcher.attempt_paths import AttemptPaths, read_marker
from motoko.launcher.executors.batch.orphan_jobs import find_orphans
from motoko.launcher.executors.batch.submission_files import (
    block_start,
    memberships,
    owner_of,
    read_submission,
)
from motoko.launcher.harvest import OutboxUpdate, read_updates
from motoko.launcher.run_directory import create_run_directory
from motoko.launcher.start_notes import StartNotes
from motoko.runtime import untrusted_files
from motoko.runtime.processes import current
from motoko.runtime.untrusted_files import read_end, read_file, stat_file, write_error

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.unit

# Unique: no process of this machine has it among its arguments.
TOKEN = uuid4().hex
STAT = "S" + " 1" * 40
STARTED = f"process 1 boot 5 host - {STAT}\n"


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        here = os.open(path.parent, os.O_RDONLY)  # a long path does not fit into a socket address
        try:
            bound.bind(f"/proc/self/fd/{here}/{path.name}")
        finally:
            os.close(here)


KINDS: dict[str, Callable[[Path], object]] = {
    "is a directory": lambda path: path.mkdir(),
    "is a FIFO": os.mkfifo,
    "is a socket": a_socket,
    "is a symbolic link": lambda path: path.symlink_to("/dev/zero"),
    "is a symbolic link ": lambda path: path.symlink_to(path.name),  # a link to itself
    "is a symbolic link  ": lambda path: path.symlink_to("nowhere"),
}


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def paths(tmp_path: Path) -> AttemptPaths:
    """A prepared attempt, number 2 of its run."""
    made = AttemptPaths(str(tmp_path / "runs"), 1, 2, TOKEN, "5.0")
    create_run_directory(made, b"{}\n", [])
    return made


def started(paths: AttemptPaths, lifecycle: Lifecycle = Lifecycle.START) -> RunRecord:
    history: tuple[Transition, ...] = (
        Transition(5.0, "CREATED", "", 0),
        Transition(6.0, "SUBMITTED", "", 2),
    )
    if lifecycle is Lifecycle.START:
        history = (*history, Transition(7.0, "START", "", 2))
    return RunRecord(
        "a", 1, 1, "r", b"", {}, lifecycle=lifecycle, attempt=2, token=TOKEN, history=history,
    )  # fmt: skip


# -- reading ---------------------------------------------------------------------------------


def test_regular_files_are_read_up_to_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    os.utime(path, (3.0, 4.0))
    assert read_file(path) == untrusted_files.FileContent(b"0123456789", None, 10, 4.0)
    assert read_file(path, offset=2, limit=3).data == b"234"
    assert read_file(path, offset=20).data == b""
    assert read_end(path, 4).text == "6789"
    assert stat_file(path).size == 10


def test_a_missing_file_is_not_a_fault(tmp_path: Path) -> None:
    assert read_file(tmp_path / "nothing").missing
    assert stat_file(tmp_path / "no" / "thing").missing


def test_special_files_are_faults_that_name_the_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file"
    KINDS[kind](path)
    for found in (read_file(path), read_end(path, 10), stat_file(path)):
        assert (found.data, found.size, found.fault) == (None, 0, f"{path} {kind.strip()}")


def test_devices_are_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "open", None)
    assert read_file("/dev/null").fault == "/dev/null is a device"


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES, errno.ELOOP])
@pytest.mark.parametrize("call", ["lstat", "open", "fstat", "pread", "close"])
def test_disk_errors_are_faults_that_name_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, call: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")

    def failing(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(os, call, failing)
        found = read_file(path)
    if call == "close":
        assert found.data == b"content"
    else:
        assert (found.data, found.fault) == (None, f"{path} cannot be read: {os.strerror(number)}")


def test_a_path_through_a_file_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    found = read_file(tmp_path / "file" / "inner")
    assert found.fault is not None
    assert "inner cannot be read: Not a directory" in found.fault


@pytest.mark.parametrize(("seconds", "expected"), [(-1e9, 0.0), (1e11, 4e9), (7.5, 7.5)])
def test_absurd_times_are_clamped(tmp_path: Path, seconds: float, expected: float) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    os.utime(path, (seconds, seconds))
    assert stat_file(path).modified <= expected  # the file system may not store such a time


def test_a_disk_error_is_distinguished_from_a_file_error(tmp_path: Path) -> None:
    assert write_error(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_bytes(b"")
    assert isinstance(write_error(tmp_path / "file"), OSError)
    assert isinstance(write_error(tmp_path / "nothing"), OSError)


# -- evidence --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["outbox", "stop"])
def test_evidence_is_read_from_any_kind_of_file(paths: AttemptPaths, kind: str, name: str) -> None:
    path = paths.file(name)
    KINDS[kind](path)
    fault = f"{path} {kind.strip()}"
    special = name == "outbox"
    assert attempt_files.read_stop_reason(paths) is None
    assert attempt_files.outbox_size(paths) == 0
    assert not attempt_files.waits_for_space(paths)
    assert attempt_processes.find_process_in(paths.run_directory) is None
    assert attempt_files.has_started(paths) is special
    assert attempt_records.exit_record(paths) == (None, fault if special else None)
    named = fault if special else f"{path.with_suffix('')} does not exist"
    assert attempt_records.describe_missing_exit(paths) == named
    assert attempt_records.outbox_loss(paths, 0) == (
        fault if special else f"{path.with_suffix('')} was removed"
    )
    expected = OutboxUpdate(0, fault=fault) if special else OutboxUpdate(0)
    assert read_updates(paths.outbox, 0) == expected
    attempt_files.write_stop_reason(paths, Lifecycle.TIMEOUT)
    if name != "stop" or kind != "is a directory":  # all but directories are replaced
        assert attempt_files.read_stop_reason(paths) is Lifecycle.TIMEOUT


@pytest.mark.parametrize(
    "content",
    [
        "",
        "process 1\n",
        STARTED[:-1],  # torn
        STARTED[:60],
        STARTED.replace("process 1", "process ²"),
        STARTED.replace("process 1", "process " + "9" * 5000),
        STARTED.replace("process 1", "process 0"),
        STARTED.replace(" 5 ", " x "),
        STARTED.replace(" - ", " later "),
        STARTED.replace(" 1" * 40, " 1" * 18 + " " + "9" * 5000),
        STARTED.replace(" 1" * 40, " 1 2"),
        STARTED.replace(" 1" * 40, " x" * 40),
        "\0" * 10,
        "process 1\n" + "x" * 100_000,
    ],
)
def test_a_garbled_start_record_names_no_process(paths: AttemptPaths, content: str) -> None:
    paths.file("outbox").write_text(content)
    found, process = attempt_files.read_evidence(paths)
    assert (found.started, found.reclaimed, process) == (True, False, None)
    assert attempt_processes.find_process_in(paths.run_directory) is None


@pytest.mark.parametrize(
    ("content", "status"),
    [
        ("exit 3\n", 3), ("exit 0\n", 0), ("exit 255\n", 255), ("exit 3\nmore", 3),
        ("exit 3", None), ("exit ²\n", None), ("exit -1\n", None), ("ex", None),
        ("exit " + "1" * 5000 + "\n", None), ("\0", None), ("exit 1 1\n", None),
        ("exit 3\n\nexit 4\n", 4), ("exit 3\nexit 4\n", 4), ("exit 3\n\nexit", 3),
        ("exit 3\n" + "x" * 70_000, None),
    ],
)  # fmt: skip
def test_only_a_complete_exit_record_counts(
    paths: AttemptPaths, content: str, status: int | None
) -> None:
    paths.file("exit").write_text(STARTED + "\n" + content)
    fault = f"{paths.outbox} is damaged" if content[:4] == "exit" and len(content) < 9999 else None
    assert attempt_records.exit_record(paths) == (status, None if status is not None else fault)
    if status is None and fault is None:
        assert attempt_records.describe_missing_exit(paths) is None


@pytest.mark.parametrize("content", ["FINISHED", "FAILED", "timeout", "²", "TIMEOUT TIMEOUT", ""])
def test_a_stop_file_with_an_unknown_reason_is_ignored(paths: AttemptPaths, content: str) -> None:
    paths.file("stop").write_text(content)
    assert attempt_files.read_stop_reason(paths) is None


@pytest.mark.parametrize(
    "content", ["² 5.0", "1" * 5000 + " 5.0", "2", "2 5.0 6.0 7.0", "x", "\0", ""]
)
def test_a_garbled_marker_is_ignored(paths: AttemptPaths, content: str) -> None:
    with open(paths.inputs_file, "w", encoding="utf-8") as file:
        file.write(content)
    assert read_marker(paths.run_directory) is None


def test_a_marker_of_an_absurd_attempt_does_not_prevent_a_start(paths: AttemptPaths) -> None:
    with open(paths.inputs_file, "w", encoding="ascii") as file:
        file.write("999999999 5.0\n")
    later = AttemptPaths(paths.runs_root, 1, 3, "later", "5.0")
    create_run_directory(later, b"{}\n", [])
    assert read_marker(later.run_directory) == (3, "5.0")


def test_reasons_name_the_file() -> None:
    lost = outcome_of_exit(None, fault="/x/exit is a FIFO")
    assert (lost.state, lost.reason) == (
        Lifecycle.LOST, "its process ended without an exit record: /x/exit is a FIFO",
    )  # fmt: skip
    failed = outcome_of_exit(0, fault="/x/outbox is a FIFO")
    assert (failed.state, failed.reason) == (
        Lifecycle.FAILED, "its results cannot be read: /x/outbox is a FIFO",
    )  # fmt: skip


# -- evidence found by a later launcher --------------------------------------------------------


def test_an_attempt_with_a_recorded_start_is_never_reclaimed(paths: AttemptPaths) -> None:
    found = examine_attempt(started(paths), paths, "me")
    assert found.finding is Finding.LOST
    assert not paths.file("outbox").exists()
    assert (
        examine_attempt(started(paths, Lifecycle.SUBMITTED), paths, "me").finding
        is Finding.RECLAIMED
    )


def test_a_started_attempt_without_its_directory_is_lost(tmp_path: Path) -> None:
    paths = AttemptPaths(str(tmp_path), 1, 2, TOKEN, "5.0")
    found = examine_attempt(started(paths), paths, "me")
    assert (found.finding, found.fault) == (
        Finding.LOST,
        f"{paths.run_directory} does not exist",
    )
    assert list(tmp_path.iterdir()) == []


def test_a_noted_start_takes_precedence_over_a_missing_directory(tmp_path: Path) -> None:
    paths = AttemptPaths(str(tmp_path), 1, 2, TOKEN, "5.0")
    record = started(paths, Lifecycle.SUBMITTED)
    found = examine_attempt(record, paths, "me", start_noted=True)
    assert (found.finding, found.fault) == (
        Finding.LOST,
        f"{paths.run_directory} does not exist",
    )
    assert list(tmp_path.iterdir()) == []
    create_run_directory(paths, b"{}\n", [])
    assert examine_attempt(record, paths, "me", start_noted=True).finding is Finding.RECLAIMED


def two_launchers(state: Path) -> tuple[StartNotes, StartNotes]:
    mine, its = StartNotes(state, "mine"), StartNotes(state, "its")
    mine.open()
    its.open()
    return mine, its


def test_start_notes_are_trimmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, its = two_launchers(tmp_path)
    assert not mine.contains("mine", "a")
    assert mine.other_launchers() == {"its"}
    mine.record("a")
    mine.record("b")
    mine.trim(lambda: ["b"])
    assert mine.contains("mine", "a")
    monkeypatch.setattr(start_notes, "TRIM_BYTES", 3)
    mine.trim(lambda: ["b"])
    assert not its.contains("mine", "a")
    assert its.contains("mine", "b")
    assert its.other_launchers() == {"mine"}
    its.fence({"mine", "", "..", "unknown"})
    assert its.contains("mine", "b")
    assert its.other_launchers() == {"mine"}
    its.remove(its.other_launchers())
    assert its.other_launchers() == set()
    assert not its.contains("mine", "b")


def test_a_fenced_launcher_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, its = two_launchers(tmp_path)
    mine.record("a")
    mine.check()
    monkeypatch.setattr(start_notes, "TRIM_BYTES", 0)
    its.fence({"mine"})
    forbidden: list[Callable[[], object]] = [
        mine.check, lambda: mine.record("b"), lambda: mine.trim(lambda: ["a"])
    ]  # fmt: skip
    for work in forbidden:
        with pytest.raises(Fenced, match="launcher mine was replaced"):
            work()
    its.record("c")
    its.fence({"mine"})  # as a later launcher does
    assert (its.contains("mine", "a"), its.contains("mine", "b")) == (True, False)
    its.remove({"mine"})
    for work in forbidden:
        with pytest.raises(Fenced, match="launcher mine was replaced"):
            work()


def test_an_attempt_noted_during_the_fence_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, its = two_launchers(tmp_path)
    opened = os.open

    def take_meanwhile(*given: Any, **named: Any) -> int:
        found = opened(*given, **named)
        its.fence({"mine"})
        return found

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", take_meanwhile)
        with pytest.raises(Fenced):
            mine.record("a")
    assert its.contains("mine", "a")


def test_a_launcher_that_cannot_be_fenced_is_not_replaced(
    tmp_path: Path,
) -> None:
    mine = StartNotes(tmp_path, "mine")
    (tmp_path / "starts").write_text("no directory")
    with pytest.raises(StorageError, match="starts is not a directory"):
        mine.open()
    with pytest.raises(LauncherError, match="cannot be adopted"):
        mine.fence({"its"})


def test_after_a_restart_a_claimed_attempt_without_exit_record_is_lost(paths: AttemptPaths) -> None:
    for lifecycle in (Lifecycle.SUBMITTED, Lifecycle.START):
        record = started(paths, lifecycle)
        found = examine_attempt(record, paths, "me", restarted=True)
        assert found.finding is Finding.LOST
    assert (
        examine_attempt(started(paths, Lifecycle.SUBMITTED), paths, "me", restarted=True).fault
        == MACHINE_RESTARTED
    )
    paths.file("exit").write_text(f"{STARTED}\nexit 0\n")
    found = examine_attempt(started(paths, Lifecycle.SUBMITTED), paths, "me", restarted=True)
    assert (found.finding, found.status) == (Finding.ENDED, 0)


def test_a_process_other_than_the_wrapper_is_not_the_attempts_process(
    paths: AttemptPaths,
) -> None:
    # As if a foreign start file or a copied database named the process of this test.
    assert not attempt_processes.is_wrapper_running(current(), paths.attempt_path)


@pytest.mark.parametrize("where", ["run_directory", "inputs_file"])
def test_an_unusable_directory_affects_only_its_run(paths: AttemptPaths, where: str) -> None:
    path = getattr(paths, where)
    os.rename(path, f"{paths.runs_root}/away")
    with open(path, "w", encoding="ascii") as file:
        file.write("no directory")
    found = examine_attempt(started(paths, Lifecycle.SUBMITTED), paths, "me")
    assert found.finding in (Finding.LOST, Finding.RECLAIMED)
    assert found.finding is Finding.RECLAIMED or path in (found.fault or "")


# -- submissions -------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["", "me", "me\n²\n", "me\n" + "9" * 5000 + "\n", "\0\n\0\n"])
def test_a_garbled_submission_is_identified_by_its_links(
    tmp_path: Path, paths: AttemptPaths, content: str
) -> None:
    tasks = tmp_path / "slurm" / "batch" / "tasks"
    tasks.mkdir(parents=True)
    (tasks / "0").symlink_to(paths.attempt_path)
    (tasks / "0.sh").write_text("")
    (tasks.parent / "owner").write_text(content)
    (tasks.parent / "job").write_text("1" * 5000)
    assert memberships(tmp_path / "slurm") == {TOKEN: ("batch", 0)}
    batch = read_submission(tmp_path / "slurm", "batch")
    assert batch is not None
    assert (batch.size, batch.job) == (1, None)
    assert owner_of(tmp_path / "slurm", "batch") is None


def test_an_outbox_of_any_kind_does_not_block_the_queue(
    tmp_path: Path, paths: AttemptPaths, kind: str
) -> None:
    KINDS[kind](paths.file("outbox"))
    tasks = tmp_path / "slurm" / "batch" / "tasks"
    tasks.mkdir(parents=True)
    (tasks / "0").symlink_to(paths.attempt_path)
    assert find_orphans(tmp_path / "slurm", ["batch"], "me") == []
    assert not block_start(paths)
