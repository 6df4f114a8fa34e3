"""A child process that answers requests, a line each, and exits when its parent has exited."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class HelperProcess:
    """A running helper, as a context manager that kills it at the end.

    ``descriptors``: the files that it inherits, under the same numbers.
    """

    def __init__(self, command: Sequence[str], *, descriptors: Sequence[int] = ()) -> None:
        self._process = subprocess.Popen(
            list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=descriptors
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def kill(self) -> None:
        """Kill the helper, from any thread; a call that waits for its answer raises OSError."""
        self._process.kill()

    def answer(self) -> str:
        """Wait for the next line of the helper; raise OSError if it has exited."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise ChildProcessError(f"a helper ended early with status {self._process.wait()}")
        return line.decode().strip()

    def ask(self, request: str) -> str:
        """Send a line; return the answer. Raise OSError if the helper has exited."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{request}\n".encode())
        self._process.stdin.flush()
        return self.answer()


def requests() -> Iterator[str]:
    """Yield the parent's requests, in the helper; exit at once when the parent has exited."""
    found: SimpleQueue[str] = SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            found.put(line.strip())
        os._exit(1)

    threading.Thread(target=read, name="requests", daemon=True).start()
    return iter(found.get, None)


def reply(text: str) -> None:
    """Answer the parent, in the helper."""
    os.write(1, f"{text}\n".encode())
