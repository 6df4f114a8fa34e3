"""Storable values, errors of the store and integrity of files."""

from __future__ import annotations

import errno
import json
import os
import threading
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml

from motoko.errors import (
    DamagedProductError,
    NotStorableError,
    ProductError,
    ReadOnlyStoreError,
    StorageError,
)
from motoko.products import ProductWarning, Serialiser, WorkflowProducts
from tests.support.products import Config, module_of, step_of

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit


@pytest.fixture
def products(tmp_path: Path) -> WorkflowProducts:
    return WorkflowProducts(products_dir=tmp_path / "products")


def reopened(products: WorkflowProducts) -> WorkflowProducts:
    """Return the store as opened by another session."""
    return WorkflowProducts(products_dir=products.products_dir)


def manifest(products: WorkflowProducts) -> Path:
    return products.products_dir / "manifest.yaml"


class TestDirectory:
    def test_directories(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        config = Config(output_dir=str(tmp_path / "out"))
        places = [
            WorkflowProducts(),
            WorkflowProducts(config),
            WorkflowProducts(config, tmp_path / "mine"),
        ]
        named = [tmp_path / "products", tmp_path / "out" / "products", tmp_path / "mine"]
        assert [one.products_dir for one in places] == named
        assert all(one.is_dir() for one in named)

    def test_a_directory_that_cannot_be_created(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(ReadOnlyStoreError, match="cannot be created: Not a directory"):
            WorkflowProducts(products_dir=tmp_path / "file" / "products")


class TestValues:
    @pytest.mark.parametrize(
        "value",
        [
            {"a": [1, 2.5, None, True, "text"], 3: (4, (), (5,))},
            {(1, 2): {"x", "y"}},
            [b"\0\xff", 1e-5, float("inf"), 2 + 3j, 10**40],
            (),
            None,
            "two\nlines\x85\u2028 \U0001f600\t",
        ],
    )
    def test_plain_data_is_loaded_unchanged(
        self, products: WorkflowProducts, value: object
    ) -> None:
        products.save("x", value)
        loaded = reopened(products).load("x")
        assert loaded == value
        assert type(loaded) is type(value)
        assert (products.products_dir / "x.yaml").is_file()

    @pytest.mark.parametrize(
        "value",
        [
            np.arange(6.0).reshape(2, 3),
            np.array(3),
            np.zeros(0, dtype=[("a", "i4"), ("b", "U3")]),
            np.array(["2024-01-01"], dtype="datetime64[D]"),
            np.float32(0.1),
            np.bool_(True),
        ],
    )
    def test_arrays_and_numpy_numbers(self, products: WorkflowProducts, value: Any) -> None:
        products.save("x", value)
        loaded = reopened(products).load("x")
        assert type(loaded) is type(value)
        assert (loaded.dtype, loaded.shape) == (value.dtype, value.shape)
        assert np.array_equal(loaded, value)
        assert (products.products_dir / "x.npz").is_file()

    def test_dictionaries_of_arrays(self, products: WorkflowProducts) -> None:
        products.save("x", {"file": np.arange(3), "µ": np.eye(2)})
        loaded = reopened(products).load("x")
        assert [*loaded] == ["file", "µ"]
        assert np.array_equal(loaded["file"], np.arange(3))
        assert np.array_equal(loaded["µ"], np.eye(2))

    @pytest.mark.parametrize(
        "value",
        [
            threading.Lock(),
            [threading.Lock()],
            np.array([{}], dtype=object),
            np.ma.masked_array([1, 2], [True, False]),
            type("Sub", (dict,), {})(),
        ],
    )
    def test_values_that_cannot_be_stored_are_refused(
        self, products: WorkflowProducts, value: object
    ) -> None:
        products.save("x", 1)
        with pytest.raises(
            NotStorableError, match=r"product 'x', a .*, cannot be stored"
        ) as caught:
            products.save("x", value)
        assert "Register a serialiser" in str(caught.value).splitlines()[-1]
        assert products.load("x") == 1
        assert {path.name for path in products.products_dir.iterdir()} == {
            ".lock", "manifest.yaml", "x.yaml"
        }  # fmt: skip

    def test_values_of_a_registered_serialiser(self, products: WorkflowProducts) -> None:
        class Mesh:
            def __init__(self, cells: int) -> None:
                self.cells = cells

        meshes = Serialiser(
            "mesh",
            ".msh",
            Mesh,
            write=lambda mesh, path: path.write_text(str(mesh.cells)),
            read=lambda path, factor=1: Mesh(int(path.read_text()) * factor),
        )
        products.register(meshes)
        products.save("m", Mesh(7))
        assert (products.products_dir / "m.msh").read_text() == "7"
        there = WorkflowProducts(products_dir=products.products_dir, serialisers=[meshes])
        assert there.load("m").cells == 7
        assert there.load("m", factor=2).cells == 14
        with pytest.raises(
            ProductError, match="of kind 'mesh', for which no serialiser is registered"
        ):
            reopened(products).load("m")

    def test_names_are_not_paths(self, products: WorkflowProducts) -> None:
        names = ["manifest", "../up", ".lock", "a/b", "a%2Fb", "x" * 500, "ä b", ""]
        for name in names:
            products.save(name, name)
        there = reopened(products)
        assert there.list() == sorted(names)
        assert [there.load(name) for name in names] == names
        assert [path.name for path in products.products_dir.parent.iterdir()] == ["products"]


class TestFiles:
    def test_only_the_location_is_recorded(
        self, products: WorkflowProducts, tmp_path: Path
    ) -> None:
        file = tmp_path / "result.vtk"
        file.write_text("mesh")
        products.save("mesh", file)
        assert reopened(products).load("mesh") == file
        assert [*products.products_dir.glob("*mesh*")] == []

    def test_removing_a_product_keeps_the_users_file(
        self, products: WorkflowProducts, tmp_path: Path
    ) -> None:
        outside, inside = tmp_path / "outside", products.products_dir / "inside"
        for file in (outside, inside):
            file.write_text("mine")
            products.save(file.name, file)
        products.remove("outside")
        products.save("inside", 3)
        products.clear()
        assert products.list() == []
        assert outside.read_text() == inside.read_text() == "mine"

    def test_a_changed_file_is_detected(self, products: WorkflowProducts, tmp_path: Path) -> None:
        file = tmp_path / "result"
        file.write_text("mesh")
        products.save("mesh", file)
        file.touch()
        assert products.load("mesh") == file
        file.write_text("mush")
        # Two writes within one tick of the clock have the same time.
        os.utime(file, (1, 1))
        with pytest.raises(DamagedProductError, match="is not the file that was saved"):
            products.load("mesh")
        file.write_text("longer")
        assert not products.fresh("mesh", None)
        file.unlink()
        assert not products.exists("mesh")

    def test_a_missing_file_is_refused(self, products: WorkflowProducts, tmp_path: Path) -> None:
        with pytest.raises(ProductError, match="gone does not exist"):
            products.save("x", tmp_path / "gone")

    def test_directories_can_be_products(self, products: WorkflowProducts, tmp_path: Path) -> None:
        products.save("all", tmp_path)
        assert reopened(products).load("all") == tmp_path


class TestQueries:
    def test_exists_fresh_and_keys(self, products: WorkflowProducts) -> None:
        products.save("a", 1, cache_key="k1")
        products.save("b", 2)
        assert [products.exists(name) for name in "abc"] == [True, True, False]
        assert [products.cache_key_for(name) for name in "abc"] == ["k1", None, None]
        assert [products.fresh("a", key) for key in ("k1", "k2")] == [True, False]
        assert [products.fresh(name, "k") for name in "bc"] == [True, False]
        assert products.list() == ["a", "b"]

    def test_an_unknown_product(self, products: WorkflowProducts) -> None:
        with pytest.raises(KeyError) as caught:
            products.load("x")
        assert str(caught.value) == "Product 'x' not found. Available: (none)"
        products.save("mesh", 1)
        products.save("bed", 1)
        with pytest.raises(KeyError) as caught:
            products.load("mash")
        assert str(caught.value).splitlines() == [
            "Product 'mash' not found. Available: bed, mesh",
            "  Did you mean 'mesh'?",
        ]

    def test_status(self, products: WorkflowProducts) -> None:
        products.save("a", 1)
        products.save("b", 1)
        (products.products_dir / "b.yaml").unlink()
        assert products.status() == {"a": "on_disk", "b": "damaged"}
        module = module_of(step_of("c", called=[]))
        assert products.status(module)["c"] == "missing"

    def test_remove_and_clear(self, products: WorkflowProducts) -> None:
        for name in "abc":
            products.save(name, name)
        products.remove("b")
        products.remove("b")
        assert reopened(products).list() == ["a", "c"]
        products.clear()
        assert reopened(products).list() == []
        left = {path.name for path in products.products_dir.iterdir()}
        assert left == {".lock", "manifest.yaml"}

    def test_a_product_of_another_kind_removes_the_old_file(
        self, products: WorkflowProducts
    ) -> None:
        products.save("x", 1)
        products.save("x", np.arange(3))
        assert not (products.products_dir / "x.yaml").exists()


class TestManifest:
    def test_every_yaml_reader_can_read_it(self, products: WorkflowProducts) -> None:
        for value in (1, 2):
            products.save("x", value, cache_key=f"k{value}", inputs={"config": {"n": 3}}, by="me")
        entry = yaml.safe_load(manifest(products).read_text())["x"]
        assert entry["type"] == "yaml"
        assert entry["files"] == ["x.yaml"]
        assert entry["cache_key"] == "k2"
        assert entry["inputs"] == {"config": {"n": 3}}
        assert entry["metadata"] == {"by": "me"}
        saved_at = datetime.fromisoformat(entry["saved_at"])
        assert saved_at.utcoffset() is not None
        assert saved_at.microsecond == 0

    def test_a_save_appends_and_old_lines_are_compacted(
        self, products: WorkflowProducts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("motoko.products.manifest.SPARE_LINES", 5)
        for number in range(50):
            products.save("x", number)
        assert manifest(products).read_text().count("\n") < 12
        assert reopened(products).load("x") == 49

    def test_concurrent_sessions_lose_no_changes(self, products: WorkflowProducts) -> None:
        other = reopened(products)
        products.save("a", 1)
        other.save("b", 2)
        products.save("c", 3)
        other.remove("a")
        assert products.list() == other.list() == ["b", "c"]

    def test_a_manifest_in_other_yaml_style_is_read(self, products: WorkflowProducts) -> None:
        (products.products_dir / "x.yaml").write_text("[1, 2]\n")
        manifest(products).write_text("x:\n  type: yaml\n  files: [x.yaml]\n  cache_key: k\n")
        assert products.load("x") == [1, 2]
        assert products.fresh("x", "k")
        products.save("y", 3)
        assert reopened(products).list() == ["x", "y"]

    def test_a_truncated_line_loses_only_its_product(self, products: WorkflowProducts) -> None:
        for name in "abc":
            products.save(name, name)
        manifest(products).write_bytes(manifest(products).read_bytes()[:-30])
        there = reopened(products)
        with pytest.warns(ProductWarning, match="1 of its lines cannot be read") as seen:
            assert there.list() == ["a", "b"]
        assert there.list() == ["a", "b"]
        assert len(seen) == 1
        there.save("c", "c")
        assert reopened(products).list() == ["a", "b", "c"]

    def test_an_unreadable_manifest_raises(self, products: WorkflowProducts) -> None:
        manifest(products).mkdir()
        for use in (products.list, lambda: products.save("x", 1)):
            with pytest.raises(
                ProductError, match=r"manifest\.yaml cannot be read: Is a directory"
            ):
                use()

    @pytest.mark.parametrize("content", [b"", b"\0\xff", b"[1]", b"x: 3\n", b"a: {b: [\n"])
    def test_an_invalid_manifest_is_moved_aside(
        self, products: WorkflowProducts, content: bytes
    ) -> None:
        manifest(products).write_bytes(content)
        with pytest.warns(ProductWarning, match=r"manifest\.yaml is damaged") as seen:
            products.save("x", 1)
        assert len(seen) == 1
        assert reopened(products).list() == ["x"]
        assert manifest(products).with_name("manifest.yaml.damaged").read_bytes() == content

    def test_unserialisable_metadata_is_refused(self, products: WorkflowProducts) -> None:
        with pytest.raises(ProductError, match="product 'x' cannot be described"):
            products.save("x", 1, lock=threading.Lock())
        assert products.list() == []

    def test_a_full_disk_keeps_the_existing_lines(
        self, products: WorkflowProducts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        products.save("a", 1)
        before = manifest(products).read_bytes()
        write = os.write
        with monkeypatch.context() as patch:
            patch.setattr("motoko.products.manifest.os.write", lambda fd, b: write(fd, b[:9]))
            with pytest.raises(ReadOnlyStoreError, match="no space"):
                products.save("b", 2)
        assert manifest(products).read_bytes() == before
        assert reopened(products).list() == ["a"]


class TestDamage:
    def test_any_changed_byte_is_detected(self, products: WorkflowProducts) -> None:
        products.save("x", np.arange(4.0))
        file = products.products_dir / "x.npz"
        content = file.read_bytes()
        for place in range(0, len(content), 37):
            changed = bytearray(content)
            changed[place] ^= 1
            file.write_bytes(changed)
            with pytest.raises(DamagedProductError, match=r"product 'x' is damaged: .*x\.npz"):
                products.load("x")

    def test_a_file_replaced_by_another_session_is_not_damaged(
        self, products: WorkflowProducts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        products.save("x", 1)
        reader = reopened(products)
        entry = json.loads(json.dumps(reader._entry("x")))
        products.save("x", 2)
        found = iter([entry])
        latest = reader._entry
        monkeypatch.setattr(reader, "_entry", lambda name: next(found, None) or latest(name))
        assert reader.load("x") == 2

    def test_a_tag_is_never_evaluated(self, products: WorkflowProducts, tmp_path: Path) -> None:
        products.save("x", 1)
        file = products.products_dir / "x.yaml"
        file.write_text(f"!!python/object/apply:os.mkdir [{tmp_path / 'made'}]\n")
        lines = manifest(products).read_text().splitlines()
        name, _, text = lines[-1].partition(": ")
        entry = {k: v for k, v in json.loads(text).items() if k in ("type", "files")}
        lines[-1] = f"{name}: {json.dumps(entry)}"
        manifest(products).write_text("\n".join(lines) + "\n")
        with pytest.raises(DamagedProductError, match="cannot be read"):
            reopened(products).load("x")
        assert not (tmp_path / "made").exists()


class TestReadOnly:
    def test_a_read_only_store_can_load_but_not_save(
        self, products: WorkflowProducts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        products.save("x", 1)

        def refuse(*args: object, **keywords: object) -> None:
            raise OSError(30, "Read-only file system")

        monkeypatch.setattr("motoko.runtime.file_lock.os.open", refuse)
        with pytest.raises(ReadOnlyStoreError) as caught:
            products.save("y", 2)
        place = products.products_dir
        assert str(caught.value).splitlines() == [
            f"the product store {place} cannot save product 'y': Read-only file system",
            "  Make the directory writable, or use another one: products_dir=...",
        ]
        with pytest.raises(ReadOnlyStoreError, match="cannot be changed"):
            products.remove("x")
        assert products.load("x") == 1

    def test_a_read_only_file_system(
        self, products: WorkflowProducts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        products.save("x", 1)
        place, really = products.products_dir, os.open

        def refuse(*args: object, **keywords: object) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        def open_to_read(path: Any, flags: int, *rest: Any, **keywords: Any) -> int:
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                refuse()
            return really(path, flags, *rest, **keywords)

        monkeypatch.setattr(os, "open", open_to_read)
        for name in ("replace", "unlink", "rename", "ftruncate"):
            monkeypatch.setattr(os, name, refuse)
        monkeypatch.setattr(os, "mkdir", refuse)
        reopened = WorkflowProducts(products_dir=place)
        assert reopened.load("x") == 1
        assert reopened.status() == {"x": "on_disk"}
        with pytest.raises(ReadOnlyStoreError, match="Read-only file system"):
            reopened.save("x", 2)
        with pytest.raises(ReadOnlyStoreError, match="Read-only file system"):
            reopened.clear()
        assert reopened.load("x") == 1
        with pytest.raises(ReadOnlyStoreError, match="cannot be created: Read-only file system"):
            WorkflowProducts(products_dir=place / "further")

    def test_errors_of_the_user_are_not_database_errors(self) -> None:
        assert not issubclass(ReadOnlyStoreError, StorageError)
