"""Storage work off the event loop, in threads; a started commit is never cancelled."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar

import anyio
import anyio.to_thread
from anyio import CapacityLimiter
from anyio.lowlevel import RunVar

from motoko.runtime.completion import to_completion

if TYPE_CHECKING:
    from collections.abc import Callable

    from motoko.storage.database import Database

T = TypeVar("T")


ENGINE_THREADS: Final = 16
USER_THREADS: Final = 2000  # of user functions, which may wait for each other

_engine: RunVar[CapacityLimiter] = RunVar("motoko_engine_threads")
_users: RunVar[CapacityLimiter] = RunVar("motoko_user_threads")


async def run_in_thread(work: Callable[[], T]) -> T:
    """Run Motoko's own ``work`` in a worker thread."""
    return await anyio.to_thread.run_sync(work, limiter=_limiter(_engine, ENGINE_THREADS))


async def run_in_user_thread(work: Callable[[], T]) -> T:
    """Run a user's function in a worker thread. Waiting ones do not hold up Motoko's own work."""
    return await anyio.to_thread.run_sync(work, limiter=_limiter(_users, USER_THREADS))


def _limiter(variable: RunVar[CapacityLimiter], threads: int) -> CapacityLimiter:
    limiter = variable.get(None)
    if limiter is None:
        limiter = CapacityLimiter(threads)
        variable.set(limiter)
    return limiter


async def run_in_committer(database: Database, work: Callable[[], T]) -> T:
    """Run ``work`` in the committer thread; once started, it is awaited to its end."""
    return await to_completion(asyncio.wrap_future(database.submit(work)))
