"""The common interface of pipeline states in memory and in SQLite."""

from __future__ import annotations

import copy
import errno
import os
import sqlite3
import stat
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from motoko.errors import StateStoreError
from motoko.pipeline import Interface, State, StateWithGlueDb, Step, Workflow
from motoko.pipeline.values import values_equal
from tests.support.pipeline import AddModel, Anything, arithmetic

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Make = Callable[..., Interface]

pytestmark = pytest.mark.unit


@pytest.fixture(params=["memory", "database in memory", "file"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Return a function that creates a state of one kind."""

    def made(mutable: bool = False) -> Interface:
        if request.param == "memory":
            return State(mutable=mutable)
        return StateWithGlueDb(tmp_path / "state.db" if request.param == "file" else None, mutable)

    return made


def test_a_value_is_posted_found_and_deleted(make: Make) -> None:
    state = make()
    assert "a" not in state
    assert 3 not in state
    state.post([1, 2], name="a")
    state.post(None, "b")
    assert state.extract("a") == [1, 2]
    assert state.extract("b") is None
    assert "a" in state
    assert state.names() == ["a", "b"]
    state.delete("a")
    assert "a" not in state
    state.post(3, name="a")
    assert state.extract("a") == 3


def test_a_name_can_be_posted_only_once(make: Make) -> None:
    state = make()
    state.post(1, name="a")
    with pytest.raises(ValueError, match=r"^Cannot mutate key: a\n"):
        state.post(2, name="a")
    with pytest.raises(ValueError, match=r"^Cannot mutate key: a\n"):
        state.post_all({"b": 1, "a": 2})
    assert state.names() == ["a"]
    assert state.extract("a") == 1


def test_a_mutable_state_replaces_the_old_value(make: Make) -> None:
    state = make(mutable=True)
    state.post(1, name="a")
    state.post(2, name="b")
    state.post(3, name="a")
    assert state.extract("a") == 3
    assert state.names() == ["a", "b"]


def test_unknown_names_get_a_suggestion(make: Make) -> None:
    state = make()
    state.post(1, name="total")
    with pytest.raises(KeyError) as caught:
        state.extract("totl")
    assert str(caught.value) == "the state has no 'totl'\n  Did you mean 'total'?"
    with pytest.raises(KeyError, match="totl"):
        state.delete("totl")


VALUES = {
    "int": 3,
    "nan": float("nan"),
    "tuple": (1, [2.5, "x"], {"k": (None, True)}),
    "keys": {1: "a", (2, 3): {4}},
    "looks like a model": {"model": "x", "contents": {}},
    "looks like a kind": {"$": "tuple"},
    "model": AddModel(a=1, b=2),
    "array": np.arange(6, dtype="f4").reshape(2, 3),
    "objects": np.array([1, "a", [2]], dtype=object),
    "records": np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
    "frame": pd.DataFrame({"a": [1, 2], "b": ["x", None]}, index=pd.Index([5, 6], name="n")),
}


@pytest.mark.parametrize("name", VALUES)
def test_posted_values_are_extracted_unchanged(make: Make, name: str) -> None:
    state = make()
    state.post(VALUES[name], name="value")
    assert values_equal(state.extract("value"), VALUES[name])


@pytest.mark.parametrize("name", VALUES)
def test_states_with_values_are_restored_from_json(make: Make, name: str) -> None:
    state = make(mutable=True)
    state.post(VALUES[name], name="value")
    read = Interface.from_json(state.to_json())
    assert type(read) is type(state)
    assert read == state
    assert read.mutable
    assert values_equal(read.extract("value"), VALUES[name])


def test_the_callers_dictionary_is_not_changed() -> None:
    given = {"a": 1}
    for state in (State(given), StateWithGlueDb(given)):
        state.post(2, name="b")
        assert state.names() == ["a", "b"]
    assert given == {"a": 1}


def test_values_in_memory_are_not_copied() -> None:
    value = [1]
    assert State({"a": value}).extract("a") is value


def test_values_that_a_database_cannot_hold_are_refused() -> None:
    state = StateWithGlueDb()
    with pytest.raises(ValueError, match=r"^could not infer type=<class 'object'> of 'a'\[0\]"):
        state.post_all({"b": 1, "a": [object()]})
    itself: list[Any] = []
    itself.append(itself)
    with pytest.raises(ValueError, match="contains itself"):
        state.post(itself, name="a")
    assert state.names() == []


def test_a_file_persists_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    StateWithGlueDb(path).post(1, name="a")
    assert StateWithGlueDb(str(path)).extract("a") == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_two_states_on_one_file_do_not_overwrite_each_other(tmp_path: Path) -> None:
    one, other = (StateWithGlueDb(tmp_path / "state.db") for _ in range(2))
    one.post(1, name="a")
    with pytest.raises(ValueError, match="Cannot mutate key: a"):
        other.post(2, name="a")
    assert other.extract("a") == 1


def test_a_file_that_is_not_a_database_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_text("this is text, and long enough to be none" * 20)
    with pytest.raises(StateStoreError, match=r"^the state in .*state\.db cannot be used: "):
        StateWithGlueDb(path).names()
    with pytest.raises(StateStoreError, match=r"missing/state\.db cannot be used"):
        StateWithGlueDb(tmp_path / "missing" / "state.db").names()


def test_a_read_only_file_is_readable_but_refuses_posts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.db"
    StateWithGlueDb(path).post(1, name="a")
    connect: Any = sqlite3.connect

    def connect_read_only(path: Path, **options: Any) -> Any:
        return connect(f"{path.as_uri()}?mode=ro", uri=True, **options)

    monkeypatch.setattr(sqlite3, "connect", connect_read_only)
    state = StateWithGlueDb(path, mutable=True)
    assert state.extract("a") == 1
    assert state.names() == ["a"]
    with pytest.raises(StateStoreError) as caught:
        state.post(2, name="a")
    assert str(caught.value).splitlines() == [
        f"the state in {path} cannot be used: attempt to write a readonly database",
        "  The path must be writable, and an SQLite database if it exists.",
    ]
    with pytest.raises(StateStoreError, match="readonly"):
        state.delete("a")
    state_of_workflow = StateWithGlueDb(path)
    workflow = Workflow(Step(Anything, {"a": "data"}, {"data": "b"}))
    with pytest.raises(StateStoreError, match="readonly"):
        workflow.run(state_of_workflow)
    assert workflow.steps_ran == []


def test_a_file_that_cannot_be_created_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: object, *rest: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StateStoreError, match=r"state\.db cannot be used: .*Read-only file system"):
        StateWithGlueDb(tmp_path / "state.db").post(1, name="a")


def test_a_copy_of_a_database_in_memory_is_independent() -> None:
    state = StateWithGlueDb({"a": 1}, mutable=True)
    copied = copy.deepcopy(state)
    copied.post(2, name="a")
    assert (state.extract("a"), copied.extract("a")) == (1, 2)
    assert state != copied


def test_a_workflow_runs_on_every_state(make: Make) -> None:
    state = make()
    state.post_all({"x": 2, "y": 3, "k": 4})
    workflow = arithmetic()
    assert workflow.run(state) == {"final": 20}
    assert workflow.run(state) == {"final": 20}
    assert workflow.steps_skipped == [0, 1]
    assert state.extract("total") == 5


def test_the_interface_is_abstract() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Interface()  # type: ignore[abstract]
