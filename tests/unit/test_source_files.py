"""The files of studies, read again after they have changed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from motoko.launcher import source_files
from motoko.launcher.source_files import KEPT_BYTES, SETTLE_SECONDS, SourceFiles
from motoko.runtime.ports import SystemClock

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit


class Later(SystemClock):
    """A clock that is ahead of those of the files."""

    ahead = SETTLE_SECONDS + 1.0

    def now(self) -> float:
        return super().now() + self.ahead


def test_an_unchanged_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "launch.sh").write_text("true\n")
    files = SourceFiles(Later())
    (first,) = files.read(tmp_path, ["launch.sh"])

    def refused(*_: object) -> None:
        raise AssertionError("it was read again")

    monkeypatch.setattr(source_files, "open_regular", refused)
    assert files.read(tmp_path, ["launch.sh"]) == [first]
    assert first.content == b"true\n"


@pytest.mark.parametrize("kind", ["same size", "mode", "replaced", "old time", "larger", "removed"])
def test_a_changed_file_is_read_again(tmp_path: Path, kind: str) -> None:
    path, other = tmp_path / "launch.sh", tmp_path / "other"
    path.write_text("true\n")
    seen = path.stat()
    files = SourceFiles(Later())
    assert not files.read(tmp_path, ["launch.sh"])[0].executable
    content = b"fals\n"
    if kind == "mode":
        path.chmod(0o700)
        content = b"true\n"
    elif kind == "replaced":
        other.write_bytes(content)
        other.replace(path)
    elif kind == "larger":
        content = bytes(KEPT_BYTES + 1)
        path.write_bytes(content)
    elif kind == "removed":
        path.unlink()
        with pytest.raises(FileNotFoundError, match=r"launch\.sh"):
            files.read(tmp_path, ["launch.sh"])
        path.write_bytes(content)
    else:
        path.write_bytes(content)
    if kind == "old time":
        os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    for _ in range(2):
        (found,) = files.read(tmp_path, ["launch.sh"])
        assert (found.content, found.executable) == (content, kind == "mode")


def test_a_file_that_has_just_changed_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "launch.sh"
    path.write_text("true\n")
    clock = Later()
    clock.ahead = 0.0
    files = SourceFiles(clock)
    files.read(tmp_path, ["launch.sh"])
    seen = path.stat()
    path.write_text("fals\n")
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert files.read(tmp_path, ["launch.sh"])[0].content == b"fals\n"
