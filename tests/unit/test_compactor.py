"""The launcher's compaction: it begins at the start, and again once many runs have ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from motoko.errors import StorageError
from motoko.launcher import compactor
from motoko.launcher.compactor import ENOUGH, Compactor

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.unit


class Steps:
    """Replaces the steps: each study has ``left`` of them, at positions 0, 1, 2, and so on."""

    def __init__(self, **left: int) -> None:
        self.left = left
        self.made: list[tuple[str, int]] = []
        self.failures = 0

    def __call__(self, _database: object, study: str, low: int) -> int | None:
        if self.failures:
            self.failures -= 1
            raise StorageError("the disk is full")
        self.made.append((study, low))
        return low + 1 if low + 1 < self.left[study] else None


class Store:
    database = None

    class clock:  # noqa: N801 - an attribute of the real one
        @staticmethod
        def monotonic() -> float:
            return 0.0


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(60):
        while not condition():  # noqa: ASYNC110 - nothing notifies of steps
            await anyio.sleep(0.001)


async def compacting(
    monkeypatch: pytest.MonkeyPatch, steps: Steps, *, idle: bool, then: Any
) -> None:
    monkeypatch.setattr(compactor, "compact_study", steps)
    monkeypatch.setattr(compactor, "RETRY_SECONDS", 0.0)
    store: Any = Store()
    working = Compactor(store, lambda: (tuple(steps.left), idle))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(working.run)
        await then(working)
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("idle", [False, True])
async def test_all_steps_of_all_studies_are_made(
    monkeypatch: pytest.MonkeyPatch, idle: bool
) -> None:
    steps = Steps(a=3, b=1)
    expected = {("a", 0), ("a", 1), ("a", 2), ("b", 0)}

    async def then(_: Compactor) -> None:
        await until(lambda: set(steps.made) == expected)

    await compacting(monkeypatch, steps, idle=idle, then=then)
    assert len(steps.made) == len(expected)


async def test_it_starts_again_once_enough_runs_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps(a=1)

    async def then(working: Compactor) -> None:
        await until(lambda: len(steps.made) == 1)
        working.add(ENOUGH - 1)
        await anyio.wait_all_tasks_blocked()
        assert len(steps.made) == 1
        working.add(1)
        await until(lambda: len(steps.made) == 2)

    await compacting(monkeypatch, steps, idle=True, then=then)


async def test_a_failed_step_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps(a=1)
    steps.failures = 2

    async def then(_: Compactor) -> None:
        await until(lambda: len(steps.made) == 1)

    await compacting(monkeypatch, steps, idle=True, then=then)
