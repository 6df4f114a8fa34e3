"""Scripts refuse to read or write special files instead of blocking on them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from motoko.worker import WorkerError
from motoko.worker.attempt_context import AttemptContext
from motoko.worker.regular_files import open_regular

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.unit

KINDS: dict[str, Callable[[Path], object]] = {
    "it is a FIFO": os.mkfifo,
    "Is a directory": os.mkdir,
    "it is a device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_special_files_are_refused(tmp_path: Path, kind: str) -> None:
    KINDS[kind](tmp_path / "file")
    with pytest.raises(OSError, match=kind):
        open_regular(tmp_path / "file")


def test_a_file_that_becomes_special_before_opening_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    former = os.stat(tmp_path / "file")
    (tmp_path / "file").unlink()
    os.mkfifo(tmp_path / "file")
    monkeypatch.setattr(os, "stat", lambda _: former)
    with pytest.raises(OSError, match="it is a FIFO"):
        open_regular(tmp_path / "file")


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    with open_regular(tmp_path / "link") as file:
        assert file.read() == b"content"


def test_special_inputs_are_refused(tmp_path: Path, kind: str) -> None:
    KINDS[kind](tmp_path / ".motoko")
    with pytest.raises(WorkerError, match=f".motoko cannot be read: {kind}"):
        _ = AttemptContext(str(tmp_path / ".motoko-token")).inputs


def test_a_special_outbox_is_refused(tmp_path: Path, kind: str) -> None:
    KINDS[kind](tmp_path / "outbox")
    with pytest.raises(WorkerError, match=f"outbox cannot be read: {kind}"):
        AttemptContext(str(tmp_path / "outbox")).read_outbox()


def test_a_fifo_without_a_reader_is_not_written_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "outbox")
    with pytest.raises(WorkerError, match="outbox cannot be written"):
        AttemptContext(str(tmp_path / "outbox")).append("state", label="X")
