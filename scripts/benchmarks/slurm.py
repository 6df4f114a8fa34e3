"""Many short runs, as arrays of a real Slurm and as processes, and the cost of a full queue."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from motoko.launcher.control import running_launchers, stop_launcher
from support import Row, make_workflow, opened, timed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from motoko.workflow import Workflow

TESTBED = Path(__file__).resolve().parents[1] / "slurm-testbed"
CANNOT_RUN = 77
RUNS = 1_000
PLAIN = "async def main(workflow): pass\n"
ENDED = frozenset({"FINISHED", "FAILED", "TIMEOUT", "CANCELLED", "LOST"})
LOOK = 0.05
FAILED_STATUS = "a run did not end well"
FRESH = 'mkdir "$1" && cd "$1" && exec bash "$0" >stdout 2>stderr'


@contextmanager
def _slurm() -> Iterator[Path | None]:
    """Start a Slurm; yield its directory, or None if it cannot run."""
    with tempfile.TemporaryDirectory(prefix="motoko-") as name:
        place = Path(name) / "slurm"
        done = subprocess.run([TESTBED, "start", place], stdout=subprocess.PIPE, check=False)
        if done.returncode == CANNOT_RUN:
            yield None
            return
        done.check_returncode()
        os.environ["SLURM_CONF"] = str(place / "slurm.conf")
        try:
            yield place
        finally:
            subprocess.run([TESTBED, "stop", "--purge", place], check=True)
            del os.environ["SLURM_CONF"]


@contextmanager
def _served(directory: Path, script: str = "true\n", **options: object) -> Iterator[Workflow]:
    """Make a workflow with these options and a launcher that is ready."""
    make_workflow(directory, ("mult",), PLAIN)
    with (directory / "motoko.yaml").open("a") as file:
        file.writelines(f"{name}: {value}\n" for name, value in options.items())
    (directory / "mult" / "launch.sh").write_text(script)
    with opened(directory) as workflow:
        workflow.start_launcher_daemons()
        try:
            yield workflow
        finally:
            stop_launcher(workflow.store.state, stop_runs=True)


def state_counts(workflow: Workflow, run_name: str = "bench") -> dict[str, int]:
    with workflow.store.autocommit_scope.read() as session:
        return dict(session.tables.study("mult").counts(run_name))


def _all_ended(workflow: Workflow) -> None:
    """Create runs and wait until all are finished."""
    workflow.mult.create_task(x=[float(n) for n in range(RUNS)])
    while True:
        counts = state_counts(workflow)
        if not counts.keys() - ENDED:
            break
        time.sleep(LOOK)
    if counts != {"FINISHED": RUNS}:
        raise RuntimeError(f"{FAILED_STATUS}: {counts}")


def _nowhere(what: str) -> list[Row]:
    return [Row(what, "Slurm cannot run here", "", holds=True)]


# -- arrays ----------------------------------------------------------------------------------


def arrays(times: int = 3) -> list[Row]:
    """Measure runs in arrays alternating with one ``sbatch --array`` by hand."""
    what = f"{RUNS} trivial runs as arrays, create to all ended"
    with _slurm() as slurm, tempfile.TemporaryDirectory() as name:
        if slurm is None:
            return _nowhere(what)
        ours, hand = [], []
        for n in range(times):
            hand.append(timed(lambda: _by_hand(slurm, Path(name))))
            with _served(Path(name) / str(n), generator="slurm") as workflow:
                ours.append(timed(partial(_all_ended, workflow)))
    ratio = sorted(ours)[times // 2] / sorted(hand)[times // 2]
    figure = f"{_several(ours)}; sbatch --array by hand {_several(hand)}: {ratio:.2f} times"
    return [Row(what, figure, "<= 1.3 times", ratio <= 1.3)]


def _by_hand(slurm: Path, directory: Path) -> None:
    script = directory / "by_hand.sh"
    script.write_text("#!/bin/bash\ntrue\n")
    log = slurm / "log" / "completions"
    wanted = _lines(log) + RUNS
    subprocess.run(
        ["sbatch", f"--array=0-{RUNS - 1}", "--output=/dev/null", script],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    while _lines(log) < wanted:
        time.sleep(LOOK)


def _lines(log: Path) -> int:
    return log.read_bytes().count(b"\n") if log.exists() else 0


def _several(seconds: list[float]) -> str:
    return " / ".join(f"{value:.1f}" for value in sorted(seconds)) + " s"


# -- a full queue ----------------------------------------------------------------------------


def queue(seconds: int = 60) -> list[Row]:
    """Measure queries and CPU time of the launcher while all runs are queued."""
    what = f"{RUNS} scheduler jobs in flight, for {seconds} s"
    with _slurm() as slurm, tempfile.TemporaryDirectory() as name:
        if slurm is None:
            return _nowhere(what)
        calls = _count_calls(Path(name) / "programs")
        with _served(Path(name) / "wf", "sleep 3600\n", generator="slurm") as workflow:
            poll = workflow.config.queue.poll
            workflow.mult.create_task(x=[float(n) for n in range(RUNS)])
            while state_counts(workflow).keys() != {"SUBMITTED", "START"}:
                time.sleep(1)
            time.sleep(3 * poll)
            (launcher,) = running_launchers(workflow.store.state)
            pid = launcher.process.pid
            before, used = calls(), _cpu(pid)
            time.sleep(seconds)
            used, asked = _cpu(pid) - used, [a - b for a, b in zip(calls(), before, strict=True)]
            running = state_counts(workflow)["START"]
    share = used / seconds * 100
    polls = seconds / poll + 1
    return [
        Row(
            f"{what}, {running} of them running",
            f"{asked[0]} times squeue, {sum(asked[1:])} other commands; {share:.1f} % of a core "
            "with the commands",
            f"once a poll ({poll:g} s), <= 5 %",
            asked[0] <= polls and sum(asked[1:]) == 0 and share <= 5,
        )
    ]


def _count_calls(place: Path) -> Callable[[], list[int]]:
    """Put call-counting programs first on PATH; return a function that reads the counts."""
    place.mkdir()
    names = ("squeue", "scontrol", "sacct", "sbatch", "scancel")
    for program in names:
        real = shutil.which(program)
        script = f"#!/bin/sh\necho >>'{place}/{program}.calls'\nexec {real} \"$@\"\n"
        (place / program).write_text(script)
        (place / program).chmod(0o755)
    os.environ["PATH"] = f"{place}:{os.environ['PATH']}"

    def numbers() -> list[int]:
        files = [place / f"{program}.calls" for program in names]
        return [file.stat().st_size if file.exists() else 0 for file in files]

    return numbers


def _cpu(pid: int) -> float:
    """Return the CPU seconds of a process and its ended children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


# -- processes -------------------------------------------------------------------------------


def bash(times: int = 3) -> list[Row]:
    """Measure runs of the generator ``bash`` alternating with xargs over the same script."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    ours, floor = [], []
    with tempfile.TemporaryDirectory() as name:
        for n in range(times):
            with _served(Path(name) / str(n)) as workflow:
                script = Path(workflow.directory) / "mult" / "launch.sh"
                fresh = Path(name) / f"fresh{n}"
                fresh.mkdir()
                floor.append(timed(partial(run_xargs, script, fresh, cores)))
                ours.append(timed(partial(_all_ended, workflow)))
    ratio = sorted(ours)[times // 2] / sorted(floor)[times // 2]
    return [
        Row(
            f"{RUNS} trivial runs as processes, create to all ended",
            f"{_several(ours)}; xargs -P {cores} {_several(floor)}: {ratio:.2f} times",
            "<= 3 times",
            ratio <= 3,
        )
    ]


def run_xargs(script: Path, directory: Path, cores: int) -> None:
    numbers = "\n".join(str(n) for n in range(RUNS))
    command = ["xargs", "-P", str(cores), "-I{}", "sh", "-c", FRESH, script, "{}"]
    subprocess.run(command, cwd=directory, input=numbers, text=True, check=True)
