"""One consumer handles each request to a launcher once, in order of submission."""

from __future__ import annotations

import asyncio
import itertools
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from motoko.errors import LauncherError
from motoko.launcher import control, daemon
from motoko.launcher.control import (
    RESUME,
    SUSPEND,
    ControlRequest,
    LauncherProcess,
    pending,
    submit,
)
from motoko.runtime.ports import Runtime, SystemClock, SystemRandom
from motoko.runtime.processes import current
from motoko.server.state_dir import StateDir
from motoko.testing.memory import eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.unit


class DescendingTokens(SystemRandom):
    """A random source whose tokens are in descending order."""

    def __init__(self) -> None:
        self._numbers = itertools.count(10**6, -1)

    def token(self, size: int) -> str:
        return f"{next(self._numbers):0{2 * size}x}"


DESCENDING = Runtime(rng=DescendingTokens())
OWN = LauncherProcess(current(), (), ())


class SlowLauncher:
    """A launcher that handles a request when ``go`` is set."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.log: list[str] = []

    async def handle_request(self, request: ControlRequest) -> None:
        self.log.append(f"begin {request.action} {request.run_name}")
        await self.go.wait()
        self.log.append(f"end {request.action} {request.run_name}")


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StateDir:
    """Return a state directory whose launcher gets no signals."""
    monkeypatch.setattr(control, "signal_process", lambda *_: False)
    (tmp_path / ".wf").mkdir()
    return StateDir(tmp_path / ".wf")


def submit_in_thread(
    state: StateDir, request: ControlRequest, timeout: float = 60, runtime: Runtime = DESCENDING
) -> Callable[[], None]:
    """Submit a request in a thread; return a function that waits until it is done."""
    errors: list[Exception] = []

    def work() -> None:
        try:
            submit(state, OWN, request, timeout=timeout, runtime=runtime)
        except LauncherError as error:
            errors.append(error)

    before = len(pending(state))
    thread = threading.Thread(target=work, name=request.action)
    thread.start()
    eventually(lambda: len(pending(state)) > before or not thread.is_alive())

    def answered() -> None:
        thread.join(60)
        assert errors == []

    return answered


def test_requests_are_handled_serially_in_submission_order(state: StateDir) -> None:
    async def serve() -> list[str]:
        launcher, asked = SlowLauncher(), asyncio.Event()
        serving = asyncio.create_task(daemon._handle_requests(launcher, state, asked))  # type: ignore[arg-type]
        waits = []
        for request in (
            ControlRequest(SUSPEND, "a"),
            ControlRequest(RESUME, "a"),
            ControlRequest(SUSPEND, "b"),
        ):
            waits.append(await asyncio.to_thread(submit_in_thread, state, request))
            asked.set()
            await asyncio.sleep(0)
        await asyncio.to_thread(eventually, lambda: launcher.log)
        asked.set()  # a spurious wakeup
        launcher.go.set()
        for answered in waits:
            await asyncio.to_thread(answered)
        serving.cancel()
        return launcher.log

    requests = [f"{SUSPEND} a", f"{RESUME} a", f"{SUSPEND} b"]
    assert asyncio.run(serve()) == [f"{step} {r}" for r in requests for step in ("begin", "end")]
    assert pending(state) == []


def test_the_timeout_starts_when_earlier_requests_are_done(state: StateDir) -> None:
    now = 0.0
    seen = 0
    ticks = itertools.count()

    class ManualClock(SystemClock):
        def monotonic(self) -> float:
            nonlocal seen
            seen += threading.current_thread().name == RESUME
            return now + 1e-6 * next(ticks)

    def wait_for_poll() -> None:
        """Wait until the last submitter has read the requests and the clock."""
        since = seen
        eventually(lambda: seen > since + 2)

    manual = Runtime(clock=ManualClock(), rng=DESCENDING.rng)
    waits = [submit_in_thread(state, ControlRequest(SUSPEND, name), 1000, manual) for name in "abc"]
    waits.append(submit_in_thread(state, ControlRequest(RESUME, "a"), 10, manual))
    for _ in range(3):
        wait_for_poll()
        now += 8
        wait_for_poll()
        path, request = pending(state)[0]
        assert request.action == SUSPEND
        path.unlink()
    wait_for_poll()
    now += 8
    wait_for_poll()
    ((path, request),) = pending(state)  # still pending after more than its timeout
    assert request.action == RESUME
    path.unlink()
    for answered in waits:
        answered()


def test_submit_does_not_wait_for_an_exited_launcher(state: StateDir) -> None:
    exited = replace(OWN, process=replace(OWN.process, started=OWN.process.started - 1))
    submit(state, exited, ControlRequest(SUSPEND, "a"), timeout=60)
    assert pending(state) == []
