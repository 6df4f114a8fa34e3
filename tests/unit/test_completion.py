"""Work that a cancellation does not interrupt."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from motoko.runtime.completion import to_completion

pytestmark = pytest.mark.unit


async def _steps(done: list[str]) -> str:
    for _ in range(20):
        await asyncio.sleep(0)
    done.append("end")
    return "result"


def test_returns_the_result() -> None:
    assert asyncio.run(to_completion(_steps([]))) == "result"


def test_raises_the_error() -> None:
    async def failing() -> None:
        raise LookupError("no such thing")

    with pytest.raises(LookupError, match="no such thing"):
        asyncio.run(to_completion(failing()))


@pytest.mark.parametrize("times", [1, 2, 10])
def test_cancellations_of_asyncio_come_after_the_end(times: int) -> None:
    done: list[str] = []

    async def main() -> None:
        task = asyncio.create_task(to_completion(_steps(done)))
        await asyncio.sleep(0)
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0)
            assert not done
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert done == ["end"]


def test_a_cancel_scope_ends_after_the_end() -> None:
    done: list[str] = []

    async def main() -> bool:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await to_completion(_steps(done))
        return scope.cancelled_caught

    asyncio.run(main())
    assert done == ["end"]


def test_an_error_is_the_cause_of_the_cancellation() -> None:
    async def failing() -> None:
        await _steps([])
        raise LookupError("no such thing")

    async def main() -> BaseException | None:
        task = asyncio.create_task(to_completion(failing()))
        await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError as cancelled:
            return cancelled.__cause__
        return None

    assert isinstance(asyncio.run(main()), LookupError)


def test_cancelled_work_raises_its_cancellation() -> None:
    async def main() -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.cancel()
        await to_completion(future)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
