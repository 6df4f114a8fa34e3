"""Requests to a running launcher: files in ``.wf/launcher.requests``, and a signal to look there.

A request was carried out when its file is gone.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import signal
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from motoko.errors import LauncherError
from motoko.runtime.files import private_directory, write_atomic
from motoko.runtime.processes import current, is_alive

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from motoko.runtime.processes import ProcessIdentity
    from motoko.server.state_dir import StateDir

WAKE: Final = signal.SIGUSR1
RECALL: Final = "recall"
RESUME: Final = "resume"
END: Final = "end"
SUFFIX: Final = ".json"
LOOK: Final = 0.01


@dataclass(frozen=True, slots=True)
class ControlRequest:
    """``recall``: stop the runs of a run name (None: all) and make them CREATED, claim no more of
    them; ``resume``: claim them again; ``end``: end the launcher, and let its runs go on.

    ``unless_orchestrated``: leave the run name alone if an orchestrator has it again by then.
    """

    action: str
    run_name: str | None = None
    unless_orchestrated: bool = False


def requests_directory(state: StateDir) -> Path:
    """Return where requests are put."""
    return state.path / "launcher.requests"


def submit(
    state: StateDir,
    launcher: ProcessIdentity,
    request: ControlRequest,
    *,
    timeout: float,
    lives: Callable[[], bool] | None = None,
) -> None:
    """Have a launcher do something and wait until it is done, or the launcher no longer ``lives``.

    By default its process tells whether it does. One that cannot be signalled, as in another
    container, finds the request a little later. LauncherError if that takes longer than ``timeout``
    seconds, after it has done what it was asked to do before.
    """
    lives = lives or (lambda: is_alive(launcher))
    directory = private_directory(requests_directory(state))
    # In the order of their names they are served.
    path = directory / f"{launcher.label}-{time.monotonic_ns():020d}-{secrets.token_hex(6)}{SUFFIX}"
    write_atomic(path, json.dumps(asdict(request)).encode())
    deadline, before = math.inf, -1
    try:
        if is_alive(launcher):
            os.kill(launcher.pid, WAKE)
        while path.exists() and lives():
            ahead = sum(other < path for other in directory.glob(f"{launcher.label}-*{SUFFIX}"))
            if ahead != before:
                deadline, before = time.monotonic() + timeout, ahead
            if time.monotonic() > deadline:
                raise LauncherError(
                    f"the launcher (process {launcher.pid}) did not {request.action} "
                    f"within {timeout:g} s",
                    hint=f"Its log is {state.logs / 'launcher.log'}.",
                )
            time.sleep(LOOK)
    finally:
        path.unlink(missing_ok=True)


def pending(state: StateDir) -> list[tuple[Path, ControlRequest]]:
    """Return the requests to this process that were not carried out yet, in the order asked."""
    found: list[tuple[Path, ControlRequest]] = []
    for path in sorted(requests_directory(state).glob(f"{current().label}-*{SUFFIX}")):
        try:
            found.append((path, ControlRequest(**json.loads(path.read_bytes()))))
        except (OSError, ValueError, TypeError):
            path.unlink(missing_ok=True)
    return found
