"""Run directories when several launchers handle one run at the same time."""

from __future__ import annotations

import errno
import filecmp
import os
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from motoko.errors import LauncherError
from motoko.launcher import run_directory
from motoko.launcher.attempt_paths import AttemptPaths, read_marker
from motoko.launcher.run_directory import (
    AttemptSuperseded,
    SourceError,
    create_run_directory,
    reclaim,
    withdraw,
)
from motoko.launcher.source_files import ScriptFile, read_sources

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.integration

INPUTS = b"{}\n"
SCRIPT = ScriptFile("launch.sh", b"true", executable=False)


@pytest.fixture
def attempt(tmp_path: Path) -> Callable[[int], AttemptPaths]:
    return lambda number: AttemptPaths(str(tmp_path / "runs"), 1, number, f"t{number}", "5.0")


def names(place: AttemptPaths) -> set[str]:
    return {path.name for path in Path(place.runs_root).iterdir()}


def test_each_attempt_has_a_clean_directory(attempt: Callable[[int], AttemptPaths]) -> None:
    first, second = attempt(1), attempt(2)
    create_run_directory(first, INPUTS, [SCRIPT])
    first.file("outbox").write_text("said")
    create_run_directory(second, INPUTS, [SCRIPT])
    assert names(second) == {"run-1", "run-1.attempt-1"}
    assert read_marker(second.run_directory) == (2, "5.0")
    files = {path.name for path in Path(second.run_directory).iterdir()}
    assert files == {".motoko", "launch.sh"}


def test_a_former_directory_is_moved_aside(
    attempt: Callable[[int], AttemptPaths], tmp_path: Path
) -> None:
    (tmp_path / "runs" / "run-1").mkdir(parents=True)
    (tmp_path / "runs" / "run-1" / "mine").touch()
    place = attempt(1)
    create_run_directory(place, INPUTS, [SCRIPT])
    assert (tmp_path / "runs" / "run-1.before-t1" / "mine").exists()
    # A run of the same number in another database.
    other = AttemptPaths(place.runs_root, 1, 1, "u1", "6.0")
    create_run_directory(other, INPUTS, [SCRIPT])
    assert names(place) == {"run-1", "run-1.before-t1", "run-1.before-u1"}


def test_a_reclaimed_attempt_is_not_prepared_again(
    attempt: Callable[[int], AttemptPaths],
) -> None:
    place = attempt(1)
    assert reclaim(place, b"me")
    with pytest.raises(AttemptSuperseded):
        create_run_directory(place, INPUTS, [SCRIPT])
    assert place.file("start").read_bytes() == b"me"
    assert names(place) == {"run-1"}


def test_a_started_attempt_is_not_reclaimed(attempt: Callable[[int], AttemptPaths]) -> None:
    place = attempt(1)
    create_run_directory(place, INPUTS, [SCRIPT])
    place.file("start").write_text("process 7")
    assert not reclaim(place, b"me")
    assert place.file("start").read_text() == "process 7"


def test_an_older_attempt_cannot_start(
    attempt: Callable[[int], AttemptPaths],
) -> None:
    create_run_directory(attempt(2), INPUTS, [SCRIPT])
    assert reclaim(attempt(1), b"me")
    assert names(attempt(1)) == {"run-1"}
    assert read_marker(attempt(1).run_directory) == (2, "5.0")
    assert not attempt(2).file("start").exists()  # the directory belongs to a later attempt


def test_an_earlier_directory_of_the_same_name_stays(
    attempt: Callable[[int], AttemptPaths], tmp_path: Path
) -> None:
    """Simulate a restored backup and a removed run directory."""
    for number in (1, 2):
        kept = tmp_path / "runs" / ("run-1.attempt-1" if number == 1 else "run-1.attempt-1-2")
        kept.mkdir(parents=True)
        (kept / "mine").touch()
    create_run_directory(attempt(1), INPUTS, [SCRIPT])
    create_run_directory(attempt(2), INPUTS, [SCRIPT])
    assert read_marker(attempt(2).run_directory) == (2, "5.0")
    assert read_marker(str(tmp_path / "runs" / "run-1.attempt-1-3")) == (1, "5.0")
    assert all((tmp_path / "runs" / f"run-1.attempt-{n}" / "mine").exists() for n in ("1", "1-2"))


def test_an_older_attempt_does_not_change_a_newer_one(
    attempt: Callable[[int], AttemptPaths],
) -> None:
    create_run_directory(attempt(2), INPUTS, [SCRIPT])
    with pytest.raises(AttemptSuperseded):
        create_run_directory(attempt(1), INPUTS, [SCRIPT])
    assert names(attempt(1)) == {"run-1"}
    assert read_marker(attempt(1).run_directory) == (2, "5.0")


@pytest.mark.parametrize("step", ["_begin_draft", "_write", "_move_aside", "_publish"])
@pytest.mark.parametrize("earlier", [False, True])
def test_a_launcher_suspended_at_any_step_starts_nothing(
    attempt: Callable[[int], AttemptPaths],
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    earlier: bool,
) -> None:
    """It claims attempt 2 and is suspended; attempt 2 is reclaimed, 3 starts; it resumes."""
    if earlier:
        create_run_directory(attempt(1), INPUTS, [SCRIPT])
    second, third = attempt(2), attempt(3)
    original = getattr(run_directory, step)
    slept: list[bool] = []

    def sleep_first(*args: object) -> None:
        if not slept:
            slept.append(True)
            assert reclaim(second, b"me")
            create_run_directory(third, INPUTS, [SCRIPT])
        original(*args)

    monkeypatch.setattr(run_directory, step, sleep_first)
    with pytest.raises(AttemptSuperseded):
        create_run_directory(second, INPUTS, [SCRIPT])
    assert slept
    assert read_marker(third.run_directory) == (3, "5.0")
    assert names(third) == {"run-1", "run-1.attempt-2"} | (
        {"run-1.attempt-1"} if earlier else set()
    )


def test_a_launcher_suspended_before_a_rename_detects_the_change(
    attempt: Callable[[int], AttemptPaths], monkeypatch: pytest.MonkeyPatch
) -> None:
    create_run_directory(attempt(1), INPUTS, [SCRIPT])
    second, third = attempt(2), attempt(3)
    original = os.rename
    slept: list[bool] = []

    def sleep_first(source: str, target: str) -> None:
        if not slept:
            slept.append(True)
            assert reclaim(second, b"me")
            create_run_directory(third, INPUTS, [SCRIPT])
        original(source, target)

    monkeypatch.setattr(os, "rename", sleep_first)
    with pytest.raises(AttemptSuperseded):
        create_run_directory(second, INPUTS, [SCRIPT])
    assert read_marker(third.run_directory) == (3, "5.0")
    assert names(third) == {"run-1", "run-1.attempt-1", "run-1.attempt-2"}


@pytest.fixture
def mesh(tmp_path: Path) -> ScriptFile:
    """A study file much larger than the memory limit."""
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "mesh").write_bytes(b"0123456789abcdef" * (24 << 16))
    (found,) = read_sources(tmp_path / "study", ["mesh"])
    return found


@pytest.mark.parametrize("way", ["by the system", "in pieces"])
def test_a_large_file_is_not_copied_through_memory(
    attempt: Callable[[int], AttemptPaths],
    mesh: ScriptFile,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    if way == "in pieces":

        def refused(*_: object) -> int:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

        monkeypatch.setattr(os, "copy_file_range", refused)
    place = attempt(1)
    tracemalloc.start()
    try:
        create_run_directory(place, INPUTS, [SCRIPT, mesh])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert mesh.original is not None
    assert filecmp.cmp(mesh.original, f"{place.run_directory}/mesh", shallow=False)
    assert peak < mesh.original.stat().st_size / 4


@pytest.mark.parametrize("instead", ["No such file", "it is a FIFO", "it is a device"])
def test_a_large_file_removed_meanwhile_is_named(
    attempt: Callable[[int], AttemptPaths], mesh: ScriptFile, instead: str
) -> None:
    assert mesh.original is not None
    mesh.original.unlink()
    if "FIFO" in instead:
        os.mkfifo(mesh.original)
    elif "device" in instead:
        mesh.original.symlink_to("/dev/zero")
    with pytest.raises(SourceError, match=f"mesh cannot be read: {instead}"):
        create_run_directory(attempt(1), INPUTS, [SCRIPT, mesh])
    assert names(attempt(1)) == set()


def test_a_link_to_a_large_file_is_followed(
    attempt: Callable[[int], AttemptPaths], mesh: ScriptFile, tmp_path: Path
) -> None:
    assert mesh.original is not None
    (tmp_path / "study" / "link").symlink_to(mesh.original)
    place = attempt(1)
    create_run_directory(place, INPUTS, [SCRIPT, *read_sources(tmp_path / "study", ["link"])])
    assert not os.path.islink(f"{place.run_directory}/link")
    assert filecmp.cmp(mesh.original, f"{place.run_directory}/link", shallow=False)


def refuse() -> None:
    raise LauncherError("replaced")


def test_a_directory_that_was_prepared_for_nothing_is_removed(
    attempt: Callable[[int], AttemptPaths],
) -> None:
    place = attempt(2)
    create_run_directory(attempt(1), INPUTS, [SCRIPT])
    create_run_directory(place, INPUTS, [SCRIPT])
    with pytest.raises(LauncherError):
        withdraw(place, refuse)
    assert names(place) == {"run-1", "run-1.attempt-1"}
    withdraw(place)
    assert names(place) == {"run-1.attempt-1"}
    withdraw(place)
    create_run_directory(attempt(3), INPUTS, [SCRIPT])
    assert names(place) == {"run-1", "run-1.attempt-1"}


@pytest.mark.parametrize("moment", ["before", "after the look"])
def test_the_directory_of_a_later_attempt_is_not_removed(
    attempt: Callable[[int], AttemptPaths], monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Another launcher has replaced this one, and moved its directory aside."""
    earlier, later = attempt(1), attempt(2)
    create_run_directory(earlier, INPUTS, [SCRIPT])
    if moment == "before":
        create_run_directory(later, INPUTS, [SCRIPT])
    else:
        rename = os.rename

        def rename_late(source: str, target: str) -> None:
            monkeypatch.undo()
            create_run_directory(later, INPUTS, [SCRIPT])
            rename(source, target)

        monkeypatch.setattr(os, "rename", rename_late)
    withdraw(earlier)
    assert names(later) == {"run-1", "run-1.attempt-1"}
    assert read_marker(later.run_directory) == (2, "5.0")
