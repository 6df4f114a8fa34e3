"""Scripts that import the worker, in separate processes and in this one."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from motoko.worker import (
    INPUTS,
    AttemptContext,
    Job,
    Run,
    WorkerError,
    WorkerNameError,
    encode,
    job,
    read_outbox,
    run,
)

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

STARTED = "process 1 - - - - -\n"
NASTY = "a 'b' \"c\" $(touch hacked) `x`\n\\ é"
COMMAND = "import sys; from motoko.worker import command_line; sys.exit(command_line())"


@pytest.fixture
def attempt(tmp_path: Path) -> Path:
    """The outbox of an attempt that has just started."""
    outbox = tmp_path / "run-7" / ".motoko-token"
    outbox.parent.mkdir()
    outbox.write_text(STARTED)
    inputs = {
        "v": 1,
        "study": "mult",
        "id": 7,
        "run_name": "a b",
        "replicate": 0,
        "attempt": 2,
        "token": "token",
        "workflow": str(tmp_path / "motoko.yaml"),
        "job_id": 3,
        "job": {"x": 2.5, "text": NASTY, "points": [1, (2, 3)], "both": 1},
        "fields": {"colour": "red", "both": 2},
        "resources": {"nproc": 4},
    }
    write_inputs(outbox, json.dumps(encode(inputs)))
    return outbox


def write_inputs(outbox: Path, content: str) -> None:
    outbox.with_name(INPUTS).write_text(f"2 5.0 token\n{content}", encoding="utf-8")


def outbox_records(attempt: Path) -> list[dict[str, Any]]:
    """Return the records in the outbox, without times."""
    data = attempt.read_bytes()
    records, used = read_outbox(data)
    assert used == len(data)
    return [{key: record[key] for key in record if key != "t"} for record in records]


def python(script: str, attempt: Path | None, *args: str) -> subprocess.CompletedProcess[str]:
    environment = {key: os.environ[key] for key in os.environ if not key.startswith("MOTOKO_")}
    if attempt is not None:
        environment["MOTOKO_OUTBOX"] = str(attempt)
    return subprocess.run(
        [sys.executable, "-c", script, *args],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=60,
    )


def test_a_script_reads_its_inputs_and_reports_its_results(attempt: Path) -> None:
    script = """
from motoko.worker import run, job
run.start()
run.y = job.x * 2
run["names"] = {"a": (1, 2)}
run.push_quantity("E", [1, 2.5], step=4)
run.state = "warm"
run.finish()
print(run.id, run["id"], run.job_id, run.study, run.run_name, run.attempt, run.replicate, run.nproc)
print(run.y, run.names, run.colour, run.state, run.job.x)
"""
    done = python(script, attempt)
    assert done.stderr == ""
    assert done.stdout == "7 7 3 mult a b 2 0 4\n5.0 {'a': (1, 2)} red warm 2.5\n"
    assert outbox_records(attempt) == [
        {"op": "start"},
        {"op": "set", "field": "y", "value": 5.0},
        {"op": "set", "field": "names", "value": {"a": (1, 2)}},
        {"op": "push", "name": "E", "step": 4, "value": [1, 2.5]},
        {"op": "state", "label": "warm"},
        {"op": "finish"},
    ]


def test_a_removed_outbox_is_not_created_again(attempt: Path) -> None:
    attempt.unlink()
    with pytest.raises(WorkerError, match="cannot be written: No such file"):
        Run(AttemptContext(str(attempt))).start()
    assert not attempt.exists()


def test_an_earlier_attempt_does_not_read_the_inputs_of_a_later_one(attempt: Path) -> None:
    with pytest.raises(WorkerError, match="motoko-former is of an earlier attempt"):
        _ = Run(AttemptContext(str(attempt.with_name(".motoko-former")))).id


@pytest.mark.parametrize("size", [0, 100_000])
def test_nothing_is_recorded_after_the_exit_record(attempt: Path, size: int) -> None:
    first, later = (Run(AttemptContext(str(attempt))) for _ in range(2))
    first.text = "exit " * (size // 5)
    first.y = 1
    with attempt.open("a") as file:
        file.write("\nexit 0\n")
    for handle in (first, later):
        with pytest.raises(WorkerError, match="the run has ended"):
            handle.y = 2
    assert outbox_records(attempt)[-1] == {"op": "set", "field": "y", "value": 1}


def test_importing_the_worker_imports_few_modules() -> None:
    costly = {"dataclasses", "pathlib", "typing", "json", "re", "datetime", "enum", "argparse"}
    # A bare interpreter may have loaded some (site, .pth files); count only new ones.
    script = (
        "import sys; before = set(sys.modules); from motoko.worker import run, job;"
        " print(*sorted(set(sys.modules) - before))"
    )
    added = python(script, None).stdout.split()
    assert not costly & set(added)
    own = {"motoko", "motoko.version", "__future__"}
    assert {name for name in added if not name.startswith("motoko.worker")} == own


def test_a_job_is_a_read_only_mapping(attempt: Path) -> None:
    job = Job(AttemptContext(str(attempt)))
    assert job.x == job["x"] == dict(job)["x"] == job.get("x") == 2.5
    assert job.id == job["id"] == 3
    assert job.points == [1, (2, 3)]
    assert list(job) == job.keys() == ["x", "text", "points", "both"]
    assert job.items() == list(zip(job, job.values(), strict=True))
    assert len(job) == 4
    assert "x" in job
    assert "y" not in job
    assert job.get("y", 9) == 9
    with pytest.raises(WorkerNameError, match=r"^job\.x cannot be set"):
        job.x = 3


def test_a_misspelt_name_is_reported_with_the_nearest(attempt: Path) -> None:
    here = AttemptContext(str(attempt))
    with pytest.raises(AttributeError, match=r"no parameter 'pionts'\n  Did you mean 'points'\?"):
        _ = Job(here).pionts
    with pytest.raises(KeyError, match="Did you mean 'points'"):
        _ = Job(here)["pionts"]
    with pytest.raises(AttributeError, match=r"no field 'color'\n  Did you mean 'colour'\?"):
        _ = Run(here).color
    assert getattr(Run(here), "y", None) is None


def test_a_field_of_this_attempt_overrides_the_input_in_all_processes(attempt: Path) -> None:
    first, second = Run(AttemptContext(str(attempt))), Run(AttemptContext(str(attempt)))
    assert second.fields == {"colour": "red", "both": 2}
    first.colour = "blue"
    assert second.colour == "blue"
    second.y = 1
    first.colour = "green"
    assert first.fields == second.fields == {"colour": "green", "both": 2, "y": 1}
    assert "y" in first
    assert list(first) == ["colour", "both", "y"]


def test_a_torn_record_does_not_hide_the_next(attempt: Path) -> None:
    run = Run(AttemptContext(str(attempt)))
    run.y = 1
    with attempt.open("ab") as file:
        file.write(b'\n{"t":1.0,"op":"set","fie')
    assert run.y == 1
    run.y = 2
    assert run.y == 2


@pytest.mark.parametrize("name", ["id", "job_id", "run_name", "study", "workflow", "directory"])
def test_reserved_names_cannot_be_set(attempt: Path, name: str) -> None:
    run = Run(AttemptContext(str(attempt)))
    with pytest.raises(AttributeError, match=f"^run.{name} is reserved and cannot be set"):
        setattr(run, name, 1)
    assert attempt.read_text() == STARTED


def test_values_that_cannot_be_stored_are_named(attempt: Path) -> None:
    run = Run(AttemptContext(str(attempt)))
    with pytest.raises(TypeError, match=r"\.py:\d+: run\.y is a complex, which cannot be stored"):
        run.y = 1j
    with pytest.raises(TypeError, match=r"^quantity 'E': a value of type str is not a number"):
        run.push_quantity("E", "1")
    assert attempt.read_text() == STARTED


def test_states_of_the_lifecycle_are_calls_or_errors(attempt: Path) -> None:
    run = Run(AttemptContext(str(attempt)))
    assert run.state == "START"
    run.state = "START"
    run.state = "FINISHED"
    run.state = "FAILED"
    run["state"] = "FAILED"
    with pytest.raises(WorkerError, match=r"retry\(\)"):
        run.state = "CREATED"
    ops = ["start", "finish", "fail", "fail"]
    assert [record["op"] for record in outbox_records(attempt)] == ops
    assert run.state == "START"  # the outcome follows the end of the process


def test_directory_and_workflow(attempt: Path) -> None:
    run = Run(AttemptContext(str(attempt)))
    assert run.directory == str(attempt.parent)
    assert run.workflow == str(attempt.parent.parent / "motoko.yaml")


def test_a_relative_directory_survives_chdir(attempt: Path) -> None:
    script = """
import os, sys
os.chdir(sys.argv[1])
os.environ["MOTOKO_OUTBOX"] = ".motoko-token"
from motoko.worker import run
run.start()
os.chdir("/")
run.finish()
"""
    assert python(script, None, str(attempt.parent)).stderr == ""
    assert [record["op"] for record in outbox_records(attempt)] == ["start", "finish"]


def test_the_first_use_outside_a_run_is_an_error() -> None:
    done = python("from motoko.worker import run, job; print('imported'); job.x", None)
    assert done.stdout == "imported\n"
    assert done.returncode == 1
    last = done.stderr.splitlines()[-2:]
    assert last[0].endswith("WorkerError: not inside a run: MOTOKO_OUTBOX is not set")
    assert "MOTOKO_OUTBOX" not in last[0].split("not set")[1]
    assert "set it to the outbox of a run" in last[1]


def test_a_directory_without_inputs_is_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match=r"^not inside a run: .*/\.motoko cannot be read"):
        _ = Run(AttemptContext(str(tmp_path / ".motoko-token"))).id


@pytest.mark.parametrize("content", ["", "{", "[]", '{"v": 1, "job": {"$what": 1}}'])
def test_damaged_inputs_are_reported(tmp_path: Path, content: str) -> None:
    write_inputs(tmp_path / ".motoko-token", content)
    with pytest.raises(WorkerError, match=r"\.motoko is damaged"):
        _ = Run(AttemptContext(str(tmp_path / ".motoko-token"))).id


def test_inputs_of_another_version_are_refused(tmp_path: Path) -> None:
    write_inputs(tmp_path / ".motoko-token", '{"v": 2}')
    with pytest.raises(WorkerError, match="is of version 2, this Motoko reads version 1"):
        _ = Run(AttemptContext(str(tmp_path / ".motoko-token"))).id


def test_an_outbox_that_cannot_be_written_is_reported(attempt: Path) -> None:
    attempt.unlink()
    attempt.symlink_to("/dev/full")
    with pytest.raises(WorkerError, match="motoko-token cannot be written: it is a device"):
        Run(AttemptContext(str(attempt))).start()


def test_concurrent_writes_are_neither_lost_nor_mixed(attempt: Path) -> None:
    script = """
import os
from motoko.worker import run
run.start()
children = []
for child in range(4):
    pid = os.fork()
    if pid == 0:
        for step in range(50):
            run.push_quantity(f"E{child}", [float(step)] * 200, step=step)
        os._exit(0)
    children.append(pid)
for pid in children:
    assert os.waitpid(pid, 0)[1] == 0
"""
    assert python(script, attempt).stderr == ""
    pushed = [record for record in outbox_records(attempt) if record["op"] == "push"]
    assert all(record["value"] == [float(record["step"])] * 200 for record in pushed)
    for child in range(4):
        steps = [record["step"] for record in pushed if record["name"] == f"E{child}"]
        assert steps == list(range(50))


def test_handles_are_pickled_by_name() -> None:
    assert pickle.loads(pickle.dumps(run)) is run
    assert pickle.loads(pickle.dumps(job)) is job


def test_the_command_agrees_with_the_handles(attempt: Path) -> None:
    for arguments in (
        ["start"],
        ["push", "E", "-1e-3", "--step", "2"],
        ["push", "--step=3", "F", "[1, 2.5]"],
        ["push", "G", "-.5"],
        ["set", "y", "3"],
        ["set", "word", NASTY],
        ["set", "--text", "code", "007"],
        ["set", "number", "--text"],
        ["state", "warm"],
        ["fail", "no luck"],
        ["fail"],
        ["finish"],
    ):
        done = python(COMMAND, attempt, *arguments)
        assert (done.stdout, done.stderr, done.returncode) == ("", "", 0), arguments
    assert outbox_records(attempt) == [
        {"op": "start"},
        {"op": "push", "name": "E", "step": 2, "value": -0.001},
        {"op": "push", "name": "F", "step": 3, "value": [1, 2.5]},
        {"op": "push", "name": "G", "step": 0, "value": -0.5},
        {"op": "set", "field": "y", "value": 3},
        {"op": "set", "field": "word", "value": NASTY},
        {"op": "set", "field": "code", "value": "007"},
        {"op": "set", "field": "number", "value": "--text"},
        {"op": "state", "label": "warm"},
        {"op": "fail", "reason": "no luck"},
        {"op": "fail", "reason": ""},
        {"op": "finish"},
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x", "2.5"),
        ("text", NASTY),
        ("points", "[1, [2, 3]]"),
        ("colour", "red"),
        ("id", "7"),
        ("study", "mult"),
        ("job.both", "1"),
        ("run.both", "2"),
        ("job.id", "3"),
        ("nproc", "4"),
    ],
)
def test_the_command_prints_inputs(attempt: Path, name: str, text: str) -> None:
    done = python(COMMAND, attempt, "get", name)
    assert (done.stdout, done.stderr, done.returncode) == (text + "\n", "", 0)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["frob"], 2, "unknown command 'frob'"),
        (["push", "E"], 2, "push takes NAME and VALUE, not 'E'"),
        (["push", "E", "x"], 2, "'x' is neither a number nor a JSON list of numbers"),
        (["push", "E", "1", "--step", "x"], 2, "--step takes a whole number, not 'x'"),
        (["push", "E", '["x"]'], 1, "quantity 'E': a value of type str is not a number"),
        (["finish", "now"], 2, "finish takes nothing more, not 'now'"),
        (["set", "id", "3"], 1, "run.id is reserved and cannot be set"),
        (["state", "CREATED"], 1, "a script cannot put its run in state CREATED"),
        (["get", "both"], 1, "both the job and the run have 'both'"),
        (["get", "colr"], 1, "the run has no field 'colr'"),
    ],
)
def test_the_command_reports_errors(
    attempt: Path, arguments: list[str], status: int, message: str
) -> None:
    done = python(COMMAND, attempt, *arguments)
    assert (done.stdout, done.returncode) == ("", status)
    assert done.stderr.splitlines()[0] == f"motoko-worker: {message}"
    assert attempt.read_text() == STARTED


def test_the_command_outside_a_run() -> None:
    done = python(COMMAND, None, "start")
    assert done.returncode == 1
    assert done.stderr.startswith("motoko-worker: not inside a run")
    assert python(COMMAND, None, "--help").stdout.startswith("usage: motoko-worker")
    assert python(COMMAND, None).returncode == 2


def test_text_outside_the_locale_encoding_is_printed(
    attempt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "get", "text"],
        capture_output=True,
        check=False,
        env={**os.environ, "MOTOKO_OUTBOX": str(attempt)},
        timeout=60,
    )
    assert (done.returncode, done.stdout.decode()) == (0, NASTY + "\n")
    done_script = python("from motoko.worker import job; print(job.text[-1])", attempt)
    assert (done_script.returncode, done_script.stdout) == (0, "\\xe9\n")
    assert (
        python("print('é')", attempt).returncode == 1
    )  # without the worker, Python raises the error
