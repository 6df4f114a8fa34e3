"""Adopt orphaned processes and find the processes of an attempt by their environment."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

from motoko.runtime.processes import DEAD_STATES, PROC, identify, process_state

if TYPE_CHECKING:
    from collections.abc import Collection

    from motoko.runtime.processes import ProcessIdentity

# The variables that name an attempt; the second one in a layout of earlier versions.
ATTEMPT_VARIABLES: Final = ("MOTOKO_OUTBOX", "MOTOKO_ATTEMPT_DIR")
SET_CHILD_SUBREAPER: Final = 36  # of prctl, in linux/prctl.h
GET_CHILD_SUBREAPER: Final = 37


def become_subreaper() -> bool:
    """Adopt all orphaned descendants of this process; return whether the system supports it."""
    import ctypes  # imports slowly

    return _prctl(SET_CHILD_SUBREAPER, ctypes.c_ulong(1))


def is_subreaper() -> bool:
    """Return whether this process adopts orphaned descendants and can list them."""
    import ctypes

    found = ctypes.c_int(0)
    if not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
        return False
    return _prctl(GET_CHILD_SUBREAPER, ctypes.byref(found)) and found.value == 1


def _prctl(option: int, argument: object) -> bool:
    import ctypes

    try:
        return int(ctypes.CDLL(None).prctl(option, argument, 0, 0, 0)) == 0
    except (OSError, AttributeError):  # not Linux
        return False


def adopted_children(known: Collection[int]) -> list[int]:
    """Return the children of this process that are not ``known`` and left its session.

    A helper that this process started stays in its session. An orphan of an attempt cannot be
    there. Children of other living threads are not listed; orphans belong to the main thread.
    """
    unknown = [child for child in _children(os.getpid()) if child not in known]
    return [child for child in unknown if _session(child) != os.getsid(0)]


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:  # it has exited
        return None


def has_children(pid: int) -> bool:
    """Return whether the main thread of a process has children, as far as known."""
    return bool(_children(pid))


def _children(pid: int) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children", "rb", buffering=0) as file:
            return list(map(int, file.readall().split()))
    except OSError:
        return []


def processes_of_attempt(
    attempt: str, run: str, pids: Collection[int] | None = None
) -> list[ProcessIdentity]:
    """Return the living processes of an attempt, among ``pids`` or all processes.

    ``attempt`` is the path that the environment of its processes names. A process with another
    environment is found by its standard output or error, in the directory ``run``.
    """
    own = os.getpid()
    if pids is None:
        pids = [int(entry.name) for entry in os.scandir(PROC) if entry.name.isdigit()]
    found = (identify(pid) for pid in pids if pid != own and _belongs(pid, attempt, run))
    return [process for process in found if process is not None]


def _writes_output(pid: int, run: str) -> bool:
    """Return whether standard output or error of a process is that of the attempt."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        with contextlib.suppress(OSError):
            path = os.readlink(PROC / str(pid) / "fd" / str(number))
            if os.path.basename(path) == name and os.path.dirname(path) == os.path.realpath(run):
                return True
    return False


def _belongs(pid: int, attempt: str, run: str) -> bool:
    try:
        variables = (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False
    starts = tuple(f"{name}=".encode() for name in ATTEMPT_VARIABLES)
    end = f"/{os.path.basename(attempt)}".encode()
    for variable in variables:
        if variable.startswith(starts) and variable.endswith(end):
            path = variable.partition(b"=")[2]
            try:  # a copied workflow has attempts with the same tokens
                return path == os.fsencode(attempt) or os.path.samefile(path, attempt)
            except OSError:  # renamed if the path is gone, else another attempt
                return not os.path.exists(path)
    return _writes_output(pid, run)


def describe_process(pid: int) -> str:
    """Describe a process by its pid and command name."""
    try:
        name = (PROC / str(pid) / "comm").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return f"process {pid}"
    return f"process {pid} ({name.strip()})"


def exited_children(pids: Collection[int]) -> set[int]:
    """Return the children that exited and were not reaped."""
    return {pid for pid in pids if process_state(pid) in DEAD_STATES}


def reap(pids: Collection[int]) -> None:
    """Reap the processes that are exited children."""
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
