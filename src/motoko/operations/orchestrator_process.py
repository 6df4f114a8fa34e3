"""Detached orchestrators: their files, and how to start one."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from motoko.errors import MotokoError
from motoko.runtime.daemons import Daemon, PidFile, module_command, spawn_detached
from motoko.runtime.files import private_directory

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from motoko.server.state_dir import StateDir

MAX_STEM: Final = 150  # bytes of a run name in a file's name
START_SECONDS: Final = 60.0


def file_stem(run_name: str) -> str:
    """Return a run name quoted and shortened for use in a file name."""
    quoted = quote(run_name, safe=" ")
    if len(quoted) <= MAX_STEM:
        return quoted
    digest = hashlib.blake2b(run_name.encode(), digest_size=8).hexdigest()
    return f"{quoted[:MAX_STEM]}-{digest}"


def log_file(state: StateDir, run_name: str) -> Path:
    """Return the log of the detached orchestrators of a run name."""
    return state.logs / f"orchestrator-{file_stem(run_name)}.log"


def pid_file(state: StateDir, run_name: str) -> Path:
    """Return the PID file of the detached orchestrator of a run name."""
    return state.path / f"orchestrator-{file_stem(run_name)}.json"


def start_detached(state: StateDir, run_name: str, arguments: Sequence[str]) -> Daemon:
    """Start ``motoko`` with these arguments in the background; wait until it is ready.

    Raise MotokoError, with the end of its log, if it fails before.
    """
    private_directory(state.path)
    private_directory(state.logs)
    return spawn_detached(
        module_command("motoko", *arguments),
        log=log_file(state, run_name),
        timeout=START_SECONDS,
        error=MotokoError,
    )


def log_files(state: StateDir) -> list[Path]:
    """Return the logs of all detached orchestrators, past ones included."""
    return sorted(state.logs.glob("orchestrator-*.log"))


def is_writer_alive(log: Path) -> bool:
    """Return whether the orchestrator that writes a log is running."""
    return PidFile(log.parent.parent / f"{log.stem}.json").owner_alive()
