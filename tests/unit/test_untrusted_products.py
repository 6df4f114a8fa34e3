"""Untrusted manifests, databases and JSON neither access other files nor run code."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from typing import TYPE_CHECKING, Any

import pydantic
import pytest

from motoko.errors import DamagedProductError, MotokoError, ProductError, UnknownPathError
from motoko.pipeline import StateWithGlueDb, Workflow
from motoko.pipeline.base import BaseModel
from motoko.products import WorkflowProducts
from motoko.products.manifest import HEADER
from motoko.runtime.file_lock import FileLock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.unit

MODULE = "planted_code"


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory that a module creates when imported."""
    directory = tmp_path / "ran"
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / f"{MODULE}.py").write_text(
        "import os\nimport pydantic\n"
        f"os.mkdir({str(directory)!r})\n\nclass Thing(pydantic.BaseModel):\n    x: int = 0\n"
    )
    monkeypatch.syspath_prepend(str(modules))
    yield directory
    sys.modules.pop(MODULE, None)


class Inner(pydantic.BaseModel):
    x: int = 0


# -- products --------------------------------------------------------------------------------


def store_with_entry(directory: Path, **entry: Any) -> WorkflowProducts:
    """Return a store whose manifest has this entry for a product ``x``."""
    products = WorkflowProducts(products_dir=directory)
    line = f"{json.dumps('x')}: {json.dumps(entry)}\n"
    (directory / "manifest.yaml").write_text(HEADER + line)
    return products


OUTSIDE = ("../secret.yaml", "../../secret.yaml", "a/../../secret.yaml", "./../secret.yaml", "..")
# The user's files (of kind "file") may be anywhere: only their location is recorded.
NAMES = [
    *((kind, name) for kind in ("yaml", "ndarray", "arrays", "other", "file") for name in OUTSIDE),
    *(("yaml", name) for name in ("/SECRET", ".hidden", ".", "a/b.yaml", "x\0.yaml", "")),
]


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_a_manifest_cannot_access_files_outside_the_store(
    tmp_path: Path, kind: str, name: str
) -> None:
    secret = tmp_path / "secret.yaml"
    secret.write_text("a: secret\n")
    name = name.replace("/SECRET", str(secret))
    products = store_with_entry(tmp_path / "products", type=kind, files=[name])
    with pytest.raises(DamagedProductError, match="not a file of the store"):
        products.load("x")
    assert products.status() == {"x": "damaged"}
    assert not products.exists("x")
    assert not products.fresh("x", None)
    products.save("x", [1])
    products.remove("x")
    assert secret.read_text() == "a: secret\n"


@pytest.mark.parametrize("what", ["link", "link to a directory", "fifo", "directory"])
def test_files_of_the_store_must_be_regular(tmp_path: Path, what: str) -> None:
    secret = tmp_path / "secret.yaml"
    secret.write_text("a: secret\n")
    products = store_with_entry(tmp_path / "products", type="yaml", files=["x.yaml"])
    place = tmp_path / "products" / "x.yaml"
    if what == "link":
        place.symlink_to(secret)
    elif what == "link to a directory":
        place.symlink_to(tmp_path)
    elif what == "fifo":
        os.mkfifo(place)
    else:
        place.mkdir()
    with pytest.raises(DamagedProductError, match="is not a regular file"):
        products.load("x")
    assert products.status() == {"x": "damaged"}
    if what != "directory":
        products.save("x", [1])
        assert products.load("x") == [1]
    assert secret.read_text() == "a: secret\n"


def test_links_of_manifest_and_lock_are_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text(HEADER)
    products = WorkflowProducts(products_dir=tmp_path / "products")
    (products.products_dir / "manifest.yaml").symlink_to(precious)
    with pytest.raises(ProductError, match="cannot be read"):
        products.save("x", 1)
    (products.products_dir / "manifest.yaml").unlink()
    lock = products.products_dir / ".lock"
    lock.unlink(missing_ok=True)
    lock.symlink_to(precious)
    with pytest.raises(ProductError, match="is a link"):
        products.save("x", 1)
    with pytest.raises(MotokoError, match="is a link"):
        FileLock(lock).acquire()
    assert precious.read_text() == HEADER


# -- models ----------------------------------------------------------------------------------

PATHS = (
    f"{MODULE}.Thing", f"{MODULE}", f"python://{MODULE}.Thing", f"os.{MODULE}.Thing",
    f"motoko.{MODULE}", f"{MODULE}.Thing.model_validate", "antigravity.fly", "idlelib.idle.main",
)  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_json_text_does_not_import_modules(trap: Path, path: str) -> None:
    before = set(sys.modules)
    text = json.dumps({"model": path, "contents": {}})
    for work in (BaseModel.from_json, Workflow.from_json, StateWithGlueDb.from_json):
        with pytest.raises(MotokoError):
            work(text)
        with pytest.raises(MotokoError):
            work(json.dumps({"model": "motoko.pipeline.workflow.Workflow",
                             "contents": {"steps": [json.loads(text)]}}))  # fmt: skip
    assert not trap.exists()
    assert not {name for name in set(sys.modules) - before if not name.startswith("motoko")}


@pytest.mark.parametrize("path", PATHS)
def test_values_of_a_state_do_not_import_modules(trap: Path, tmp_path: Path, path: str) -> None:
    file = tmp_path / "state.db"
    state = StateWithGlueDb(file)
    state.post(1, "a")
    value = json.dumps([{"model": path, "contents": {}}])
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE state SET value = ?", (value,))
    connection.close()
    with pytest.raises(MotokoError):
        StateWithGlueDb(file).extract("a")
    assert not trap.exists()
    assert MODULE not in sys.modules


@pytest.mark.parametrize("path", ["os.system", "builtins.eval", "json.JSONDecoder", 5, None, []])
def test_imported_objects_that_are_not_models_are_not_called(path: object) -> None:
    with pytest.raises(MotokoError):
        BaseModel.from_json(json.dumps({"model": path, "contents": {}}))


def test_models_of_imported_modules_are_found(tmp_path: Path) -> None:
    file = tmp_path / "state.db"
    StateWithGlueDb(file).post(Inner(x=3), "a")
    assert StateWithGlueDb(file).extract("a") == Inner(x=3)


def test_the_error_has_a_hint(trap: Path) -> None:
    with pytest.raises(UnknownPathError, match="no imported module has it") as caught:
        BaseModel.from_dict({"model": f"{MODULE}.Thing", "contents": {}})
    assert "import the module" in (caught.value.hint or "")
