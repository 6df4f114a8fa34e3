"""Find the wrapper of an attempt among the living processes."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

from motoko.launcher.attempt_paths import (
    attempt_paths_in,
    marked_token,
    run_directory_of,
    token_of,
)
from motoko.launcher.attempt_records import parse_start, read_start
from motoko.runtime.processes import PROC, identify, is_alive

if TYPE_CHECKING:
    from collections.abc import Iterable

    from motoko.runtime.processes import ProcessIdentity

SHELL_INPUT: Final = "/dev/stdin"  # the argument of a shell that runs several attempts
REMOVED: Final = " (deleted)"


def find_process_in(directory: str) -> ProcessIdentity | None:
    """Return the living wrapper of an attempt in a run directory, None if there is none."""
    return find_wrapper(attempt_paths_in(directory))


def find_wrapper(attempts: Iterable[str]) -> ProcessIdentity | None:
    """Return the living wrapper of one of the attempts with these paths, None if there is none."""
    for attempt in attempts:
        start = parse_start(read_start(attempt).text)
        if start is not None and is_wrapper_running(start.process, attempt):
            return start.process
    return None


def is_wrapper_running(process: ProcessIdentity, attempt: str) -> bool:
    """Return whether a process is alive, and is the wrapper of the attempt with this path.

    It is not if the attempt is a copy, or if another process wrote the start record.
    """
    if not is_alive(process):
        return False
    arguments = _arguments(str(process.pid))
    if not arguments:
        return True  # unknown on this system
    if _is_shared(arguments):
        return _works_in(process.pid, arguments, attempt)
    path = _attempt_of(arguments)
    if not path.startswith("/"):
        return False
    return _is_same(path, attempt)


def _attempt_of(arguments: list[bytes]) -> str:
    """Return the path of the attempt among a wrapper's arguments, empty if there is none."""
    # `sh attempt.sh ATTEMPT ...`, or `bash --posix wrapper.sh ATTEMPT ...`
    names = (os.fsdecode(argument) for argument in arguments[2:4])
    return next((name for name in names if token_of(name)), "")


def runs_several_attempts(pid: int) -> bool:
    """Return whether a process is a shell that a launcher uses for several attempts."""
    return _is_shared(_arguments(str(pid)))


def _is_shared(arguments: list[bytes]) -> bool:
    # `sh /dev/stdin .../attempt.sh RUNS_DIRECTORY`
    script = arguments[2] if len(arguments) > 2 else b""
    return arguments[1:2] == [SHELL_INPUT.encode()] and script.endswith(b"/attempt.sh")


def _works_in(pid: int, arguments: list[bytes], attempt: str) -> bool:
    """Return whether the working directory of a shared shell is that of an attempt."""
    directory, run = str(PROC / str(pid) / "cwd"), run_directory_of(attempt)
    with contextlib.suppress(OSError):
        if os.path.samefile(directory, run):
            return True
    # The run directory may have been moved or removed, but not in a copy of the workflow.
    return _is_in_root(arguments, run) and (
        _is_removed(directory, run) or marked_token(directory) == token_of(attempt)
    )


def _is_in_root(arguments: list[bytes], run: str) -> bool:
    """Return whether a run directory is in the directory that a shared shell names."""
    root = os.fsdecode(arguments[3]) if len(arguments) > 3 else ""
    return _is_same(root, os.path.dirname(run))


def _is_same(path: str, other: str) -> bool:
    if path == other:
        return True
    try:
        return os.path.samefile(path, other)
    except OSError:  # one of them has since been moved or removed
        return not os.path.exists(path)


def _is_removed(link: str, run: str) -> bool:
    """Return whether a working directory was removed and had the name of a run directory."""
    try:
        name = os.path.basename(os.readlink(link))
    except OSError:
        return False
    return name == os.path.basename(run) + REMOVED


def search_wrapper(attempt: str) -> ProcessIdentity | None:
    """Return the wrapper of an attempt by the token in its arguments or its working directory.

    If the run directory was removed, its name identifies it.
    """
    token, run = token_of(attempt), run_directory_of(attempt)
    for name in filter(str.isdigit, os.listdir(PROC) if (PROC / "self/cmdline").exists() else ()):
        arguments, directory = _arguments(name), f"{PROC}/{name}/cwd"
        if token_of(_attempt_of(arguments)) == token:
            return identify(int(name))
        if _is_shared(arguments) and (
            marked_token(directory) == token
            or (_is_in_root(arguments, run) and _is_removed(directory, run))
        ):
            return identify(int(name))
    return None


def _arguments(pid: str) -> list[bytes]:
    try:
        return (PROC / pid / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return []
