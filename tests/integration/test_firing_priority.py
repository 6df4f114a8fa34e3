"""A firing after many conflicts has priority; no firing waits forever."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import TYPE_CHECKING

import pytest

from motoko.runtime.file_lock import FileLock, is_recently_locked
from motoko.storage import contention
from motoko.storage.contention import FIRING_CONFLICTS, MAX_HOLD_SECONDS, FiringPriority

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "right_of_way.lock"


async def is_admitted(priority: FiringPriority, conflicts: int) -> bool:
    """Return whether the firing may call its action soon."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.3):
            await priority.wait(conflicts)
            return True
    return False


async def test_other_firings_wait_until_it_is_released(path: Path) -> None:
    with FiringPriority(path) as other:
        assert await is_admitted(other, 0)
        assert list(path.parent.iterdir()) == []  # the file exists only while a firing has priority
        with FiringPriority(path) as urgent:
            await urgent.wait(FIRING_CONFLICTS)
            assert not await is_admitted(other, 0)
            assert await is_admitted(urgent, FIRING_CONFLICTS + 1)
        assert await is_admitted(other, 0)


async def test_only_one_firing_holds_it(path: Path) -> None:
    with FiringPriority(path) as second:
        with FiringPriority(path) as first:
            await first.wait(FIRING_CONFLICTS)
            waiting = asyncio.create_task(second.wait(FIRING_CONFLICTS))
            await asyncio.sleep(0.6)  # longer than any pause after a conflict
            assert not waiting.done()
        await waiting
        assert is_recently_locked(path, at_most=MAX_HOLD_SECONDS)
    assert not is_recently_locked(path, at_most=MAX_HOLD_SECONDS)


async def test_a_long_firing_releases_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contention, "MAX_HOLD_SECONDS", 0.2)
    with FiringPriority(path) as urgent, FiringPriority(path) as other:
        await urgent.wait(FIRING_CONFLICTS)
        await asyncio.sleep(0.3)
        with FileLock(path, timeout=0):  # no firing holds it
            pass
        await other.wait(FIRING_CONFLICTS)
        assert is_recently_locked(path, at_most=MAX_HOLD_SECONDS)


async def test_a_suspended_holder_blocks_no_firing(path: Path) -> None:
    with FileLock(path), FiringPriority(path) as way:
        assert not await is_admitted(way, 0)
        long_ago = time.time() - MAX_HOLD_SECONDS - 1
        os.utime(path, (long_ago, long_ago))
        assert await is_admitted(way, 0)


async def test_without_a_directory_no_firing_waits(path: Path) -> None:
    with FiringPriority(path / "missing" / "lock") as way:
        # As after any conflict, it pauses for up to half a second before its call.
        await asyncio.wait_for(way.wait(FIRING_CONFLICTS), MAX_HOLD_SECONDS / 2)
