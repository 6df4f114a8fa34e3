"""Processes of a workflow: activity, signals and remaining processes."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from motoko.launcher.attempt_paths import marked_token, run_directory_of, token_of
from motoko.launcher.attempt_processes import SHELL_INPUT

if TYPE_CHECKING:
    import signal

PROC = Path("/proc")
PACKER = "motoko.server.pack_process"
WINDOW = 0.004
PATIENCE = 90.0


def cpu_time(pid: int) -> int:
    """Return the CPU time of all threads of a process in nanoseconds; 0 if it exited."""
    total = 0
    with contextlib.suppress(OSError):
        for task in os.scandir(PROC / str(pid) / "task"):
            total += int(Path(task.path, "schedstat").read_text().split()[0])
    return total


def becomes_busy(pid: int, patience: float) -> bool:
    """Wait until a process uses the CPU, within a time limit; return whether it does."""
    deadline = time.monotonic() + patience
    before = cpu_time(pid)
    while time.monotonic() < deadline:
        time.sleep(WINDOW)
        now = cpu_time(pid)
        if now > before:
            return True
        before = now
    return False


def send(pid: int, number: signal.Signals) -> bool:
    """Signal one process; return whether it existed."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False


def send_group(pid: int, number: signal.Signals) -> bool:
    """Signal a process group; return whether it existed."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)
        return True
    return False


class Attempt(NamedTuple):
    """An active attempt: its wrapper process, its token and its run directory."""

    pid: int
    token: str
    directory: Path


def wrappers(directory: Path) -> list[tuple[int, str]]:
    """Return the wrappers of a workflow's runs, with the tokens of the attempts."""
    return [(attempt.pid, attempt.token) for attempt in attempts(directory)]


def attempts(directory: Path) -> list[Attempt]:
    """Return the active attempts of a workflow's runs."""
    found = []
    for pid, arguments in _processes():
        if len(arguments) > 2 and arguments[1].endswith(("/attempt.sh", "/wrapper.sh")):
            path = arguments[2]
            if Path(path).is_relative_to(directory):
                found.append(Attempt(pid, token_of(path), Path(run_directory_of(path))))
        elif arguments[1:2] == [SHELL_INPUT] and arguments[2].endswith("/attempt.sh"):
            with contextlib.suppress(OSError):  # between two attempts, or exited
                run = Path(os.readlink(PROC / str(pid) / "cwd"))
                token = marked_token(str(run))
                if token and run.is_relative_to(directory):
                    found.append(Attempt(pid, token, run))
    return found


def left(directory: Path) -> list[str]:
    """Return the processes that use a directory, except this one."""
    found = []
    for pid, arguments in _processes():
        with contextlib.suppress(OSError):
            inside = os.readlink(PROC / str(pid) / "cwd").startswith(str(directory))
            if pid != os.getpid() and (inside or str(directory) in " ".join(arguments)):
                found.append(f"{pid}: {' '.join(arguments)}")
    return found


def packer(directory: Path) -> int | None:
    """Return the process that packs the database of a workflow, if there is one."""
    for pid, arguments in _processes():
        if PACKER in arguments and any(a.startswith(str(directory)) for a in arguments):
            return pid
    return None


def _processes() -> list[tuple[int, list[str]]]:
    found = []
    for entry in os.scandir(PROC):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                line = (PROC / entry.name / "cmdline").read_bytes()
                if line:
                    found.append((int(entry.name), line.decode(errors="replace").split("\0")))
    return found


def state(pid: int) -> str:
    """Return the state letter of a process: R, S, T (stopped), Z; empty if it exited."""
    try:
        stat = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[0]


def wait_until_none_left(directory: Path) -> None:
    """Wait until all processes of a workflow below ``directory`` have exited."""
    deadline = time.monotonic() + PATIENCE
    while found := left(directory):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
