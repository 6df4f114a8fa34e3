"""The output of runs: ends of files, additions, and attempts whose directories move."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from motoko.cli.log_printer import LogPrinter
from motoko.core.records import RunRecord, Transition
from motoko.core.states import Lifecycle
from motoko.errors import UnknownRunError
from motoko.launcher.attempt_paths import AttemptPaths, attempt_directory
from motoko.launcher.run_directory import create_run_directory
from motoko.operations.run_output import (
    STREAMS,
    OutputRequest,
    RunOutput,
    check_attempt,
    current_attempt,
)
from motoko.printable import LINE_LIMIT
from motoko.runtime.file_tail import CHUNK, SEARCHED_BYTES, read_addition, tail_position

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit


# -- ends of files ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "lines", "end"),
    [
        (b"", 3, b""),
        (b"a\nb\nc\n", 2, b"b\nc\n"),
        (b"a\nb\nc", 2, b"b\nc"),
        (b"a\nb\nc\n", 9, b"a\nb\nc\n"),
        (b"a\nb\nc\n", 0, b""),
        (b"a\n\n\n", 2, b"\n\n"),
        (b"\n", 1, b"\n"),
        (b"x\0y\n\xff", 1, b"\xff"),
        (b"early\n" + b"y" * SEARCHED_BYTES, 5, b"y" * SEARCHED_BYTES),
    ],
)
def test_the_last_lines_begin_at_a_position(
    tmp_path: Path, content: bytes, lines: int, end: bytes
) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    assert content[tail_position(file, lines) :] == end


def test_additions_are_read_in_parts_and_truncation_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "file"
    assert read_addition(file, 0).missing
    file.write_bytes(b"x" * (CHUNK + 1))
    first = read_addition(file, 0)
    assert (len(first.data), first.position, first.size) == (CHUNK, CHUNK, CHUNK + 1)
    assert read_addition(file, CHUNK).data == b"x"
    assert read_addition(file, CHUNK + 1).data == b""
    file.write_bytes(b"new")
    again = read_addition(file, CHUNK + 1)
    assert (again.data, again.position, again.truncated) == (b"new", 3, True)


@pytest.mark.parametrize("kind", ["fifo", "link", "directory"])
def test_other_kinds_of_files_are_not_read(tmp_path: Path, kind: str) -> None:
    file, other = tmp_path / "stdout", tmp_path / "secret"
    other.write_text("secret")
    {"fifo": os.mkfifo, "link": lambda p: p.symlink_to(other), "directory": os.mkdir}[kind](file)
    assert tail_position(file, 5) == 0
    found = read_addition(file, 0)
    assert found.data == b""
    assert str(file) in (found.fault or "")


# -- attempts ---------------------------------------------------------------------------------


STARTED = (Transition(7.0, "START", "me", 1),)


def run(attempt: int, lifecycle: Lifecycle = Lifecycle.START) -> RunRecord:
    created = (Transition(5.0, "CREATED", "main", 0),)
    return RunRecord(
        "s", 7, 1, "n", b"", {}, lifecycle, attempt=attempt, token=f"t{attempt}", history=created
    )


def start(root: Path, record: RunRecord, text: bytes = b"") -> Path:
    """Begin an attempt as the launcher does; return its directory."""
    create_run_directory(AttemptPaths.for_record(root, record), b"", [])
    directory = root / "run-7"
    (directory / "stdout").write_bytes(text)
    return directory


def texts(output: RunOutput, record: RunRecord) -> tuple[bytes, list[str]]:
    """Return what the stream has gained, and the notes."""
    parts = list(output.read(record))
    data = b"".join(part.data for part in parts if part.data is not None)
    return data, [part.name for part in parts if part.data is None]


def test_the_directories_of_attempts_are_found(tmp_path: Path) -> None:
    assert current_attempt(tmp_path, run(0)) is None
    first = start(tmp_path, run(1))
    assert current_attempt(tmp_path, run(1)) == 1
    assert current_attempt(tmp_path, run(2, Lifecycle.SUBMITTED)) == 1  # not prepared yet
    start(tmp_path, run(2))
    start(tmp_path, run(3))
    assert current_attempt(tmp_path, run(3)) == 3
    found = [attempt_directory(tmp_path, run(3), number) for number in (1, 2, 3, 4)]
    assert found == [
        tmp_path / "run-7.attempt-1", tmp_path / "run-7.attempt-2", first, None
    ]  # fmt: skip
    other = replace(run(3), history=(Transition(6.0, "CREATED", "main", 0),))
    assert current_attempt(tmp_path, other) is None  # the directory is of a deleted run 7
    assert attempt_directory(tmp_path, other, 1) is None


def test_a_run_without_its_marker_still_has_output(tmp_path: Path) -> None:
    directory = start(tmp_path, run(1), b"text")
    (directory / ".motoko").unlink()
    assert texts(RunOutput(tmp_path, "stdout", OutputRequest()), run(1)) == (b"text", [])


def test_only_additions_are_returned(tmp_path: Path) -> None:
    output, record = RunOutput(tmp_path, "stdout", OutputRequest(follow=True)), run(1)
    assert texts(output, run(0, Lifecycle.CREATED)) == (b"", [])
    directory = start(tmp_path, record, b"one\n")
    assert texts(output, record) == (b"one\n", [])
    assert texts(output, record) == (b"", [])
    with (directory / "stdout").open("ab") as file:
        file.write(b"x" * (2 * CHUNK + 5))
    assert texts(output, record) == (b"x" * (2 * CHUNK + 5), [])
    (directory / "stdout").write_bytes(b"short")
    assert texts(output, record) == (b"short", ["... (s.7 stdout was truncated)"])
    (directory / "stdout").unlink()
    assert texts(output, record) == (b"", [])


def test_a_retry_is_announced_after_the_rest_of_the_earlier_attempt(tmp_path: Path) -> None:
    output = RunOutput(tmp_path, "stdout", OutputRequest(lines=1, follow=True))
    directory = start(tmp_path, run(1), b"old\none\n")
    assert texts(output, run(1)) == (b"one\n", [])
    with (directory / "stdout").open("ab") as file:
        file.write(b"rest\n")
    start(tmp_path, run(2), b"two\nof two\n")
    parts = [(part.name, part.data) for part in output.read(run(2))]
    assert parts == [
        ("s.7 stdout, attempt 1", b"rest\n"),
        ("s.7: attempt 2 has started", None),
        ("s.7 stdout, attempt 2", b"two\nof two\n"),
    ]


def test_one_attempt_on_request(tmp_path: Path) -> None:
    start(tmp_path, run(1), b"one")
    start(tmp_path, run(2), b"two")
    assert texts(RunOutput(tmp_path, "stdout", OutputRequest(attempt=1)), run(2)) == (b"one", [])
    assert texts(RunOutput(tmp_path, "stdout", OutputRequest(attempt=2)), run(2)) == (b"two", [])
    (tmp_path / "run-7.attempt-1").rename(tmp_path / "gone")
    output = RunOutput(tmp_path, "stdout", OutputRequest(attempt=1))
    assert texts(output, run(2)) == (b"", ["s.7: the directory of attempt 1 does not exist"])
    assert texts(output, run(2)) == (b"", [])  # said once


def test_a_missing_file_is_noted_unless_it_may_still_appear(tmp_path: Path) -> None:
    start(tmp_path, run(1)).joinpath("stdout").unlink()
    assert texts(RunOutput(tmp_path, "stdout", OutputRequest(follow=True)), run(1)) == (b"", [])
    noted = ["s.7 stdout: the file does not exist"]
    assert texts(RunOutput(tmp_path, "stdout", OutputRequest()), run(1)) == (b"", noted)


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize(
    ("record", "noted"),
    [
        (run(0, Lifecycle.CREATED), False),
        (run(0, Lifecycle.CANCELLED), False),
        (run(1, Lifecycle.SUBMITTED), False),  # not prepared yet
        (replace(run(2, Lifecycle.CREATED), history=STARTED), True),
        (replace(run(1), history=STARTED), True),
        (run(1, Lifecycle.FINISHED), True),
        (run(1, Lifecycle.FAILED), True),
    ],
)
def test_a_missing_directory_is_noted_once(
    tmp_path: Path, record: RunRecord, *, noted: bool, follow: bool
) -> None:
    faults: set[str] = set()
    request = OutputRequest(follow=follow)
    outputs = [RunOutput(tmp_path, stream, request, faults) for stream in STREAMS]
    found = [texts(output, record) for output in (*outputs, *outputs)]
    text = f"s.7 has no directory: {tmp_path}/run-7 does not exist"
    assert found == [(b"", [text] * noted), (b"", []), (b"", []), (b"", [])]


def test_the_directory_of_a_deleted_run_is_not_that_of_a_later_one(tmp_path: Path) -> None:
    start(tmp_path, run(1))
    later = replace(run(1), history=(Transition(6.0, "CREATED", "main", 0), *STARTED))
    text = f"s.7 has no directory: {tmp_path}/run-7 belongs to another run"
    assert texts(RunOutput(tmp_path, "stdout", OutputRequest()), later) == (b"", [text])


@pytest.mark.parametrize(("attempt", "of"), [(0, 2), (-1, 2), (3, 2), (1, 0), (2, 1)])
def test_an_attempt_that_does_not_exist_is_an_error(attempt: int, of: int) -> None:
    check_attempt(run(of), None)
    with pytest.raises(UnknownRunError, match=rf"s\.7 has no attempt {attempt}"):
        check_attempt(run(of), attempt)


# -- printing ---------------------------------------------------------------------------------


def test_parts_of_several_logs_have_headings(capsys: pytest.CaptureFixture[str]) -> None:
    printer = LogPrinter(titles=True)
    for name, data in [("a", b"1\n"), ("a", b"2"), ("b", b""), ("b", b"3"), ("a", b"4\n")]:
        printer.show(name, data)
    printer.note("note\x1b[2J")
    shown, noted = capsys.readouterr()
    assert shown.split("\n") == ["==> a <==", "1", "2", "==> b <==", "3", "==> a <==", "4", ""]
    assert noted == "note\\x1b[2J\n"


def test_output_is_safe_to_print_however_it_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    printer = LogPrinter(titles=False)
    content = "é\x1b[31m\u202e".encode() + b"\xff\0" + b"z" * 10_000 + b"\nend"
    for at in range(0, len(content), 3):
        printer.show("a", content[at : at + 3])
    shown = capsys.readouterr().out
    assert shown.startswith("é\\x1b[31m\\u202e\ufffd\\x00zzz")
    assert shown.endswith("... (the line is longer)\nend")
    assert len(shown) < LINE_LIMIT + 100
