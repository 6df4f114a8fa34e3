"""What passes between an attempt's wrapper and launchers through files, read and written.

``start``: ``process PID``, boot id, the line of ``/proc/PID/stat``, PID namespace and host, by the
wrapper; or
``launcher NAME``, by one that took the attempt back. ``exit``: ``exit STATUS``, by the wrapper.
``stop``: the outcome for which a launcher ends the attempt, written before the first signal.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from motoko.core.states import Lifecycle
from motoko.launcher.directory import PRIVATE, marked
from motoko.launcher.engine import Evidence
from motoko.runtime.files import write_atomic
from motoko.runtime.processes import PROC, ProcessId, identify, is_alive

if TYPE_CHECKING:
    from motoko.launcher.directory import Place

START: Final = "start"
EXIT: Final = "exit"
STOP: Final = "stop"
TAKEN: Final = "launcher "
PROCESS: Final = "process "


def look(place: Place) -> tuple[Evidence, ProcessId | None]:
    """Return what there is to know of an attempt now, and its process if that is known."""
    start = _read(place, START)
    if start is None:
        return Evidence(status=exit_status(place)), None
    process = parse_start(start)
    alive = process is not None and works(process, place.private)
    # The exit record is read last: a process that was seen dead has left it by then, or never.
    evidence = Evidence(
        started=True,
        taken_back=start.startswith(TAKEN),
        known=process is not None,
        alive=alive,
        status=exit_status(place),
    )
    return evidence, process


def taken_by(launcher: str) -> bytes:
    """Return what a launcher writes into the start file of an attempt that it takes back."""
    return f"{TAKEN}{launcher}\n".encode()


def parse_start(text: str) -> ProcessId | None:
    """Return the process that a start file names, None if it names none or is incomplete."""
    lines = text.split("\n")
    if len(lines) < 4 or not lines[0].startswith(PROCESS):
        return None
    pid = int(lines[0].removeprefix(PROCESS))
    if not lines[2]:  # no /proc here: the pid alone has to do
        found = identify(pid)
        return found or ProcessId(pid, 0, lines[1])
    # The command's name is in parentheses and may contain anything, parentheses too.
    fields = lines[2][lines[2].rindex(")") + 2 :].split()
    namespace, host = lines[3:5] if len(lines) > 5 else ("", "")  # an older wrapper wrote neither
    return ProcessId(pid, int(fields[19]), lines[1], int(namespace or 0), host)


def exit_status(place: Place) -> int | None:
    """Return the exit record's status, None if there is no complete one."""
    words = (_read(place, EXIT) or "").split(" ")
    if len(words) == 2 and words[1].endswith("\n") and words[1].strip().isdigit():
        return int(words[1])
    return None


def file_time(place: Place, name: str) -> float | None:
    """Return when a file of the attempt was written, in seconds since the epoch."""
    try:
        return place.file(name).stat().st_mtime
    except FileNotFoundError:
        return None


def stopped_for(place: Place) -> Lifecycle | None:
    """Return the outcome for which a launcher ended the attempt, CREATED if it was recalled."""
    word = (_read(place, STOP) or "").strip()
    return Lifecycle(word) if word in Lifecycle.__members__ else None


def note_stop(place: Place, outcome: Lifecycle) -> None:
    """Note why the attempt is about to be ended, for whoever harvests it."""
    write_atomic(place.file(STOP), f"{outcome.value}\n".encode())


def working_in(run: str) -> ProcessId | None:
    """Return the living process of an attempt that a run directory holds, None if there is none."""
    for start in Path(run, PRIVATE).glob(f"*/{START}"):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # moved meanwhile
            process = parse_start(start.read_text(encoding="utf-8", errors="replace"))
            if process is not None and works(process, start.parent):
                return process
    return None


def works(process: ProcessId, attempt: str | Path) -> bool:
    """Return whether a wrapper lives and is that of the attempt with this private directory.

    It is another's where the directory is a copy of the one that it was started with.
    """
    if not is_alive(process):
        return False
    path = next(iter(_arguments(str(process.pid))[2:3]), b"")
    try:
        return not path.startswith(b"/") or os.path.samefile(path, attempt)
    except OSError:  # it was renamed since
        return True


def find_by_token(token: str) -> ProcessId | None:
    """Return the wrapper process that was started for an attempt, by its arguments."""
    wanted = f"/{token}".encode()
    pids = (entry.name for entry in os.scandir(PROC) if entry.name.isdigit()) if _proc() else ()
    for name in pids:
        if any(argument.endswith(wanted) for argument in _arguments(name)[2:3]):
            return identify(int(name))
    return None


def _arguments(pid: str) -> list[bytes]:
    """Return the arguments of a process, none where they are not known."""
    try:
        return (PROC / pid / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def _proc() -> bool:
    return (PROC / "self/cmdline").exists()


def _read(place: Place, name: str) -> str | None:
    try:
        return place.file(name).read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None


def taken_away(place: Place) -> bool:
    """Return whether another launcher took the attempt back, or moved its directory aside."""
    return look(place)[0].taken_back or marked(place.run) != (place.attempt, place.stamp)


def ran(place: Place) -> bool:
    """Return whether the attempt's wrapper came to run its command."""
    return (_read(place, START) or "").startswith(PROCESS)
