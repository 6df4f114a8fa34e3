"""A child process that answers requests, a line each, and exits when its parent has exited."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PIECE: Final = 2**16  # bytes
MAX_DESCRIPTORS: Final = 4


class HelperProcess:
    """A running helper, as a context manager that kills it at the end.

    ``descriptors``: the files that it inherits, under the same numbers.
    """

    def __init__(self, command: Sequence[str], *, descriptors: Sequence[int] = ()) -> None:
        self._requests, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = subprocess.Popen(
                    list(command),
                    stdin=theirs.fileno(),
                    stdout=subprocess.PIPE,
                    pass_fds=descriptors,
                )
        except BaseException:
            self._requests.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill the helper and wait for its end."""
        self._process.kill()
        self._process.communicate()
        self._requests.close()

    def kill(self) -> None:
        """Kill the helper, from any thread; a call that waits for its answer raises OSError."""
        self._process.kill()

    def send(self, request: str, *, descriptors: Sequence[int] = ()) -> None:
        """Send a line, with copies of these descriptors; raise OSError if the helper has exited."""
        data = f"{request}\n".encode()
        sent = socket.send_fds(self._requests, [data], descriptors) if descriptors else 0
        self._requests.sendall(data[sent:])

    def answer(self) -> str:
        """Wait for the next line of the helper; raise OSError if it has exited."""
        assert self._process.stdout is not None
        line: bytes = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise ChildProcessError(f"a helper ended early with status {self._process.wait()}")
        return line.decode().strip()

    def ask(self, request: str, *, descriptors: Sequence[int] = ()) -> str:
        """Send a line like ``send``; return the answer. Raise OSError if the helper has exited."""
        self.send(request, descriptors=descriptors)
        return self.answer()


class Request(NamedTuple):
    """A request, and the descriptors that came with it. Its reader closes them."""

    text: str
    descriptors: list[int]


def requests() -> Iterator[Request]:
    """Yield the parent's requests, in the helper; exit at once when the parent has exited."""
    found: SimpleQueue[Request] = SimpleQueue()
    threading.Thread(target=_read, args=(found,), name="requests", daemon=True).start()
    return iter(found.get, None)


def _read(found: SimpleQueue[Request]) -> None:
    begun, descriptors = b"", list[int]()
    with socket.socket(fileno=os.dup(0)) as channel:
        while True:
            try:
                data, received, *_ = socket.recv_fds(channel, PIECE, MAX_DESCRIPTORS)
            except OSError:
                data = b""
            if not data:
                os._exit(1)
            descriptors += received
            *lines, begun = (begun + data).split(b"\n")
            for line in lines:
                found.put(Request(line.decode().strip(), descriptors))
                descriptors = []


def reply(text: str) -> None:
    """Answer the parent, in the helper."""
    os.write(1, f"{text}\n".encode())
