"""Costs of an idle workflow and of imports, and the size of an installation."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

from support import Row, best, end_all, make_workflow, opened, python, timed

ROOT = Path(__file__).resolve().parents[2]
# Wakes as often as three idle processes of a workflow, and does nothing.
BARE = """
import asyncio, sys, time

async def main(seconds):
    for _ in range(round(seconds * 1.5)):
        await asyncio.sleep(1 / 1.5)

asyncio.run(main(float(sys.argv[1])))
print(time.process_time())
"""
IDLE = """
async def act(workflow, runs):
    pass

async def main(workflow):
    workflow.add_action("failed", "mult", "state = FAILED", f=act)
    workflow.add_action("large", "mult", "state = FINISHED and x > 1e9", f=act)
    workflow.add_action("filter", "mult", lambda run, job: False, f=act)
    workflow.add_action("count", event=lambda workflow, task_manager: False, f=act)
    await workflow.mult.select("state = NEVER")
"""


def idle(seconds: int = 60) -> list[Row]:
    """Measure idle server, launcher and orchestrator with 10,000 runs."""
    from motoko.launcher.control import stop_launcher

    with tempfile.TemporaryDirectory() as name:
        directory = make_workflow(Path(name), ("mult",), IDLE)
        with opened(directory, "idle") as workflow:
            workflow.mult.create_task(x=[float(i) for i in range(10_000)])
            end_all(workflow)
            workflow.close()
            workflow.start_launcher_daemons()
            command = [sys.executable, "-m", "motoko", "orchestrator", "start"]
            orchestrator = subprocess.Popen(
                [*command, "--run_name", "idle"], cwd=directory, stderr=subprocess.DEVNULL
            )
            time.sleep(8)
            pids = [orchestrator.pid, *daemons(directory)]
            begin = sum(cpu(pid) for pid in pids)
            time.sleep(seconds)
            used = sum(cpu(pid) for pid in pids) - begin
            memory = sum(pss(pid) for pid in pids)
            each = ", ".join(f"{pss(pid):.0f}" for pid in pids)
            orchestrator.terminate()
            orchestrator.wait()
            stop_launcher(workflow.store.state)
    share = used / seconds * 100
    bare = _bare(20) * 100
    return [
        Row(
            f"idle for {seconds} s, 10,000 runs",
            f"{share:.2f} % of a core, {len(pids)} processes, {memory:.0f} MB PSS ({each}); "
            f"three bare loops that wake as often {bare:.2f} %",
            "<= 0.5 %, 3 processes, <= 160 MB",
            share <= 0.5 and len(pids) == 3 and memory <= 160,
        )
    ]


def _bare(seconds: int) -> float:
    """Return the share of a core that three bare event loops use."""
    command = [sys.executable, "-c", BARE]
    start = _reported_cpu([*command, "0.1"])
    processes = [
        subprocess.Popen([*command, str(seconds)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    used = [float(process.communicate()[0]) for process in processes]
    return sum(max(0.0, one - start) for one in used) / seconds


def _reported_cpu(command: list[str]) -> float:
    """Return the CPU seconds that a process reports."""
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def daemons(directory: Path) -> list[int]:
    """Return the process ids of the server and the launchers of a workflow."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if any(
                module in line for module in (b"motoko.server.main", b"motoko.launcher.daemon")
            ) and any(os.fsencode(directory) in word for word in line):
                found.append(int(entry.name))
    return found


def cpu(pid: int) -> float:
    """Return the CPU seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def pss(pid: int) -> float:
    """Return the memory of a process in MB, its share of shared pages."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def imports() -> list[Row]:
    """Measure the worker's import and ``motoko --help``, compared with a bare interpreter."""
    bare = best(lambda: python("-c", "pass"), 15)
    worker = best(lambda: python("-c", "from motoko.worker import run, job"), 15)
    helping = best(
        lambda: timed(
            lambda: subprocess.run(
                [Path(sys.executable).with_name("motoko"), "--help"],
                check=True,
                stdout=subprocess.DEVNULL,
            )
        ),
        15,
    )
    beyond = (worker - bare) * 1000
    return [
        Row(
            "import motoko.worker beyond a bare interpreter",
            f"{beyond:.1f} ms (bare: {bare * 1000:.1f} ms)",
            "<= 15 ms",
            beyond <= 15,
        ),
        Row("motoko --help", f"{helping * 1000:.0f} ms", "<= 100 ms", helping <= 0.1),
        _completion(),
    ]


def _completion() -> Row:
    """Measure the completion of a study name as a shell requests it."""
    line = "motoko retry so"
    with tempfile.TemporaryDirectory() as name:
        directory = make_workflow(Path(name), ("solve", "prepare"), IDLE)
        output = directory / "completions"
        request = {
            "_ARGCOMPLETE": "1",
            "_ARGCOMPLETE_STDOUT_FILENAME": str(output),
            "COMP_LINE": line,
            "COMP_POINT": str(len(line)),
        }

        def complete() -> None:
            program = Path(sys.executable).with_name("motoko")
            subprocess.run([program], check=True, cwd=directory, env={**os.environ, **request})

        seconds = best(lambda: timed(complete), 15)
        assert output.read_text().strip() == "solve"
    return Row(
        "completion of a study name", f"{seconds * 1000:.0f} ms", "<= 100 ms", seconds <= 0.1
    )


def size() -> list[Row]:
    """Measure a fresh installation without extras."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name) / "env"
        venv.create(place, with_pip=True)
        pip = [place / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]
        library = next((place / "lib").iterdir()) / "site-packages"
        before = {entry.name for entry in library.iterdir()}
        subprocess.run([*pip, "install", "--quiet", ROOT], check=True)
        added = [entry for entry in library.iterdir() if entry.name not in before]
        total = sum(
            file.stat().st_size
            for entry in added
            for file in ([entry] if entry.is_file() else entry.rglob("*"))
            if file.is_file()
        )
        packages = sum(1 for entry in added if entry.name.endswith(".dist-info"))
        shutil.rmtree(place)
    megabytes = total / 2**20
    return [
        Row(
            "installed without extras",
            f"{megabytes:.0f} MB, {packages} packages",
            "<= 60 MB, <= 30 packages",
            megabytes <= 60 and packages <= 30,
        )
    ]
