"""While user code blocks the event loop, the lease is renewed and the blocking action is named."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from typing import TYPE_CHECKING

import pytest

from motoko.errors import LeaseHeld
from motoko.orchestrator.loop_monitor import LoopBlockMonitor
from motoko.storage import leases, orchestrator_leases
from motoko.storage.orchestrator_leases import Lease
from motoko.storage.session import Session, run_transaction
from motoko.testing import memory_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.unit

PATIENCE = 60.0


def block_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


async def test_a_lease_is_renewed_while_the_loop_is_blocked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.01)
    monkeypatch.setattr(orchestrator_leases, "CHECK_SECONDS", 0.01)
    store = memory_store({}, directory=tmp_path)
    session = Session(store.database)
    mine = Lease(store, "a")

    def renewed_at() -> float:
        session.refresh()
        return session.tables.renewed_at(mine.guard.name)

    await mine.acquire()
    before = renewed_at()
    renewing = asyncio.ensure_future(mine.renew_forever())
    await asyncio.sleep(0)
    block_until(lambda: renewed_at() > before)
    renewing.cancel()
    await mine.release()
    session.close()
    store.close()


async def test_a_live_process_keeps_an_expired_lease(tmp_path: Path) -> None:
    store = memory_store({}, directory=tmp_path)
    mine = Lease(store, "a")
    await mine.acquire()
    store.database.submit(
        lambda: run_transaction(store.database, lambda t: t.renew_lease(mine.guard.name, -1e9))
    ).result()
    with pytest.raises(LeaseHeld):
        await Lease(store, "a").acquire()
    await mine.release()
    await Lease(store, "a").acquire()
    store.close()


async def test_the_action_that_blocks_the_loop_is_named(caplog: pytest.LogCaptureFixture) -> None:
    async def blocker() -> None:
        with LoopBlockMonitor(work, blocked_seconds=0.05):
            block_until(lambda: "blocked for" in caplog.text)

    task = asyncio.ensure_future(blocker())
    work = {task: "the action of event 'sum', steps.py:3,"}
    with caplog.at_level(logging.WARNING):
        await task
    assert "by the action of event 'sum', steps.py:3, at " in caplog.text
    assert re.search(rf"at {re.escape(__file__)}:\d+ in ", caplog.text)


async def test_a_responsive_loop_is_not_reported(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), LoopBlockMonitor({}, blocked_seconds=PATIENCE):
        await asyncio.sleep(0.1)
    assert "has been blocked" not in caplog.text
