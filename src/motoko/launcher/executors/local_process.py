"""A process that leads the group of an attempt: watch it and stop the group."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Final

import anyio

from motoko.launcher.attempt_processes import is_wrapper_running, runs_several_attempts
from motoko.runtime.descendants import has_children
from motoko.runtime.ports import SYSTEM
from motoko.runtime.processes import group_members, identify, signal_group

if TYPE_CHECKING:
    from collections.abc import Callable

    from motoko.runtime.ports import Clock, Processes, Runtime
    from motoko.runtime.processes import ProcessIdentity

FIRST_POLL_SECONDS: Final = 0.01
LAST_POLL_SECONDS: Final = 0.2
KILL_SECONDS: Final = 5.0
YOUNG_SECONDS: Final = 1.0  # age of a process that gets SIGTERM twice
REPEAT_SECONDS: Final = 0.3  # until the second SIGTERM


class LocalProcess:
    """A process that leads its group: a child, or with an ``identity`` another launcher's.

    ``attempt``: the path of the attempt that another launcher's process runs.
    """

    def __init__(
        self,
        pid: int,
        identity: ProcessIdentity | None = None,
        attempt: str = "",
        *,
        runtime: Runtime = SYSTEM,
    ) -> None:
        self.pid = pid
        self.has_ended = False
        self._is_child = identity is None
        self._identity = identity
        self._status: int | None = None
        self._clock: Clock = runtime.clock
        self._processes = runtime.processes
        self._started = self._clock.monotonic()
        self._end = asyncio.Event()
        self._watched = False
        self._on_end: Callable[[int | None], object] = _ignore
        self._attempt = attempt
        self._descriptor = self._open(pid)

    def _open(self, pid: int) -> int | None:
        """Return a descriptor that is readable when the attempt has ended, if there is one."""
        # A shell of several attempts may survive this one.
        shared = self._identity is not None and runs_several_attempts(pid)
        return None if shared else _pidfd(pid)

    def is_running(self) -> bool:
        """Return whether the process of another launcher still runs the attempt."""
        return self._identity is not None and is_wrapper_running(self._identity, self._attempt)

    @property
    def identity(self) -> ProcessIdentity | None:
        """The identity of the process, None for a child that ended before anyone read it."""
        if self._identity is None and not self.has_ended:
            self._identity = identify(self.pid)
        return self._identity

    async def wait(self) -> int | None:
        """Wait for the end; return the exit status, None if the process is not a child."""
        if not self._watch():
            await self._poll()
        if not self.has_ended:
            await self._end.wait()
        return self._status

    def notify(self, on_end: Callable[[int | None], object]) -> bool:
        """Call ``on_end`` with the exit status at the end; return False if that is impossible."""
        self._on_end = on_end
        return self._watch()

    def _watch(self) -> bool:
        """Let the event loop watch the pidfd; return False if the process is alive without one."""
        if self._descriptor is None:
            return self.has_ended
        if not self._watched:
            self._watched = True
            asyncio.get_running_loop().add_reader(self._descriptor, self._reap)
        return True

    async def _poll(self) -> None:
        """Poll the process, where the system has no pidfd."""
        pause = FIRST_POLL_SECONDS
        while not self.has_ended:
            self._reap()
            if not self.has_ended:
                await anyio.sleep(pause)
                pause = min(2 * pause, LAST_POLL_SECONDS)

    def _reap(self) -> None:
        if self._is_child:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid == 0:
                return
            self._status = os.waitstatus_to_exitcode(status)
        elif self.is_running():
            return
        self._set_end()

    def _set_end(self) -> None:
        self.has_ended = True
        self._end.set()
        self.forget()
        self._on_end(self._status)

    def reuse(self) -> bool:
        """Let the process run another attempt, after one that left none; return whether it can."""
        return False

    def forget(self) -> None:
        """Stop watching the process, which continues."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            if self._watched:
                asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)

    async def stop(self, grace: float) -> None:
        """Send TERM to the group, twice if it is young, and KILL after ``grace`` seconds."""
        self._signal(signal.SIGTERM)
        if self._is_child and self._clock.monotonic() - self._started < YOUNG_SECONDS:
            # A shell loses a signal that arrives while it starts a command.
            with anyio.move_on_after(REPEAT_SECONDS):
                await self.wait()
                return
            self._signal(signal.SIGTERM)
        with anyio.move_on_after(grace):
            await self.wait()
            return
        self._signal(signal.SIGKILL)
        with anyio.move_on_after(KILL_SECONDS):
            await self.wait()

    def _signal(self, number: signal.Signals) -> None:
        identity = self.identity
        if not self.has_ended and identity is not None and (self._is_child or self.is_running()):
            signal_group(identity, number)

    def is_alone(self) -> bool:
        """Return whether its group has no other member, once it has ended."""
        return not _group_exists(self.pid, self._processes)

    async def stop_remaining(self, grace: float) -> list[int]:
        """Stop the remaining members of the group, whose number they keep reserved."""
        return await clear_group(self.pid, grace, self._processes)


async def clear_group(
    group: int, grace: float, processes: Processes = SYSTEM.processes
) -> list[int]:
    """Stop the members of a group whose leader has ended, or waits: TERM, then KILL.

    Return those that do not end, such as processes of another user.
    """
    if not _group_exists(group, processes):
        return []
    for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, KILL_SECONDS)):
        if not _members(group):
            return []
        if not _signal_group(group, number, processes):
            break
        pause = FIRST_POLL_SECONDS
        with anyio.move_on_after(seconds):
            while _members(group):
                await anyio.sleep(pause)
                pause = min(2 * pause, LAST_POLL_SECONDS)
            return []
    return _members(group)


def _group_exists(group: int, processes: Processes) -> bool:
    try:
        processes.signal_group(group, 0)
    except PermissionError:
        return True
    except ProcessLookupError:
        return False
    return True


def _members(group: int) -> list[int]:
    if identify(group) is None:
        return group_members(group)
    # A shell of several attempts waits for the next one as long as its launcher is suspended. Any
    # other process with the leader's number is a new one: then the group no longer exists.
    if not runs_several_attempts(group):
        return []
    members = [member for member in group_members(group) if member != group]
    return [] if has_children(group) else members  # they belong to its present attempt


def _signal_group(group: int, number: int, processes: Processes) -> bool:
    try:
        processes.signal_group(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _ignore(status: int | None) -> None:
    """Do nothing at the end of a process."""


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None
