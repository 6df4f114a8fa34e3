"""The worker's codec, outbox format and validation."""

from __future__ import annotations

import enum
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest

from motoko.core import states
from motoko.core.records import RUN_COLUMNS
from motoko.worker import WorkerError, WorkerNameError, as_text, decode, encode, read_outbox
from motoko.worker import validation as worker_names
from motoko.worker.handles import COLUMNS, Run
from motoko.worker.validation import RESERVED_FIELDS

pytestmark = pytest.mark.unit

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


class Colour(str, enum.Enum):  # noqa: UP042  its str() is not its text
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


def line(**record: Any) -> bytes:
    return b"\n" + json.dumps({"t": 1.5, **record}).encode() + b"\n"


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        ([1, 2.5, None, True, "é"], [1, 2.5, None, True, "é"]),
        ((1, (2,)), {"$tuple": [1, {"$tuple": [2]}]}),
        ({3}, {"$set": [3]}),
        (b"\x00\xff", {"$bytes": "AP8="}),
        (NOON, {"$datetime": "2024-05-01T12:00:00+00:00"}),
        ({"a": {"b": 1}}, {"a": {"b": 1}}),
        ({1: "x", "y": 2}, {"$dict": [[1, "x"], ["y", 2]]}),
        ({"$set": 1}, {"$dict": [["$set", 1]]}),
        ({"a": 1, "$": 2}, {"$dict": [["a", 1], ["$", 2]]}),
    ],
)
def test_values_and_their_json_form(value: object, encoded: object) -> None:
    assert encode(value) == encoded
    assert decode(json.loads(json.dumps(encoded))) == value


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.float64(0.5), 0.5),
        (np.int32(7), 7),
        (np.bool_(True), True),
        (np.str_("x"), "x"),
        (np.array([[1.0, 2.0], [3.0, 4.0]]), [[1.0, 2.0], [3.0, 4.0]]),
        ({"a": np.array([1, 2])}, {"a": [1, 2]}),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (datetime(2024, 5, 1, 12), NOON),  # noqa: DTZ001  naive times are taken as UTC
        (datetime(2024, 5, 1, 14, tzinfo=timezone(timedelta(hours=2))), NOON),
    ],
)
def test_values_that_become_plain(value: object, plain: object) -> None:
    result = decode(encode(value))
    assert result == plain
    assert type(result) is type(plain)


@pytest.mark.parametrize(
    "value", [1j, [1, 1j], object(), np.array([1j]), {"a": print}, np.ndarray, {frozenset({1})}]
)
def test_other_values_are_refused_by_name(value: object) -> None:
    with pytest.raises(TypeError, match=r"^run\.y"):
        encode(value, "run.y")


@pytest.mark.parametrize(
    "data", [{"$what": 1}, {"$tuple": [], "x": 1}, {"$set": [[1]]}, {"$dict": [1]}]
)
def test_other_data_is_not_decoded(data: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        decode(data)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        ("a 'b' $(c)\n", "a 'b' $(c)\n"),
        (True, "true"),
        (False, "false"),
        (7, "7"),
        (0.1, "0.1"),
        (1e-300, "1e-300"),
        ([1, "a", True], '[1, "a", true]'),
        ({"a": [1.5]}, '{"a": [1.5]}'),
        ((1, 2), "[1, 2]"),
        ({4}, "[4]"),
        ({"when": (NOON, None)}, '{"when": ["2024-05-01T12:00:00+00:00", null]}'),
        ({1: True}, '{"1": true}'),
        (NOON, "2024-05-01T12:00:00+00:00"),
        (b"\x00\xff", "AP8="),
    ],
)
def test_text_for_shell_scripts(value: object, text: str) -> None:
    assert as_text(value) == text


def test_reading_a_whole_outbox() -> None:
    data = (
        line(op="start")
        + line(op="set", field="y", value={"$tuple": [1, 2]})
        + line(op="push", name="E", step=3, value=[1.0, [2, 3]])
        + line(op="state", label="warm")
        + line(op="fail", reason="no")
        + line(op="finish")
    )
    assert read_outbox(data) == (
        [
            {"t": 1.5, "op": "start"},
            {"t": 1.5, "op": "set", "field": "y", "value": (1, 2)},
            {"t": 1.5, "op": "push", "name": "E", "step": 3, "value": [1.0, [2, 3]]},
            {"t": 1.5, "op": "state", "label": "warm"},
            {"t": 1.5, "op": "fail", "reason": "no"},
            {"t": 1.5, "op": "finish"},
        ],
        len(data),
    )


def test_an_incomplete_last_line_is_not_read() -> None:
    whole, torn = line(op="start"), line(op="finish")[:-1]
    assert read_outbox(whole + torn) == ([{"t": 1.5, "op": "start"}], len(whole) + 1)
    assert read_outbox(torn[1:]) == ([], 0)
    assert read_outbox(b"") == ([], 0)


def test_a_record_after_a_torn_one_is_read() -> None:
    data = line(op="set", field="y", value=1)[:20] + line(op="finish")
    records, used = read_outbox(data)
    assert [record["op"] for record in records] == ["damaged", "finish"]
    assert records[0]["line"] == data[1:20].decode()
    assert used == len(data)


@pytest.mark.parametrize(
    "record",
    [
        {"op": "drop"},
        {"op": "set", "field": "id", "value": 1},
        {"op": "set", "field": "a b", "value": 1},
        {"op": "set", "field": ["y"], "value": 1},
        {"op": "set", "field": "y"},
        {"op": "set", "field": "y", "value": {"$what": 1}},
        {"op": "push", "name": "E", "step": "x", "value": 1},
        {"op": "push", "name": "E", "step": 0, "value": "x"},
        {"op": "push", "name": "", "step": 0, "value": 1},
        {"op": "state", "label": "LOST"},
        {"op": "state", "label": 3},
        {"op": "finish", "t": "noon"},
        {"op": ["finish"]},
    ],
)
def test_invalid_records_are_reported_as_damaged(record: dict[str, Any]) -> None:
    records, _ = read_outbox(line(**record) + line(op="finish"))
    assert [found["op"] for found in records] == ["damaged", "finish"]


@pytest.mark.parametrize("content", [b"3", b"null", b"[1]", b"\xff\xfe", b"[" * 100_000, b"{}"])
def test_lines_that_are_not_records_are_reported_as_damaged(content: bytes) -> None:
    records, _ = read_outbox(content + b"\n" + line(op="finish"))
    assert [found["op"] for found in records] == ["damaged", "finish"]


def test_names_agree_with_the_core() -> None:
    assert worker_names.LIFECYCLE == states.RESERVED_LABELS
    assert worker_names.MAX_NAME == states.MAX_LABEL
    assert RUN_COLUMNS.keys() <= RESERVED_FIELDS
    own = {name for name in dir(Run) if not name.startswith("_")} | set(COLUMNS)
    assert own <= RESERVED_FIELDS


@pytest.mark.parametrize("label", ["CREATED", "SUBMITTED", "TIMEOUT", "CANCELLED", "LOST"])
def test_lifecycle_names_are_refused_as_labels(label: str) -> None:
    with pytest.raises(WorkerError, match=f"^a script cannot put its run in state {label}"):
        worker_names.label_text(label)


def test_created_is_refused_as_a_label_with_a_hint() -> None:
    with pytest.raises(WorkerError, match=r"retry\(\)"):
        worker_names.label_text("CREATED")


@pytest.mark.parametrize("label", ["", "x" * 101, "a\nb", 3, None])
def test_labels_must_be_short_printable_text(label: object) -> None:
    with pytest.raises(WorkerError, match="cannot be a run's label"):
        worker_names.label_text(label)


@pytest.mark.parametrize("name", ["", "a b", "_x", "3d", 3, "a.b", "run_name", "study", "state"])
def test_invalid_field_names_are_refused(name: object) -> None:
    with pytest.raises(WorkerNameError):
        worker_names.field_name(name)


@pytest.mark.parametrize(
    ("value", "numbers"),
    [
        (3, 3),
        (True, 1),
        (np.float32(0.5), 0.5),
        ((1, 2.5), [1, 2.5]),
        (range(3), [0, 1, 2]),
        (np.eye(2), [[1.0, 0.0], [0.0, 1.0]]),
        ([[1], [2, 3]], [[1], [2, 3]]),
    ],
)
def test_numbers_of_a_quantity(value: object, numbers: object) -> None:
    assert worker_names.quantity_value(value, "E") == numbers


@pytest.mark.parametrize(
    "value", ["1", None, 1j, {1}, {"a": 1}, [1, "x"], object(), np.array(["x"])]
)
def test_invalid_quantities(value: object) -> None:
    with pytest.raises(TypeError, match=r"^E: .* is not a number"):
        worker_names.quantity_value(value, "E")


def test_steps_must_be_integers() -> None:
    assert worker_names.whole_step(np.int64(4), "E") == 4
    assert worker_names.whole_step(4.0, "E") == 4
    for step in (4.5, "4", None, float("nan")):
        with pytest.raises(TypeError, match="is not a whole number"):
            worker_names.whole_step(step, "E")
