"""Processes that left their parents: who becomes the parent, and what they were started with."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

from motoko.runtime.processes import DEAD_STATES, PROC, identify, state_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from motoko.runtime.processes import ProcessIdentity

ATTEMPT: Final = "MOTOKO_ATTEMPT_DIR"  # the variable that names an attempt's private directory
SET_CHILD_SUBREAPER: Final = 36  # of prctl, in linux/prctl.h
GET_CHILD_SUBREAPER: Final = 37


def become_subreaper() -> bool:
    """Become the parent of all descendants that lose theirs; return whether the system can do so.

    Without that they become children of the system's first process.
    """
    import ctypes  # takes as long to import as all of the above

    return _prctl(SET_CHILD_SUBREAPER, ctypes.c_ulong(1))


def is_subreaper() -> bool:
    """Return whether this process becomes the parent of descendants that lose theirs.

    False where it could not find them.
    """
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


def adopted(known: Collection[int]) -> list[int]:
    """Return the children of this process that are not ``known``; those it adopted among them.

    Children that other threads have started are left out as long as these live: orphans go to the
    main thread.
    """
    pid = os.getpid()
    try:
        with open(f"/proc/self/task/{pid}/children", "rb", buffering=0) as file:
            content = file.readall()
    except OSError:
        return []
    return [child for child in map(int, content.split()) if child not in known]


def of_attempt(private: str, pids: Collection[int] | None = None) -> list[ProcessIdentity]:
    """Return the living processes, of these or of all, that an attempt's environment was given to.

    ``private`` is the attempt's private directory. A process that was started with another
    environment is found as long as it has the attempt's standard output or errors.
    """
    own = os.getpid()
    if pids is None:
        pids = [int(entry.name) for entry in os.scandir(PROC) if entry.name.isdigit()]
    found = (identify(pid) for pid in pids if pid != own and _belongs(pid, private))
    return [process for process in found if process is not None]


def _writes_output(pid: int, private: str) -> bool:
    """Return whether a process has the files that an attempt's script prints to, as its own."""
    run = os.path.dirname(os.path.dirname(private))
    for number, name in ((1, "stdout"), (2, "stderr")):
        with contextlib.suppress(OSError):
            path = os.readlink(PROC / str(pid) / "fd" / str(number))
            if os.path.basename(path) == name and os.path.dirname(path) == os.path.realpath(run):
                return True
    return False


def _belongs(pid: int, private: str) -> bool:
    try:
        variables = (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False
    start, end = f"{ATTEMPT}=".encode(), f"/{os.path.basename(private)}".encode()
    for variable in variables:
        if variable.startswith(start) and variable.endswith(end):
            path = variable.removeprefix(start)
            try:  # a copy of a workflow has attempts of the same tokens
                return path == os.fsencode(private) or os.path.samefile(path, private)
            except OSError:  # renamed since, if it is not where it was; else another's
                return not os.path.exists(path)
    return _writes_output(pid, private)


def name_of(pid: int) -> str:
    """Return what people know a process by: its pid and its command's name."""
    try:
        name = (PROC / str(pid) / "comm").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return f"process {pid}"
    return f"process {pid} ({name.strip()})"


def ended_among(pids: Collection[int]) -> set[int]:
    """Return those of these children that have ended and were not collected."""
    return {pid for pid in pids if state_of(pid) in DEAD_STATES}


def collect(pids: Collection[int]) -> None:
    """Collect those of these processes that are children and have ended."""
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
