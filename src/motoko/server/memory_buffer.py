"""The buffer of a transaction of a ZEO client: stored states until its end, and unsent messages.

ZEO keeps the states in a file, and sends each message alone. Making a file for each commit and
waking the client's thread for each message takes a good part of a commit's time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ZEO.TransactionBuffer import TransactionBuffer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TOGETHER: Final = 100  # messages that are sent together


class MemoryBuffer(TransactionBuffer):  # type: ignore[misc]
    """The data of one transaction; ``send_all`` sends messages, each a method and its arguments.

    ``generation``: the number of the connection.
    """

    def __init__(
        self, generation: int, send_all: Callable[[list[tuple[str, tuple[Any, ...]]]], None]
    ) -> None:
        # Without ZEO's constructor, which makes the file.
        self.connection_generation = generation
        self.blobs: list[Any] = []
        self.server_resolved: set[bytes] = set()
        self.client_resolved: dict[bytes, int] = {}
        self.exception: Exception | None = None
        self._stored: list[tuple[bytes, bytes]] = []
        self._messages: list[tuple[str, tuple[Any, ...]]] = []
        self._send_all = send_all

    def store(self, oid: bytes, data: bytes) -> None:
        """Remember the stored state of an object, for the client's cache."""
        self._stored.append((oid, data))

    def send(self, method: str, *args: Any) -> None:
        """Send a message with others, at the latest with ``flush``."""
        self._messages.append((method, args))
        if len(self._messages) >= TOGETHER:
            self.flush()

    def flush(self) -> None:
        """Send the messages that wait; ClientDisconnected without a server."""
        messages, self._messages = self._messages, []
        if messages:
            self._send_all(messages)

    def __iter__(self) -> Iterator[tuple[bytes, bytes, bool]]:
        for oid, data in self._stored:
            yield oid, data, oid in self.server_resolved

    def close(self) -> None:
        """Forget everything."""
        self._stored, self._messages = [], []
