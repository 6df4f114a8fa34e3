"""A second workflow on the directory of a study is refused."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from motoko.errors import SharedStudyError
from motoko.server.state_dir import StateDir
from motoko.storage.run_directory_owner import check_owner, claim_run_directories

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.unit

RUNS = "BD-s-runs"


def make(directory: Path) -> StateDir:
    """Create the directories of a workflow, except its study ``s``."""
    (directory / ".wf").mkdir(parents=True)
    return StateDir.of(directory)


def runs_of(state: StateDir) -> Path:
    return state.path.parent / "s" / RUNS


@pytest.fixture
def first(tmp_path: Path) -> StateDir:
    """A workflow with a run."""
    state = make(tmp_path / "a")
    (tmp_path / "a" / "s" / RUNS / "run-1").mkdir(parents=True)
    claim_run_directories(state, runs_of(state))
    return state


def test_the_first_workflow_keeps_ownership(first: StateDir) -> None:
    check_owner(first, runs_of(first))
    claim_run_directories(first, runs_of(first))


@pytest.mark.parametrize("make_it", [os.mkfifo, os.mkdir])
def test_an_owner_record_that_is_not_a_file_is_ignored(
    first: StateDir, make_it: Callable[[Path], None]
) -> None:
    note = runs_of(first).with_name(f".{RUNS}.workflow")
    note.unlink()
    make_it(note)
    check_owner(first, runs_of(first))
    claim_run_directories(first, runs_of(first))


@pytest.mark.parametrize("how", ["absolute", "relative", "chain", "nested"])
def test_a_second_workflow_is_refused(first: StateDir, tmp_path: Path, how: str) -> None:
    place = tmp_path / "a" / "inner" if how == "nested" else tmp_path / "b"
    second = make(place)
    study = tmp_path / "a" / "s"
    if how == "chain":
        (tmp_path / "link").symlink_to(tmp_path / "a")
        study = tmp_path / "link" / "s"
    target = study if how in ("absolute", "chain") else os.path.relpath(study, place)
    (place / "s").symlink_to(target)
    for work in (check_owner, claim_run_directories, claim_run_directories):
        with pytest.raises(SharedStudyError) as caught:
            work(second, runs_of(second))
        assert caught.value.message.endswith(f"of another workflow, {tmp_path / 'a'}")
    check_owner(first, runs_of(first))
    assert (tmp_path / "a" / "s" / RUNS / "run-1").is_dir()


def test_a_moved_workflow_keeps_ownership(first: StateDir, tmp_path: Path) -> None:
    (tmp_path / "a").rename(tmp_path / "b")
    moved = StateDir.of(tmp_path / "b")
    claim_run_directories(moved, runs_of(moved))
    other = make(tmp_path / "c")
    (tmp_path / "c" / "s").symlink_to(tmp_path / "b" / "s")
    with pytest.raises(SharedStudyError, match=f"workflow, {tmp_path / 'b'}"):
        claim_run_directories(other, runs_of(other))


def test_a_copied_workflow_owns_its_copy(first: StateDir, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "a", tmp_path / "b", symlinks=True)
    copy = StateDir.of(tmp_path / "b")
    claim_run_directories(copy, runs_of(copy))
    claim_run_directories(first, runs_of(first))
    claim_run_directories(copy, runs_of(copy))


def test_a_new_state_at_the_same_path_keeps_ownership(first: StateDir, tmp_path: Path) -> None:
    first.path.rmdir()
    (tmp_path / "other").mkdir()  # takes the inode number of the old state
    first.path.mkdir()
    claim_run_directories(first, runs_of(first))


@pytest.fixture
def renamed(first: StateDir, tmp_path: Path) -> StateDir:
    """A workflow at the old path of the renamed first one; both link to one study."""
    (tmp_path / "a" / "s").rename(tmp_path / "study")
    (tmp_path / "a" / "s").symlink_to(tmp_path / "study")
    (tmp_path / "a").rename(tmp_path / "a.old")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "s").symlink_to(tmp_path / "study")
    return StateDir.of(tmp_path / "a")


@pytest.mark.parametrize("when", ["before its state is made", "later"])
def test_a_workflow_at_the_path_of_a_renamed_one_is_refused(
    renamed: StateDir, tmp_path: Path, when: str
) -> None:
    if when == "later":
        renamed.path.mkdir()
    for runs in (runs_of(renamed), tmp_path / "study" / RUNS):
        for work in (check_owner, claim_run_directories):
            with pytest.raises(SharedStudyError) as caught:
                work(renamed, runs)
            assert caught.value.message.endswith(f"of another workflow, {tmp_path / 'a.old'}")
    former = StateDir.of(tmp_path / "a.old")
    claim_run_directories(former, runs_of(former))


def test_a_new_state_takes_over_a_linked_study(renamed: StateDir, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "a.old")
    renamed.path.mkdir()
    claim_run_directories(renamed, runs_of(renamed))


def test_a_reused_inode_number_is_not_the_owner(first: StateDir, tmp_path: Path) -> None:
    first.path.rename(tmp_path / "state")
    (tmp_path / "other" / "s").mkdir(parents=True)
    (tmp_path / "state").rename(tmp_path / "other" / ".wf")
    first.path.mkdir()
    claim_run_directories(first, runs_of(first))


def test_run_directories_of_a_removed_workflow_are_protected(
    first: StateDir, tmp_path: Path
) -> None:
    study = tmp_path / "study"
    (tmp_path / "a" / "s").rename(study)
    second = make(tmp_path / "b")  # before inode numbers are reused
    shutil.rmtree(tmp_path / "a")
    (tmp_path / "b" / "s").symlink_to(study)
    with pytest.raises(SharedStudyError, match="which no longer exists"):
        claim_run_directories(second, runs_of(second))
    (study / RUNS / "run-1").rmdir()
    claim_run_directories(second, runs_of(second))  # no run directories are left


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\x00", b'{"workflow": 1, "state": "x"}'])
def test_an_invalid_owner_record_is_rewritten(
    first: StateDir, tmp_path: Path, content: bytes
) -> None:
    note = tmp_path / "a" / "s" / f".{RUNS}.workflow"
    note.write_bytes(content)
    claim_run_directories(first, runs_of(first))
    assert str(tmp_path / "a") in note.read_text()
