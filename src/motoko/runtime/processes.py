"""Identify processes safely although pids are reused.

A process is identified by its pid, start time, boot id and PID namespace. It is visible only from
the same machine and namespace; elsewhere its state is unknown.
"""

from __future__ import annotations

import calendar
import contextlib
import functools
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from motoko.errors import MotokoError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from motoko.runtime.ports import Clock

TERMINATION_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
KILL_SECONDS: Final = 5.0
POLL_SECONDS: Final = 0.02
FIRST_POLL_SECONDS: Final = 0.005
LAST_POLL_SECONDS: Final = 0.1
DEAD_STATES: Final = frozenset("ZXx")
STOPPED_STATES: Final = frozenset("Tt")
PROC: Final = Path("/proc")
STAT_BYTES: Final = 4096  # of /proc/PID/stat, which has less than 1500


class Liveness(Enum):
    """Whether a process is alive; UNKNOWN if it is not visible from here."""

    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "cannot be seen"


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process: pid, start time (clock ticks since boot; seconds without /proc), boot id.

    ``namespace`` is the inode of its PID namespace (0: unknown), ``host`` the name of its machine
    (empty: unknown).
    """

    pid: int
    started: int
    boot: str
    namespace: int = 0
    host: str = ""

    def plain(self) -> tuple[int, int, str, int, str]:
        """Return the fields in order; ``ProcessIdentity(*fields)`` reads them.

        Records of older versions have the first three only.
        """
        return self.pid, self.started, self.boot, self.namespace, self.host

    @property
    def label(self) -> str:
        """Return a name for files of the process; pids alone recur in containers."""
        return f"{self.pid}-{self.started}-{self.namespace}"

    def is_same(self, other: ProcessIdentity) -> bool:
        """Return whether both identify the same process, as far as known."""
        mine, its = (self.pid, self.started, self.boot), (other.pid, other.started, other.boot)
        return mine == its and (
            self.namespace == other.namespace or 0 in (self.namespace, other.namespace)
        )


@dataclass(frozen=True, slots=True)
class _ProcStat:
    state: str
    group: int
    started: int


def identify(pid: int) -> ProcessIdentity | None:
    """Return the identity of the living process ``pid``, or None."""
    seen = _read_stat(pid)
    if seen is None or seen.state in DEAD_STATES:
        return None
    return ProcessIdentity(pid, seen.started, boot_id(), pid_namespace(), host())


def current() -> ProcessIdentity:
    """Return the identity of this process."""
    if _has_proc() and os.readlink(PROC / "self") != str(os.getpid()):
        raise MotokoError(
            "/proc shows the processes of another PID namespace",
            hint="Mount /proc in this one; `unshare` does so with --mount-proc.",
        )
    process = identify(os.getpid())
    if process is None:
        raise MotokoError(
            "the start time of this process cannot be determined",
            hint="Motoko needs /proc (Linux) or the ps command.",
        )
    return process


def liveness(process: ProcessIdentity) -> Liveness:
    """Return whether ``process`` is alive; a zombie is dead."""
    if not is_visible(process):
        return Liveness.DEAD if predates_boot(process) else Liveness.UNKNOWN
    found = identify(process.pid)
    return Liveness.ALIVE if found is not None and found.is_same(process) else Liveness.DEAD


def predates_boot(process: ProcessIdentity) -> bool:
    """Return whether this machine was rebooted since ``process`` started."""
    return process.boot != boot_id() and process.host == host()


def is_alive(process: ProcessIdentity) -> bool:
    """Return whether ``process`` is known to be alive."""
    return liveness(process) is Liveness.ALIVE


def is_stopped(process: ProcessIdentity) -> bool:
    """Return whether ``process`` is stopped (SIGSTOP); False if it is not visible."""
    seen = _read_stat(process.pid) if is_visible(process) else None
    if seen is None or seen.started != process.started:
        return False
    return seen.state in STOPPED_STATES


def suspension(process: ProcessIdentity) -> str:
    """Return a remark with the remedy if ``process`` is stopped (SIGSTOP), else an empty text."""
    if not is_stopped(process):
        return ""
    return f", suspended (SIGSTOP): `kill -CONT {process.pid}` continues it"


def keeps_lease(process: ProcessIdentity, *, renewed: bool) -> bool:
    """Return whether a process still holds a lease; ``renewed``: it renewed the lease in time.

    A living process keeps it however late it is, unless it is stopped (SIGSTOP). If the process is
    not visible, the renewal decides.
    """
    found = liveness(process)
    if found is Liveness.ALIVE:
        seen = _read_stat(process.pid)
        return renewed or (seen is not None and seen.state not in STOPPED_STATES)
    return renewed and found is Liveness.UNKNOWN


def is_visible(process: ProcessIdentity) -> bool:
    """Return whether the process belongs to this machine and PID namespace."""
    if process.boot != boot_id() or process.namespace not in (0, pid_namespace()):
        return False
    # Without boot ids only the name distinguishes machines.
    return bool(process.boot) or process.host in ("", host())


def signal_group(process: ProcessIdentity, number: signal.Signals) -> bool:
    """Signal the process group that ``process`` leads; return whether it was sent.

    A zombie leader counts: its children may be alive. A process that leads no group gets the
    signal alone. Nothing is sent if the pid now belongs to another process.
    """
    seen = _read_stat(process.pid) if is_visible(process) else None
    leads = seen is not None and seen.group == process.pid
    return _signal(process, seen, number, os.killpg if leads else os.kill)


def signal_process(process: ProcessIdentity, number: signal.Signals) -> bool:
    """Signal ``process`` alone if its pid is still its own; return whether it was sent."""
    seen = _read_stat(process.pid) if is_visible(process) else None
    return _signal(process, seen, number, os.kill)


def _signal(
    process: ProcessIdentity,
    seen: _ProcStat | None,
    number: signal.Signals,
    send: Callable[[int, int], None],
) -> bool:
    if seen is None or seen.started != process.started:
        return False
    with contextlib.suppress(ProcessLookupError):
        send(process.pid, number)
        return True
    return False


@contextlib.contextmanager
def defer_signals() -> Iterator[None]:
    """Defer Python signal handlers to the end of the block.

    A handler then knows every process that the block starts. Other threads than the main one run
    no handlers, so the block changes nothing there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    handled = [number for number in TERMINATION_SIGNALS if callable(signal.getsignal(number))]
    former = {n: signal.signal(n, lambda number, _: received.append(number)) for n in handled}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        for caught in received:
            signal.raise_signal(caught)


async def terminate(process: ProcessIdentity, grace: float) -> bool:
    """Terminate ``process``, then the rest of its group: TERM, ``grace`` seconds, then KILL.

    The group does not get TERM with its leader: a run that a launcher is just starting is in the
    group, and would end before its script starts. Return whether all have exited.
    """
    if not signal_process(process, signal.SIGTERM):
        return True
    if await _wait_for_exit(process, grace, group=False):
        _signal_orphans(process, signal.SIGTERM)
        if await _wait_for_exit(process, grace):
            return True
    if not signal_group(process, signal.SIGKILL):
        _signal_orphans(process, signal.SIGKILL)
    return await _wait_for_exit(process, KILL_SECONDS)


def _signal_orphans(leader: ProcessIdentity, number: signal.Signals) -> None:
    # The system does not reuse the number of a group that has a member.
    if identify(leader.pid) is None and group_members(leader.pid):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(leader.pid, number)


def wait_until_dead(is_running: Callable[[], bool], seconds: float, clock: Clock) -> bool:
    """Block until ``is_running`` returns False, for at most ``seconds``; return whether it did."""
    deadline = clock.monotonic() + seconds
    while is_running():
        if clock.monotonic() > deadline:
            return False
        clock.sleep(POLL_SECONDS)
    return True


async def _wait_for_exit(process: ProcessIdentity, seconds: float, *, group: bool = True) -> bool:
    import anyio  # imports slowly

    pause, deadline = FIRST_POLL_SECONDS, time.monotonic() + seconds
    while is_alive(process) or (group and group_members(process.pid)):
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        await anyio.sleep(min(pause, left))
        pause = min(2 * pause, LAST_POLL_SECONDS)
    return True


def group_members(group: int) -> list[int]:
    """Return the pids of the living processes of a process group."""
    if not _has_proc():
        return _ps_group(group)
    pids = (int(entry.name) for entry in os.scandir(PROC) if entry.name.isdigit())
    found = ((pid, _read_stat(pid)) for pid in pids)
    return [
        pid
        for pid, seen in found
        if seen is not None and seen.group == group and seen.state not in DEAD_STATES
    ]


def process_state(pid: int) -> str:
    """Return the state letter of a process, or an empty text if it does not exist."""
    seen = _read_stat(pid)
    return "" if seen is None else seen.state


@functools.cache
def boot_id() -> str:
    """Return the id of this boot of the machine; empty if unknown."""
    with contextlib.suppress(OSError):
        return (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""


@functools.cache
def pid_namespace() -> int:
    """Return the inode of this PID namespace; 0 if unknown."""
    with contextlib.suppress(OSError):
        return (PROC / "self/ns/pid").stat().st_ino
    return 0


def host() -> str:
    """Return the name of this machine, or of this container."""
    return os.uname().nodename


@functools.cache
def _has_proc() -> bool:
    return (PROC / "self/stat").exists()


def _read_stat(pid: int) -> _ProcStat | None:
    return _read_proc_stat(pid) if _has_proc() else _read_stat_with_ps(pid)


def _read_proc_stat(pid: int) -> _ProcStat | None:
    try:
        descriptor = os.open(f"{PROC}/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            stat = os.read(descriptor, STAT_BYTES)
        finally:
            os.close(descriptor)
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command name is in parentheses and may itself contain parentheses.
    rest = stat[stat.rindex(b")") + 2 :].split()
    return _ProcStat(state=rest[0].decode(), group=int(rest[2]), started=int(rest[19]))


def _read_stat_with_ps(pid: int) -> _ProcStat | None:
    fields = _ps("-o", "state=,pgid=,lstart=", "-p", str(pid)).split(maxsplit=2)
    if len(fields) != 3:
        return None
    started = calendar.timegm(time.strptime(fields[2].strip(), "%a %b %d %H:%M:%S %Y"))
    return _ProcStat(state=fields[0][0], group=int(fields[1]), started=started)


def _ps_group(group: int) -> list[int]:
    rows = (line.split() for line in _ps("-A", "-o", "pid=,pgid=,state=").splitlines())
    return [
        int(pid)
        for pid, its_group, state in rows
        if int(its_group) == group and state[0] not in DEAD_STATES
    ]


def _ps(*options: str) -> str:
    # In UTC, start times do not depend on the time zone.
    environment = {**os.environ, "LC_ALL": "C", "TZ": "UTC"}
    try:
        done = subprocess.run(
            ["ps", *options],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
    except FileNotFoundError as error:
        raise MotokoError(
            "cannot find processes: /proc and the ps command do not exist",
            hint="Mount /proc, or install ps (package procps).",
        ) from error
    return done.stdout
