"""The executions that the notifier watches: one file each in ``.wf/notify``.

The orchestrator writes the file when it starts. The notifier removes it when the execution has
ended and its notifications are recorded. A killed notifier leaves it to the next one.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from motoko.runtime.files import private_directory, write_atomic
from motoko.runtime.untrusted_files import read_file

if TYPE_CHECKING:
    from pathlib import Path

    from motoko.server.state_dir import StateDir


@dataclass(frozen=True, slots=True)
class WatchedExecution:
    """An execution: its token in ``.wf/ends``, and its start in seconds since the epoch."""

    run_name: str
    token: str
    started: float

    def file_in(self, state: StateDir) -> Path:
        """Return the file of the execution."""
        return state.notify / f"{self.token}.json"


def add_watched(state: StateDir, execution: WatchedExecution) -> None:
    """Let the notifier watch an execution."""
    private_directory(state.notify)
    write_atomic(execution.file_in(state), json.dumps(asdict(execution)).encode())


def watched_executions(state: StateDir) -> list[WatchedExecution]:
    """Return the watched executions; remove invalid files."""
    found = []
    for path in sorted(state.notify.glob("*.json")):
        try:
            stored = json.loads(read_file(path).text)
            one = WatchedExecution(
                str(stored["run_name"]), str(stored["token"]), float(stored["started"])
            )
            if one.file_in(state) != path:
                raise ValueError(one.token)
            found.append(one)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, TypeError, LookupError, RecursionError):
            path.unlink(missing_ok=True)
    return found


def forget_executions(state: StateDir) -> None:
    """Stop watching all executions."""
    for path in state.notify.glob("*.json"):
        path.unlink(missing_ok=True)


def remove_watched(state: StateDir, execution: WatchedExecution) -> None:
    """Stop watching an execution."""
    execution.file_in(state).unlink(missing_ok=True)
