"""Record the corpus in tests/data/slurm: drive a real Slurm through cases, one testbed each.

Usage: scripts/slurm-record [CASE...]   (all of them take about four minutes)
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from motoko.launcher.schedulers.base import SubmitRequest
from motoko.launcher.schedulers.slurm import queries
from motoko.launcher.schedulers.slurm.submit import environment, submit_command
from motoko.runtime.commands import SystemCommandRunner
from tests.support.slurm_corpus import CORPUS, Case, Step
from tests.support.slurm_testbed import Testbed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CASES: dict[str, Callable[[Recorder], None]] = {}
LONG = "sleep 300"


def case(play: Callable[[Recorder], None]) -> Callable[[Recorder], None]:
    CASES[play.__name__] = play
    return play


class Recorder:
    """Runs commands on a separate testbed and records their output."""

    def __init__(self, place: Path, *settings: str) -> None:
        self.testbed = Testbed(place / "slurm")
        self.runs = place / "runs"
        self.runs.mkdir()
        self.steps: list[Step] = []
        self.testbed.start(*settings)

    def record(self, about: str, argv: Sequence[str], seconds: float = 30.0) -> str:
        variables = environment(self.testbed.environment, submitting=argv[0] == "sbatch")
        run = SystemCommandRunner().run(argv, environment=variables, seconds=seconds)
        answer = asyncio.run(run)
        noted = tuple(map(self.neutral, argv))
        step = Step(
            about, noted, answer.status, self.neutral(answer.stdout), self.neutral(answer.stderr)
        )
        self.steps.append(step)
        return answer.stdout

    def neutral(self, printed: str) -> str:
        """Return the text without machine-specific parts."""
        host = socket.gethostname().split(".")[0]
        for pattern, instead in (
            (re.escape(str(self.testbed.place)), "/slurm"),
            (re.escape(str(self.runs)), "/runs"),
            (rf"WorkDir={re.escape(os.getcwd())}", "WorkDir=/runs"),
            (r"AllocNode:Sid=\S+", "AllocNode:Sid=login:1"),
            (r"\b(User|Group)Id=\w+\(\d+\)", r"\1Id=user(1000)"),
            (r"= root(\(0\))?", "= slurm(64030)"),
            (rf"\b{re.escape(host)}\b", "host"),
            (r"(Port\s*= )\d+", r"\g<1>6817"),
        ):
            printed = re.sub(pattern, instead, printed)
        return printed

    def script(self, body: str) -> str:
        path = self.runs / "script.sh"
        path.write_text(f"#!/bin/sh\n{body}\n")
        return str(path)

    def submit(
        self, body: str, *options: str, array: range | None = None, about: str = "submit"
    ) -> str:
        request = SubmitRequest(
            self.script(body),
            name="motoko-study-1",
            comment="motoko:0123456789abcdef",
            directory=str(self.runs),
            log="/dev/null",
            options=options,
        )
        argv = submit_command(request)
        if array is not None:
            indexes = f"{array[0]}-{array[-1]}:{array.step}"
            argv = (*argv[:-1], f"--array={indexes}", argv[-1])
        return self.record(about, argv).strip()

    def until(self, wanted: str, seconds: float = 30.0) -> None:
        """Wait until squeue's states and reasons are these."""
        limit = time.monotonic() + seconds
        while True:
            seen = self.testbed.command("squeue", "-h", "-t", "all", "-o", "%T %r")
            if all(re.fullmatch(wanted, line) for line in seen.splitlines()) and seen:
                return
            if time.monotonic() > limit:
                raise TimeoutError(f"waited for {wanted}, but squeue said {seen}")
            time.sleep(0.05)

    def look(self, moment: str, job: str = "1") -> None:
        self.record(f"queue, {moment}", queries.poll_command())
        self.record(f"job, {moment}", queries.lookup_command(job))


@case
def single(slurm: Recorder) -> None:
    """A job that runs and completes."""
    slurm.submit("until [ -e go ]; do sleep 0.1; done")
    slurm.until("RUNNING .*")
    slurm.look("running")
    (slurm.runs / "go").touch()
    slurm.until("COMPLETED .*")
    slurm.look("ended")
    slurm.record("cancel, ended", queries.cancel_command([("1", None)]))
    slurm.record("cancel, ended and missing", queries.cancel_command([("1", None), ("77", None)]))


@case
def failing(slurm: Recorder) -> None:
    """A script that exits with status 3."""
    slurm.submit("exit 3")
    slurm.until("FAILED .*")
    slurm.look("ended")


@case
def killed(slurm: Recorder) -> None:
    """A script that is killed with signal 9."""
    slurm.submit("kill -9 $$")
    slurm.until("FAILED .*")
    slurm.look("ended")


@case
def arrays(slurm: Recorder) -> None:
    """An array of five tasks of which two run, a held one with holes, a held one with steps."""
    slurm.submit(LONG, "cpus-per-task=16", array=range(5))
    slurm.submit(LONG, "hold", array=range(10), about="submit, holes")
    slurm.submit(LONG, "hold", array=range(0, 11, 2), about="submit, steps")
    slurm.testbed.command("scancel", "2_5", "2_6", "2_8")
    slurm.until("(RUNNING|PENDING (Resources|Priority|JobHeldUser)|CANCELLED) ?.*")
    time.sleep(2)
    slurm.look("pending")
    slurm.record("job, a task", queries.lookup_command("1_0"))
    slurm.record("job, a cancelled task", queries.lookup_command("2_5"))
    slurm.record(
        "cancel, a task and an array", queries.cancel_command([("1", 4), ("2", None), ("3", None)])
    )
    slurm.testbed.command("scancel", "1")
    slurm.until("CANCELLED .*")
    slurm.look("ended")


@case
def array_outcomes(slurm: Recorder) -> None:
    """An array whose tasks exit with their index; the last one has the array's id."""
    slurm.submit("exit $SLURM_ARRAY_TASK_ID", array=range(3))
    slurm.until("(COMPLETED|FAILED) .*")
    slurm.look("ended")


@case
def long_array(slurm: Recorder) -> None:
    """A pending array of which every third task was cancelled, and its list cut short."""
    slurm.submit(LONG, "hold", array=range(100))
    slurm.testbed.command("scancel", *(f"1_{task}" for task in range(0, 100, 3)))
    slurm.record("queue, whole", queries.poll_command())
    slurm.record("queue, cut", ("env", "LC_ALL=C", "SLURM_BITSTR_LEN=64", *queries.poll_command()))


@case
def throttled(slurm: Recorder) -> None:
    """An array of which two tasks may run at a time."""
    argv = ("sbatch", "--parsable", "--output=/dev/null", "--array=0-9%2", slurm.script(LONG))
    slurm.record("submit", argv)
    slurm.until("(RUNNING|PENDING JobArrayTaskLimit) ?.*")
    slurm.look("pending")


@case
def cancelled_pending(slurm: Recorder) -> None:
    """A job that is cancelled before it starts."""
    slurm.submit(LONG, "begin=now+1hour")
    slurm.until("PENDING BeginTime")
    slurm.look("pending")
    slurm.record("cancel", queries.cancel_command([("1", None)]))
    slurm.until("CANCELLED .*")
    slurm.look("ended")


@case
def cancelled_running(slurm: Recorder) -> None:
    """A job that is cancelled while it runs and ends after a delay."""
    slurm.submit("trap : TERM\n" + "sleep 0.5\n" * 100)
    slurm.until("RUNNING .*")
    time.sleep(1)
    slurm.record("cancel", queries.cancel_command([("1", None)]))
    slurm.look("ending")
    slurm.until("CANCELLED .*")
    slurm.look("ended")


@case
def time_limit(slurm: Recorder) -> None:
    """A job that reaches its time limit of one minute."""
    slurm.submit(LONG, "time=0:05")
    slurm.until("TIMEOUT .*", 150)
    slurm.look("ended")


@case
def node_down(slurm: Recorder) -> None:
    """A job without requeue whose node goes down."""
    slurm.submit(LONG, "nodelist=n2")
    slurm.until("RUNNING .*")
    slurm.testbed.command("scontrol", "update", "nodename=n2", "state=down", "reason=test")
    slurm.until("NODE_FAIL .*")
    slurm.look("ended")


@case
def node_down_requeue(slurm: Recorder) -> None:
    """A job with requeue whose node goes down."""
    slurm.submit(LONG, "nodelist=n2", "requeue")
    slurm.until("RUNNING .*")
    slurm.testbed.command("scontrol", "update", "nodename=n2", "state=down", "reason=test")
    slurm.until("PENDING .*")
    slurm.look("requeued")


@case
def requeued(slurm: Recorder) -> None:
    """Running jobs: one is requeued, one refuses it, one is requeued and held."""
    slurm.submit(LONG, "requeue")
    slurm.until("RUNNING .*")
    time.sleep(1)
    slurm.record("requeue", ("scontrol", "requeue", "1"))
    slurm.until("PENDING BeginTime")
    slurm.look("requeued")
    slurm.submit(LONG, about="submit, without requeue")
    slurm.submit(LONG, "requeue", about="submit, to be held")
    slurm.until("(RUNNING|PENDING BeginTime) ?.*")
    time.sleep(1)
    slurm.record("requeue, without requeue", ("scontrol", "requeue", "2"))
    slurm.record("requeue and hold", ("scontrol", "requeuehold", "3"))
    time.sleep(2)
    slurm.look("held", "3")


@case
def held(slurm: Recorder) -> None:
    """Jobs held by their owner and by an administrator."""
    slurm.submit(LONG, "-H")
    slurm.submit(LONG, "hold", about="submit, another")
    slurm.testbed.command("scontrol", "hold", "2")
    slurm.look("held")
    slurm.testbed.command("scontrol", "release", "1")
    slurm.until("(RUNNING|PENDING JobHeldAdmin) ?.*")
    slurm.look("released")


@case
def suspended(slurm: Recorder) -> None:
    """A job that is suspended and resumed."""
    slurm.submit(LONG)
    slurm.until("RUNNING .*")
    time.sleep(1)
    slurm.testbed.command("scontrol", "suspend", "1")
    slurm.until("SUSPENDED .*")
    slurm.look("suspended")
    slurm.testbed.command("scontrol", "resume", "1")
    slurm.until("RUNNING .*")
    slurm.look("resumed")


@case
def dependency(slurm: Recorder) -> None:
    """Jobs that depend on a failing job."""
    slurm.submit("until [ -e go ]; do sleep 0.1; done; false")
    slurm.submit(LONG, "dependency=afterok:1", about="submit, dependent")
    slurm.until("(RUNNING|PENDING Dependency) ?.*")
    slurm.look("waiting", "2")
    (slurm.runs / "go").touch()
    slurm.until("(FAILED .*|PENDING DependencyNeverSatisfied)")
    slurm.look("for ever", "2")


@case
def impossible(slurm: Recorder) -> None:
    """Jobs that request too many resources: CPUs, nodes, time."""
    slurm.submit(LONG, "-c 64", about="submit, CPUs")
    slurm.submit(LONG, "nodes=5", about="submit, nodes")
    slurm.submit(LONG, "partition=short", "time=60", about="submit, time")
    slurm.submit(LONG, "nodes=1", "ntasks=20", about="submit, tasks on one node")
    slurm.submit(LONG, "constraint=gpu", about="submit, feature")
    slurm.submit(LONG, "mem=999G", about="submit, memory")
    time.sleep(2)
    slurm.look("pending")


@case
def refused(slurm: Recorder) -> None:
    """Submissions that sbatch refuses."""
    slurm.submit(LONG, "partition=nowhere", about="partition")
    slurm.submit(LONG, "partitoin=debug", about="misspelt")
    slurm.submit(LONG, "time=soon", about="time")
    slurm.submit(LONG, array=range(10001), about="array, just small enough")
    slurm.submit(LONG, array=range(10002), about="array, too large")
    slurm.submit(LONG, "qos=none", "account=none", about="account, where nobody looks")
    slurm.submit(LONG, "dependency=afterok:9999", about="dependency on a missing job")
    for name in ("missing", "empty"):
        script = str(slurm.runs / f"{name}.sh")
        if name == "empty":
            Path(script).touch()
        request = SubmitRequest(script, "n", "c", str(slurm.runs), "/dev/null")
        slurm.record(f"script is {name}", submit_command(request))


@case
def full(slurm: Recorder) -> None:
    """A controller that accepts no more jobs; sbatch retries."""
    slurm.submit(LONG, "hold", array=range(3))
    slurm.submit(LONG, "hold", array=range(9), about="submit, too many")
    slurm.look("pending")


@case
def preempted(slurm: Recorder) -> None:
    """A job preempted by one of a partition with higher priority."""
    slurm.submit(LONG, "partition=low", "nodes=2", "exclusive")
    slurm.until("RUNNING .*")
    time.sleep(1)
    slurm.submit("sleep 5", "nodes=2", "exclusive", about="submit, better")
    slurm.until("(PREEMPTED .*|RUNNING .*|COMPLETED .*)")
    slurm.look("ended")


@case
def launch_failure(slurm: Recorder) -> None:
    """Jobs that cannot be started: no such directory, no such interpreter."""
    argv = ("sbatch", "--parsable", "--output=/nowhere/out", slurm.script("true"))
    slurm.record("submit, output", argv)
    path = slurm.runs / "bad.sh"
    path.write_text("#!/no/such/interpreter\n")
    slurm.record("submit, interpreter", ("sbatch", "--parsable", "-o", "/dev/null", str(path)))
    slurm.until("(COMPLETED|FAILED|PENDING launch.*) ?.*")
    slurm.look("ended")
    slurm.record("job, ended, interpreter", queries.lookup_command("2"))


@case
def strange_names(slurm: Recorder) -> None:
    """Names and comments with separators, line ends and text that resembles output."""
    common = ("sbatch", "--parsable", "--hold", "--output=/dev/null")
    script = slurm.script(LONG)
    for number, name in enumerate(("a|b\nc", " JobState=COMPLETED Reason=None Dependency=", "é%j")):
        slurm.record(f"submit {number}", (*common, f"--job-name={name}", script))
    slurm.record("submit 3", (*common, "--comment=x y", "--array=0-3", script))
    slurm.look("held")
    for number in (2, 3, 4):
        slurm.record(f"job {number}", queries.lookup_command(str(number)))


@case
def missing(slurm: Recorder) -> None:
    """Commands with ids of jobs that do not exist."""
    slurm.submit(LONG, "hold")
    slurm.record("queue, one", ("squeue", "--noheader", "--jobs=77"))
    slurm.record("queue, two", ("squeue", "--noheader", "--jobs=77,78"))
    slurm.record("queue, one of two", ("squeue", "--noheader", "--jobs=1,77", "--format=%F"))
    slurm.record("job", queries.lookup_command("77"))
    slurm.record("job, a task", queries.lookup_command("1_5"))
    slurm.record("cancel", queries.cancel_command([("77", None)]))
    slurm.record("cancel, nonsense", queries.cancel_command([("nonsense", None)]))


@case
def empty(slurm: Recorder) -> None:
    """A site without jobs and without accounting: its configuration."""
    slurm.record("queue", queries.poll_command())
    slurm.record("accounting", queries.accounting_command(["1"]))
    fields = "JobID,State,ExitCode,Reason,Restarts"
    slurm.record("accounting, restarts", ("sacct", f"--format={fields}", "--jobs=1"))
    slurm.record("config", queries.limits_command())


@case
def forgotten(slurm: Recorder) -> None:
    """A job that ended longer ago than MinJobAge."""
    slurm.submit("true")
    slurm.submit(LONG, about="submit, another")
    slurm.until("RUNNING .*", 90)
    slurm.look("forgotten")
    slurm.record("cancel", queries.cancel_command([("1", None)]))


@case
def controller_away(slurm: Recorder) -> None:
    """The controller is killed, and started again."""
    slurm.submit(LONG)
    slurm.until("RUNNING .*")
    os.kill(slurm.testbed.pid("slurmctld"), signal.SIGKILL)
    time.sleep(0.5)
    slurm.look("away")
    slurm.submit(LONG, about="submit, away")
    slurm.record("cancel, away", queries.cancel_command([("1", None)]))
    slurm.record("config, away", queries.limits_command())
    slurm.record("accounting, away", queries.accounting_command(["1"]))
    slurm.testbed.start()
    slurm.until("RUNNING .*")
    slurm.look("back")


@case
def controller_frozen(slurm: Recorder) -> None:
    """The controller is suspended: it accepts connections and does not answer."""
    slurm.submit("true")
    slurm.until("COMPLETED .*")
    pid = slurm.testbed.pid("slurmctld")
    os.kill(pid, signal.SIGSTOP)
    try:
        slurm.record("queue, frozen", queries.poll_command(), 60)
        slurm.submit(LONG, about="submit, frozen")
    finally:
        os.kill(pid, signal.SIGCONT)
    time.sleep(3)
    slurm.look("thawed")


@case
def munge_away(slurm: Recorder) -> None:
    """Authentication by munge fails."""
    os.kill(slurm.testbed.pid("munged"), signal.SIGKILL)
    time.sleep(0.5)
    slurm.record("queue, away", queries.poll_command(), 60)
    slurm.submit(LONG, about="submit, away")


SETTINGS = {"full": ("MaxJobCount=5",), "forgotten": ("MinJobAge=2",)}


def main(wanted: Sequence[str]) -> None:
    for name in wanted or CASES:
        place = Path(tempfile.mkdtemp(prefix="motoko-record-"))
        slurm = Recorder(place, *SETTINGS.get(name, ()))
        began = time.monotonic()
        try:
            version = slurm.testbed.command("squeue", "--version").split()[-1]
            CASES[name](slurm)
        finally:
            slurm.testbed.stop()
            shutil.rmtree(place)
        about = (CASES[name].__doc__ or "").strip()
        Case(name, about, version, tuple(slurm.steps)).save()
        print(f"{name}: {len(slurm.steps)} commands, {time.monotonic() - began:.0f} s", flush=True)
    print(f"in {CORPUS}")


if __name__ == "__main__":
    main(sys.argv[1:])
