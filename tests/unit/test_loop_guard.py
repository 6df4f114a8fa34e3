"""A test fails if Motoko blocks its event loop."""

from __future__ import annotations

from functools import partial

import pytest
from blockbuster import BlockingError

from motoko.storage.threads import run_in_thread
from motoko.testing.memory import eventually

pytestmark = pytest.mark.unit


def blocking_wait() -> bool:
    """Call a function of Motoko that sleeps once."""
    answers = iter([False, True])
    return bool(eventually(partial(next, answers)))


async def test_a_blocking_wait_in_the_loop_is_detected() -> None:
    with pytest.raises(BlockingError, match=r"time\.sleep"):
        blocking_wait()


async def test_a_blocking_wait_in_a_thread_is_allowed() -> None:
    assert await run_in_thread(blocking_wait)


def test_a_blocking_wait_without_a_loop_is_allowed() -> None:
    assert blocking_wait()


@pytest.mark.blocks_loop
async def test_a_test_may_block_its_loop_on_purpose() -> None:
    assert blocking_wait()
