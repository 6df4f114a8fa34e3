"""A wait of Motoko in an event loop fails a test."""

from __future__ import annotations

from functools import partial

import pytest
from blockbuster import BlockingError

from motoko.storage.threads import run_in_thread
from motoko.testing.memory import eventually

pytestmark = pytest.mark.unit


def waits() -> bool:
    """Have a function of Motoko sleep once."""
    answers = iter([False, True])
    return bool(eventually(partial(next, answers)))


async def test_a_wait_in_the_loop_is_found() -> None:
    with pytest.raises(BlockingError, match=r"time\.sleep"):
        waits()


async def test_a_wait_in_a_thread_may_take_long() -> None:
    assert await run_in_thread(waits)


def test_without_a_loop_everything_may_wait() -> None:
    assert waits()


@pytest.mark.blocks_loop
async def test_a_test_may_block_its_loop_on_purpose() -> None:
    assert waits()
