"""Processes of the local executor, each the leader of its own group."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio

from motoko.runtime.ports import SYSTEM
from motoko.runtime.processes import (
    ProcessIdentity,
    boot_id,
    group_members,
    host,
    identify,
    is_alive,
    pid_namespace,
    signal_group,
)
from motoko.runtime.signals import changeable_signals
from motoko.runtime.spawning import SessionSpawner

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from motoko.launcher.source_files import ScriptFile
    from motoko.runtime.ports import Clock, Processes, Runtime

SHELL: Final = "/bin/sh"
WRAPPER: Final = str(Path(__file__).parent.parent / "attempt.sh")
SHELLS: Final = ("bash", "sh", "dash")
# Linux refuses a longer variable, and a larger environment.
MAX_VARIABLE: Final = 100_000
MAX_VARIABLES: Final = 1_000_000
OWN_VARIABLES: Final = ("MOTOKO_READY_FD", "MOTOKO_FAULT", "MOTOKO_FAULT_LOG")
FIRST_POLL_SECONDS: Final = 0.01
LAST_POLL_SECONDS: Final = 0.2
KILL_SECONDS: Final = 5.0
YOUNG_SECONDS: Final = 1.0  # age of a process that gets SIGTERM twice
REPEAT_SECONDS: Final = 0.3  # until the second SIGTERM


class ProcessSpawner:
    """Starts attempts under the wrapper, with the launcher's environment."""

    def __init__(
        self, environment: Mapping[str, str] | None = None, *, runtime: Runtime = SYSTEM
    ) -> None:
        base = dict(os.environ if environment is None else environment)
        for name in OWN_VARIABLES:
            base.pop(name, None)
        here = os.path.dirname(sys.executable)
        path = base.get("PATH", "")
        # Scripts find the system's programs, above all bash, even without the launcher's PATH.
        base["PATH"] = ":".join(filter(None, (here, path, os.defpath)))
        self._base = base
        self._prefix = preserve_variables(base)
        self._runtime = runtime
        # Scripts rely on the default actions: a pipeline on SIGPIPE, which Python ignores.
        self._spawner = SessionSpawner(changeable_signals())

    def spawn(
        self, directory: str, script: list[str], variables: Mapping[str, str]
    ) -> LocalProcess:
        """Start the wrapper of the attempt in ``directory``; raise OSError."""
        arguments = [SHELL, WRAPPER, directory, *self._known_facts(), *self._prefix, *script]
        pid = self._spawner.spawn(SHELL, arguments, {**self._base, **passable(variables)})
        return LocalProcess(pid, runtime=self._runtime)

    def _known_facts(self) -> list[str]:
        """Return the wrapper's arguments with the facts that it need not find; none if unknown."""
        facts = [boot_id(), str(pid_namespace() or ""), host()]
        return ["-k", *facts, "-t", f"{self._runtime.clock.now():.6f}"] if all(facts) else []

    def attach(self, identity: ProcessIdentity) -> LocalProcess | None:
        """Watch a process that is not a child; return None if it has ended."""
        found = LocalProcess(identity.pid, identity, runtime=self._runtime)
        if is_alive(identity):  # tested after the pidfd was opened, which pins the process
            return found
        found.forget()
        return None


def preserve_variables(environment: Mapping[str, str]) -> list[str]:
    """Return a command prefix that keeps the variables which the wrapper's shell would drop.

    Some shells drop variables with unusual names, such as bash's exported functions.
    """
    odd = {name for name in environment if not (name.isascii() and name.isidentifier())}
    variables = [f"{name}={value}" for name, value in environment.items() if name in odd]
    return ["env", "--", *variables] if odd else []


def command(script: ScriptFile, bash_options: tuple[str, ...] = ()) -> list[str]:
    """Return the command that runs a script: by its ``#!`` line, else by bash.

    A script need not be executable. ``bash_options`` select bash unless the ``#!`` line names
    another program than a shell.
    """
    path = f"./{script.name}"
    # Starting the interpreter directly also works where files cannot be executed, or while a
    # process that was just forked still holds them open.
    interpreter = shebang(script.content)
    if interpreter and not (bash_options and is_shell(interpreter)):
        return [*interpreter, path]
    if script.executable and not interpreter and b"\0" in script.content[:256]:
        return [path]
    return ["bash", *bash_options, path]


def shebang(content: bytes) -> list[str]:
    """Return the interpreter in a ``#!`` line, and its argument if any."""
    if not content.startswith(b"#!"):
        return []
    line = content[2:].split(b"\n", 1)[0].strip(b" \t")
    return [os.fsdecode(word) for word in line.split(None, 1)]


def is_shell(interpreter: list[str]) -> bool:
    """Return whether a ``#!`` line names a shell that accepts bash's options."""
    program = interpreter[0].rsplit("/", 1)[-1]
    if program == "env" and len(interpreter) == 2:
        program = interpreter[1]
    return program in SHELLS


def passable(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that fit into an environment. Scripts find the others in a file."""
    found: dict[str, str] = {}
    room = MAX_VARIABLES
    for name, value in variables.items():
        try:
            size = len(os.fsencode(value))
        except UnicodeEncodeError:
            continue
        if "\0" not in value and size <= min(room, MAX_VARIABLE):
            found[name] = value
            room -= size
    return found


class LocalProcess:
    """A process that leads its group: a child, or with an ``identity`` another launcher's."""

    def __init__(
        self, pid: int, identity: ProcessIdentity | None = None, *, runtime: Runtime = SYSTEM
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
        self._descriptor = _pidfd(pid)

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
        elif self._identity is not None and is_alive(self._identity):
            return
        self.has_ended = True
        self._end.set()
        self.forget()
        self._on_end(self._status)

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
        if not self.has_ended and identity is not None:
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
    """Stop the members of a process group whose leader has ended: TERM, then KILL.

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
    # A process with the leader's number is a new one: then the group no longer exists.
    return [] if identify(group) is not None else group_members(group)


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
