"""Packing on request reports errors of the file system in one line."""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from motoko.core.records import RunKey
from motoko.errors import StorageError
from motoko.launcher import packing
from motoko.operations import bulk_edit, pack
from motoko.operations.bulk_edit import RunSelection
from motoko.runtime.packs import PACKED
from tests.support.packed_runs import root_of, store_with_ended_runs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
