"""The launcher with a real server and real processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import time
from shutil import which
from typing import TYPE_CHECKING, Any

import pytest

from motoko.config import load_workflow
from motoko.core.edits import Cancel
from motoko.core.states import Lifecycle
from motoko.errors import LauncherError
from motoko.launcher import control
from motoko.launcher.control import resume_runs, running_launchers, stop_launcher, suspend_runs
from motoko.operations.explain import LauncherCoverage, ReasonFinder
from motoko.operations.reason_text import reason_text
from motoko.runtime.daemons import PidFile, module_command
from motoko.runtime.processes import is_alive
from motoko.server.lifecycle import is_responding
from motoko.storage.commit import run_transaction
from motoko.storage.orchestrator_leases import ORCHESTRATOR
from tests.support.launching import WorkflowHarness, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

NASTY = "a 'b' \"c\" $(touch hacked) `touch hacked`; touch hacked\n\\ é \U0001f600 *"
SHOW = """
import json, os, sys
from motoko.worker import job, run
values = {"job": dict(job.items()), "env": os.environ["MOTOKO_JOB_TEXT"], "id": run.id}
print(json.dumps(values))
"""
BY_PYTHON = "#!/usr/bin/env python3\n"

Maker = "Callable[..., WorkflowHarness]"


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., WorkflowHarness]]:
    places: list[WorkflowHarness] = []

    def maker(*scripts: str, where: Path | None = None, **options: Any) -> WorkflowHarness:
        names = dict(zip("abcd", scripts, strict=False))
        places.append(
            WorkflowHarness.make(where or tmp_path / f"wf{len(places)}", names, **options)
        )
        return places[-1]

    yield maker
    for place in places:
        place.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkflowHarness]:
    """A workflow with a launcher; its script executes the parameter."""
    place = WorkflowHarness.make(
        tmp_path_factory.mktemp("served") / "wf",
        {"a": 'eval "$MOTOKO_JOB_SCRIPT"\n'},
        job={"script": "str"},
    )
    try:
        place.start()
        yield place
        assert place.recount() == []
    finally:
        place.close()


def run_script(place: WorkflowHarness, script: str, **options: Any) -> Any:
    """Run one script until it ends; return its record."""
    return place.wait(place.create([{"script": script}], **options))[0]


# -- ends of runs -----------------------------------------------------------------------------


def test_an_empty_script_is_finished(served: WorkflowHarness) -> None:
    record = run_script(served, "true")
    assert (record.state, record.exit_code, record.reason) == ("FINISHED", 0, None)
    assert [move.state for move in record.history] == ["CREATED", "SUBMITTED", "START", "FINISHED"]
    times = [move.time for move in record.history]
    assert times == sorted(times)


@pytest.mark.parametrize(
    ("script", "code", "reason"),
    [
        ("exit 3", 3, "exit code 3"),
        ("kill -KILL $$", -9, "killed by SIGKILL"),
        ("kill -SEGV $$", -11, "killed by SIGSEGV"),
        ("no-such-command", 127, "exit code 127"),
        ("exit 111", 111, "exit code 111"),
        ("motoko-worker finish; exit 4", 4, "exit code 4"),
        ("motoko-worker fail 'no luck'", 0, "no luck"),
        ("motoko-worker fail 'no luck'; exit 5", 5, "no luck"),
    ],
)
def test_a_failed_run_has_a_reason(
    served: WorkflowHarness, script: str, code: int, reason: str
) -> None:
    record = run_script(served, script)
    assert (record.state, record.exit_code, record.reason) == ("FAILED", code, reason)


def test_finish_after_fail_is_finished(served: WorkflowHarness) -> None:
    record = run_script(served, "motoko-worker fail oh; motoko-worker finish")
    assert (record.state, record.exit_code) == ("FINISHED", 0)


def test_output_is_written_to_files(served: WorkflowHarness) -> None:
    record = run_script(served, "echo to the one; echo to the other >&2; pwd; cat")
    directory = served.directory_of(record.key)
    assert (directory / "stdout").read_text() == f"to the one\n{directory}\n"
    assert (directory / "stderr").read_text() == "to the other\n"


def test_records_of_the_script_are_stored_at_its_end(served: WorkflowHarness) -> None:
    script = (
        "motoko-worker set y 2.5; motoko-worker set y 3.5; motoko-worker set word hello\n"
        "motoko-worker push e 1.5; motoko-worker push e '[1, 2]' --step 7; motoko-worker state OK"
    )
    record = run_script(served, script, fields={"word": "old", "kept": 1})
    assert (record.state, record.lifecycle) == ("OK", Lifecycle.FINISHED)
    assert record.fields == {"y": 3.5, "word": "hello", "kept": 1}
    assert served.quantity(record.key, "e") == [(0, 1.5), (7, [1, 2])]


def test_labels_of_a_failed_run_are_dropped(served: WorkflowHarness) -> None:
    record = run_script(served, "motoko-worker state OK; exit 1")
    assert (record.state, record.label) == ("FAILED", None)


def test_records_of_the_script_are_stored_while_it_runs(served: WorkflowHarness) -> None:
    script = "motoko-worker set y 1; motoko-worker state HALF; until [ -e go ]; do sleep .05; done"
    (key,) = served.create([{"script": script}])
    wait_until(lambda: served.record(key).state == "HALF")
    record = served.record(key)
    assert (record.lifecycle, record.fields) == (Lifecycle.START, {"y": 1})
    assert record.process is not None
    (served.directory_of(key) / "go").touch()
    assert served.wait([key])[0].state == "HALF"


def test_invalid_outbox_records_are_ignored(served: WorkflowHarness) -> None:
    script = (
        "box=$MOTOKO_OUTBOX; echo '{\"op\": 1' >>$box; motoko-worker set y 1\n"
        'echo \'{"t": 1, "op": "set", "field": "exit_code", "value": 7}\' >>$box; printf x >>$box'
    )
    record = run_script(served, script)
    assert (record.state, record.exit_code, record.fields) == ("FINISHED", 0, {"y": 1})
    assert f"run {record.key}: a damaged line" in served.log()


A = '"$MOTOKO_OUTBOX"'
GONE = 'rm -rf "$MOTOKO_RUN_DIR"'
# What a script does to its files, with the outcome and part of the reason.
HABITS = {
    f"mkdir {A}.full": ("FINISHED", ""),
    f"mkfifo {A}.over": ("FINISHED", ""),
    f"rm {A}": ("FAILED", "was removed"),
    f"rm {A}; mkfifo {A}": ("FAILED", "was removed"),
    f"rm {A}; mkfifo {A}; exit 3": ("FAILED", "exit code 3"),
    f"rm {A}; mkdir {A}; exit 3": ("FAILED", "exit code 3"),
    f"ln -sf /dev/zero {A}": ("FAILED", "was removed"),
    f"ln -sf /dev/full {A}; exit 3": ("FAILED", "exit code 3"),
    f"echo nonsense >{A}": ("FAILED", "was replaced"),
    f"rm {A}; exit 111": ("FAILED", "exit code 111"),
    f"rm {A}; mkfifo {A}; exit 111": ("FAILED", "exit code 111"),
    f"printf '\\nexit 0\\n' >>{A}; exit 7": ("FAILED", "exit code 7"),
    f"{GONE}; exit 111": ("FAILED", "exit code 111"),
    f": >{A}.full; sleep 3; exit 4": ("FAILED", "exit code 4"),  # as on a full disk
    f"rm -rf {A}; ln -s /proc/self/fd {A}; exit 5": ("FAILED", "was removed"),
    f"rm -rf {A}; ln -s /proc/1/task {A}": ("FAILED", "was removed"),
    "rm -rf .motoko; ln -s /proc/self/fd .motoko; exit 5": ("FAILED", "exit code 5"),
    "rm -rf .motoko; mkdir .motoko; exit 5": ("FAILED", "exit code 5"),
    f'{GONE}; ln -s /proc/self/fd "$MOTOKO_RUN_DIR"; exit 5': ("FAILED", "was removed"),
    f"mkdir {A}.stop; sleep 600 # stopped": ("TIMEOUT", "its timeout"),
    f"{GONE}; sleep 600 # stopped": ("TIMEOUT", "its timeout"),
    "echo '999999999 1' >.motoko; exit 5": ("FAILED", "exit code 5"),
}


def test_a_script_that_damages_its_files_affects_only_its_run(served: WorkflowHarness) -> None:
    keys = {
        script: served.create([{"script": script}], timeout=1.0 if "stopped" in script else None)[0]
        for script in HABITS
    }
    records = dict(zip(keys, served.wait(list(keys.values())), strict=True))
    for script, (state, word) in HABITS.items():
        assert records[script].state == state, script
        assert word in (records[script].reason or ""), script
    assert run_script(served, "true").state == "FINISHED"


@pytest.mark.parametrize(
    ("file", "deed", "word"),
    [
        ("launch.sh", "mkfifo $file", "it is a FIFO"),
        ("mesh", "mkfifo $file", "it is a FIFO"),
        ("mesh", "mkdir $file", "Is a directory"),
        ("launch.sh", "ln -s /dev/zero $file", "it is a device"),
        ("launch.sh", "ln -s /proc/self/mem $file", "Input/output error"),
    ],
)
def test_a_script_that_damages_its_study_affects_only_that_study(
    make: Callable[..., WorkflowHarness], file: str, deed: str, word: str
) -> None:
    script = f'file="$PWD/../../{file}"; rm "$file"; {deed}\n'
    place = make(script, "true\n", options={"max_concurrent": 1})
    (place.directory / "a" / "mesh").touch()
    (place.directory / "a" / "bd.yaml").write_text("{job: {x: int}, config_files: [mesh]}")
    place.start()
    first = place.run(study="a")
    assert place.wait([first])[0].state == "FINISHED"
    others = place.create([{"x": n} for n in range(3)], study="b")
    later = place.run(study="a")
    (failed,) = place.wait([later])
    assert failed.state == "FAILED"
    assert word in (failed.reason or "")
    assert f"a/{file}" in (failed.reason or "")
    assert [record.state for record in place.wait(others)] == ["FINISHED"] * 3


def test_remaining_children_end_with_the_run(served: WorkflowHarness) -> None:
    record = run_script(served, "sleep 600 & echo $! >child")
    child = int((served.directory_of(record.key) / "child").read_text())
    assert not os.path.exists(f"/proc/{child}") or "Z" in state_of(child)
    assert record.state == "FINISHED"


def state_of(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "gone"


def test_run_directories_are_private(served: WorkflowHarness) -> None:
    directory = served.directory_of(run_script(served, "true").key)
    for path in (directory, *directory.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_a_broken_pipe_ends_commands_as_in_a_shell(served: WorkflowHarness) -> None:
    record = run_script(served, "set -o pipefail; yes | head -1 >/dev/null; echo $?")
    assert (served.directory_of(record.key) / "stdout").read_text() == "141\n"


def test_the_launchers_python_is_found_first(served: WorkflowHarness) -> None:
    record = run_script(served, "python -c 'import motoko.worker, sys; print(sys.prefix)'")
    import sys

    assert (served.directory_of(record.key) / "stdout").read_text().strip() == sys.prefix


# -- inputs of runs ---------------------------------------------------------------------------


@pytest.mark.parametrize("text", [NASTY, "", "-n", "x" * 200_000, "a\0b"])
def test_parameters_reach_the_script_unchanged(
    make: Callable[..., WorkflowHarness], text: str
) -> None:
    place = make(BY_PYTHON + SHOW.replace('["MOTOKO_JOB_TEXT"]', '.get("MOTOKO_JOB_TEXT")'),
                 job={"text": "str", "at": "float"}, executable=True)  # fmt: skip
    place.start()
    (key,) = place.create([{"text": text, "at": -1e-3}])
    assert place.wait([key])[0].state == "FINISHED"
    shown = json.loads((place.directory_of(key) / "stdout").read_text())
    fits = len(text) < 100_000 and "\0" not in text
    assert shown == {
        "job": {"text": text, "at": -1e-3},
        "env": text if fits else None,
        "id": key.id,
    }
    assert not list(place.directory.rglob("hacked"))


def test_files_of_the_study_are_copied(make: Callable[..., WorkflowHarness]) -> None:
    place = make("cat sub/data; ./tool\n")
    study = place.directory / "a"
    (study / "sub").mkdir()
    (study / "sub" / "data").write_text("some data\n")
    (study / "tool").write_text("#!/bin/sh\necho a tool\n")
    (study / "tool").chmod(0o755)
    (study / "doIt.py").write_text("")
    (study / "bd.yaml").write_text("{job: {x: int}, config_files: [sub/data, tool]}")
    place.start()
    key = place.run()
    assert place.wait([key])[0].state == "FINISHED"
    assert (place.directory_of(key) / "stdout").read_text() == "some data\na tool\n"
    assert (place.directory_of(key) / "doIt.py").exists()


def test_a_missing_script_is_named(make: Callable[..., WorkflowHarness]) -> None:
    place = make("true\n", "true\n")
    place.start()
    (place.directory / "a" / "launch.sh").unlink()
    gone, there = place.run(), place.run(study="b")
    record = place.wait([gone, there])[0]
    assert (record.state, record.exit_code) == ("FAILED", None)
    assert "a/launch.sh" in str(record.reason)
    assert place.record(there).state == "FINISHED"


def test_bash_options_are_passed_to_bash(make: Callable[..., WorkflowHarness]) -> None:
    place = make("echo $-\n", study_options={"bash_options": ["-e", "-u"]})
    place.start()
    key = place.run()
    place.wait([key])
    flags = (place.directory_of(key) / "stdout").read_text()
    assert {"e", "u"} <= set(flags)


@pytest.mark.parametrize("name", ["with some spaces 'and' $quotes", "x" * 100 + "/" + "y" * 200])
def test_unusual_and_deep_directories(
    make: Callable[..., WorkflowHarness], tmp_path: Path, name: str
) -> None:
    place = make("pwd\n", where=tmp_path / name / "wf")
    place.start()
    key = place.run()
    assert place.wait([key])[0].state == "FINISHED"
    shown = (place.directory_of(key) / "stdout").read_text()
    assert shown == f"{place.directory_of(key)}\n"


# -- concurrency ------------------------------------------------------------------------------

# Appends are atomic, so the file records the number of concurrent runs.
# The first runs wait for each other, so the limit is reached.
COUNTED = (
    "echo + >>{0}; until [ $(grep -c + {0}) -ge {1} ]; do sleep .02; done; sleep .1; echo - >>{0}\n"
)


def max_concurrent_runs(path: Path) -> int:
    now = most = 0
    for line in path.read_text().split():
        now += 1 if line == "+" else -1
        most = max(most, now)
    assert now == 0
    return most


@pytest.mark.parametrize(
    ("options", "study_options", "resources", "most"),
    [
        ({"max_concurrent": 3}, {}, {}, 3),
        ({"max_concurrent": 3}, {"max_concurrent": 1}, {}, 1),
        ({"max_concurrent": 4}, {"nproc": 2}, {}, 2),
        ({"max_concurrent": 4}, {"nproc": 2}, {"nproc": 1}, 4),
        ({"max_concurrent": 2}, {"nproc": 5}, {}, 1),
    ],
)
def test_concurrency_limits_are_respected(
    make: Callable[..., WorkflowHarness],
    tmp_path: Path,
    options: dict[str, Any],
    study_options: dict[str, Any],
    resources: dict[str, Any],
    most: int,
) -> None:
    counted = tmp_path / "counted"
    place = make(COUNTED.format(counted, most), options=options, study_options=study_options)
    place.start()
    place.wait(place.create([{"x": n} for n in range(8)], **resources))
    assert max_concurrent_runs(counted) == most


def test_studies_alternate(make: Callable[..., WorkflowHarness]) -> None:
    place = make("sleep .05\n", "true\n", options={"max_concurrent": 1})
    many = place.create([{"x": n} for n in range(20)], study="a")
    (one,) = place.create([{"x": 1}], study="b")
    place.start()
    ended = place.wait([one])[0].history[-1].time
    place.wait(many)
    assert sum(record.history[-1].time > ended for record in place.records(many)) >= 15


def test_runs_for_another_machine_are_not_claimed(make: Callable[..., WorkflowHarness]) -> None:
    place = make("true\n")
    place.start()
    other, mine = place.run(machine_name="elsewhere"), place.run(machine_name="localhost")
    place.wait([mine])
    time.sleep(0.1)
    assert place.record(other).state == "CREATED"
    stop_launcher(place.state)
    place.start(machine_name="elsewhere")
    assert place.wait([other])[0].state == "FINISHED"


# -- early ends -------------------------------------------------------------------------------


def test_a_run_longer_than_its_timeout_is_stopped(make: Callable[..., WorkflowHarness]) -> None:
    place = make("trap 'echo asked; exit 0' TERM; sleep 600 & wait\n")
    place.start()
    key = place.run(timeout=3.0)
    record = place.wait([key])[0]
    assert record.state == "TIMEOUT"
    assert record.reason == "it ran longer than its timeout of 3 s"
    assert (place.directory_of(key) / "stdout").read_text() == "asked\n"
    # START is recorded shortly after the process started; the claim precedes it.
    times = {move.state: move.time for move in record.history}
    # Process start times have a resolution of 0.01 s.
    assert times["TIMEOUT"] - times["SUBMITTED"] >= 2.98


def test_a_run_that_ignores_term_is_killed(make: Callable[..., WorkflowHarness]) -> None:
    place = make("trap '' TERM; echo here >here; while true; do sleep .1; done\n")
    place.start()
    key = place.run()
    wait_until((place.directory_of(key) / "here").exists)
    place.edit(key, Cancel(time.time(), "test"))
    record = place.wait([key])[0]
    assert (record.state, record.reason) == ("CANCELLED", "cancelled by test")


@pytest.mark.parametrize("retries", [0, 3])
def test_cancelled_runs_end_and_are_not_retried(
    make: Callable[..., WorkflowHarness], retries: int
) -> None:
    place = make("echo x >>here; sleep 600\n", options={"max_concurrent": 1, "retries": retries})
    place.start()
    first, second = place.create([{"x": 1}, {"x": 2}])
    here = place.directory_of(first) / "here"
    wait_until(lambda: here.exists() and here.read_text() == "x\n")
    place.wait_for(first, "START")
    for key in (second, first):  # otherwise its slot would be free briefly
        place.edit(key, Cancel(time.time(), "test"))
    records = place.wait([first, second])
    assert [record.state for record in records] == ["CANCELLED", "CANCELLED"]
    assert (place.directory_of(first) / "here").read_text() == "x\n"
    assert not (place.directory_of(second) / "here").exists()


def test_a_failed_run_is_retried(make: Callable[..., WorkflowHarness]) -> None:
    script = "echo $MOTOKO_ATTEMPT; motoko-worker push n $MOTOKO_ATTEMPT; exit 2\n"
    place = make(script, options={"retries": 2, "retry_delay": 0.1})
    place.start()
    key = place.run()
    record = place.wait([key])[0]
    assert (record.state, record.attempt, record.exit_code) == ("FAILED", 3, 2)
    assert place.quantity(key, "n") == [(0, 3)]
    directory = place.directory_of(key)
    outputs = [directory.with_name(f"run-{key.id}.attempt-{n}") / "stdout" for n in (1, 2)]
    assert [path.read_text() for path in [*outputs, directory / "stdout"]] == ["1\n", "2\n", "3\n"]
    claims = [move.time for move in record.history if move.state == "SUBMITTED"]
    failed = [move.time for move in record.history if move.state == "FAILED"]
    # The delay doubles, with 20 % jitter.
    assert claims[1] - failed[0] >= 0.08
    assert claims[2] - failed[1] >= 0.16
    assert any(move.cause.endswith(", retry 1 of 2") for move in record.history)


def test_a_second_attempt_can_succeed(make: Callable[..., WorkflowHarness], tmp_path: Path) -> None:
    place = make(f"[ -e {tmp_path}/flag ] || {{ touch {tmp_path}/flag; exit 1; }}\n")
    place.start()
    record = place.wait([place.run(retries=5)])[0]
    assert (record.state, record.attempt, record.reason) == ("FINISHED", 2, None)


# -- several launchers ------------------------------------------------------------------------


def kill(place: WorkflowHarness) -> None:
    """Kill the launcher, as a crash would."""
    for running in running_launchers(place.state):
        os.kill(running.process.pid, signal.SIGKILL)
        wait_until(lambda process=running.process: not is_alive(process))  # type: ignore[misc]


def test_a_second_launcher_finds_the_first(make: Callable[..., WorkflowHarness]) -> None:
    place = make("true\n", "true\n")
    first = place.start()
    assert first.started_here
    assert first.studies == ("a", "b")
    for studies in (None, ["a"]):
        again = place.start(studies=studies)
        assert (again.process, again.started_here) == (first.process, False)


def test_launchers_of_different_studies_run_concurrently(
    make: Callable[..., WorkflowHarness],
) -> None:
    place = make("true\n", "true\n")
    first = place.start(studies=["a"])
    key = place.run(study="b")
    place.wait([place.run(study="a")])
    assert place.record(key).state == "CREATED"
    second = place.start(studies=["b"])
    assert second.process != first.process
    assert place.wait([key])[0].state == "FINISHED"


def test_the_database_refuses_a_second_launcher(make: Callable[..., WorkflowHarness]) -> None:
    place = make("true\n")
    first = place.start()
    (place.state.path / "launcher.json").rename(place.state.path / "hidden")
    with pytest.raises(LauncherError, match=f"already serves a: process {first.process.pid} on"):
        place.start()
    (place.state.path / "hidden").rename(place.state.path / "launcher.json")


def test_a_stopped_launcher_leaves_runs_running(make: Callable[..., WorkflowHarness]) -> None:
    place = make("echo here; until [ -e go ]; do sleep .02; done; motoko-worker set y 1\n")
    place.start()
    key = place.run()
    place.wait_for(key, "START")
    assert stop_launcher(place.state)  # does not wait for the active run
    assert running_launchers(place.state) == []
    assert place.record(key).state == "START"
    (place.directory_of(key) / "go").touch()
    place.start()
    record = place.wait([key])[0]
    assert (record.state, record.attempt, record.fields) == ("FINISHED", 1, {"y": 1})


def test_claimed_runs_are_requeued_when_the_launcher_stops(
    make: Callable[..., WorkflowHarness],
) -> None:
    place = make("[ $MOTOKO_JOB_X = 0 ] && sleep 600\n", options={"max_concurrent": 1})
    place.start()
    # Short runs let the launcher claim ahead.
    place.wait(place.create([{"x": 1} for _ in range(20)]))
    keys = place.create([{"x": 0} for _ in range(4)])
    place.wait_for(keys[0], "START")
    stop_launcher(place.state)
    states = [record.state for record in place.records(keys)]
    assert states == ["START", "CREATED", "CREATED", "CREATED"]


def test_stopping_a_launcher_with_its_runs_requeues_them(
    make: Callable[..., WorkflowHarness],
) -> None:
    place = make("sleep 600\n", options={"max_concurrent": 2, "retries": 3})
    place.start()
    mine = place.create([{"x": n} for n in range(3)], run_name="mine")
    place.wait_for(mine[1], "START")
    stop_launcher(place.state, stop_runs=True, run_name="mine")
    for record in place.records(mine):
        assert (record.state, record.attempt - record.uncounted) == ("CREATED", 0)


def test_suspended_runs_wait_until_they_are_resumed(make: Callable[..., WorkflowHarness]) -> None:
    script = (
        "echo $MOTOKO_ATTEMPT; motoko-worker get attempt\n"
        "[ -e ../../go ] || { echo sleeps; sleep 600; }\n"
    )
    place = make(script, options={"max_concurrent": 2})
    place.start()
    (mine,) = place.create([{"x": 1}], run_name="mine")
    (other,) = place.create([{"x": 1}], run_name="other")
    place.wait_for(mine, "START")
    place.wait_for(other, "START")
    suspend_runs(place.state, "mine")
    assert [r.state for r in place.records([mine, other])] == ["CREATED", "START"]
    assert "requeued by launcher" in place.record(mine).history[-1].cause
    time.sleep(0.2)
    assert place.record(mine).state == "CREATED"
    output = place.directory_of(other) / "stdout"
    wait_until(lambda: output.read_text().endswith("sleeps\n"))
    (place.directory / "a" / "go").touch()
    resume_runs(place.state, "mine")
    record = place.wait([mine])[0]
    assert (record.state, record.attempt, record.uncounted) == ("FINISHED", 2, 1)
    assert (place.directory_of(mine) / "stdout").read_text() == "1\n1\n"
    assert place.record(other).state == "START"


def test_a_stopping_orchestrator_leaves_runs_of_its_successor(
    make: Callable[..., WorkflowHarness],
) -> None:
    """Its request to stop the runs arrives after the successor acquired the run name."""
    place = make("sleep 600\n")
    place.start()
    (run,) = place.create([{"x": 1}], run_name="mine")
    place.wait_for(run, "START")
    database = place.store.database
    run_transaction(database, lambda tables: tables.write_lease(ORCHESTRATOR + "mine", "token", {}))
    suspend_runs(place.state, "mine", unless_orchestrated=True)
    assert place.record(run).state == "START"
    run_transaction(database, lambda tables: tables.write_lease(ORCHESTRATOR + "mine", None, {}))
    suspend_runs(place.state, "mine", unless_orchestrated=True)
    assert place.record(run).state == "CREATED"


def test_runs_survive_the_death_of_their_launcher(make: Callable[..., WorkflowHarness]) -> None:
    script = (
        "echo start >>../../log; motoko-worker set early 1; motoko-worker push n 1\n"
        "until [ -e ../../go ]; do sleep .02; done\n"
        "motoko-worker push n 2; echo end >>../../log; exit $MOTOKO_JOB_X\n"
    )
    place = make(script, options={"max_concurrent": 2})
    place.start()
    keys = place.create([{"x": 0}, {"x": 3}])
    wait_until(lambda: all("early" in record.fields for record in place.records(keys)))
    kill(place)
    place.start()
    (place.directory / "a" / "go").touch()
    good, bad = place.wait(keys)
    assert [(r.state, r.exit_code, r.attempt) for r in (good, bad)] == [
        ("FINISHED", 0, 1),
        ("FAILED", 3, 1),
    ]
    assert place.quantity(good.key, "n") == [(0, 1), (0, 2)]
    assert (
        sorted((place.directory / "a" / "log").read_text().split()) == ["end"] * 2 + ["start"] * 2
    )


def test_runs_that_ended_without_a_launcher_are_harvested(
    make: Callable[..., WorkflowHarness],
) -> None:
    script = (
        "motoko-worker fail 'no luck'; until [ -e go ]; do sleep .02; done; motoko-worker set y 1\n"
    )
    place = make(script)
    place.start()
    key = place.run()
    place.wait_for(key, "START")
    time.sleep(1.2)  # until the outbox was read once
    kill(place)
    record = place.record(key)
    (place.directory_of(key) / "go").touch()
    outbox = place.directory_of(key) / f".motoko-{record.token}"
    wait_until(lambda: outbox.read_text().endswith("\nexit 0\n"))
    written = outbox.stat().st_mtime
    time.sleep(0.2)
    place.start()
    record = place.wait([key])[0]
    assert (record.state, record.reason, record.fields) == ("FAILED", "no luck", {"y": 1})
    assert record.history[-1].time == pytest.approx(written, abs=0.05)


def test_a_run_recorded_as_started_is_not_executed_twice(
    make: Callable[..., WorkflowHarness],
) -> None:
    go, log = "../../go", "../../log"
    harm = {
        "gone and ended": 'rm -rf "$MOTOKO_RUN_DIR"; exit 0',
        "moved": 'mv "$MOTOKO_RUN_DIR" "$MOTOKO_RUN_DIR.mine"',
        "outbox gone": 'rm "$MOTOKO_OUTBOX"',
    }
    cases = "".join(f'"{kind}") {what};;\n' for kind, what in harm.items())
    script = (
        f"until [ -e {go}1 ]; do sleep .02; done\necho $MOTOKO_RUN_ID >>{log}\n"
        f'case "$MOTOKO_JOB_K" in\n{cases}esac\nuntil [ -e {go}2 ]; do sleep .02; done\n'
    )
    place = make(script, job={"k": "str"}, options={"max_concurrent": len(harm), "retries": 0})
    place.start()
    keys = place.create([{"k": kind} for kind in harm])
    for key in keys:
        place.wait_for(key, "START")
    kill(place)
    study = place.directory / "a"
    (study / "go1").touch()
    written = study / "log"
    wait_until(lambda: written.exists() and len(written.read_text().split()) == len(keys))
    wait_until(lambda: not any(place.directory_of(key).exists() for key in keys[:2]))
    place.start()
    (study / "go2").touch()
    states = [record.state for record in place.wait(keys)]
    assert states == ["LOST", "LOST", "FAILED"]  # the results of the last one are gone
    assert len(written.read_text().split()) == len(keys)


@pytest.mark.parametrize("retries", [0, 1])
def test_a_run_without_process_and_exit_record_is_lost(
    make: Callable[..., WorkflowHarness], retries: int
) -> None:
    place = make("[ $MOTOKO_ATTEMPT = 2 ] || sleep 600\n", options={"retries": retries})
    place.start()
    key = place.run()
    process = place.wait_for(key, "START").process
    assert process is not None
    kill(place)
    os.killpg(process[0], signal.SIGKILL)
    place.start()
    record = place.wait([key])[0]
    assert "LOST" in [move.state for move in record.history]
    assert record.state == ("FINISHED" if retries else "LOST")


def test_a_killed_wrapper_ends_its_script(make: Callable[..., WorkflowHarness]) -> None:
    place = make("echo $$ >pid; exec sleep 600\n")
    place.start()
    key = place.run()
    process = place.wait_for(key, "START").process
    assert process is not None
    pid = place.directory_of(key) / "pid"
    wait_until(lambda: pid.exists() and pid.read_text().endswith("\n"))
    child = int(pid.read_text())
    os.kill(process[0], signal.SIGKILL)
    assert place.wait([key])[0].state == "LOST"
    wait_until(lambda: state_of(child) in ("gone", "Z"))


def test_options_that_cannot_be_passed_fail_only_their_run(
    make: Callable[..., WorkflowHarness],
) -> None:
    place = make("exit 0\n")
    place.start()
    bad = [place.run(bash_options=[option]) for option in ("-x\0", "-x\ud800")]
    good = place.run(bash_options=["-x"])
    states = [record.state for record in place.wait([*bad, good])]
    assert states == ["FAILED", "FAILED", "FINISHED"]
    assert "it cannot be started: embedded null byte" in (place.record(bad[0]).reason or "")


def test_runs_that_never_started_are_reclaimed(make: Callable[..., WorkflowHarness]) -> None:
    from motoko.core.changes import EditRun
    from motoko.core.edits import Claim

    place = make("echo $MOTOKO_ATTEMPT\n")
    keys = place.create([{"x": n} for n in range(3)])
    place.commit(*(EditRun(key, Claim("gone", f"token{key.id}", time.time())) for key in keys))
    place.start()
    for record in place.wait(keys):
        assert (record.state, record.attempt, record.uncounted) == ("FINISHED", 2, 1)
        aside = place.directory_of(record.key).with_name(f"run-{record.id}.attempt-1")
        assert (aside / f".motoko-token{record.id}").read_text().startswith("launcher ")


def test_a_launcher_that_slept_past_its_lease_is_replaced(
    make: Callable[..., WorkflowHarness],
) -> None:
    place = make("echo $MOTOKO_ATTEMPT >>../../log; until [ -e ../../go ]; do sleep .02; done\n")
    first = place.start(lease=1.0)
    key = place.run()
    place.wait_for(key, "START")
    os.kill(first.process.pid, signal.SIGSTOP)
    try:
        time.sleep(1.2)
        with place.store.autocommit_scope.read() as session:
            config = load_workflow(place.directory)
            coverage = LauncherCoverage.read(session.tables, config, place.store)
            (running,) = ReasonFinder(session.tables, coverage).next(session.run(key))[:1]
        assert f"kill -CONT {first.process.pid}" in reason_text(running, time.time())
        second = place.start(lease=1.0)
        assert second.started_here
        (place.directory / "a" / "go").touch()
        place.wait([key])
    finally:
        os.kill(first.process.pid, signal.SIGCONT)
    wait_until(lambda: not is_alive(first.process))
    assert "was replaced while it was suspended" in place.log() or "was taken over" in place.log()
    record = place.record(key)
    assert (record.state, record.attempt) == ("FINISHED", 1)
    assert record.history[-1].cause != record.history[1].cause
    assert (place.directory / "a" / "log").read_text() == "1\n"


def test_a_killed_server_is_started_again_by_the_launcher(
    make: Callable[..., WorkflowHarness],
) -> None:
    place = make("until [ -e go ]; do sleep .02; done; motoko-worker set y 1\n")
    place.start()
    key = place.run()
    place.wait_for(key, "START")
    place.store.close()
    server = PidFile(place.state.server_record).read()
    assert server is not None
    os.kill(server.process.pid, signal.SIGKILL)
    (place.directory_of(key) / "go").touch()
    wait_until(lambda: is_responding(place.state))  # before this process connects
    assert place.wait([key])[0].fields == {"y": 1}
    assert place.record(key).attempt == 1


def test_a_launcher_with_few_open_files_starts_fewer_runs(
    make: Callable[..., WorkflowHarness], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shortage in the launcher fails no run."""
    place = make("until [ -e ../../go ]; do sleep .1; done\n", options={"max_concurrent": 40})
    keys = place.create([{"x": n} for n in range(40)])
    command = module_command

    def limited(*arguments: str) -> list[str]:
        return ["sh", "-c", 'ulimit -Sn 48; exec "$@"', "sh", *command(*arguments)]

    monkeypatch.setattr(control, "module_command", limited)
    place.start()
    wait_until(lambda: [record.state for record in place.records(keys)].count("START") == 8)
    (place.directory / "a" / "go").touch()
    assert {record.state for record in place.wait(keys)} == {"FINISHED"}
    assert "has to wait: " not in place.log()
    assert "allows only 8 runs at once" in place.log()


def test_a_launcher_that_cannot_write_reports_it_and_loses_nothing(
    make: Callable[..., WorkflowHarness],
) -> None:
    place = make("true\n")
    in_the_way = place.directory / "a" / "BD-a-runs"
    in_the_way.write_text("not a directory")
    running = place.start()
    key = place.run()
    wait_until(lambda: not is_alive(running.process))
    assert f"run {key} cannot be started:" in place.log()
    assert place.record(key).state == "CREATED"
    in_the_way.unlink()
    place.start()
    record = place.wait([key])[0]
    assert (record.state, record.attempt - record.uncounted) == ("FINISHED", 1)


def test_the_launcher_does_not_start_without_the_scheduler_commands(
    make: Callable[..., WorkflowHarness], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = make("true\n", study_options={"generator": "slurm"})
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "bash").symlink_to(which("bash") or "/bin/bash")
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(LauncherError, match="study 'a' has the generator 'slurm'") as caught:
        place.start()
    assert "generator: bash" in str(caught.value)
    place.start(generator="bash")
    assert place.wait([place.run()])[0].state == "FINISHED"


def test_a_new_study_in_motoko_yaml_gets_its_table(make: Callable[..., WorkflowHarness]) -> None:
    place = make("true\n")
    shutil.copytree(place.directory / "a", place.directory / "b")
    text = (place.directory / "motoko.yaml").read_text()
    (place.directory / "motoko.yaml").write_text(text.replace("  a:", "  b:\n  a:"))
    assert place.start().studies == ("b", "a")
    with place.store.autocommit_scope.read() as session:
        assert session.tables.study_names() == ["a", "b"]


def test_an_unknown_study_is_named(make: Callable[..., WorkflowHarness]) -> None:
    place = make("true\n")
    with pytest.raises(LauncherError, match="has no study 'aa'"):
        place.start(studies=["aa"])
