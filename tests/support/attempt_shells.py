"""One attempt after the other in a shell of a launcher, without the launcher."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import anyio

from motoko.launcher.attempt_processes import SHELL_INPUT
from motoko.launcher.executors.attempt_shells import AttemptShells, shell_command
from motoko.launcher.executors.process_spawner import WRAPPER
from motoko.runtime.processes import boot_id, host, pid_namespace
from motoko.runtime.signals import changeable_signals
from motoko.runtime.spawning import SessionSpawner

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

    from motoko.launcher.executors.attempt_shells import ShellAttempt

FACTS = ("-k", boot_id(), str(pid_namespace()), host())
SHELLS = (("/bin/sh",), ("/bin/bash", "--posix"))


class ShellHarness:
    """Shells that run attempts in directories below ``root``."""

    def __init__(self, root: Path, shell: Sequence[str] = ("/bin/sh",)) -> None:
        self.root = root
        spawner = SessionSpawner(changeable_signals())
        base = {"PATH": os.environ["PATH"], "HOME": "/"}
        self.shells = AttemptShells(spawner, [*shell, SHELL_INPUT, WRAPPER], base)
        self._number = 0
        self.prefix = os.urandom(4).hex()

    def prepare(self) -> Path:
        """Make a run directory; return the path of its attempt."""
        self._number += 1
        run = self.root / f"run-{self._number}"
        run.mkdir()
        (run / ".motoko").write_text(f"1 5.0 token{self.prefix}{self._number}\n{{}}\n")
        return run / f".motoko-token{self.prefix}{self._number}"

    async def begin(
        self, attempt: Path, words: Sequence[str], variables: Mapping[str, str]
    ) -> ShellAttempt:
        """Start an attempt in an idle shell, or a new one."""
        command = shell_command(str(attempt), FACTS, words, variables)
        assert command is not None
        handle = self.shells.run(str(self.root), attempt.name, command)
        if handle is None:
            self.shells.start(str(self.root))
        with anyio.fail_after(60):
            while handle is None:
                await anyio.sleep(0.001)
                handle = self.shells.run(str(self.root), attempt.name, command)
        return handle

    async def run(
        self, words: Sequence[str], variables: Mapping[str, str] | None = None
    ) -> tuple[int | None, Path]:
        """Run an attempt to its end; return the status and the run directory."""
        attempt = self.prepare()
        handle = await self.begin(attempt, words, variables or {})
        status = await handle.wait()
        handle.reuse()
        return status, attempt.parent

    async def wait_until_reaped(self) -> None:
        """Wait until all shells, which have been killed, are reaped."""
        with anyio.fail_after(60):
            while self.shells.pids():
                await anyio.sleep(0.01)
                self.shells.reap()


@contextlib.asynccontextmanager
async def shells_in(root: Path, shell: Sequence[str] = ("/bin/sh",)) -> AsyncIterator[ShellHarness]:
    """Provide shells, and stop them at the end."""
    harness = ShellHarness(root, shell)
    try:
        yield harness
    finally:
        await harness.shells.stop_idle(5.0)
        assert harness.shells.pids() == set()
