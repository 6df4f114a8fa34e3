"""Run a command with input, a time limit and bounded output."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

KEPT: Final = 2048  # bytes of the output
CHUNK: Final = 65536
POLL_SECONDS: Final = 0.05
KILL_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class LimitedResult:
    """The exit status of a command, None if it was killed before its end.

    ``output``: the end of its standard output and error.
    """

    status: int | None
    output: str


def run_limited(
    arguments: Sequence[str],
    *,
    stdin: bytes,
    environment: Mapping[str, str],
    directory: Path,
    seconds: float,
    stopped: Callable[[], bool] = lambda: False,
) -> LimitedResult:
    """Run a command in a session of its own and return its end; raise OSError.

    After ``seconds``, or as soon as ``stopped()``, kill its process group. Processes that it left
    behind when it exited continue. This blocks.
    """
    with tempfile.TemporaryFile() as given:  # not a pipe: the command need not read it
        given.write(stdin)
        given.seek(0)
        process = subprocess.Popen(
            list(arguments),
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd=directory,
            start_new_session=True,
        )
    assert process.stdout is not None
    with process.stdout as pipe:
        output = _Output(pipe.fileno())
        status = _wait(process, output, time.monotonic() + seconds, stopped)
    return LimitedResult(status, output.kept.decode(errors="replace"))


class _Output:
    """The end of a pipe's content. A process that was left behind may keep the pipe open."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._selector = selectors.DefaultSelector()
        self._selector.register(descriptor, selectors.EVENT_READ)
        self.kept = b""

    def read(self, seconds: float) -> bool:
        """Read for at most ``seconds``; return whether there was anything."""
        if not self._selector.select(max(0.0, seconds)):
            return False
        chunk = os.read(self._descriptor, CHUNK)
        if not chunk:
            self._selector.unregister(self._descriptor)
        self.kept = (self.kept + chunk)[-KEPT:]
        return bool(chunk)

    def close(self) -> None:
        """Close the selector, not the pipe."""
        self._selector.close()


def _wait(
    process: subprocess.Popen[bytes],
    output: _Output,
    deadline: float,
    stopped: Callable[[], bool],
) -> int | None:
    try:
        while (status := process.poll()) is None:
            left = deadline - time.monotonic()
            if left <= 0 or stopped():
                return None
            output.read(min(POLL_SECONDS, left))
        output.read(0)  # the last words
        return status
    finally:
        output.close()
        if process.returncode is None:
            _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    # The process is not reaped yet, so no other process has its number.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    # A process in an uninterruptible wait for a file server ends later.
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(KILL_SECONDS)
