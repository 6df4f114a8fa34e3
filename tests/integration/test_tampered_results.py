"""Missing, damaged and undeclared results are reported."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.command_line import Shell, small_workflow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

WORKER = (
    sys.executable, "-c", "import sys; from motoko.worker import command_line as c; sys.exit(c())",
)  # fmt: skip
PYTHON = (sys.executable, "-c")
MAIN = """
async def main(workflow, **params):
    await workflow.s.create_task(x=list(range(10))).settled()
"""
# By x: how a script tampers with its results after it set a field.
SCRIPT = """\
motoko-worker set y 1
outbox=$MOTOKO_OUTBOX
case $MOTOKO_JOB_X in
    0) ;;
    1) cd /; rm -rf "$MOTOKO_RUN_DIR" ;;
    2) rm -rf .[a-z]* ;;
    3) rm "$outbox" ;;
    4) rm "$outbox"; echo '{}' >"$outbox"; motoko-worker set z 2 || exit 4 ;;
    5) : >"$outbox" ;;
    6) rm "$outbox"; mkdir "$outbox" ;;
    7) echo nonsense >>"$outbox"; head -c 3 /dev/zero >>"$outbox"; echo >>"$outbox" ;;
    8) truncate -s 500G "$outbox" ;;
    9) { printf '"'; head -c 9000000 /dev/zero | tr '\\0' 1; echo '"'; } >text
       python -c 'from motoko.worker import run; run.z = open("text").read()' || exit 4 ;;
esac
exit 0
"""
FIELDS = """\
case $MOTOKO_JOB_X in
    1) motoko-worker set stress 1.5 ;;
    2) motoko-worker set strss 1.5 ;;
    3) ;;
esac
"""


@pytest.fixture(scope="module")
def tampered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    made = small_workflow(tmp_path_factory.mktemp("w") / "w", script=SCRIPT, main=MAIN)
    made.run("run", "--run_name", "a")
    yield made
    made.close()


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (1, "was removed"),
        (2, "was removed"),
        (3, "was removed"),
        (4, "was replaced"),
        (5, "was removed"),
        (6, "was removed"),
    ],
)
def test_a_run_with_removed_results_fails_with_a_reason(
    tampered: Shell, x: int, words: str
) -> None:
    run = tampered.info("--verbose")["studies"][0]["runs"][x]
    assert (run["job"]["x"], run["state"]) == (x, "FAILED")
    assert "its results cannot be read" in run["reason"]
    assert words in run["reason"]


def test_a_run_with_intact_results_is_finished(tampered: Shell) -> None:
    run = tampered.info("--verbose")["studies"][0]["runs"][0]
    assert (run["state"], run["fields"], run["reason"]) == ("FINISHED", {"y": 1}, None)


def test_damaged_results_are_reported(tampered: Shell) -> None:
    run = tampered.info("--verbose")["studies"][0]["runs"][7]
    words = "2 lines of its outbox are damaged and not among its results"
    assert (run["state"], run["fields"], run["reason"]) == ("FINISHED", {"y": 1}, words)
    assert f"a: FINISHED, but {words}: s.8" in tampered.ok("info")


def test_oversized_results_are_reported_and_do_not_delay_other_runs(tampered: Shell) -> None:
    endless, large = tampered.info("--verbose")["studies"][0]["runs"][8:]
    words = "1 line of its outbox is damaged and not among its results"
    assert (endless["state"], endless["fields"]) == ("FINISHED", {"y": 1})
    assert endless["reason"] == words
    assert (large["state"], large["exit_code"], large["fields"]) == ("FAILED", 4, {"y": 1})
    stderr = (tampered.directory / "s/BD-s-runs/run-10/stderr").read_text()
    assert "a value of 8.6 MiB is too large: at most 8 MiB are kept" in stderr


def declared(directory: Path, more: str = "") -> Shell:
    main = MAIN.replace("list(range(10))", "[1, 2, 3]")
    made = small_workflow(directory, script=FIELDS, main=main)
    made.write({"s/bd.yaml": f"job: {{x: int}}\nrun: {{stress: float}}\n{more}"})
    return made


def test_missing_and_undeclared_fields_are_reported(tmp_path: Path) -> None:
    shell = declared(tmp_path / "w")
    try:
        done = shell.run("run", "--run_name", "a")
        assert done.returncode == 0, done.stderr
        misspelt = (
            "it did not set 'stress'; it set 'strss', not declared in bd.yaml "
            "(did you mean 'stress'?)"
        )
        for shown in (done.stdout, shell.ok("info")):
            assert f"a: FINISHED, but {misspelt}: s.2" in shown
            assert "a: FINISHED, but it did not set 'stress': s.3" in shown
            assert "s.1" not in "".join(line for line in shown.splitlines() if "but" in line)
        assert misspelt in shell.ok("history", "s.2")
        assert shell.info()["studies"][0]["remarks"]["a"][misspelt] == [2]
        shell.ok("clean", "--delete", "--yes")
        assert "but" not in shell.ok("info")
    finally:
        shell.close()


def test_a_run_without_required_fields_fails(tmp_path: Path) -> None:
    shell = declared(tmp_path / "w", "require_fields: true\n")
    try:
        assert shell.run("run", "--run_name", "a").returncode == 0
        runs = shell.info("--verbose")["studies"][0]["runs"]
        assert [run["state"] for run in runs] == ["FINISHED", "FAILED", "FAILED"]
        assert runs[2]["reason"] == "it did not set 'stress'"
    finally:
        shell.close()


@pytest.mark.parametrize(
    ("ending", "state"),
    [
        ("true", "FINISHED"),
        ("kill -9 $PPID", "LOST"),
        ("trap '' TERM INT HUP; while :; do sleep .2; done", "TIMEOUT"),
    ],
)
def test_records_written_after_the_end_of_a_run_are_refused(
    tmp_path: Path, ending: str, state: str
) -> None:
    late = f'echo "$MOTOKO_OUTBOX" >attempt\n{ending}\n'
    shell = small_workflow(tmp_path / "w", script=late, main=MAIN.replace("list(range(10))", "1"))
    if state == "TIMEOUT":
        shell.write({"s/bd.yaml": "job: {x: int}\ntimeout: 4\n"})
    try:
        assert shell.run("run", "--run_name", "a").returncode == 0
        (found,) = shell.info("--verbose")["studies"][0]["runs"]
        assert (found["state"], found["fields"]) == (state, {})
        run = shell.directory / "s" / "BD-s-runs" / "run-1"
        attempt = (run / "attempt").read_text().strip()
        shell.environment["MOTOKO_OUTBOX"] = attempt
        done = shell.run_fresh("set", "late", "1", program=WORKER)
        assert done.returncode == 1
        assert done.stderr.startswith("motoko-worker: the run has ended")
        done = shell.run_fresh("from motoko.worker import run; run.late = 1", program=PYTHON)
        assert done.returncode == 1
        assert "WorkerError: the run has ended" in done.stderr
    finally:
        shell.close()
