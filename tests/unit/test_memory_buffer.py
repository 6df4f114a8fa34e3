"""What a transaction stores reaches the server in order, and the client's cache."""

from __future__ import annotations

from typing import Any

import pytest

from motoko.server.memory_buffer import TOGETHER, MemoryBuffer

pytestmark = pytest.mark.unit


def buffer_and_sent() -> tuple[MemoryBuffer, list[list[Any]]]:
    sent: list[list[Any]] = []
    return MemoryBuffer(3, sent.append), sent


@pytest.mark.parametrize("number", [0, 1, TOGETHER - 1, TOGETHER, TOGETHER + 1, 3 * TOGETHER])
def test_messages_are_sent_once_and_in_order(number: int) -> None:
    buffer, sent = buffer_and_sent()
    for n in range(number):
        buffer.send("storea", n)
    buffer.flush()
    buffer.flush()
    assert [message for some in sent for message in some] == [
        ("storea", (n,)) for n in range(number)
    ]
    assert all(1 <= len(some) <= TOGETHER for some in sent)


def test_messages_wait_for_others_or_for_the_vote() -> None:
    buffer, sent = buffer_and_sent()
    for n in range(TOGETHER - 1):
        buffer.send("storea", n)
    assert not sent
    buffer.send("storea", TOGETHER)
    assert len(sent) == 1


def test_the_stored_states_are_returned_with_what_the_server_resolved() -> None:
    buffer, _ = buffer_and_sent()
    buffer.store(b"a", b"1")
    buffer.store(b"b", b"2")
    buffer.server_resolve(b"b")
    assert list(buffer) == [(b"a", b"1", False), (b"b", b"2", True)]


def test_a_closed_buffer_sends_nothing() -> None:
    buffer, sent = buffer_and_sent()
    buffer.store(b"a", b"1")
    buffer.send("storea", 1)
    buffer.close()
    buffer.flush()
    assert not sent
    assert not list(buffer)
