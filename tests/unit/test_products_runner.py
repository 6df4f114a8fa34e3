"""Sources of products, arguments of steps, and their results."""

from __future__ import annotations

import threading
import warnings
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest

from motoko.errors import ProductWarning
from motoko.products import WorkflowConfig, WorkflowProducts, WorkflowRunner, workflow_step
from tests.support.products import Config, module_of, step_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.unit


def first_line(error: BaseException) -> str:
    return str(error).splitlines()[0]


@pytest.fixture
def called() -> list[str]:
    return []


@pytest.fixture
def products(tmp_path: Path) -> WorkflowProducts:
    return WorkflowProducts(products_dir=tmp_path / "products")


class TestConstruction:
    def test_attributes(self, products: WorkflowProducts) -> None:
        module, config = module_of(), Config()
        runner = WorkflowRunner(module, config, products)
        assert (runner.module, runner.config, runner.products) == (module, config, products)
        assert runner.cache == {}
        assert WorkflowRunner(module, config).products is None

    def test_an_invalid_store_is_refused(self) -> None:
        with pytest.raises(TypeError, match="products='dir' is not a store of products"):
            WorkflowRunner(module_of(), None, "dir")  # type: ignore[arg-type]

    def test_a_store_needs_only_five_methods(self) -> None:
        class Store:
            def __init__(self) -> None:
                self.data: dict[str, Any] = {}

            def exists(self, name: str) -> bool:
                return name in self.data

            def fresh(self, name: str, key: str) -> bool:
                return True

            def load(self, name: str) -> Any:
                return self.data[name]

            def save(self, name: str, obj: Any, **more: Any) -> None:
                self.data[name] = obj

            def remove(self, name: str) -> None:
                del self.data[name]

        store: Any = Store()
        called: list[str] = []
        runner = WorkflowRunner(module_of(a=step_of("a", called=called)), None, store)
        runner.get("a")
        assert runner.status("a") == "cached"
        runner.rebuild("a")
        assert len(called) == 2
        runner.invalidate("a")
        assert store.data == {}
        assert runner.check("a").statuses["a"].value == "would_build"
        assert "a" in str(runner.explain("a"))

    def test_only_marked_functions_are_steps(self) -> None:
        def marked() -> int:
            return 3

        vars(marked).update(_is_workflow_step=True, workflow_produces=["x"])
        assert WorkflowRunner(module_of(marked, other=len), None).get("x") == 3

    def test_two_producers_of_one_name(self, called: list[str]) -> None:
        def other() -> None: ...

        module = module_of(
            two=step_of("x", called=called), one=workflow_step(other, produces=["x"])
        )
        with pytest.raises(ValueError, match="Two workflow steps") as caught:
            WorkflowRunner(module, None)
        assert first_line(caught.value) == "Two workflow steps produce 'x': other and make_x"

    def test_one_step_under_two_names_is_one_step(self, called: list[str]) -> None:
        step = step_of("x", called=called)
        runner = WorkflowRunner(module_of(step, again=step), None)
        assert runner.build_all() == ["x"]
        assert called == ["x"]

    def test_objects_with_dynamic_attributes_are_not_steps(self) -> None:
        assert WorkflowRunner(module_of(mock=Mock()), None).build_all() == []

    def test_a_product_declared_twice(self) -> None:
        step = workflow_step(lambda: 1, produces=["x", "x"])
        with pytest.raises(ValueError, match="'x' twice"):
            WorkflowRunner(module_of(step), None)


class TestGet:
    def test_a_product_in_memory_is_the_identical_object(self) -> None:
        runner = WorkflowRunner(module_of(workflow_step(object, produces="x")), None)
        assert runner.get("x") is runner.get("x")
        assert runner.build("x") is runner.cache["x"]
        assert WorkflowRunner.build is WorkflowRunner.get

    def test_a_fresh_product_runs_neither_step_nor_requirements(
        self, products: WorkflowProducts, called: list[str]
    ) -> None:
        module = module_of(step_of("a", called=called), step_of("b", "a", called=called))
        WorkflowRunner(module, Config(), products).get("b")
        runner = WorkflowRunner(module, Config(), products)
        events: list[tuple[str, str]] = []
        runner.observe(lambda event, name: events.append((event, name)))
        assert [runner.get("b"), runner.get("b")] == ["b(a())"] * 2
        assert called == ["a", "b"]
        assert events == [("loaded", "b"), ("cached", "b")]
        assert [*runner.cache] == ["b"]

    def test_an_unknown_product(self, called: list[str]) -> None:
        runner = WorkflowRunner(module_of(step_of("mesh", called=called)), None)
        with pytest.raises(KeyError) as caught:
            runner.get("mash")
        assert str(caught.value).splitlines() == [
            "No workflow step produces 'mash'. Available products: ['mesh']",
            "  Did you mean 'mesh'?",
        ]

    def test_an_unknown_requirement(self, called: list[str]) -> None:
        runner = WorkflowRunner(module_of(step_of("x", "gone", called=called)), None)
        with pytest.raises(KeyError, match="Step make_x requires it") as caught:
            runner.get("x")
        assert first_line(caught.value).startswith("No workflow step produces 'gone'.")

    def test_a_product_only_in_the_store_is_loaded(
        self, products: WorkflowProducts, called: list[str]
    ) -> None:
        products.save("measured", [1, 2])
        runner = WorkflowRunner(module_of(step_of("x", "measured", called=called)), None, products)
        assert runner.get("measured") == [1, 2]
        assert runner.get("x") == "x([1, 2])"

    def test_memory_hides_changes_of_the_configuration(
        self, products: WorkflowProducts, called: list[str]
    ) -> None:
        runner = WorkflowRunner(module_of(step_of("x", called=called)), Config(), products)
        runner.get("x")
        runner.config.n = 2
        runner.get("x")
        assert called == ["x"]
        assert WorkflowRunner(runner.module, runner.config, products).status("x") == "on_disk"
        WorkflowRunner(runner.module, runner.config, products).get("x")
        assert called == ["x", "x"]

    def test_build_all_builds_the_products_without_dependents(self, called: list[str]) -> None:
        module = module_of(
            step_of("z", "a", called=called),
            step_of("a", called=called),
            step_of("b", called=called),
        )
        assert WorkflowRunner(module, None).build_all() == ["b", "z"]
        assert called == ["b", "a", "z"]
        assert WorkflowRunner(module_of(), None).build_all() == []


class TestFreshness:
    def module(self, called: list[str]) -> Any:
        return module_of(step_of("a", called=called), step_of("b", "a", called=called))

    def rebuilt(self, config: object, products: WorkflowProducts, called: list[str]) -> list[str]:
        called.clear()
        WorkflowRunner(self.module(called), config, products).get("b")
        return called

    def test_freshness_depends_on_identity_fields(
        self, products: WorkflowProducts, called: list[str]
    ) -> None:
        assert self.rebuilt(Config(), products, called) == ["a", "b"]
        assert self.rebuilt(Config(color="blue"), products, called) == []
        assert self.rebuilt(Config(n=2), products, called) == ["a", "b"]

    def test_without_identity_fields_existence_is_enough(
        self, products: WorkflowProducts, called: list[str]
    ) -> None:
        assert self.rebuilt(WorkflowConfig(description="one"), products, called) == ["a", "b"]
        assert self.rebuilt(WorkflowConfig(description="two"), products, called) == []
        assert self.rebuilt(object(), products, called) == []
        assert products.cache_key_for("b") is None

    def test_dependents_of_unproduced_products_are_not_tracked(
        self, products: WorkflowProducts, called: list[str]
    ) -> None:
        products.save("measured", 1)
        module = module_of(
            step_of("x", "measured", called=called), step_of("y", "x", called=called)
        )
        WorkflowRunner(module, Config(), products).get("y")
        WorkflowRunner(module, Config(n=2), products).get("y")
        assert called == ["x", "y"]

    def test_the_store_receives_keys_and_inputs(self, called: list[str]) -> None:
        class Keys:
            def cache_key(self, requires: dict[str, str] | None = None) -> str:
                return f"key({','.join(requires or {})})"

        class Store:
            saved: dict[str, Any] = {}  # noqa: RUF012
            checked: list[tuple[str, str]] = []  # noqa: RUF012

            def exists(self, name: str) -> bool:
                return name in self.saved

            def fresh(self, name: str, key: str) -> bool:
                self.checked.append((name, key))
                return name == "a"

            def load(self, name: str) -> Any:
                return self.saved[name][0]

            def save(self, name: str, value: Any, **keywords: Any) -> None:
                self.saved[name] = (value, keywords)

        store: Any = Store()
        WorkflowRunner(self.module(called), Keys(), store).get("b")
        assert store.saved["b"] == (
            "b(a())",
            {"cache_key": "key(a)", "inputs": {"config": {}, "requires": {"a": "key()"}}},
        )
        WorkflowRunner(self.module(called), Keys(), store).get("b")
        assert called == ["a", "b", "b"]
        assert store.checked == [("b", "key(a)"), ("a", "key()")]

    def test_inputs_are_in_the_manifest(
        self, products: WorkflowProducts, called: list[str]
    ) -> None:
        self.rebuilt(Config(n=5), products, called)
        key = products.cache_key_for("a")
        assert products.inputs_for("b") == {"config": {"n": 5}, "requires": {"a": key}}


class TestArguments:
    def test_arguments_are_passed_by_name(self, called: list[str]) -> None:
        seen: dict[str, object] = {}

        @workflow_step(produces="x", requires=["a", "unused"])
        def make_x(
            config: object, a: str, in_memory: str, other: int = 3, *args: Any, **kwargs: Any
        ) -> None:
            seen.update(config=config, a=a, in_memory=in_memory, other=other, rest=(args, kwargs))

        runner = WorkflowRunner(
            module_of(make_x, step_of("a", called=called), step_of("unused", called=called)), "C"
        )
        runner.cache["in_memory"] = "m"
        runner.get("x")
        assert seen == {
            "config": "C", "a": "a()", "in_memory": "m", "other": 3, "rest": ((), {})
        }  # fmt: skip
        # A requirement that is not a parameter is not built.
        assert called == ["a"]
        assert runner.build_all() == ["x"]

    def test_variadic_parameters_receive_nothing(self) -> None:
        @workflow_step(produces="x", requires=["args"])
        def make_x(*args: object, **kwargs: object) -> object:
            return args, kwargs

        runner = WorkflowRunner(module_of(make_x), None)
        runner.cache.update(args=1, kwargs=2)
        assert runner.get("x") == ((), {})

    def test_missing_arguments_raise_pythons_error(self) -> None:
        def make(stranger: int) -> int:
            return stranger

        runner = WorkflowRunner(module_of(workflow_step(make, produces="x")), None)
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'stranger'"):
            runner.get("x")


def returning(value: object) -> Callable[..., object]:
    def f() -> object:
        return value

    return workflow_step(f, produces=["a", "b"])


class TestOutputs:
    @pytest.mark.parametrize("value", [{"b": 2, "a": 1}, (1, 2), [1, 2]])
    def test_a_step_may_have_several_products(self, value: object) -> None:
        runner = WorkflowRunner(module_of(returning(value)), None)
        events: list[tuple[str, str]] = []
        runner.observe(lambda event, name: events.append((event, name)))
        assert [runner.get("b"), runner.get("a")] == [2, 1]
        assert events == [("building", "b"), ("built", "b"), ("cached", "a")]

    @pytest.mark.parametrize("value", [{"x": 1}, (1, 2), None])
    def test_the_result_is_the_single_product(self, value: object) -> None:
        runner = WorkflowRunner(module_of(workflow_step(lambda: value, produces="x")), None)
        assert runner.get("x") is value

    @pytest.mark.parametrize(
        ("value", "kind", "message"),
        [
            ((1, 2, 3), ValueError, "Step f declares 2 produces but returned 3 values"),
            (
                5,
                TypeError,
                "Step f declares produces=['a', 'b'] but returned a int; expected dict or tuple",
            ),
            (
                {"a": 1, "c": 2},
                ValueError,
                "Step f declares produces=['a', 'b'] but returned a dict without 'b' and with 'c'",
            ),
            (
                {"a": 1, "b": 2, "c": 3},
                ValueError,
                "Step f declares produces=['a', 'b'] but returned a dict with 'c'",
            ),
        ],
    )
    def test_invalid_outputs_are_refused(
        self, value: object, kind: type[Exception], message: str
    ) -> None:
        runner = WorkflowRunner(module_of(returning(value)), None)
        with pytest.raises(kind) as caught:
            runner.get("a")
        assert first_line(caught.value).startswith(message)
        assert runner.cache == {}

    def test_a_value_that_cannot_be_stored_is_kept_in_memory(
        self, products: WorkflowProducts
    ) -> None:
        @workflow_step(produces=["solver", "answer"])
        def make() -> tuple[object, int]:
            return threading.Lock(), 42

        @workflow_step(produces="plot", requires="solver")
        def draw(solver: object) -> str:
            return "plot"

        module = module_of(make, draw)
        runner = WorkflowRunner(module, Config(), products)
        with pytest.warns(ProductWarning, match="product 'solver' is kept in memory only") as seen:
            solver = runner.get("solver")
        assert [one.filename for one in seen] == [__file__]
        assert runner.rebuild("solver") is not solver
        assert runner.get("plot") == "plot"
        # In the next session, its dependents are fresh without it.
        assert WorkflowRunner(module, Config(), products).get("plot") == "plot"
        assert products.list() == ["answer", "plot"]

    def test_a_read_only_store_causes_one_warning(
        self, products: WorkflowProducts, called: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*args: object, **keywords: object) -> None:
            raise OSError(30, "Read-only file system")

        monkeypatch.setattr("motoko.runtime.file_lock.os.open", full)
        module = module_of(step_of("a", called=called), step_of("b", "a", called=called))
        runner = WorkflowRunner(module, Config(), products)
        with pytest.warns(ProductWarning, match="memory only.*Read-only file system") as seen:
            assert runner.get("b") == "b(a())"
        assert [one.filename for one in seen] == [__file__]
        assert products.list() == []

    def test_an_old_value_does_not_replace_one_that_cannot_be_stored(
        self, products: WorkflowProducts
    ) -> None:
        values: list[object] = [1, threading.Lock()]

        def make() -> dict[str, object]:
            return {"a": values[0], "b": 0}

        module = module_of(workflow_step(make, produces=["a", "b"]))
        WorkflowRunner(module, None, products).get("a")
        runner = WorkflowRunner(module, None, products)
        del values[0]
        with pytest.warns(ProductWarning):
            runner.rebuild("b")
        assert not products.exists("a")

    def test_siblings_receive_the_rebuilt_product(self, products: WorkflowProducts) -> None:
        count = iter(range(10))

        @workflow_step(produces=["a", "b"])
        def make() -> list[int]:
            return [next(count)] * 2

        @workflow_step(produces="c", requires=["a", "b"])
        def both(a: int, b: int) -> tuple[int, int]:
            return a, b

        module = module_of(make, both)
        WorkflowRunner(module, None, products).get("a")
        products.remove("b")
        assert WorkflowRunner(module, None, products).get("c") == (1, 1)


class TestInvalidation:
    def test_invalidate_removes_from_memory_and_store_but_not_dependents(
        self, products: WorkflowProducts, called: list[str]
    ) -> None:
        module = module_of(step_of("a", called=called), step_of("b", "a", called=called))
        runner = WorkflowRunner(module, Config(), products)
        runner.get("b")
        runner.invalidate("a")
        assert [runner.status("a"), runner.status("b")] == ["missing", "cached"]
        assert products.list() == ["b"]
        runner.invalidate("a")
        runner.invalidate("never heard of")

    def test_rebuild_builds_only_the_product(
        self, products: WorkflowProducts, called: list[str]
    ) -> None:
        module = module_of(
            step_of("a", called=called),
            step_of("b", "a", called=called),
            step_of("c", "b", called=called),
        )
        runner = WorkflowRunner(module, Config(), products)
        runner.get("c")
        assert runner.rebuild("b") == "b(a())"
        assert called == ["a", "b", "c", "b"]

    def test_status(self, products: WorkflowProducts, called: list[str]) -> None:
        module = module_of(step_of("a", called=called))
        runner = WorkflowRunner(module, Config(), products)
        assert runner.status("a") == "missing"
        runner.get("a")
        assert runner.status("a") == "cached"
        # A stale product is on disk too.
        assert WorkflowRunner(module, Config(n=2), products).status("a") == "on_disk"

    def test_invalidating_changes(self, called: list[str]) -> None:
        module = module_of(
            step_of("a", called=called),
            step_of("b", "a", called=called),
            step_of("c", called=called, requires=("b",)),
            step_of("x", called=called),
        )
        runner = WorkflowRunner(module, None)
        assert runner.what_invalidates("a") == {"b", "c"}
        assert runner.what_invalidates("c") == set()
        assert runner.what_invalidates("never heard of") == set()


class TestObservers:
    def test_observers_are_called_in_order_of_registration(self, called: list[str]) -> None:
        events = []
        runner = WorkflowRunner(module_of(step_of("a", called=called)), None)
        runner.observe(lambda event, name: events.append((1, event)))
        runner.observe(lambda event, name: events.append((2, event)))
        runner.get("a")
        assert events == [(1, "building"), (2, "building"), (1, "built"), (2, "built")]

    def test_a_failing_observer_causes_one_warning(self, called: list[str]) -> None:
        events = []

        def broken(event: str, name: str) -> None:
            raise ValueError(event)

        runner = WorkflowRunner(module_of(step_of("a", called=called)), None)
        runner.observe(broken)
        runner.observe(lambda event, name: events.append(event))
        with pytest.warns(ProductWarning, match=r"observer .* raised ValueError") as seen:
            assert runner.get("a") == "a()"
        assert len(seen) == 1
        assert events == ["building", "built"]


class TestDamage:
    """A product that was removed or damaged is built again, with one warning."""

    @pytest.mark.parametrize("config", [Config(), None], ids=["tracked", "untracked"])
    @pytest.mark.parametrize("harm", ["remove", "truncate", "alter"])
    def test_damage_is_reported_and_repaired(
        self, products: WorkflowProducts, called: list[str], harm: str, config: Config | None
    ) -> None:
        module = module_of(step_of("a", called=called), step_of("b", "a", called=called))
        WorkflowRunner(module, config, products).get("b")
        file = products.products_dir / "b.yaml"
        content = file.read_bytes()
        if harm == "remove":
            file.unlink()
        else:
            file.write_bytes(content[:-2] if harm == "truncate" else content.upper())
        called.clear()
        runner = WorkflowRunner(module, config, products)
        with pytest.warns(ProductWarning, match="product 'b' is built again: .*its file") as seen:
            assert runner.get("b") == "b(a())"
        assert len(seen) == 1
        assert called == ["b"]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert WorkflowRunner(module, config, products).get("b") == "b(a())"
        assert file.read_bytes() == content
        assert called == ["b"]

    def test_a_damaged_product_without_a_producer_is_named(
        self, products: WorkflowProducts
    ) -> None:
        products.save("measured", 1)
        (products.products_dir / "measured.yaml").write_text("2\n")
        with pytest.raises(
            KeyError, match=r"stored, but cannot be used.*not the file that was saved"
        ):
            WorkflowRunner(module_of(), None, products).get("measured")

    def test_a_store_that_raises_causes_a_warning(self, called: list[str]) -> None:
        class Store:
            def exists(self, name: str) -> bool:
                return True

            def load(self, name: str) -> None:
                raise RuntimeError("needs a mesh")

            def save(self, name: str, value: object) -> None: ...

        store: Any = Store()
        runner = WorkflowRunner(module_of(step_of("a", called=called)), None, store)
        with pytest.warns(ProductWarning, match="'a' is built again: needs a mesh"):
            assert runner.get("a") == "a()"
