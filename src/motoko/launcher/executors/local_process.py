"""The ``bash`` generator: runs as processes on this machine, each leading a group of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio

from motoko.runtime.processes import (
    ProcessIdentity,
    group_members,
    identify,
    is_alive,
    signal_group,
)
from motoko.runtime.signals import changeable_signals

if TYPE_CHECKING:
    from collections.abc import Mapping

    from motoko.launcher.executors.process_handle import LaunchSpec
    from motoko.launcher.run_directory import ScriptFile

SHELL: Final = "/bin/sh"
WRAPPER: Final = str(Path(__file__).parent.parent / "wrapper.sh")
SHELLS: Final = ("bash", "sh", "dash")
# A variable longer than this is refused by the system; all of them together must fit as well.
MAX_VARIABLE: Final = 100_000
MAX_VARIABLES: Final = 1_000_000
OWN_VARIABLES: Final = ("MOTOKO_READY_FD", "MOTOKO_FAULT", "MOTOKO_FAULT_LOG")
FIRST_LOOK: Final = 0.01
LAST_LOOK: Final = 0.2
KILL_SECONDS: Final = 5.0
YOUNG: Final = 1.0  # seconds that a process has lived
AGAIN: Final = 0.3  # seconds until a young one is asked to end once more


class BashLauncher:
    """Starts each attempt under the wrapper, with the launcher's environment."""

    name = "bash"

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        base = dict(os.environ if environment is None else environment)
        for name in OWN_VARIABLES:
            base.pop(name, None)
        here = os.path.dirname(sys.executable)
        path = base.get("PATH", "")
        # Scripts find the system's programs, bash the first of them, whatever the launcher's PATH.
        base["PATH"] = ":".join(filter(None, (here, path, os.defpath)))
        self._base = base
        self._preserving = preserving(base)

    def submit(self, order: LaunchSpec) -> LocalProcess:
        """Start the attempt's wrapper."""
        arguments = [
            SHELL,
            WRAPPER,
            order.place.private,
            *self._preserving,
            *command(order.script, order.terms.bash_options),
        ]
        pid = os.posix_spawn(
            SHELL,
            arguments,
            {**self._base, **passable(order.variables)},
            file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
            setsid=True,
            setsigmask=[],
            # Scripts rely on the default actions: a pipeline on SIGPIPE, which Python ignores.
            setsigdef=changeable_signals(),
        )
        return LocalProcess(pid)

    def attach(self, process: ProcessIdentity) -> LocalProcess | None:
        """Watch a process that is not this one's child."""
        found = LocalProcess(process.pid, process)
        if is_alive(process):  # asked now that its number cannot be given to another unnoticed
            return found
        found.forget()
        return None


def preserving(environment: Mapping[str, str]) -> list[str]:
    """Return what begins a command, so that it gets the variables that the wrapper's shell drops.

    Some shells pass no variable on whose name is none of theirs, such as those in which bash
    exports functions.
    """
    odd = [f"{name}={value}" for name, value in environment.items() if not is_identifier(name)]
    return ["env", "--", *odd] if odd else []


def is_identifier(name: str) -> bool:
    """Return whether a shell takes a variable of this name."""
    return name.isascii() and name.isidentifier()


def command(script: ScriptFile, bash_options: tuple[str, ...] = ()) -> list[str]:
    """Return how to run a script: by its ``#!`` line, without one by bash.

    A script need not be executable. ``bash_options`` make bash run it, except where the ``#!`` line
    names something else.
    """
    path = f"./{script.name}"
    # Its interpreter is started with it as the system would do, so that it also works where
    # files cannot be executed, or are still being written by a process just forked.
    interpreter = shebang(script.content)
    if interpreter and not (bash_options and is_shell(interpreter)):
        return [*interpreter, path]
    if script.executable and not interpreter and b"\0" in script.content[:256]:
        return [path]
    return ["bash", *bash_options, path]


def shebang(content: bytes) -> list[str]:
    """Return the interpreter, and its one argument if any, that a ``#!`` line names."""
    if not content.startswith(b"#!"):
        return []
    line = content[2:].split(b"\n", 1)[0].strip(b" \t")
    return [os.fsdecode(word) for word in line.split(None, 1)]


def is_shell(interpreter: list[str]) -> bool:
    """Return whether a ``#!`` line names a shell that takes bash's options."""
    program = interpreter[0].rsplit("/", 1)[-1]
    if program == "env" and len(interpreter) == 2:
        program = interpreter[1]
    return program in SHELLS


def passable(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that an environment can hold; scripts find the others in a file."""
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
    """A process on this machine that leads its group; a child if its identity is not given."""

    def __init__(self, pid: int, process: ProcessIdentity | None = None) -> None:
        self.pid = pid
        self.over = False
        self._child = process is None
        self._process = process
        self._status: int | None = None
        self._born = time.monotonic()
        self._ended = asyncio.Event()
        self._watched = False
        self._descriptor = _pidfd(pid)

    @property
    def process(self) -> ProcessIdentity | None:
        """The process; a child that has ended and was collected had one, but nobody asked."""
        if self._process is None and not self.over:
            self._process = identify(self.pid)
        return self._process

    async def wait(self) -> int | None:
        """Wait for the end; return the exit status, None for one that is not a child."""
        if self._descriptor is None:
            await self._poll()
        elif not self._watched:
            self._watched = True
            asyncio.get_running_loop().add_reader(self._descriptor, self._collect)
        if not self.over:
            await self._ended.wait()
        return self._status

    async def _poll(self) -> None:
        """Look again and again, where the system has no pidfd."""
        pause = FIRST_LOOK
        while not self.over:
            self._collect()
            if not self.over:
                await anyio.sleep(pause)
                pause = min(2 * pause, LAST_LOOK)

    def _collect(self) -> None:
        if self._child:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid == 0:
                return
            self._status = os.waitstatus_to_exitcode(status)
        elif self._process is not None and is_alive(self._process):
            return
        self.over = True
        self._ended.set()
        self.forget()

    def forget(self) -> None:
        """Stop watching."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            if self._watched:
                asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)

    async def stop(self, grace: float) -> None:
        """TERM to the group, to that of a young process twice; after ``grace`` seconds KILL."""
        self._signal(signal.SIGTERM)
        if self._child and time.monotonic() - self._born < YOUNG:
            # A shell loses a signal that comes while it starts a command.
            with anyio.move_on_after(AGAIN):
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
        process = self.process
        if not self.over and process is not None:
            signal_group(process, number)

    async def clear(self, grace: float) -> list[int]:
        """End what is left of the group. Its number is nobody else's while it has a member."""
        return await clear_group(self.pid, grace)


async def clear_group(group: int, grace: float) -> list[int]:
    """End the members of a process group whose leader has ended: TERM, then KILL.

    Return those that do not end, such as processes of another user.
    """
    if not _group_exists(group):
        return []
    for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, KILL_SECONDS)):
        if not _members(group):
            return []
        if not _signal_group(group, number):
            break
        pause = FIRST_LOOK
        with anyio.move_on_after(seconds):
            while _members(group):
                await anyio.sleep(pause)
                pause = min(2 * pause, LAST_LOOK)
            return []
    return _members(group)


def _group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except PermissionError:
        return True
    except ProcessLookupError:
        return False
    return True


def _members(group: int) -> list[int]:
    # A process that has the leader's number by now is another one: the group has died out.
    return [] if identify(group) is not None else group_members(group)


def _signal_group(group: int, number: int) -> bool:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None
