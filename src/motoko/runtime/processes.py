"""Processes that can be told apart from later ones that got the same number.

A process is its pid, its start time, the boot of its machine and its PID namespace. Only from the
same machine and namespace can it be seen: elsewhere nothing tells whether it lives.
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

ENDING_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
KILL_SECONDS: Final = 5.0
FIRST_LOOK: Final = 0.005
LAST_LOOK: Final = 0.1
DEAD_STATES: Final = frozenset("ZXx")
STOPPED_STATES: Final = frozenset("Tt")
PROC: Final = Path("/proc")


class Standing(Enum):
    """Whether a process lives. Nothing is known of one that cannot be seen from here."""

    ALIVE = "alive"
    DEAD = "dead"
    UNSEEN = "cannot be seen"


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process: pid, start time (clock ticks since boot, elsewhere seconds), boot id.

    ``namespace``: the inode of its PID namespace, 0 where it is not known. ``host``: the name of
    its machine, empty where it is not known.
    """

    pid: int
    started: int
    boot: str
    namespace: int = 0
    host: str = ""

    def plain(self) -> tuple[int, int, str, int, str]:
        """Return the fields in order, for a record; ``ProcessIdentity(*fields)`` reads them.

        Records of an older Motoko have the first three only.
        """
        return self.pid, self.started, self.boot, self.namespace, self.host

    @property
    def label(self) -> str:
        """Return a name for files that belong to the process; numbers alone recur in containers."""
        return f"{self.pid}-{self.started}-{self.namespace}"

    def is_same(self, other: ProcessIdentity) -> bool:
        """Return whether both are one process, as far as their records tell."""
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
    """Return the identity of the living process ``pid``, None if there is none."""
    seen = _look(pid)
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
            "the start time of this process cannot be found out",
            hint="Motoko needs /proc (Linux) or the ps command.",
        )
    return process


def standing(process: ProcessIdentity) -> Standing:
    """Return whether ``process`` lives. One that awaits its parent does not."""
    if not is_visible(process):
        return Standing.DEAD if before_restart(process) else Standing.UNSEEN
    found = identify(process.pid)
    return Standing.ALIVE if found is not None and found.is_same(process) else Standing.DEAD


def before_restart(process: ProcessIdentity) -> bool:
    """Return whether this machine was restarted since: each boot has its id."""
    return process.boot != boot_id() and process.host == host()


def is_alive(process: ProcessIdentity) -> bool:
    """Return whether ``process`` is known to live; false if it cannot be seen from here."""
    return standing(process) is Standing.ALIVE


def is_stopped(process: ProcessIdentity) -> bool:
    """Return whether a process is stopped (SIGSTOP); False if it cannot be seen from here."""
    seen = _look(process.pid) if is_visible(process) else None
    if seen is None or seen.started != process.started:
        return False
    return seen.state in STOPPED_STATES


def keeps_lease(process: ProcessIdentity, *, renewed: bool) -> bool:
    """Return whether a process still has a lease, which was ``renewed`` in time or not.

    A living one keeps it however late it is, unless somebody has stopped it (SIGSTOP). Where the
    process cannot be seen, the lease decides.
    """
    found = standing(process)
    if found is Standing.ALIVE:
        seen = _look(process.pid)
        return renewed or (seen is not None and seen.state not in STOPPED_STATES)
    return renewed and found is Standing.UNSEEN


def is_visible(process: ProcessIdentity) -> bool:
    """Return whether the process is one of this machine's, in this process's PID namespace."""
    if process.boot != boot_id() or process.namespace not in (0, pid_namespace()):
        return False
    # Without boot ids only the name tells machines apart.
    return bool(process.boot) or process.host in ("", host())


def signal_group(process: ProcessIdentity, number: signal.Signals) -> bool:
    """Send a signal to the process group that ``process`` leads, if it is still that process.

    A leader that has ended but was not yet collected counts: its children may live on. A
    process that leads no group gets the signal alone. Return whether it was sent.
    """
    seen = _look(process.pid) if is_visible(process) else None
    leads = seen is not None and seen.group == process.pid
    return _signal(process, seen, number, os.killpg if leads else os.kill)


def signal_process(process: ProcessIdentity, number: signal.Signals) -> bool:
    """Send a signal to ``process`` alone, if it is still that process; return whether it was."""
    seen = _look(process.pid) if is_visible(process) else None
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
    """Have what Python functions do about signals done when the block has ended.

    So a process that is being started is known to who has to end it. In other threads than the
    main one, where no such function runs, the block is as any other.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    handled = [number for number in ENDING_SIGNALS if callable(signal.getsignal(number))]
    former = {n: signal.signal(n, lambda number, _: came.append(number)) for n in handled}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        for caught in came:
            signal.raise_signal(caught)


async def terminate(process: ProcessIdentity, grace: float) -> bool:
    """End ``process``, then what it leaves of its group: TERM, ``grace`` seconds, then KILL.

    The group is not sent TERM with its leader: a run that a launcher is just starting belongs to
    it, and would end before its script. Return whether nothing of it is left, which is so at
    once if it was not alive.
    """
    if not signal_process(process, signal.SIGTERM):
        return True
    if await _gone(process, grace, group=False):
        _signal_orphans(process, signal.SIGTERM)
        if await _gone(process, grace):
            return True
    if not signal_group(process, signal.SIGKILL):
        _signal_orphans(process, signal.SIGKILL)
    return await _gone(process, KILL_SECONDS)


def _signal_orphans(leader: ProcessIdentity, number: signal.Signals) -> None:
    # While a group has a member the system gives its number to nobody else.
    if identify(leader.pid) is None and group_members(leader.pid):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(leader.pid, number)


async def _gone(process: ProcessIdentity, seconds: float, *, group: bool = True) -> bool:
    import anyio  # takes longer to import than everything else here

    pause, deadline = FIRST_LOOK, time.monotonic() + seconds
    while is_alive(process) or (group and group_members(process.pid)):
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        await anyio.sleep(min(pause, left))
        pause = min(2 * pause, LAST_LOOK)
    return True


def group_members(group: int) -> list[int]:
    """Return the pids of the living processes of a process group."""
    if not _has_proc():
        return _ps_group(group)
    pids = (int(entry.name) for entry in os.scandir(PROC) if entry.name.isdigit())
    found = ((pid, _look(pid)) for pid in pids)
    return [
        pid
        for pid, seen in found
        if seen is not None and seen.group == group and seen.state not in DEAD_STATES
    ]


def state_of(pid: int) -> str:
    """Return the letter of a process's state, empty if there is none of this number."""
    seen = _look(pid)
    return "" if seen is None else seen.state


@functools.cache
def boot_id() -> str:
    """Return what differs after each boot of this machine; empty where that is not known."""
    with contextlib.suppress(OSError):
        return (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""


@functools.cache
def pid_namespace() -> int:
    """Return the inode of this process's PID namespace, 0 where that is not known."""
    with contextlib.suppress(OSError):
        return (PROC / "self/ns/pid").stat().st_ino
    return 0


def host() -> str:
    """Return the name of this machine, or of this container."""
    return os.uname().nodename


@functools.cache
def _has_proc() -> bool:
    return (PROC / "self/stat").exists()


def _look(pid: int) -> _ProcStat | None:
    return _look_in_proc(pid) if _has_proc() else _look_with_ps(pid)


def _look_in_proc(pid: int) -> _ProcStat | None:
    try:
        stat = (PROC / str(pid) / "stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command's name is in parentheses and may contain anything, parentheses too.
    rest = stat[stat.rindex(b")") + 2 :].split()
    return _ProcStat(state=rest[0].decode(), group=int(rest[2]), started=int(rest[19]))


def _look_with_ps(pid: int) -> _ProcStat | None:
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
    # UTC, so that the start time of a process does not move with the time zone.
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
            "there is neither /proc nor a ps command to find processes with",
            hint="Mount /proc, or install ps (package procps).",
        ) from error
    return done.stdout
