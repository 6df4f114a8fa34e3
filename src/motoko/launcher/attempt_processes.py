"""Find the wrapper of an attempt among the living processes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from motoko.launcher.attempt_paths import attempt_paths_in, token_of
from motoko.launcher.attempt_records import parse_start, read_start
from motoko.runtime.processes import PROC, identify, is_alive

if TYPE_CHECKING:
    from collections.abc import Iterable

    from motoko.runtime.processes import ProcessIdentity


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
    path = _attempt_of(arguments)
    if not path.startswith("/"):
        return False
    if path == attempt:
        return True
    try:
        return os.path.samefile(path, attempt)
    except OSError:  # one of them has since been moved or removed
        return not os.path.exists(path)


def _attempt_of(arguments: list[bytes]) -> str:
    """Return the path of the attempt among a wrapper's arguments, empty if there is none."""
    # `sh attempt.sh ATTEMPT ...`, or `bash --posix wrapper.sh ATTEMPT ...`
    names = (os.fsdecode(argument) for argument in arguments[2:4])
    return next((name for name in names if token_of(name)), "")


def find_by_token(token: str) -> ProcessIdentity | None:
    """Return the wrapper of an attempt, by its arguments."""
    for name in filter(str.isdigit, os.listdir(PROC) if (PROC / "self/cmdline").exists() else ()):
        if token_of(_attempt_of(_arguments(name))) == token:
            return identify(int(name))
    return None


def _arguments(pid: str) -> list[bytes]:
    try:
        return (PROC / pid / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return []
