"""Packing on request reports errors of the file system in one line."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from motoko.core.records import RunKey
from motoko.errors import StorageError
from motoko.launcher import packing
from motoko.operations import bulk_edit, pack
from motoko.operations.bulk_edit import RunSelection
from motoko.runtime.packs import PACKED
from motoko.worker import INPUTS
from tests.support.packed_runs import on_disk, root_of, store_with_ended_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.unit

KEYS = [RunKey("a", run_id) for run_id in (1, 2, 3)]


@pytest.fixture
def workflow(tmp_path: Path) -> Iterator[Any]:
    for store in store_with_ended_runs(tmp_path):
        yield SimpleNamespace(store=store)


@pytest.mark.parametrize("place", ["packs_lock", "pack_directories"])
@pytest.mark.parametrize(
    ("number", "hint"),
    [(errno.ENOSPC, "Free disk space, "), (errno.EDQUOT, "Free disk space, "),
     (errno.EACCES, "Correct this, "), (errno.EPERM, "Correct this, "),
     (errno.EROFS, "Correct this, "), (errno.EIO, "Correct this, ")],
)  # fmt: skip
def test_an_error_of_the_file_system_names_place_and_remedy(
    workflow: Any, monkeypatch: pytest.MonkeyPatch, place: str, number: int, hint: str
) -> None:
    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number), "packed/.lock")

    with monkeypatch.context() as patch:
        patch.setattr(packing, place, refused)
        with pytest.raises(StorageError) as caught:
            pack.pack(workflow, KEYS)
    text = f"directories of runs of a stay: packed/.lock: {os.strerror(number)}"
    assert caught.value.message == text
    assert (caught.value.hint or "").startswith(hint)
    assert pack.pack(workflow, KEYS)["a"].packed == [1, 2, 3]


def _by_owner(path: str | Path, access: int) -> bool:
    """Return whether the mode gives the owner this access; to root, os.access allows all."""
    return (Path(path).stat().st_mode >> 6) & access == access


ODD: dict[str, Callable[[Path], object]] = {
    "FIFO": lambda run: os.mkfifo(run / "pipe"),
    "foreign": lambda run: (run / INPUTS).write_text("1 99.000000 token\n"),
    "no marker": lambda run: (run / INPUTS).unlink(),
    "link": lambda run: run.rename(run.parent / "moved").joinpath("../run-2").symlink_to("moved"),
    "unreadable file": lambda run: (run / "stdout").chmod(0o200),
    "closed directory": lambda run: (run / "sub").mkdir(0o300),
    "write-protected directory": lambda run: (run / "sub").mkdir(0o500),
    "write-protected run": lambda run: run.chmod(0o500),
}


@pytest.mark.parametrize("odd", ODD)
def test_a_dry_run_counts_as_packing_does_and_changes_nothing(
    workflow: Any, monkeypatch: pytest.MonkeyPatch, odd: str
) -> None:
    root = root_of(workflow.store)
    ODD[odd](root / "run-2")
    monkeypatch.setattr(os, "access", _by_owner)
    before = sorted(path for path in root.rglob("*"))
    shown = pack.pack(workflow, KEYS, dry_run=True)
    assert sorted(path for path in root.rglob("*")) == before
    assert pack.pack(workflow, KEYS) == shown
    assert (shown["a"].packed, list(shown["a"].left)) == ([1, 3], [2])
    assert "changed" not in shown["a"].left[2]


@pytest.mark.parametrize("closed", [".", PACKED])
@pytest.mark.parametrize("dry_run", [False, True])
def test_nothing_is_packed_if_directories_cannot_be_moved(
    workflow: Any, monkeypatch: pytest.MonkeyPatch, closed: str, dry_run: bool
) -> None:
    root = root_of(workflow.store)
    (root / PACKED).mkdir()
    (root / closed).chmod(0o500)
    monkeypatch.setattr(os, "access", _by_owner)
    before = on_disk(root)
    place = str(root / closed)
    with pytest.raises(StorageError, match=f"runs of a stay: {place}: Permission denied"):
        pack.pack(workflow, KEYS, dry_run=dry_run)
    assert on_disk(root) == before


def test_a_file_in_place_of_the_packs_is_an_error(workflow: Any) -> None:
    (root_of(workflow.store) / PACKED).write_text("no directory")
    with pytest.raises(StorageError, match=r"directories of runs of a stay: .*File exists"):
        pack.pack(workflow, KEYS)


def test_a_directory_that_cannot_be_listed_is_an_error(
    workflow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "BD-a-runs")

    monkeypatch.setattr(pack, "loose_runs", refused)
    found: Any = SimpleNamespace(runs=[SimpleNamespace(study="a", id=1)])
    monkeypatch.setattr(bulk_edit, "preview_selected", lambda *_: found)
    with pytest.raises(StorageError, match="stay: BD-a-runs: Permission denied"):
        pack.preview_packing(workflow, RunSelection())
