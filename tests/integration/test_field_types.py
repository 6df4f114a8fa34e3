"""Field types declared in ``bd.yaml`` apply to all later assignments."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from motoko.errors import ParameterError, UnknownNameError
from motoko.storage.database import Database
from motoko.storage.schema import create_tables
from motoko.storage.session import run_transaction
from motoko.testing.fake_launcher import FakeLauncher
from motoko.workflow import Workflow
from tests.support.launching import WorkflowHarness, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

DECLARED = {"n": "int", "y": "float", "word": "str", "many": "list", "at": "datetime"}


@pytest.fixture
def workflow(tmp_path: Path) -> Iterator[Workflow]:
    (tmp_path / "motoko.yaml").write_text("task_managers: {s: }\norchestrator: steps.main\n")
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "bd.yaml").write_text(f"job: {{x: float}}\nrun: {DECLARED}\n")
    (tmp_path / "s" / "launch.sh").write_text("true\n")
    database = Database.in_memory()
    run_transaction(database, lambda root: create_tables(root, ["s"]), initialising=True)
    workflow = Workflow(tmp_path, database=database)
    workflow.run_name = "a"
    yield workflow
    workflow.close()
    database.close()


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("n", 7.0, 7),
        ("n", np.int64(7), 7),
        ("y", 7, 7.0),
        ("many", (1, 2), [1, 2]),
        ("at", "2024-05-01", datetime(2024, 5, 1, tzinfo=UTC)),
        ("other", 1.5, 1.5),
        ("other", None, None),
        ("n", None, None),
        ("at", pd.NaT, None),
        ("at", np.datetime64("2024-05-01", "D"), datetime(2024, 5, 1, tzinfo=UTC)),
    ],
)
def test_an_assigned_value_is_converted(
    workflow: Workflow, name: str, value: Any, kept: Any
) -> None:
    ((run, _),) = workflow.s.create_task(x=1)
    setattr(run, name, value)
    assert (run.fields[name], type(run.fields[name])) == (kept, type(kept))


@pytest.mark.parametrize(
    ("name", "value"),
    [("n", 1.5), ("n", "1"), ("n", True), ("n", math.nan), ("y", "1"), ("word", 3), ("at", "x")],
)
def test_a_value_of_another_type_is_refused(workflow: Workflow, name: str, value: Any) -> None:
    ((run, _),) = workflow.s.create_task(x=1)
    with pytest.raises(ParameterError, match=f"run s.1: field {name!r}"):
        run[name] = value
    assert name not in run


def test_a_field_is_deleted_by_item_as_by_attribute(workflow: Workflow) -> None:
    ((run, _),) = workflow.s.create_task(x=1)
    run["y"] = 0.5
    del run["y"]
    assert "y" not in run
    with pytest.raises(UnknownNameError, match=r"run s\.1 has no field 'y'"):
        del run["y"]


def test_a_list_changed_in_place_keeps_its_type(workflow: Workflow) -> None:
    ((run, _),) = workflow.s.create_task(x=1)
    run.many = [1]
    run.many.append(2)
    assert run.many == [1, 2]
    with pytest.raises(ParameterError, match="complex"):
        run.many.append(1j)
    assert run.many == [1, 2]


def test_a_result_can_be_nan(workflow: Workflow) -> None:
    ((run, _),) = workflow.s.create_task(x=1)
    run.y = math.nan
    assert math.isnan(run.y)
    with pytest.raises(ParameterError, match="nan"):  # but no constraint matches it
        workflow.s.create_task({"y": math.nan}, x=1)


def test_the_fake_launcher_converts_as_the_launcher_does(workflow: Workflow) -> None:
    ((run, _),) = workflow.s.create_task(x=1)
    with FakeLauncher(workflow.store, {"s": lambda _: {"y": 2, "n": "many"}}):
        wait_until(lambda: run.lifecycle.is_terminal)
    assert run.fields == {"y": 2.0, "n": "many"}
    assert isinstance(run.y, float)


SCRIPT = """
motoko-worker set y .5; motoko-worker set word 1.10; motoko-worker set free 1.5
motoko-worker set n 1.5 2> refused || echo $? >> refused
cat > script.py <<'END'
from motoko.worker import run
import pandas
run.at = pandas.NaT
run.y = 3
run.n = "7"
END
python script.py 2> traceback || true
python - <<'END'
import json, os
with open(os.environ["MOTOKO_OUTBOX"], "a") as outbox:
    record = {"t": 1, "op": "set", "field": "n", "value": 2.5}
    outbox.write("\\n" + json.dumps(record) + "\\n")
END
"""


def test_values_set_by_a_script_are_converted_and_checked_in_the_script(tmp_path: Path) -> None:
    place = WorkflowHarness.make(tmp_path / "wf", {"a": SCRIPT}, study_options={"run": DECLARED})
    try:
        place.start()
        key = place.run()
        (record,) = place.wait([key])
        directory = place.directory_of(key)
        log = place.log()
    finally:
        place.close()
    assert record.fields == {"y": 3.0, "word": "1.10", "free": 1.5, "at": None, "n": 2.5}
    assert isinstance(record.fields["y"], float)
    assert (directory / "refused").read_text().splitlines() == [
        "motoko-worker: run.n = '1.5' is not of type int",
        "  Write a whole number, such as 7 or 1e3, or null for none.",
        "1",
    ]
    *_, last, hint = (directory / "traceback").read_text().splitlines()
    assert last.endswith("script.py:5: run.n = '7' is a str, not of type int")
    assert hint == "  Text is not converted to a number: use int(...)."
    # Values written without motoko.worker are kept unchanged.
    (warning,) = [line for line in log.splitlines() if "declares it as" in line]
    assert "run a.1: field 'n' = 2.5 is a float, not of type int" in warning
    assert "bd.yaml declares it as int, the script's value is kept" in warning
