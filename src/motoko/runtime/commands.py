"""Run a scheduler's programs: each with a time limit, a few at a time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from typing import IO, TYPE_CHECKING, Final

import anyio

from motoko.runtime.completion import to_completion
from motoko.runtime.ports import COMMAND_SECONDS, CommandResult

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_CONCURRENT: Final = 4
KILL_SECONDS: Final = 5.0
MAX_OUTPUT: Final = 64 * 2**20  # bytes; longer output is an error


class SystemCommandRunner:
    """Runs programs as processes of this machine, at most ``concurrent`` at a time."""

    def __init__(self, *, concurrent: int = MAX_CONCURRENT) -> None:
        self._slots = asyncio.Semaphore(concurrent)

    async def run(
        self,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        directory: str | None = None,
        seconds: float = COMMAND_SECONDS,
    ) -> CommandResult:
        """Run a command in ``directory`` (default: this process's) and return its output.

        After ``seconds``, or if this call is cancelled, kill the command and its children.
        """
        async with self._slots:
            try:
                status, stdout, stderr = await _run(argv, environment, directory, seconds)
            except OSError as error:
                missing = isinstance(error, FileNotFoundError | PermissionError)
                where = "" if error.filename in (None, argv[0]) else f": {error.filename}"
                text = f"{argv[0]} cannot be run: {error.strerror or error}{where}"
                not_found = missing and error.filename != directory
                return CommandResult(None, problem=text, not_found=not_found)
        if max(len(stdout), len(stderr)) > MAX_OUTPUT:
            return CommandResult(None, problem=f"{argv[0]} printed more than {MAX_OUTPUT:,} bytes")
        problem = f"{argv[0]} did not answer within {seconds:g} s" if status is None else None
        return CommandResult(status, stdout, stderr, problem)


async def _run(
    argv: Sequence[str], environment: Mapping[str, str], directory: str | None, seconds: float
) -> tuple[int | None, str, str]:
    """Return exit status, None after the time limit, and output.

    The output goes to files: a child may keep a pipe open forever.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=environment,
            cwd=directory,
            start_new_session=True,
        )
        status = await _wait(process, seconds)
        return status, _content(out), _content(err)


async def _wait(process: asyncio.subprocess.Process, seconds: float) -> int | None:
    try:
        with anyio.move_on_after(seconds):
            return await process.wait()
    finally:
        if process.returncode is None:
            await to_completion(_kill(process))
    return None


async def _kill(process: asyncio.subprocess.Process) -> None:
    # The process is not reaped yet, so no other process has its number.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    # A process in an uninterruptible wait for a file server ends later.
    with anyio.move_on_after(KILL_SECONDS):
        await process.wait()


def _content(file: IO[bytes]) -> str:
    file.seek(0)
    content = file.read(MAX_OUTPUT + 1)
    # Latin-1 keeps one character a byte, which shows that the output is too long.
    return content.decode("latin-1" if len(content) > MAX_OUTPUT else "utf-8", "replace")
