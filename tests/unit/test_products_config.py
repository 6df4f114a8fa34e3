"""Configurations, their files and their keys."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import threading
from collections import UserList
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest

from motoko.errors import ConfigError, ParameterError
from motoko.products import WorkflowConfig
from tests.support.products import Config

pytestmark = pytest.mark.unit


def digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Free(WorkflowConfig):
    """A configuration whose identity is any value."""

    _identity_fields = ("value",)

    value: Any = None


class Labelled:
    """An object whose text does not show its content."""

    def __init__(self, content: Any) -> None:
        self.content = content

    def __repr__(self) -> str:
        return "<Labelled>"


class Slotted(Labelled):
    __slots__ = ("more",)

    def __init__(self, more: Any) -> None:
        self.more = more


class Labels(UserList[str]):
    """A list class that JSON cannot write."""


class Named:
    """An object without content."""

    def __repr__(self) -> str:
        return "Named()"


def series(middle: float) -> pd.Series[float]:
    """Return a long series, whose text omits the middle."""
    return pd.Series([*np.arange(100.0), middle, *np.arange(100.0)])


def objects(first: object) -> Any:
    """Return an array of objects."""
    made = np.empty(2, dtype=object)
    made[0] = first
    return made


class TestKeys:
    def test_without_identity_fields_the_identity_is_none(self) -> None:
        assert WorkflowConfig().cache_key() is None
        assert WorkflowConfig().cache_key(requires={"a": "k"}) is None

    def test_identity_of_keys(self) -> None:
        config = Config(n=3)
        assert config.cache_key() == config.cache_key(requires={}) == digest({"n": 3})
        assert config.cache_key(requires={"b": "k2", "a": "k1"}) == digest(
            {"config": {"n": 3}, "requires": {"a": "k1", "b": "k2"}}
        )
        assert Config(n=3, color="blue").cache_key() == config.cache_key()

    @pytest.mark.parametrize("annotation", [None, list[str], ClassVar[list[str]]])
    def test_identity_fields_with_and_without_annotation(self, annotation: Any) -> None:
        space: dict[str, Any] = {"_identity_fields": ["n"], "__module__": __name__}
        if annotation is not None:
            space["__annotations__"] = {"_identity_fields": annotation}
        derived = type("Derived", (WorkflowConfig,), space)
        config = derived(n=1)
        assert config._identity_fields == ["n"]
        assert config.cache_key() == digest({"n": 1})
        assert type("Further", (derived,), {"__module__": __name__})(n=1).cache_key()

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (np.zeros(5000), np.r_[np.zeros(2500), 1, np.zeros(2499)]),
            (np.zeros(4), np.zeros((2, 2))),
            ({"a", "b"}, {"a", "c"}),
            (Path("a"), Path("b")),
            (np.float64(1), np.float64(2)),
            (np.int32(1), np.int32(2)),
            (Config(n=1), Config(n=2)),
            (series(50.0), series(-1.0)),
            (series(50.0).to_frame("a"), series(-1.0).to_frame("a")),
            (series(50.0).to_frame("a"), series(50.0).to_frame("b")),
            (pd.Index(series(50.0)), pd.Index(series(-1.0))),
            (series(50.0).astype("category"), series(-1.0).astype("category")),
            (pd.Series([1, None], dtype="Int64"), pd.Series([1, 2], dtype="Int64")),
            (pd.Series([Labelled(1)]), pd.Series([Labelled(2)])),
            (objects(series(50.0)), objects(series(-1.0))),
            (objects(series(50.0).to_numpy()), objects(series(-1.0).to_numpy())),
            (np.ma.masked_equal([1, 2], 1), np.ma.masked_equal([1, 2], 2)),
            (Labelled(1), Labelled(2)),
            ([{"deep": Labelled(1)}], [{"deep": Labelled(2)}]),
            (Slotted(series(50.0)), Slotted(series(-1.0))),
            (Labels(["a"]), Labels(["b"])),
            (functools.partial(len, [1]), functools.partial(len, [2])),
            (re.compile("a"), re.compile("b")),
            (Fraction(1, 3), Fraction(1, 4)),
            (pd.Timestamp(1), pd.Timestamp(2)),
            (len, max),
            (np.sin, np.cos),
            (Labelled, Slotted),
            (Named(), Slotted(1)),
        ],
    )
    def test_distinguish_values(self, one: object, other: object) -> None:
        keys = [Free(value=value).cache_key() for value in (one, one, other)]
        assert keys[0] == keys[1] != keys[2]

    def test_sets_have_no_order(self) -> None:
        names = [f"name{number}" for number in range(50)]
        keys = {Free(value=set(order)).cache_key() for order in (names, names[::-1])}
        assert len(keys) == 1

    def test_equal_frames_have_one_key(self) -> None:
        frame = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0], "c": ["x", None]})
        other = pd.DataFrame({"a": [1.0, 2.0]})
        other["b"] = [3.0, 4.0]
        other["c"] = ["x", None]
        assert Free(value=frame).cache_key() == Free(value=other).cache_key()

    @pytest.mark.parametrize(
        "value",
        [
            object(),
            lambda: 1,
            [object()],
            threading.Lock(),
            (letter for letter in ""),
            Labelled(object()),
        ],
    )
    def test_a_value_that_cannot_be_distinguished_is_refused(self, value: object) -> None:
        with pytest.raises(ParameterError, match="cannot be part of a key"):
            Free(value=value).cache_key()

    def test_a_value_that_contains_itself_is_refused(self) -> None:
        value = Labelled(None)
        value.content = {1: {2: value}}
        with pytest.raises(ParameterError, match="cannot be written as JSON"):
            Free(value=value).cache_key()

    def test_an_identity_field_that_does_not_exist(self) -> None:
        class Wrong(Config):
            _identity_fields = ("colour",)

        with pytest.raises(ParameterError, match="'colour' is not a field of Wrong") as caught:
            Wrong().cache_key()
        assert "Did you mean 'color'?" in str(caught.value)


class TestFields:
    def test_defaults(self) -> None:
        config: Any = WorkflowConfig()
        assert config.model_dump() == {
            "workflow_name": "", "description": "", "output_dir": "output"
        }  # fmt: skip
        assert config.ref_length is None
        config.ref_length = 3
        assert config.ref_length == 3
        with pytest.raises(AttributeError, match="nothing"):
            _ = config.nothing

    def test_extra_fields_are_accepted_and_declared_ones_checked(self) -> None:
        config: Any = Config.model_validate({"extra": 5})
        assert config.extra == 5
        with pytest.raises(ValueError, match="valid integer"):
            config.n = "many"

    def test_files(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        config = Config.model_validate({"n": 4, "extra": {"µ": 1e-5}})
        config.save_yaml(tmp_path / "c.yaml")
        assert Config.from_yaml(tmp_path / "c.yaml") == config
        config.view()
        assert capsys.readouterr().out == (tmp_path / "c.yaml").read_text()

    def test_invalid_files(self, tmp_path: Path) -> None:
        file = tmp_path / "c.yaml"
        with pytest.raises(ConfigError, match="cannot be read: No such file"):
            Config.from_yaml(file)
        file.write_text("color: red\nn: many\n")
        with pytest.raises(ConfigError, match=r"c.yaml:2: n: Input should be a valid integer"):
            Config.from_yaml(file)
