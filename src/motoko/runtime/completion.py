"""Work that a cancellation must not interrupt."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable

T = TypeVar("T")


async def to_completion(work: Awaitable[T]) -> T:
    """Await ``work`` to its end, then return its result or raise its error.

    A cancellation is raised after the end. A shielded scope of anyio alone holds off anyio's
    cancel scopes, but not ``Task.cancel`` of asyncio, which may come any number of times.
    """
    future = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None and not future.cancelled():
        raise cancelled from future.exception()
    return future.result()
