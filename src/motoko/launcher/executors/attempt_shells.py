"""Shells that run short attempts one after the other, because the start of a shell costs much.

A shell reads commands from a pipe, one for each attempt, and answers on another pipe with the name
of the attempt and its exit status, after the exit record. It gets its first attempt once it has
answered, and another one only if the last was short and left no process. It exits at the end of its
input, so it does not outlive its launcher by more than its attempt. While it runs an attempt, the
run directory is its working directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import resource
import shlex
import signal
import threading
from collections import defaultdict
from typing import TYPE_CHECKING, Final

import anyio

from motoko.launcher.executors.local_process import (
    FIRST_POLL_SECONDS,
    KILL_SECONDS,
    LAST_POLL_SECONDS,
    LocalProcess,
    clear_group,
)
from motoko.runtime.ports import SYSTEM

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from motoko.runtime.ports import Runtime
    from motoko.runtime.spawning import SessionSpawner

MAX_SHELLS: Final = 32
SHELL_FILES: Final = 2  # open files of the launcher for each shell
RESERVED_FILES: Final = 40  # open files of a launcher, besides one for each run and its shells
MAX_COMMAND: Final = 2**14  # bytes, which an empty pipe takes at once
READ_BYTES: Final = 4096
MAX_REPLY: Final = 512  # bytes
READY: Final = "ready"
SETUP: Final = (
    'exec </dev/null; motoko_home=$PWD; motoko_script=$1; shift $#; . "$motoko_script"; '
    f"command -v motoko_attempt >/dev/null && echo {READY} 0\n"
).encode()

log = logging.getLogger(__name__)


def shell_command(
    attempt: str, facts: Sequence[str], words: Sequence[str], variables: Mapping[str, str]
) -> bytes | None:
    """Return what lets a shell run an attempt, None if the attempt needs a process of its own.

    ``attempt``: its path. ``facts``: arguments of the wrapper, without the time. ``words``: the
    command of the attempt. ``AttemptShells.run`` completes the line.
    """
    # A builtin could change the shell, and so the next attempt.
    if words[0] not in ("bash", "env") and not words[0].startswith(("/", "./")):
        return None
    if not all(name.isascii() and name.isidentifier() for name in variables):
        return None
    assignments = (f"{name}={shlex.quote(value)} " for name, value in variables.items())
    text = (
        f"motoko_command() {{ {''.join(assignments)}{shlex.join(words)}; }}; "
        f'motoko_attempt {shlex.join([attempt, *facts])} -t "$motoko_now"; '
        # The name of the attempt: a process of another one may write to the pipe as well.
        'cd "$motoko_home" || cd /; printf "\\n%s %s\\n" "$motoko_outbox" "$motoko_status"; }\n'
    )
    line = os.fsencode(text)
    return line if len(line) <= MAX_COMMAND and b"\0" not in line else None


def complete_line(command: bytes, now: float) -> bytes:
    """Return the line that runs an attempt at a time, in seconds since the epoch."""
    # A part of the line, from a launcher that was killed, is a syntax error.
    return b"{ motoko_now=%.6f; " % now + command


def shell_limit(slots: int) -> int:
    """Return the number of shells whose files a launcher of so many slots may open."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return MAX_SHELLS
    return max(0, min(MAX_SHELLS, (limit - RESERVED_FILES - slots) // SHELL_FILES))


class AttemptShell:
    """One shell, a child of this process that leads its own process group.

    ``on_reply`` gets the name of an attempt and its exit status, None when the shell has exited.
    """

    def __init__(
        self,
        pid: int,
        root: str,
        pipes: tuple[int, int],
        on_reply: Callable[[AttemptShell, str, int | None], object],
    ) -> None:
        self.pid = pid
        self.root = root
        self.attempt: ShellAttempt | None = None
        self.is_open = True
        self.is_unused = False  # since the last look at the idle shells
        self._commands, self._replies = pipes
        self._on_reply = on_reply
        self._unread = b""
        self._exited = False
        self._lock = threading.Lock()
        asyncio.get_running_loop().add_reader(self._replies, self._read_reply)

    def send(self, command: bytes) -> None:
        """Let the shell execute a line; raise OSError if it has exited. For any thread."""
        rest = memoryview(command)
        with self._lock:
            if not self.is_open:
                raise OSError(errno.EPIPE, os.strerror(errno.EPIPE))
            while rest:
                rest = rest[os.write(self._commands, rest) :]

    def _read_reply(self) -> None:
        data = os.read(self._replies, READ_BYTES)
        *lines, rest = (self._unread + data).split(b"\n")
        self._unread = rest[-MAX_REPLY:]
        for line in lines:
            name, _, word = line.partition(b" ")
            if word.isdigit():
                self._on_reply(self, os.fsdecode(name), int(word[:3]))
        if not data:
            self.close()
            self._on_reply(self, "", None)

    def close(self) -> None:
        """Close the pipes: the shell exits after its attempt."""
        with self._lock:
            if self.is_open:
                self.is_open = False
                asyncio.get_running_loop().remove_reader(self._replies)
                os.close(self._replies)
                os.close(self._commands)

    def has_exited(self) -> bool:
        """Return whether the shell has exited; reap it then."""
        if not self._exited:
            self._exited = os.waitpid(self.pid, os.WNOHANG)[0] != 0
        return self._exited


class ShellAttempt(LocalProcess):
    """An attempt in a shell that may run others before and after it."""

    def __init__(
        self, name: str, shell: AttemptShell, shells: AttemptShells, *, runtime: Runtime
    ) -> None:
        super().__init__(shell.pid, runtime=runtime)
        self.name = name
        self._shell = shell
        self._shells = shells

    def _open(self, pid: int) -> int | None:
        """Return None: the shell reports the end."""

    def _watch(self) -> bool:
        return True

    def notify(self, on_end: Callable[[int | None], object]) -> bool:
        """Call ``on_end`` with the exit status at the end, None if the shell exited before."""
        if self.has_ended:  # the event loop watches the shell all the time
            asyncio.get_running_loop().call_soon(on_end, self._status)
            return True
        return super().notify(on_end)

    def end(self, status: int | None) -> None:
        """Note the end of the attempt, with its exit status if the shell reported one."""
        self._shell.attempt = None
        self._status = status
        self._set_end()

    def forget(self) -> None:
        """Stop watching the shell, which continues until its attempt has ended."""
        if not self.has_ended:
            self._shell.close()

    def is_alone(self) -> bool:
        """Return True: processes that the attempt left are children of the launcher by now."""
        return True

    def reuse(self) -> bool:
        """Let the shell run another attempt."""
        self._shells.take_back(self._shell)
        return True

    async def stop_remaining(self, grace: float) -> list[int]:
        """Stop the shell, then the other members of its group; return those that do not end."""
        await self._shells.stop(self._shell, grace)
        return await clear_group(self.pid, grace, self._processes)


class AttemptShells:
    """The shells of a launcher. ``run`` may be called in any thread, the rest in the event loop.

    ``arguments``: those of a shell that reads its input, with the path of ``attempt.sh`` as the
    last. ``environment``: the variables of every attempt.
    """

    def __init__(
        self,
        spawner: SessionSpawner,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        *,
        runtime: Runtime = SYSTEM,
    ) -> None:
        self._spawner = spawner
        self._arguments = arguments
        self._environment = environment
        self._runtime = runtime
        self.limit = MAX_SHELLS
        self._shells: dict[int, AttemptShell] = {}
        self._idle: defaultdict[str, list[AttemptShell]] = defaultdict(list)
        self._starting: set[AttemptShell] = set()
        self._unusable = False

    def pids(self) -> set[int]:
        """Return the pids of all shells that have not been reaped."""
        return set(self._shells.copy())

    def run(self, root: str, name: str, command: bytes) -> ShellAttempt | None:
        """Let an idle shell of a study run the attempt with this outbox; None without a shell.

        ``root``: the directory of the study's run directories.
        """
        try:
            shell = self._idle[root].pop()
        except IndexError:
            return None
        shell.attempt = attempt = ShellAttempt(name, shell, self, runtime=self._runtime)
        try:
            shell.send(complete_line(command, self._runtime.clock.now()))
        except OSError:  # it has exited
            shell.attempt = None
            return None
        return attempt

    def start(self, root: str) -> None:
        """Start a shell for a study if none is idle. It becomes idle once it has replied.

        ``root``: the directory of the study's run directories. Without a shell, attempts have
        processes of their own.
        """
        enough = self._starting or self._idle[root] or len(self._shells) >= self.limit
        if self._unusable or enough:
            return
        with contextlib.suppress(OSError):
            shell = self._start(root)
            self._starting.add(shell)
            shell.send(SETUP)

    def _start(self, root: str) -> AttemptShell:
        opened: list[int] = []
        try:
            opened += os.pipe()
            opened += os.pipe()
            command_input, commands, replies, reply_output = opened
            streams = (command_input, reply_output)
            # The last argument distinguishes the shells of a copied workflow.
            arguments = [*self._arguments, root]
            pid = self._spawner.spawn(arguments[0], arguments, self._environment, streams)
        except BaseException:
            for descriptor in opened:
                os.close(descriptor)
            raise
        os.close(command_input)
        os.close(reply_output)
        shell = AttemptShell(pid, root, (commands, replies), self._on_reply)
        self._shells[pid] = shell
        return shell

    def _on_reply(self, shell: AttemptShell, name: str, status: int | None) -> None:
        if shell in self._starting:
            self._starting.discard(shell)
            self._unusable = name != READY
            if self._unusable:
                log.info("no shell runs several attempts: it exits at its start")
            else:
                self.take_back(shell)
        elif shell.attempt is not None and (status is None or name == shell.attempt.name):
            shell.attempt.end(status)

    def take_back(self, shell: AttemptShell) -> None:
        """Let a shell whose attempt was short and left nothing run another one."""
        if shell.is_open:
            shell.is_unused = False
            self._idle[shell.root].append(shell)

    async def stop(self, shell: AttemptShell, grace: float) -> None:
        """Let a shell exit after its attempt; kill its group after ``grace`` seconds."""
        shell.close()
        if not await self._wait_for_exit(shell, grace):
            self._runtime.processes.signal_group(shell.pid, signal.SIGKILL)
            await self._wait_for_exit(shell, KILL_SECONDS)

    def reap(self) -> None:
        """Reap the closed shells that have exited."""
        for shell in list(self._shells.values()):
            if not shell.is_open and shell.has_exited():
                self._remove(shell)

    def _remove(self, shell: AttemptShell) -> None:
        if self._shells.get(shell.pid) is shell:  # a new one may have the same pid
            del self._shells[shell.pid]

    async def stop_idle(self, grace: float, *, unused: bool = False) -> None:
        """Stop all idle shells; ``unused``: those that have been idle since the previous call."""
        stopped: list[AttemptShell] = []
        if not unused:
            stopped += self._starting
            self._starting.clear()
        for shells in list(self._idle.values()):
            for shell in shells.copy():
                if unused and not shell.is_unused:
                    shell.is_unused = True
                    continue
                with contextlib.suppress(ValueError):  # a thread has taken it meanwhile
                    shells.remove(shell)
                    stopped.append(shell)
        for shell in stopped:
            shell.close()
        for shell in stopped:
            await self.stop(shell, grace)

    async def _wait_for_exit(self, shell: AttemptShell, seconds: float) -> bool:
        pause = FIRST_POLL_SECONDS
        with anyio.move_on_after(seconds):
            while not shell.has_exited():
                await anyio.sleep(pause)
                pause = min(2 * pause, LAST_POLL_SECONDS)
            self._remove(shell)
            return True
        return False
