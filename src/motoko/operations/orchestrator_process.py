"""Detached orchestrators: their logs, and how to start one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from motoko.errors import MotokoError
from motoko.orchestrator.run_ends import executions, file_stem
from motoko.runtime.daemons import Daemon, module_command, spawn_detached
from motoko.runtime.files import private_directory
from motoko.runtime.ports import SYSTEM

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from motoko.server.state_dir import StateDir

START_SECONDS: Final = 120.0
STOP_SECONDS: Final = 20.0  # in which one that is not ready stops the services it has started


def log_file(state: StateDir, run_name: str) -> Path:
    """Return the log of the detached orchestrators of a run name."""
    return state.logs / f"orchestrator-{file_stem(run_name)}.log"


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
        grace=STOP_SECONDS,
        error=MotokoError,
    )


def log_files(state: StateDir) -> list[Path]:
    """Return the logs of all detached orchestrators, past ones included."""
    return sorted(state.logs.glob("orchestrator-*.log"))


def is_writer_alive(state: StateDir, log: Path) -> bool:
    """Return whether the orchestrator that writes a log is running."""
    now = SYSTEM.clock.now()
    return any(one.log == log and one.is_running(now) for one in executions(state).values())
