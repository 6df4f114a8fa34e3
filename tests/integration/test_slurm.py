"""Workflows on a real Slurm, including actions of its administrators."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from motoko.core.sbatch_options import REFUSED, first_fault
from motoko.workflow import Workflow
from tests.support.command_line import Shell
from tests.support.launching import wait_until
from tests.support.slurm_harness import LIVING, SlurmHarness

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.slurm_testbed import Testbed

pytestmark = pytest.mark.integration

EXAMPLES = Path(__file__).parents[2] / "examples"
# Sites define this for login shells; bash passes it on to scripts.
MODULES = {
    "BASH_FUNC_module%%": '() { [ "$2" = no-such ] && return 1; export LOADED="$LOADED$2 "; }'
}
HELD = ["--hold"]
LONG_AT_FIRST = '[ "$(ls -d ../run-$MOTOKO_RUN_ID.attempt-* 2>/dev/null)" ] || sleep 60'


@pytest.fixture(scope="module")
def module_patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module", autouse=True)
def timed(
    shared_slurm: Testbed,
    module_patch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[SlurmHarness]:
    """A run that exceeds its time limit; it starts first, because the minimum is a minute."""
    module_patch.setenv("SLURM_CONF", shared_slurm.environment["SLURM_CONF"])
    place = SlurmHarness.make(tmp_path_factory.mktemp("timed") / "wf", shared_slurm)
    try:
        place.start()
        place.run("echo begun; sleep 600", timeout=1.0, slurm_options=["--nodelist=n1"])
        yield place
    finally:
        place.close()


@pytest.fixture(scope="module")
def served(
    timed: SlurmHarness, shared_slurm: Testbed, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SlurmHarness]:
    """A workflow with a launcher, shared by most tests."""
    place = SlurmHarness.make(tmp_path_factory.mktemp("served") / "wf", shared_slurm)
    try:
        place.start(environment=MODULES)
        yield place
    finally:
        place.close()


@pytest.fixture
def own(slurm: Testbed, tmp_path: Path) -> Iterator[SlurmHarness]:
    """A workflow without a launcher, for one test."""
    place = SlurmHarness.make(tmp_path / "wf", slurm)
    try:
        yield place
    finally:
        place.close()


def shell(place: SlurmHarness) -> Shell:
    return Shell(place.place.directory)


# -- features for users -----------------------------------------------------------------------


def test_the_example_runs_with_one_additional_line(slurm: Testbed, tmp_path: Path) -> None:
    directory = tmp_path / "a directory with spaces" / "arithmetic"
    shutil.copytree(EXAMPLES / "arithmetic", directory)
    with (directory / "motoko.yaml").open("a") as file:
        file.write("\ngenerator: slurm\n")
    command = Shell(directory)
    try:
        before = slurm.command("squeue", "-h", "-t", "all", "-o", "%F")
        command.ok("run", "--run_name", "one")
        workflow = Workflow(directory / "motoko.yaml", read_only=True)
        workflow.run_name = "one"
        ends = [
            run
            for name in ("mult", "add", "norm")
            for run, _ in workflow.task_manager(name).select()
        ]
        assert ends
        states = {run.lifecycle for run in ends}
        workflow.close()
        assert states == {"FINISHED"}
        after = slurm.command("squeue", "-h", "-t", "all", "-o", "%F")
        assert len(after.split()) > len(before.split())
    finally:
        command.close()


def test_a_thousand_runs_are_submitted_in_arrays(served: SlurmHarness) -> None:
    before = served.arrays()
    keys = served.create(*["true"] * 1000)
    ends = served.wait(keys, seconds=240.0)
    assert served.reasons(keys) == {}
    assert set(ends) == {"FINISHED"}
    assert len(served.arrays() - before) <= 5
    assert served.completed() >= 1000


@pytest.mark.parametrize(
    ("script", "state", "code", "words"),
    [
        ("exit 0", "FINISHED", 0, ""),
        ("exit 3", "FAILED", 3, "exit code 3"),
        ("no-such-program", "FAILED", 127, "exit code 127"),
        ("kill -9 $$", "FAILED", -9, "killed by SIGKILL"),
        ("kill -TERM $$", "FAILED", -15, "killed by SIGTERM"),
        ("motoko-worker fail 'no convergence'", "FAILED", 0, "no convergence"),
        ("kill -9 $PPID; sleep 60", "FAILED", None, "left no exit record"),
        (': >"$MOTOKO_OUTBOX.again"; exit 3', "FAILED", 3, "exit code 3"),
        ('printf "\\nexit 0\\n" >>"$MOTOKO_OUTBOX"; sleep 3; exit 4', "FAILED", 4, "exit code 4"),
        ('cd /; rm -rf "$MOTOKO_RUN_DIR"; exit 111', "FAILED", None, "left no exit record"),
        ("A=$MOTOKO_OUTBOX; rm $A; ln -s /dev/full $A; exit 3", "FAILED", 3, "was removed"),
    ],
)
def test_outcomes_are_recorded(
    served: SlurmHarness, script: str, state: str, code: int | None, words: str
) -> None:
    key = served.run(script)
    served.wait([key])
    record = served.place.record(key)
    assert (record.state, record.exit_code) == (state, code)
    assert words in (record.reason or "")


def test_parameters_reach_the_script_unchanged(served: SlurmHarness) -> None:
    texts = ['it\'s "quoted" $HOME `id` \\', "two\nlines\n", "žluťoučký 漢字 \U0001f600", "-n", "*"]
    both = 'printf %s "$MOTOKO_RUN_TEXT" >out; printf %s "$MOTOKO_JOB_DO" >job; : '
    print_it = [both + shlex.quote(text) for text in texts]
    keys = [served.run(do, fields={"text": text}) for do, text in zip(print_it, texts, strict=True)]
    assert set(served.wait(keys)) == {"FINISHED"}
    found = [(served.place.directory_of(key) / "out").read_text() for key in keys]
    assert found == texts
    found = [(served.place.directory_of(key) / "job").read_text() for key in keys]
    assert found == print_it


def test_resources_are_requested(served: SlurmHarness) -> None:
    options = ["partition=low", "-p", "debug", "--mem", "100M", "hold"]
    key = served.run("true", nproc=3, timeout=90.0, options=options)
    shown = served.slurm.command("scontrol", "show", "job", served.job(key))
    for words in ("NumTasks=3", "TimeLimit=00:02:00", "Partition=debug", "MinMemoryNode=100M",
                  f"JobName=motoko-{key}"):  # fmt: skip
        assert words in shown
    token = served.place.record(key).token
    assert f":{token} \n" in shown  # the end of the comment
    served.slurm.command("scontrol", "release", served.job(key))
    assert served.wait([key]) == ["FINISHED"]


def test_a_refused_submission_fails_with_the_error(served: SlurmHarness) -> None:
    key = served.run("true", options=["--partition=no-such"])
    assert served.wait([key]) == ["FAILED"]
    assert "invalid partition specified: no-such" in (served.place.record(key).reason or "")
    assert "sbatch refused it" in (served.place.record(key).reason or "")


def test_every_option_of_this_sbatch_is_accepted(slurm: Testbed) -> None:
    listed = re.findall(r"--([a-z][a-z-]+)", slurm.command("sbatch", "--help"))
    assert "ntasks-per-node" in listed
    wrong = [name for name in listed if name not in REFUSED and first_fault([f"--{name}=1"])]
    assert wrong == []


def test_an_unknown_option_is_named_with_the_nearest(served: SlurmHarness) -> None:
    key = served.run("true", options=["--partitoin=debug"])
    assert served.wait([key]) == ["FAILED"]
    reason = served.place.record(key).reason or ""
    assert "partitoin" in reason
    assert "'partition'" in reason


def test_modules_and_prologue_come_before_the_script(slurm: Testbed, tmp_path: Path) -> None:
    place = SlurmHarness.make(
        tmp_path / "wf", slurm,
        module=["gcc/12", "openmpi"], prologue=["export GREETING='it'\"'\"'s me'", "cd /"],
    )  # fmt: skip
    try:
        place.start(environment=MODULES)
        key = place.run('printf "%s|%s|%s" "$LOADED" "$GREETING" "$PWD" >out')
        assert place.wait([key]) == ["FINISHED"]
        directory = place.place.directory_of(key)
        assert (directory / "out").read_text() == f"gcc/12 openmpi |it's me|{directory.resolve()}"
    finally:
        place.close()


@pytest.mark.parametrize(
    ("options", "words", "printed"),
    [
        ({"module": ["gcc/12", "no-such"]}, "module load no-such failed", ""),
        ({"prologue": ["echo it is broken >&2", "exit 7"]}, "exit status 7", "it is broken"),
        ({"prologue": ["set -e", "false", "true"]}, "exit status 1", ""),
    ],
)
def test_failures_before_the_script_are_reported_at_once(
    slurm: Testbed, tmp_path: Path, options: dict[str, Any], words: str, printed: str
) -> None:
    place = SlurmHarness.make(tmp_path / "wf", slurm, **options)
    try:
        place.start(environment=MODULES, hurry=3600)
        key = place.run("echo it ran")
        assert place.wait([key]) == ["FAILED"]
        assert words in (place.place.record(key).reason or "")
        directory = place.place.directory_of(key)
        assert printed in (directory / "stderr").read_text()
        assert not (directory / "stdout").exists()
    finally:
        place.close()


def test_a_single_run_can_be_executed_locally(served: SlurmHarness) -> None:
    before = served.jobs()
    assert served.wait([served.run("true", generator="bash")]) == ["FINISHED"]
    assert served.jobs() == before


def test_old_option_names_and_the_global_override(slurm: Testbed, tmp_path: Path) -> None:
    place = SlurmHarness.make(tmp_path / "wf", slurm, generator="slurmCoat")
    try:
        place.start()
        assert place.wait([place.run("true")]) == ["FINISHED"]
        assert len(place.jobs()) == 1
        shell(place).ok("kill")
        shell(place).ok("launcher", "--generator", "bashCoat")
        assert place.wait([place.run("true")]) == ["FINISHED"]
        assert len(place.jobs()) == 1
        done = shell(place).run("launcher", "--generator", "slrum")
        assert done.returncode == 2
        assert "Did you mean 'slurm'?" in done.stderr
    finally:
        place.close()


# -- changes of scheduler jobs ----------------------------------------------------------------


def test_a_running_job_cancelled_by_scancel(served: SlurmHarness) -> None:
    key = served.run(
        "trap 'echo asked >asked; exit 1' TERM; touch ready; sleep 60 & wait", retries=3
    )
    served.wait_state(key, "START")
    wait_until((served.place.directory_of(key) / "ready").exists)
    served.slurm.command("scancel", served.job(key))
    assert served.wait([key]) == ["CANCELLED"]
    assert "cancelled outside Motoko" in (served.place.record(key).reason or "")
    told = [line for line in shell(served).ok("info", "--verbose").splitlines() if str(key) in line]
    assert "cancelled outside Motoko" in told[0]
    *_, end = shell(served).ok("history", str(key)).splitlines()
    assert "cancelled outside Motoko" in end
    wait_until((served.place.directory_of(key) / "asked").exists)


def test_pending_jobs_cancelled_by_scancel(served: SlurmHarness) -> None:
    first = served.create("true", "true", "true", options=HELD)
    second = served.create("true", "true", options=HELD)
    single = served.run("true", options=HELD)
    served.slurm.command("scancel", served.job(first[1]))
    served.slurm.command("scancel", served.job(second[0]).partition("_")[0])
    served.slurm.command("scancel", served.job(single))
    gone = [first[1], *second, single]
    assert set(served.wait(gone)) <= {"CANCELLED", "LOST"}
    for key in gone:
        assert "cancelled" in (served.place.record(key).reason or "")
        assert not (served.place.directory_of(key) / "stdout").exists()
    served.slurm.command("scontrol", "release", served.job(first[0]).partition("_")[0])
    assert served.wait([first[0], first[2]]) == ["FINISHED", "FINISHED"]


def test_a_lost_node_does_not_count_as_retry(served: SlurmHarness) -> None:
    key = served.run(LONG_AT_FIRST, options=["--nodelist=n2"])
    served.wait_state(key, "START")
    try:
        served.slurm.command("scontrol", "update", "nodename=n2", "state=down", "reason=test")
        wait_until(lambda: any("NODE_FAIL" in cause for cause in served.causes(key)))
    finally:
        with suppress(subprocess.CalledProcessError):  # it may have recovered by itself
            served.slurm.command("scontrol", "update", "nodename=n2", "state=resume")
    assert served.wait([key]) == ["FINISHED"]
    record = served.place.record(key)
    assert record.uncounted == 1
    assert record.attempt - record.uncounted == 1


def test_a_run_requeued_by_the_scheduler_is_retried(served: SlurmHarness) -> None:
    key = served.run(LONG_AT_FIRST, options=["--requeue"])
    served.wait_state(key, "START")
    served.slurm.command("scontrol", "requeue", served.job(key))
    assert served.wait([key]) == ["FINISHED"]
    record = served.place.record(key)
    assert record.attempt - record.uncounted == 1
    assert any("put it back into the queue" in cause for cause in served.causes(key))


def test_the_reason_for_waiting_is_shown(served: SlurmHarness) -> None:
    held, large = served.run("true", options=HELD), served.run("true", options=["-c", "64"])
    assert "held" in served.wait_reason(held, "JobHeldUser")
    assert "never starts" in served.wait_reason(large, "PartitionConfig")
    shown = shell(served).ok("info", "--verbose")
    assert "JobHeldUser" in shown
    assert "PartitionConfig" in shown
    told = json.loads(shell(served).ok("info", "--verbose", "--json"))
    reasons = {run["id"]: run["reason"] for study in told["studies"] for run in study["runs"]}
    assert "PartitionConfig" in reasons[large.id]
    assert "PartitionConfig" in shell(served).ok("history", str(large))
    served.slurm.command("scontrol", "release", served.job(held))
    assert served.wait([held]) == ["FINISHED"]
    assert served.place.record(held).reason is None
    shell(served).ok("cancel", "--constraints", f"id = {large.id}", "--all")
    assert served.wait([large]) == ["CANCELLED"]


def test_a_suspended_job_is_resumed(served: SlurmHarness) -> None:
    go = served.place.directory / "go"
    key = served.run(f"while [ ! -e '{go}' ]; do sleep 0.1; done")
    served.wait_state(key, "START")
    served.slurm.command("scontrol", "suspend", served.job(key))
    served.wait_reason(key, "SUSPENDED")
    go.touch()
    served.slurm.command("scontrol", "resume", served.job(key))
    assert served.wait([key]) == ["FINISHED"]
    assert served.place.record(key).reason is None


@pytest.mark.parametrize("how", ["gone", "hangs"])
def test_an_interruption_of_the_scheduler_loses_no_run(served: SlurmHarness, how: str) -> None:
    ends, go = (served.place.directory / f"{name}-{how}" for name in ("ends", "go"))
    wait = f"until [ -e '{go}' ]; do sleep 0.1; done"
    script = f"{wait}; echo $MOTOKO_RUN_ID >>'{ends}'; exit $MOTOKO_RUN_CODE"
    first = [served.run(script, fields={"code": code}) for code in (0, 3)]
    for key in first:
        served.wait_state(key, "START")
    pid = served.slurm.pid("slurmctld")
    if how == "gone":
        os.kill(pid, signal.SIGTERM)  # a killed controller would forget jobs and reuse their ids
        wait_until(lambda: not Path(f"/proc/{pid}").exists())
    else:
        os.kill(pid, signal.SIGSTOP)
    try:
        second = [served.run(script, fields={"code": code}) for code in (0, 3)]
        go.touch()
        wait_until(lambda: ends.exists() and len(ends.read_text().split()) == 2)
        time.sleep(6)
        # An exit record with status 0 suffices; nothing else is guessed.
        assert served.place.record(first[1]).state == "START"
        assert {served.place.record(key).state for key in second} == {"SUBMITTED"}
    finally:
        if how == "gone":
            served.slurm.start()
        else:
            os.kill(pid, signal.SIGCONT)
    assert served.wait([*first, *second]) == ["FINISHED", "FAILED"] * 2
    assert [served.place.record(key).attempt for key in (*first, *second)] == [1] * 4
    assert sorted(map(int, ends.read_text().split())) == sorted(k.id for k in (*first, *second))
    assert served.no_jobs_left()


# -- commands ---------------------------------------------------------------------------------


def test_cancel_and_clean(own: SlurmHarness) -> None:
    own.start()
    running, held = own.run("sleep 60"), own.create("true", "true", options=HELD)
    own.wait_state(running, "START")
    own.job(held[0])
    assert len(own.jobs(*LIVING)) == 3
    shell(own).ok("cancel", "--yes", "--constraints", "id > 0", "--all")
    assert set(own.wait([running, *held])) == {"CANCELLED"}
    assert own.no_jobs_left()
    again = own.run("sleep 60")
    own.wait_state(again, "START")
    shell(own).ok("clean", "--delete", "--yes", "--constraints", "id > 0")
    assert own.no_jobs_left()
    assert shell(own).counts("a", "test") == {}


@pytest.mark.parametrize("machine", [None, "large"])
def test_cancel_ends_jobs_without_a_launcher(own: SlurmHarness, machine: str | None) -> None:
    process = own.start(machine_name=machine)
    resources = {} if machine is None else {"machine_name": machine}
    running, held = own.run("sleep 60", **resources), own.create(
        "true", "true", options=HELD, **resources
    )  # fmt: skip
    own.wait_state(running, "START")
    own.job(held[0])
    process.kill()
    process.wait()
    shown = shell(own).ok("info", "--verbose")
    assert shown.count("not managed: no launcher is running") == 3
    done = shell(own).run("cancel", "--all", "--yes")
    assert done.returncode == 0, done.stderr
    assert "no launcher manages 3 runs" in done.stderr
    assert done.stdout.splitlines()[-1] == "3 runs cancelled"
    assert own.no_jobs_left()
    assert {own.place.record(key).state for key in (running, *held)} == {"CANCELLED"}
    assert shell(own).info()["launchers"] == []


@pytest.mark.parametrize("launcher", ["alive", "killed"])
def test_kill_requeues_runs(own: SlurmHarness, launcher: str) -> None:
    process = own.start()
    running, held = own.run("sleep 60"), own.create("true", "true", options=HELD)
    own.wait_state(running, "START")
    own.job(held[0])
    if launcher == "killed":
        process.kill()
        process.wait()
    shell(own).ok("kill", "--stop-runs", "--yes")
    assert own.no_jobs_left()
    for key in (running, *held):
        record = own.place.record(key)
        assert (record.state, record.attempt - record.uncounted) == ("CREATED", 0)


def test_each_launcher_claims_the_runs_of_its_machine(own: SlurmHarness) -> None:
    own.start(machine_name="east")
    own.start(machine_name="west")
    east = own.create(*["true"] * 5, machine_name="east")
    west = own.create(*["true"] * 5, machine_name="west")
    nobody = own.run("true", machine_name="south")
    assert set(own.wait([*east, *west])) == {"FINISHED"}
    for keys in (east, west):
        causes = {move.cause for key in keys for move in own.place.record(key).history if
                  move.state == "FINISHED"}  # fmt: skip
        assert len(causes) == 1, causes
    assert own.place.record(nobody).state == "CREATED"
    assert "no launcher serves machine 'south'" in shell(own).ok("info", "--verbose")
    launchers = shell(own).info()["launchers"]
    assert sorted(found["machines"] for found in launchers) == [["east"], ["west"]]
    shell(own).ok("launcher", "--machine_name", "south")
    assert own.wait([nobody]) == ["FINISHED"]


# -- last, because it takes a minute ----------------------------------------------------------


def test_a_time_limit_ends_a_run(timed: SlurmHarness) -> None:
    with timed.place.store.autocommit_scope.read() as session:
        (record,) = session.tables.study("a").records(session.tables.study("a").ids("test"))
    wait_until(lambda: timed.place.record(record.key).lifecycle.is_terminal, 120)
    record = timed.place.record(record.key)
    assert record.state == "TIMEOUT"
    assert "TimeLimit" in (record.reason or "")
    assert "TimeLimit" in shell(timed).ok("info", "--verbose")
    *_, end = shell(timed).ok("history", str(record.key)).splitlines()
    assert "TIMEOUT TimeLimit" in end
    assert record.attempt == 1
