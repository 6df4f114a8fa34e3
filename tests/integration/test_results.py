"""``motoko results``, ``motoko sql``, and data frames of a workflow."""

from __future__ import annotations

import csv
import io
import json
import stat
import sys
from typing import TYPE_CHECKING, Any

import pandas
import pytest
from jsonschema import Draft7Validator
from pyarrow import parquet

from motoko.cli import main
from motoko.cli.json_schemas import OUTPUTS
from motoko.errors import RunNameError, SqlError, UnknownNameError
from motoko.operations.sql import query_runs
from motoko.server.lifecycle import stop_server
from motoko.storage import read_copy
from motoko.storage.database import Database
from motoko.storage.schema import create_tables
from motoko.storage.session import run_transaction
from motoko.workflow import Workflow, event
from tests.support.command_line import Shell
from tests.support.results import HOSTILE, STUDIES, fill, write_workflow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """The workflow with results, and no server."""
    shell = Shell(write_workflow(tmp_path_factory.mktemp("results")))
    workflow = Workflow(shell.directory)
    workflow.create()
    fill(workflow.store.database)
    workflow.close()
    stop_server(workflow.store.state)
    yield shell
    shell.close()


class Command:
    """Runs ``motoko`` in this process."""

    def __init__(self, directory: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.directory, self._capfd = directory, capfd

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Return the exit status and the output."""
        try:
            status = main([*arguments, "--workflow", str(self.directory)])
        except SystemExit as error:
            status = int(error.code or 0)
        return status, *self._capfd.readouterr()

    def ok(self, *arguments: str) -> str:
        """Return the output of a command that must succeed."""
        status, out, problem = self.run(*arguments)
        assert status == 0, problem
        return out


@pytest.fixture
def motoko(shell: Shell, capfd: pytest.CaptureFixture[str]) -> Command:
    """Return a runner of commands for the workflow with results."""
    return Command(shell.directory, capfd)


@pytest.fixture
def workflow(tmp_path: Path) -> Iterator[Workflow]:
    """The same workflow in memory."""
    database = Database.in_memory()
    run_transaction(database, lambda root: create_tables(root, STUDIES), initialising=True)
    workflow = Workflow(write_workflow(tmp_path), database=database)
    fill(database)
    yield workflow
    workflow.close()
    database.close()


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


# -- tables ------------------------------------------------------------------------------------


def test_a_table_shows_failed_runs_first_and_no_control_characters(motoko: Command) -> None:
    _, out, problem = motoko.run("results", "solve")
    header, *lines = [line for line in out.splitlines() if line.strip(" ─")]
    assert header.split()[:6] == ["run", "run", "name", "x", "name", "state"]
    assert [line.split()[0] for line in lines] == [f"solve.{n}" for n in (2, 4, 1, 3, 5)]
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "[red]NOTED" in out
    assert problem == ""


def test_the_reason_of_a_failed_run_ends_with_its_last_error_line(
    motoko: Command, shell: Shell
) -> None:
    directory = shell.directory / "solve" / "BD-solve-runs"
    for number in (1, 2, 4):  # FINISHED, FAILED, LOST
        (directory / f"run-{number}").mkdir(parents=True, exist_ok=True)
        text = f"a warning\nno convergence of {number}\x1b[2J\n \n"
        (directory / f"run-{number}" / "stderr").write_text(text)
    out = motoko.ok("results", "solve")
    (failed,) = [line for line in out.splitlines() if line.startswith(" solve.2 ")]
    assert ": no convergence of 2" in failed
    assert "a warning" not in out
    assert "no convergence of 1" not in out
    assert "no convergence of 4" not in out  # the launcher knows the reason
    assert "\x1b" not in out
    assert "no convergence" not in motoko.ok("results", "solve", "--format", "csv")


def test_a_table_of_named_columns_has_just_these(motoko: Command) -> None:
    out = motoko.ok("results", "best", "--columns", "id,started", "--columns", "y", "--failed")
    header, *lines = [line.split() for line in out.splitlines() if line.strip(" ─")]
    assert header == ["id", "started", "y"]
    assert lines == [["2", "1970-01-01T00:03:30+00:00"], ["4", "1970-01-01T00:03:30+00:00", "9"]]


@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        (("solve",), [1, 2, 3, 4, 5]),
        (("solve.2-3,5",), [2, 3, 5]),
        (("solve", "--where", "x > 1", "--constraints", "y < 5"), [3]),
        (("solve", "--run_name", "b"), [4, 5]),
        (("solve", "--failed"), [2, 4]),
        (("solve", "--sort", "-y"), [4, 1, 3, 2, 5]),
        (("solve", "--sort", "y", "--limit", "2"), [3, 1]),
        (("solve", "--sort=state,-x", "--limit", "0"), [5, 2, 1, 4, 3]),
        (("empty",), []),
    ],
)
def test_runs_are_selected_sorted_and_limited(
    motoko: Command, arguments: tuple[str, ...], ids: list[int]
) -> None:
    _, out, problem = motoko.run("results", *arguments, "--format", "csv", "--columns", "id")
    assert [int(row["id"]) for row in read_csv(out)] == ids
    assert problem == ("3 runs left out (--limit 0 shows all)\n" if "2" in arguments else "")


@pytest.mark.parametrize(
    ("arguments", "expected", "first", "hint"),
    [
        (("solve", "--columns", "yy"), 2, "study 'solve' has no column 'yy'", "'y'"),
        (("solve", "--sort", "-yy"), 2, "study 'solve' has no column 'yy'", "'y'"),
        (("solve", "--sort", "--limit", "1"), 2, "argument --sort: expected one", ""),
        (("solve", "--quantity", "enrgy"), 2, "no run of study 'solve' has a qua", "'energy'"),
        (("solve", "--run_name", "c"), 2, "no run has the run name 'c'", "a, b"),
        (("solve", "--where", "yy > 1"), 2, "study 'solve': bad constraint", "'y'"),
        (("slove",), 2, "the workflow has no study 'slove'", "'solve'"),
        (("solve.9",), 2, "study 'solve' has no run 9", "solve.5"),
        (("solve", "--limit", "-1"), 2, "argument --limit", ""),
        (("solve", "--format", "parquet"), 2, "parquet is written to a file only", ""),
        (("solve", "-o", "x.txt"), 2, "the format of 'x.txt' is unknown", ""),
        (("solve", "-o", ".", "--format", "csv"), 1, ". is a directory", ""),
        (("solve", "-o", "no/x.csv"), 1, "the directory no does not exist", ""),
        (("solve", "-o", "/dev/full", "--format", "csv"), 1, "/dev/full is not a regular", ""),
    ],
)
def test_errors_name_the_problem_and_the_next_step(
    motoko: Command, arguments: tuple[str, ...], expected: int, first: str, hint: str
) -> None:
    status, out, problem = motoko.run("results", *arguments)
    assert (status, out) == (expected, "")
    assert problem.startswith(f"error: {first}"), problem
    assert hint in problem


def test_a_long_table_is_limited_and_says_so(
    motoko: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("motoko.cli.results.ROWS", 2)
    _, out, problem = motoko.run("results", "solve", "--columns", "id")
    assert out.split() == ["id", "──", "2", "4"]
    assert problem == "3 runs left out (--limit 0 shows all)\n"
    assert len(read_csv(motoko.ok("results", "solve", "--format", "csv"))) == 5


@pytest.mark.parametrize(
    ("missing", "arguments", "first", "extra"),
    [
        ("pandas", ("sql", "select 1"), "sql needs pandas", "sql"),
        ("duckdb", ("sql", "select 1"), "sql needs duckdb", "sql"),
        ("pandas", ("results", "solve", "-o", "x.parquet"), "parquet needs pandas", "parquet"),
        ("pyarrow", ("results", "solve", "-o", "x.parquet"), "parquet needs pyarrow", "parquet"),
    ],
)
def test_a_missing_package_is_an_error_that_names_the_extra(
    motoko: Command,
    monkeypatch: pytest.MonkeyPatch,
    missing: str,
    arguments: tuple[str, ...],
    first: str,
    extra: str,
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    status, out, problem = motoko.run(*arguments)
    assert (status, out) == (1, "")
    assert problem == f"error: {first}, which is not installed\n  pip install 'motoko[{extra}]'\n"


# -- files -------------------------------------------------------------------------------------


def test_every_format_has_the_same_values(motoko: Command) -> None:
    files = {kind: motoko.directory / f"all.{kind}" for kind in ("csv", "json", "parquet")}
    for file in files.values():
        status, out, problem = motoko.run("results", "solve", "-o", str(file))
        assert (status, out) == (0, "")
        assert problem == f"wrote 5 rows to {file}\n"
    rows = read_csv(files["csv"].read_bytes().decode())
    objects = json.loads(files["json"].read_text())
    frame = parquet.read_table(files["parquet"]).to_pylist()
    assert [row["note"] for row in rows] == [HOSTILE, "", "", "", ""]
    assert [row["note"] for row in objects] == [HOSTILE, None, None, None, None]
    assert [row["reason"] for row in frame] == [
        None, HOSTILE, None, "its host was rebooted", None,
    ]  # fmt: skip
    assert rows[0]["v"] == "[1.5, 2]"
    assert objects[0]["v"] == [1.5, 2]
    assert frame[0]["v"] == [1.5, 2.0]
    assert rows[0]["noon"] == objects[0]["noon"] == frame[0]["noon"].isoformat()
    assert rows[2]["state"] == objects[2]["state"] == frame[2]["state"] == "[red]NOTED"
    assert [row["duration"] for row in objects] == [30.5, 30.5, 30.5, 30.5, None]
    assert [row["host"] for row in objects] == ["node1", "node2", "node3", "node4", None]
    assert list(rows[0]) == list(objects[0]) == list(frame[0])
    assert b"\r\n" in files["csv"].read_bytes()


def test_a_file_is_replaced_whole_or_not_at_all(motoko: Command) -> None:
    file, link = motoko.directory / "kept.csv", motoko.directory / "link.csv"
    file.write_text("before")
    file.chmod(0o600)
    link.symlink_to(file)
    assert motoko.run("results", "solve", "--columns", "yy", "-o", str(file))[0] == 2
    assert file.read_text() == "before"
    motoko.ok("results", "empty", "--columns", "id,y", "-o", str(link))
    assert link.is_symlink()
    assert file.read_bytes() == b"id,y\r\n"
    assert stat.S_IMODE(file.stat().st_mode) & 0o400
    assert not list(motoko.directory.glob(".kept*"))


def test_quantities_have_a_row_for_each_step(motoko: Command) -> None:
    arguments = ("solve.1-2,5", "--quantity", "energy,force", "--columns", "id")
    text = motoko.ok("results", *arguments, "--format", "json")
    assert motoko.ok("results", *arguments, "--json") == text
    assert json.loads(text) == [
        {"id": run, "step": step, "energy": run + step / 10, "force[0]": a, "force[1]": b}
        for run in (1, 2)
        for step, a, b in ((0, None, None), (1, 0.5, 1.5), (2, None, None))
    ]


def test_results_are_read_from_a_server_too(motoko: Command) -> None:
    expected = motoko.ok("results", "solve", "--format", "json")
    Draft7Validator(OUTPUTS["results"]).validate(json.loads(expected))
    workflow = Workflow(motoko.directory)
    try:
        assert workflow.solve.frame(run_name="b", columns=["id"])["id"].tolist() == [4, 5]
        found = motoko.ok("results", "solve", "--format", "json")
    finally:
        workflow.close()
        stop_server(workflow.store.state)
    assert found == expected


# -- SQL ---------------------------------------------------------------------------------------


def test_sql_reads_studies_as_tables(motoko: Command) -> None:
    query = (
        "select s.run_name, count(*) as n, avg(y), max(noon) from solve s "
        "left join \"order\" m using (run_name) where s.state != 'FAILED' "
        "group by all order by all"
    )
    done = motoko.ok("sql", query, "--format", "json")
    assert json.loads(done) == [
        {"run_name": "a", "n": 2, "avg(y)": 0.375, "max(noon)": "2026-05-01T12:00:00+00:00"},
        {"run_name": "b", "n": 2, "avg(y)": 9.0, "max(noon)": None},
    ]  # fmt: skip
    table = motoko.ok("sql", "select count(*) from Best", "--run_name", "b")
    assert table.split()[-1] == "2"
    file = motoko.directory / "sql.parquet"
    motoko.ok("sql", "select v, v, id from solve where id = 1", "-o", str(file))
    assert parquet.read_table(file).to_pylist() == [{"v": [1.5, 2.0], "v_1": [1.5, 2.0], "id": 1}]


@pytest.mark.parametrize(
    ("query", "first", "hint"),
    [
        ("", "the query is empty", "SELECT"),
        ("select 1; select 2", "the query has 2 statements", "one SELECT"),
        ("selct 1", 'the query is invalid: syntax error at or near "selct"', ""),
        ("select * from slove", "the query is invalid: Table with name slove", "mean solve?"),
        ("select * from nothing_alike", "the query is invalid: Table", '"order", solve'),
        ("select yy from solve", 'the query is invalid: Referenced column "yy"', "mean y?"),
        ("select s.yy from solve s", "the query is invalid", "mean y?"),
        ("select * from order", "the query is invalid: syntax", '"order" in double quotes'),
        ("select avg(note) from solve", "the query is invalid: No function matches", ""),
        ("create table t as select 1", "`motoko sql` only reads", "SELECT"),
        ("insert into solve values (1)", "`motoko sql` only reads", "SELECT"),
        ("copy solve to 'stolen.csv'", "`motoko sql` only reads", "SELECT"),
        ("attach 'stolen.db'", "`motoko sql` only reads", "SELECT"),
        ("set enable_external_access = true", "`motoko sql` only reads", "SELECT"),
        ("select * from read_text('motoko.yaml')", "the query is invalid: Cannot access", ""),
        ("select * from 'motoko.yaml'", "the query is invalid: Table with name", ""),
        ("select * from workflow", "the query is invalid: Table with name workflow", ""),
        ("select error('\x1b[2J')", "the query is invalid", ""),
    ],
)
def test_sql_errors_name_the_problem_and_the_next_step(
    workflow: Workflow, query: str, first: str, hint: str
) -> None:
    with pytest.raises(SqlError) as caught:
        query_runs(workflow, query)
    assert caught.value.message.startswith(first)
    assert hint in (caught.value.hint or "")


def test_sql_reads_no_other_study_than_those_named(
    workflow: Workflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    original = query_runs.__globals__["read_columns"]

    def noting(session: Any, declared: Any, *args: Any, **options: Any) -> Any:
        read.append(declared.study)
        return original(session, declared, *args, **options)

    monkeypatch.setitem(query_runs.__globals__, "read_columns", noting)
    assert len(query_runs(workflow, "select * from empty")) == 0
    assert read == ["empty"]
    with pytest.raises(RunNameError):
        query_runs(workflow, "select * from solve", "c")


# -- data frames -------------------------------------------------------------------------------


def test_a_frame_has_the_runs_of_the_run_name_unless_another_is_given(workflow: Workflow) -> None:
    def ids(**options: Any) -> list[int]:
        found: list[int] = workflow.solve.frame(**options)["id"].tolist()
        return found

    assert ids() == [1, 2, 3, 4, 5]
    workflow.run_name = "b"
    assert ids() == [4, 5]
    assert ids(run_name="a") == [1, 2, 3]
    assert ids(run_name=None, where=["x > 0.5", "x < 2.5"]) == [2, 3, 4]
    workflow.run_name = "new"
    assert ids() == []
    with pytest.raises(RunNameError, match="no run has the run name 'aa'"):
        ids(run_name="aa")


def test_selections_and_run_lists_are_frames(workflow: Workflow) -> None:
    workflow.run_name = "a"
    selection = workflow.solve.select("state = FINISHED").to_frame(columns=["x", "y", "noon"])
    assert {name: str(dtype) for name, dtype in selection.dtypes.items()} == {
        "x": "float64", "y": "float64", "noon": "datetime64[ns, UTC]",
    }  # fmt: skip
    assert selection["noon"][0] == pandas.Timestamp("2026-05-01T12:00Z")
    tasks = workflow.solve.create_task(x=[1.5, 0.5], name=["n3"])
    frame = tasks.to_frame(["x", "name", "state"])
    assert frame.to_dict("list") == {
        "x": [1.5, 0.5], "name": ["n3", "n3"], "state": ["[red]NOTED", "CREATED"],
    }  # fmt: skip
    steps = tasks.to_frame(["id"], quantities=["energy"])
    assert steps["energy"].tolist() == [3.0, 3.1, 3.2]
    with pytest.raises(UnknownNameError, match="no column 'z'"):
        tasks.to_frame(["z"])


def test_tables_have_the_last_commit_with_a_server_and_without(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are read from the copy for reading, which another process may have made."""
    monkeypatch.setattr(read_copy, "LEAST", 1)
    motoko = Command(write_workflow(tmp_path), capfd)
    workflow = Workflow(motoko.directory)
    workflow.create()
    fill(workflow.store.database)
    run = workflow.solve.base.runs[2]
    for value in (5.0, 6.0, 7.0):
        run.y = value
        frame = workflow.solve.frame(run_name=None, columns=["y"])
        assert (tmp_path / ".wf" / "copies" / "solve").is_file()
        rows = read_csv(motoko.ok("results", "solve", "--columns", "y", "--format", "csv"))
        assert rows[1]["y"] == str(frame["y"][1]) == str(value)
    workflow.close()
    stop_server(workflow.store.state)
    rows = read_csv(motoko.ok("results", "solve", "--columns", "y", "--format", "csv"))
    assert rows[1]["y"] == "7.0"


def test_a_frame_in_a_transaction_has_its_changes(workflow: Workflow) -> None:
    workflow.run_name = "a"
    frames = []

    @event
    async def change(workflow: Workflow) -> None:
        workflow.solve.create_task(x=[8.0], name=["new"])
        ((run, _),) = workflow.solve.select("id = 1")
        run.y = 77.0
        frames.append(workflow.solve.frame("y = 77 or x = 8", columns=["id", "y"]))
        raise ZeroDivisionError

    async def main(workflow: Workflow) -> None:
        workflow.add_action("change", event=lambda: True, f=change)

    workflow.orchestrator_function = main
    with pytest.raises(ZeroDivisionError):
        workflow.execute()
    assert frames[0]["y"].tolist()[0] == 77.0
    assert len(frames[0]) == 2
    assert workflow.solve.frame("y = 77 or x = 8").empty
