"""Callbacks of the event loop: an error of one ends the task that waits for it."""

from __future__ import annotations

import asyncio
from functools import partial

import anyio
import pytest

from motoko.launcher.executors.callback_guard import CallbackGuard

pytestmark = pytest.mark.unit


def fail() -> None:
    raise OSError("broken")


async def test_calls_are_made_at_once_or_in_the_next_step_in_order() -> None:
    made: list[int] = []
    guard = CallbackGuard()
    guard.call(partial(made.append, 1))
    assert made == [1]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(guard.run)
        guard.call_soon(partial(made.append, 3))
        guard.call_soon(partial(made.append, 4))
        guard.call(partial(made.append, 2))
        assert made == [1, 2]
        await anyio.wait_all_tasks_blocked()
        assert made == [1, 2, 3, 4]
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("soon", [True, False])
@pytest.mark.parametrize("before", [True, False])
async def test_the_first_error_ends_the_task(soon: bool, before: bool) -> None:
    made: list[int] = []
    guard = CallbackGuard()
    make = guard.call_soon if soon else guard.call

    def fail_and_go_on() -> None:
        make(fail)
        make(fail)
        make(partial(made.append, 1))

    if before:  # the task has started
        fail_and_go_on()
    else:
        asyncio.get_running_loop().call_soon(fail_and_go_on)
    with pytest.raises(OSError, match="broken"):
        await guard.run()
    await anyio.wait_all_tasks_blocked()
    assert made == []


async def test_no_call_is_made_after_the_end() -> None:
    made: list[int] = []
    guard = CallbackGuard()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(guard.run)
        await anyio.wait_all_tasks_blocked()
        guard.call_soon(partial(made.append, 1))
        tasks.cancel_scope.cancel()
    await anyio.wait_all_tasks_blocked()
    guard.call(partial(made.append, 2))
    guard.call_soon(partial(made.append, 3))
    await anyio.wait_all_tasks_blocked()
    assert made == [1]
