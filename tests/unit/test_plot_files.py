"""Files with plots of a workflow's runs, and their reproduction."""

from __future__ import annotations

import contextlib
import math
import re
import stat
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from motoko.core.changes import EditRun, PushQuantities
from motoko.core.edits import ApplyOutbox, Claim, MarkStarted, SetFields
from motoko.core.records import RunKey
from motoko.errors import PlotError, RunNameError, UnknownNameError
from motoko.operations.plotting.files import default_name, draw_plot, reproduce_plot
from motoko.operations.plotting.metadata import read_record
from motoko.operations.plotting.preparation import prepare
from motoko.operations.plotting.rendering import render
from motoko.operations.plotting.spec import PlotSpec
from motoko.storage.session import Session
from motoko.testing import add_run, empty_database
from motoko.testing.memory import commit
from motoko.workflow import Workflow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.unit

COMMAND = ["motoko", "plot", "s", "x", "y"]
SMALL = (2.0, 1.5)
KINDS = {
    "scatter": PlotSpec("s", "scatter", ("x", "y"), color="y", by="name", size=SMALL),
    "line": PlotSpec("s", "line", ("x", "y"), by="name", size=SMALL),
    "hist": PlotSpec("s", "hist", ("y",), color="name", size=SMALL),
    "parallel": PlotSpec("s", "parallel", ("x", "y", "name"), color="y", size=SMALL),
    "quantity": PlotSpec("s", "quantity", ("e",), color="x", where=("x < 3",), size=SMALL),
}


@pytest.fixture
def workflow(tmp_path: Path) -> Iterator[Workflow]:
    directory = tmp_path / "wf"
    (directory / "s").mkdir(parents=True)
    (directory / "motoko.yaml").write_text("task_managers: {s: {}}\norchestrator: o.py\n")
    (directory / "s" / "bd.yaml").write_text("study: s\njob: {x: float}\nrun: {y: float}\n")
    (directory / "s" / "launch.sh").write_text("")
    opened = Workflow(directory / "motoko.yaml", database=empty_database(["s"]))
    with contextlib.closing(opened), contextlib.closing(Session(opened.store.database)) as session:
        for number in range(6):
            x, name = float(number + 1), "ab"[number % 2]
            key = add_run(session, "s", {"x": x}, run_name="first", y=x * x, name=name)
            session.add(EditRun(key, Claim("l", f"t{number}", 0.0)))
            session.add(EditRun(key, MarkStarted(f"t{number}", 0.0, "l")))
            points = tuple((step, x / (step + 1)) for step in range(3))
            session.add(PushQuantities(key, f"t{number}", 1, "e", points))
            session.add(PushQuantities(key, f"t{number}", 1, "v", ((0, [x, -x]),)))
            session.add(EditRun(key, ApplyOutbox(f"t{number}", 1, 0.0, {}, None)))
        commit(opened.store.database, session)
        yield opened


def change(workflow: Workflow, y: float = -1.0) -> None:
    """Change the runs, add one, and push to a quantity."""
    with contextlib.closing(Session(workflow.store.database)) as session:
        for run_id in (1, 2):
            key = RunKey("s", run_id)
            session.add(EditRun(key, SetFields({"y": y, "name": "c"}), blind=True))
            session.add(PushQuantities(key, f"t{run_id - 1}", 9, "e", ((9, 9.0),)))
        add_run(session, "s", {"x": 0.1}, run_name="second", y=7.0, name="d")
        commit(workflow.store.database, session)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", ["png", "svg", "html"])
def test_a_file_is_reproduced_byte_for_byte_after_further_commits(
    workflow: Workflow, tmp_path: Path, kind: str, suffix: str
) -> None:
    file = tmp_path / f"a.{suffix}"
    draw_plot(workflow, KINDS[kind], COMMAND, file)
    change(workflow)
    found = reproduce_plot(workflow, file)
    assert found.path == tmp_path / f"a-reproduced.{suffix}"
    assert found.path.read_bytes() == file.read_bytes()
    assert (found.identical, found.notes) == (True, [])


def test_a_file_records_command_transaction_and_code(workflow: Workflow, tmp_path: Path) -> None:
    with contextlib.closing(Session(workflow.store.database)) as session:
        transaction, committed = session.snapshot
    draw_plot(workflow, KINDS["hist"], COMMAND, tmp_path / "a.svg")
    record = read_record(tmp_path / "a.svg")
    assert record.command == tuple(COMMAND)
    assert record.transaction == transaction
    assert record.committed == committed.isoformat(timespec="milliseconds")
    assert record.scripts == workflow.task_manager("s").bd_config.scripts_digest()
    assert record.spec == KINDS["hist"]


def test_newest_data_differ_from_those_of_a_reproduction(
    workflow: Workflow, tmp_path: Path
) -> None:
    """So the tests above can fail."""
    draw_plot(workflow, KINDS["hist"], COMMAND, tmp_path / "a.svg")
    change(workflow)
    draw_plot(workflow, KINDS["hist"], COMMAND, tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() != (tmp_path / "b.svg").read_bytes()


def test_a_packed_state_is_an_error_and_nothing_is_drawn(
    workflow: Workflow, tmp_path: Path
) -> None:
    file, new = tmp_path / "a.svg", tmp_path / "new.svg"
    draw_plot(workflow, KINDS["hist"], COMMAND, file)
    change(workflow)
    workflow.store.database.pack(keep=-10.0)
    with pytest.raises(PlotError, match=r"packed since.* the data have changed since") as raised:
        reproduce_plot(workflow, file, new)
    assert raised.value.hint is not None
    assert "backup" in raised.value.hint
    assert "motoko plot s x y" in raised.value.hint
    assert not new.exists()


def test_unchanged_data_are_drawn_after_their_state_was_packed(
    workflow: Workflow, tmp_path: Path
) -> None:
    spec = PlotSpec("s", "hist", ("x",), run_name="first", size=SMALL)
    draw_plot(workflow, spec, COMMAND, tmp_path / "a.svg")
    change(workflow)
    workflow.store.database.pack(keep=-10.0)
    found = reproduce_plot(workflow, tmp_path / "a.svg")
    assert found.identical
    assert "the newest state has the same data" in found.notes[0]


def test_a_file_of_another_workflow_is_an_error(workflow: Workflow, tmp_path: Path) -> None:
    file = tmp_path / "a.svg"
    draw_plot(workflow, KINDS["hist"], COMMAND, file)
    forged = re.sub(r'"data": "\w+"', '"data": "00"', file.read_text())
    file.write_text(forged)
    with pytest.raises(PlotError, match="does not show the data that this workflow has"):
        reproduce_plot(workflow, file)


def test_a_file_of_another_version_is_drawn_again_with_a_note(
    workflow: Workflow, tmp_path: Path
) -> None:
    file = tmp_path / "a.svg"
    draw_plot(workflow, KINDS["hist"], COMMAND, file)
    file.write_text(file.read_text().replace('"Matplotlib": "', '"Matplotlib": "0.'))
    found = reproduce_plot(workflow, file)
    assert found.identical is False
    assert "was drawn by Motoko" in found.notes[0]
    before = file.read_bytes()
    with pytest.raises(PlotError, match="which stays"):
        reproduce_plot(workflow, file, file)
    assert file.read_bytes() == before


def test_a_reproduction_may_have_another_format(workflow: Workflow, tmp_path: Path) -> None:
    draw_plot(workflow, KINDS["hist"], COMMAND, tmp_path / "a.svg")
    draw_plot(workflow, KINDS["hist"], COMMAND, tmp_path / "a.html")
    change(workflow)
    found = reproduce_plot(workflow, tmp_path / "a.svg", tmp_path / "b.html")
    assert found.identical is None
    assert (tmp_path / "b.html").read_bytes() == (tmp_path / "a.html").read_bytes()


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        (PlotSpec("t", "hist", ("x",)), UnknownNameError, "'t'.*Did you mean|Known: s"),
        (PlotSpec("s", "hist", ("yy",)), UnknownNameError, "no column 'yy'\n.*Did you mean 'y'"),
        (PlotSpec("s", "hist", ("x",), color="nam"), UnknownNameError, "Did you mean 'name'"),
        (PlotSpec("s", "quantity", ("ee",)), UnknownNameError, "quantity 'ee'\n.*'e'"),
        (PlotSpec("s", "hist", ("x",), run_name="frist"), RunNameError, "Did you mean 'first'"),
        (PlotSpec("s", "quantity", ("v",)), PlotError, r"'v' holds 2 numbers.*\n.*'v\[0\]'"),
        (PlotSpec("s", "hist", ("x",), where=("x > 9",)), PlotError, "no runs of s, x > 9"),
        (PlotSpec("s", "quantity", ("e",), where=("x > 9",)), PlotError, "nothing can be drawn"),
    ],
)
def test_errors_name_the_nearest_name(
    workflow: Workflow, tmp_path: Path, spec: PlotSpec, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as raised:
        draw_plot(workflow, spec, COMMAND, tmp_path / "a.png")
    assert re.search(message, str(raised.value))
    assert not (tmp_path / "a.png").exists()


def test_components_of_vectors_can_be_drawn(workflow: Workflow, tmp_path: Path) -> None:
    spec = PlotSpec("s", "quantity", ("v[1]",), size=SMALL)
    draw_plot(workflow, spec, COMMAND, tmp_path / "a.html")
    assert "<td>v[1]</td><td>number</td><td>6</td><td>-6</td>" in (tmp_path / "a.html").read_text()
    with pytest.raises(PlotError, match="only 2 components"):
        draw_plot(workflow, PlotSpec("s", "quantity", ("v[2]",)), COMMAND, tmp_path / "a.html")


@pytest.mark.parametrize("name", ["a.pdf", "a", ".png", "missing/a.png", "dir.png"])
def test_files_that_cannot_be_written_are_errors(
    workflow: Workflow, tmp_path: Path, name: str
) -> None:
    (tmp_path / "dir.png").mkdir()
    with pytest.raises(PlotError, match=re.escape(name)):
        draw_plot(workflow, KINDS["hist"], COMMAND, tmp_path / name)
    assert not [path for path in tmp_path.iterdir() if path.name not in ("dir.png", "wf")]


def test_a_new_file_has_the_usual_permissions(workflow: Workflow, tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    (tmp_path / "link.svg").symlink_to("a.svg")
    draw_plot(workflow, KINDS["hist"], COMMAND, tmp_path / "link.svg")
    assert (tmp_path / "link.svg").is_symlink()
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("usual", "a.svg")}
    assert len(modes) == 1


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        (PlotSpec("s", "scatter", ("x", "y")), "s-x-y.png"),
        (PlotSpec("s", "hist", ("x",)), "s-x-hist.png"),
        (PlotSpec("s", "quantity", ("../v[0]",)), "s-.._v_0_-quantity.png"),
        (PlotSpec("s", "parallel", ("a", "b", "c", "d")), "s-a-b-c-parallel.png"),
    ],
)
def test_default_names_are_those_of_study_and_columns(spec: PlotSpec, name: str) -> None:
    assert default_name(spec) == name


@pytest.mark.parametrize(
    "values",
    [
        [1.0],
        [2.0, 2.0],
        [1e150, -1e150, 0.0],
        [1e-300, 2e-300],
        ["a", "b" * 500, "$c$", "\x1b"],
        [True, False],
        [float(i % 977) for i in range(10_000)],
        [math.nan, 1.0, math.inf],
        [datetime.min.replace(tzinfo=UTC), datetime(14, 1, 1, tzinfo=UTC)],
        [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)],
        [datetime.max.replace(tzinfo=UTC)],
    ],
    ids=["single", "constant", "large", "tiny", "categories", "truth", "many", "missing", "early",
         "any time", "late"],
)  # fmt: skip
def test_unusual_values_can_be_rendered(values: list[Any]) -> None:
    for spec in (PlotSpec("s", "scatter", ("x", "y"), color="x", size=SMALL),
                 PlotSpec("s", "hist", ("x",), logx=values[0] == 1e-300, size=SMALL)):  # fmt: skip
        table = {"x": values, "y": values}
        if isinstance(values[0], str) or len(values) < 20:
            table["y"] = values[::-1]
        assert render(prepare(spec, table), "png", {}).startswith(b"\x89PNG")
