"""Start daemons, wait until they are ready, and find them by pid files.

A daemon that was started with ``ready_fd`` announces readiness through the pipe whose descriptor is
in ``MOTOKO_READY_FD`` (``announce_ready``, ``announce_failure``). A second number there is the
descriptor of a lock that the daemon holds until then.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from motoko.errors import LauncherError, MotokoError
from motoko.runtime import fault_points, file_lock, files, processes
from motoko.runtime.descendants import ATTEMPT_VARIABLES
from motoko.runtime.processes import Liveness, ProcessIdentity
from motoko.runtime.untrusted_files import read_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from motoko.runtime.file_lock import FileLock

READY_FD: Final = "MOTOKO_READY_FD"
READY: Final = "ok"
FAILURE: Final = "error:"
LAST_LINES: Final = 10
TAIL_BYTES: Final = 8192
NAME_LENGTH: Final = 80
COLLECT_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Daemon:
    """A started daemon: its process, log and announcement."""

    process: ProcessIdentity
    log: Path
    announced: str


def module_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module with this Python, without the current directory."""
    return [sys.executable, "-P", "-m", module, *arguments]


def spawn_detached(
    args: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    ready_fd: bool = True,
    holding: FileLock | None = None,
    timeout: float = 30.0,
    grace: float = 0.0,
    error: type[MotokoError] = LauncherError,
) -> Daemon:
    """Start ``args`` in a new session, append its output to ``log`` (0600), umask 077.

    With ``ready_fd`` wait until it announces readiness. Raise ``error`` with the failure that it
    announces, or with its last log lines if it exits or is not ready within ``timeout`` seconds;
    then terminate it, and kill it ``grace`` seconds later. The daemon inherits the lock ``holding``
    until it is ready, in case this process exits first. This function blocks: call it in a thread.
    """
    environment = dict(os.environ if env is None else env)
    # A daemon that a run starts outlives the run and does not belong to it.
    for name in (READY_FD, *ATTEMPT_VARIABLES):
        environment.pop(name, None)
    before = 0
    try:
        with open(log, "ab", opener=_open_private) as output:
            before = output.tell()
            options = {"stdout": output, "stderr": output, "env": environment, "cwd": cwd}
            if ready_fd:
                child, announced = _start_and_wait(args, options, timeout, grace, holding)
            else:
                child, announced = _start(args, options), READY
    except OSError as problem:
        raise error(f"{_name(args)} cannot be started: {problem}") from problem
    if announced is not None and announced.startswith(READY) and child.process is not None:
        return Daemon(child.process, log, announced.removeprefix(READY).strip())
    message, *advice = _problem(announced, _name(args), child, timeout).splitlines()
    child.end(grace)
    explained = announced is not None and announced.startswith(FAILURE)
    where = f"The log is {log}." if explained else _tail(log, before)
    raise error(message, hint="\n  ".join([*map(str.strip, advice), where]))


@dataclass(frozen=True, slots=True)
class _Child:
    popen: subprocess.Popen[bytes]
    process: ProcessIdentity | None
    reaper: threading.Thread

    def end(self, grace: float) -> None:
        if self.process is not None and grace > 0:
            processes.signal_process(self.process, signal.SIGTERM)
            self.reaper.join(grace)
        if self.process is not None:
            processes.signal_group(self.process, signal.SIGKILL)
        self.reaper.join(COLLECT_SECONDS)


def _start(args: Sequence[str], options: dict[str, Any]) -> _Child:
    popen = subprocess.Popen(
        list(args), stdin=subprocess.DEVNULL, start_new_session=True, umask=0o077, **options
    )
    process = processes.identify(popen.pid)  # before anything can reap it
    reaper = threading.Thread(target=popen.wait, name=f"wait-{popen.pid}", daemon=True)
    reaper.start()
    return _Child(popen, process, reaper)


def _start_and_wait(
    args: Sequence[str],
    options: dict[str, Any],
    timeout: float,
    grace: float,
    holding: FileLock | None,
) -> tuple[_Child, str | None]:
    """Start the child; return it with its announcement, or None on timeout."""
    read_end, write_end = os.pipe()
    locked = None if holding is None else holding.descriptor
    passed = (write_end,) if locked is None else (write_end, locked)
    child: _Child | None = None
    try:
        with processes.defer_signals():
            try:
                options["env"][READY_FD] = ",".join(map(str, passed))
                child = _start(args, {**options, "pass_fds": passed})
            finally:
                os.close(write_end)  # the pipe must end with the child
        return child, _read_announcement(read_end, timeout)
    except BaseException:  # Ctrl-C must not leave a half-started daemon
        if child is not None:
            child.end(grace)
        raise
    finally:
        os.close(read_end)


def _open_private(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_CLOEXEC, files.PRIVATE_FILE)
    os.fchmod(descriptor, files.PRIVATE_FILE)
    return descriptor


def _read_announcement(descriptor: int, timeout: float) -> str | None:
    deadline = time.monotonic() + timeout
    content = b""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.monotonic())):
            chunk = os.read(descriptor, 65536)
            content += chunk
            if not chunk or (content.startswith(READY.encode()) and content.endswith(b"\n")):
                return content.decode(errors="replace").strip()
    return None


def _problem(announced: str | None, name: str, child: _Child, timeout: float) -> str:
    if announced is None:
        return f"{name} was not ready within {timeout:g} s and was killed"
    child.reaper.join(COLLECT_SECONDS)
    if announced and not announced.startswith(READY):
        return announced.removeprefix(FAILURE).strip() or f"{name} did not start"
    status = child.popen.returncode
    if status is None:
        return f"{name} closed its readiness pipe without an announcement"
    ended = f"was killed by signal {-status}" if status < 0 else f"ended with exit status {status}"
    return f"{name} {ended} before it was ready"


def _name(args: Sequence[str]) -> str:
    text = " ".join(" ".join(args).split())
    return text if len(text) <= NAME_LENGTH else f"{text[:NAME_LENGTH]}..."


def read_tail(log: Path, start: int) -> list[str]:
    """Return the last lines of a log, from byte ``start`` at the earliest."""
    with log.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(start, end - TAIL_BYTES))
        return file.read().decode(errors="replace").splitlines()


def _tail(log: Path, start: int) -> str:
    lines = read_tail(log, start)[-LAST_LINES:]
    if not lines:
        return f"It logged nothing in {log}."
    return "\n  ".join([f"The last lines of {log}:", *lines])


def announce_ready(message: str = "") -> None:
    """Announce readiness to the process that started this daemon, if it waits."""
    fault_points.point("daemons.before_ready")
    _announce(f"{READY} {message}".strip())


def announce_failure(reason: str) -> None:
    """Announce a start failure to the process that started this daemon, if it waits."""
    _announce(f"{FAILURE} {reason}")


def _announce(line: str) -> None:
    numbers = [int(number) for number in os.environ.pop(READY_FD, "").split(",") if number]
    for locked in numbers[1:]:  # first: the parent holds the lock until the announcement
        os.close(locked)
    for pipe in numbers[:1]:
        with suppress(BrokenPipeError):  # the parent exited; the daemon continues
            os.write(pipe, line.encode() + b"\n")
        os.close(pipe)


@dataclass(frozen=True, slots=True)
class PidRecord:
    """The content of a pid file: process, host, and additional information.

    ``directory`` is the path under which the process knew the directory of the file.
    """

    process: ProcessIdentity
    host: str
    info: Mapping[str, Any]
    directory: Path | None = None


@dataclass(slots=True)
class PidFile:
    """A file that identifies the process of a daemon. It informs; only a lock excludes.

    The writer keeps it locked until it exits. So processes in other containers of the same machine,
    which cannot see the daemon, still know that it is alive.

    The file is valid in the directory it was written to, even if that is renamed. A copy in another
    directory is ignored.
    """

    path: Path
    _locked: int | None = field(default=None, repr=False, compare=False)

    def write(self, process: ProcessIdentity | None = None, /, **info: Any) -> None:
        """Record ``process`` (default: this one) as the owner, with JSON data ``info``."""
        content = {
            "process": asdict(process or processes.current()),
            "host": os.uname().nodename,
            "info": info,
            "home": {"path": str(self.path.parent), "inode": files.file_identity(self.path.parent)},
        }
        former, self._locked = self._locked, None

        def keep_locked(descriptor: int) -> None:
            self._locked = (
                file_lock.lock_for_process_lifetime(descriptor) if process is None else None
            )

        files.write_atomic(self.path, json.dumps(content).encode(), prepare=keep_locked)
        if former is not None:
            os.close(former)

    def read(self) -> PidRecord | None:
        """Return the content; None if the file does not exist, is invalid or is a copy."""
        try:
            content = json.loads(read_file(self.path).text)
            process = replace(ProcessIdentity(**content["process"]), host=str(content["host"]))
            if not all(isinstance(n, int) for n in (process.pid, process.started)):
                return None
            known = content.get("home")  # missing in files of older versions
            if known is not None and known["inode"] != files.file_identity(self.path.parent):
                return None
            directory = None if known is None else Path(known["path"])
            return PidRecord(process, content["host"], content["info"], directory)
        except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return None

    def owner_alive(self) -> bool:
        """Return whether the owner is alive on this machine."""
        record = self.read()
        if record is None:
            return False
        found = processes.liveness(record.process)
        if found is Liveness.UNKNOWN and record.process.boot == processes.boot_id():
            return file_lock.is_locked(self.path)
        return found is Liveness.ALIVE

    def is_own(self, process: ProcessIdentity | None = None) -> bool:
        """Return whether ``process`` (default: this one) is the owner."""
        record = self.read()
        return record is not None and record.process.is_same(process or processes.current())

    def remove(self, process: ProcessIdentity | None = None) -> None:
        """Remove the file if ``process`` (default: this one) is the owner."""
        if self.is_own(process):
            self.path.unlink(missing_ok=True)
        self._unlock()

    def _unlock(self) -> None:
        descriptor, self._locked = self._locked, None
        if descriptor is not None:
            os.close(descriptor)
