"""Signals end an execution at its next await and interrupt blocking calls."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from motoko.operations import signals as module
from motoko.operations.signals import SignalHandler
from motoko.runtime.processes import defer_signals

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

pytestmark = pytest.mark.integration

LONG = 30.0  # seconds, longer than the timeout of a test


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCKED_SECONDS", 0.1)
    monkeypatch.setattr(module, "CANCEL_TIMEOUT", 0.1)
    monkeypatch.setattr(module, "REPEAT_SECONDS", 0.1)


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Return the event for which blocking threads wait."""
    event = threading.Event()
    yield event
    event.set()


def terminate() -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


def terminate_and_sleep() -> None:
    terminate()
    time.sleep(LONG)


def terminate_and_wait(release: threading.Event) -> None:
    """Send it from a thread, because the system may deliver it to any thread."""
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    release.wait(LONG)


def run(work: Callable[[], Awaitable[None]], *, drain: Callable[[], object] = lambda: None) -> int:
    """Run ``work`` like an execution until a signal ends it; return the signal's number."""
    signals = SignalHandler()

    async def execute() -> None:
        with anyio.CancelScope() as scope, signals.cancelling(scope):
            await work()
        if scope.cancelled_caught:
            raise KeyboardInterrupt(signals.signal)

    with (
        signals.installed(),
        pytest.raises(KeyboardInterrupt) as caught,
        signals.interrupting_blocked_code(drain),
    ):
        anyio.run(execute)
    number: int = caught.value.args[0]
    return number


async def cancels_normally(release: threading.Event) -> None:
    del release
    terminate()
    await anyio.sleep(LONG)


async def blocks_the_loop(release: threading.Event) -> None:
    del release
    terminate_and_sleep()


async def waits_for_a_thread(release: threading.Event) -> None:
    await anyio.to_thread.run_sync(terminate_and_wait, release)


async def leaves_a_thread_of_the_loop(release: threading.Event) -> None:
    await asyncio.to_thread(terminate_and_wait, release)


async def swallows_cancellation(release: threading.Event) -> None:
    del release
    terminate()
    for _ in range(3):
        with contextlib.suppress(BaseException):
            await asyncio.sleep(LONG)
    with contextlib.suppress(BaseException):
        time.sleep(LONG)  # noqa: ASYNC251
    await asyncio.sleep(LONG)


@pytest.mark.parametrize(
    "work",
    [cancels_normally, blocks_the_loop, waits_for_a_thread, leaves_a_thread_of_the_loop,
     swallows_cancellation],
)  # fmt: skip
def test_a_signal_ends_every_kind_of_work(
    work: Callable[[threading.Event], Awaitable[None]],
    release: threading.Event,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if work is cancels_normally:  # a slow end is not reported
        monkeypatch.setattr(module, "BLOCKED_SECONDS", LONG)
    begin = time.monotonic()
    assert run(partial(work, release)) == signal.SIGTERM
    assert time.monotonic() - begin < LONG / 2
    assert not release.is_set()
    messages = [
        record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING
    ]
    assert [text[:26] for text in messages] == (
        [] if work is cancels_normally else ["interrupted code that did "]
    )


def test_a_signal_waits_for_the_current_commit(
    release: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code that waits for the commit is interrupted only afterwards."""
    monkeypatch.setattr(module, "POLL_INTERVAL", LONG)
    threading.Timer(0.5, release.set).start()
    done = []

    async def commits() -> None:
        terminate()
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(release.wait, LONG)
            done.append("committed")
        await anyio.sleep(LONG)

    assert run(commits, drain=partial(release.wait, LONG)) == signal.SIGTERM
    assert done == ["committed"]


def test_a_further_signal_interrupts_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCKED_SECONDS", LONG)

    async def blocks() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Timer(0.1, partial(os.kill, os.getpid(), signal.SIGINT)).start()
        time.sleep(LONG)  # noqa: ASYNC251

    begin = time.monotonic()
    assert run(blocks) == signal.SIGTERM  # the first signal is the reason
    assert time.monotonic() - begin < LONG / 2


def test_repeated_hangups_interrupt_nothing() -> None:
    """A closed terminal may send several."""
    signals = SignalHandler()
    with signals.installed():
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(LONG)
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGHUP)
    assert signals.signal == signal.SIGHUP
    assert not signals.repeated


def test_a_swallowed_interrupt_cancels_the_execution() -> None:
    signals = SignalHandler()
    started = []

    async def execute() -> None:
        with anyio.CancelScope() as scope, signals.cancelling(scope):
            await anyio.lowlevel.checkpoint()
            started.append(True)

    with signals.installed():
        with pytest.raises(KeyboardInterrupt):  # as in an interrupted destructor
            terminate_and_sleep()
        with signals.interrupting_blocked_code(lambda: None):
            anyio.run(execute)
    assert not started


def test_a_signal_at_the_end_does_not_interrupt_the_clean_up() -> None:
    signals = SignalHandler()

    async def execute() -> None:
        with anyio.CancelScope() as scope, signals.cancelling(scope):
            await anyio.lowlevel.checkpoint()

    with signals.installed():
        with signals.interrupting_blocked_code(lambda: None):
            anyio.run(execute)
        try:
            terminate()
            time.sleep(0.01)
        except KeyboardInterrupt:  # pytest would treat it as its own interrupt
            pytest.fail("the cleaning up was interrupted")
        assert signals.signal == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            terminate_and_sleep()


def test_ignored_signals_stay_ignored() -> None:
    signals = SignalHandler()
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.installed():
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.01)
        assert signals.signal is None
    finally:
        signal.signal(signal.SIGHUP, former)


def test_signals_are_deferred_while_a_process_is_started() -> None:
    came: list[str] = []
    former = signal.signal(signal.SIGTERM, lambda *_: came.append("signal"))
    try:
        with defer_signals():
            terminate()
            time.sleep(0.01)
            came.append("started")
        assert came == ["started", "signal"]
    finally:
        signal.signal(signal.SIGTERM, former)
