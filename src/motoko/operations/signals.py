"""Signals that end a command: cancel the workflow first, interrupt blocked user code later."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any, Final

from motoko.orchestrator.asyncio_tasks import CANCEL_TIMEOUT
from motoko.runtime.ports import SYSTEM
from motoko.runtime.processes import TERMINATION_SIGNALS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    import anyio

    from motoko.runtime.ports import Clock

BLOCKED_SECONDS: Final = 2.0  # that user code may block the event loop after a signal
POLL_INTERVAL: Final = 0.05  # seconds
REPEAT_SECONDS: Final = 0.5  # between two interrupts of blocked code
DOUBLE_SECONDS: Final = 0.3  # within which a second signal counts as the same one

logger = logging.getLogger("motoko.operations")


class SignalHandler:
    """Stops a command on signals: the first one cancels, a further one interrupts at once.

    ``signal`` is the first signal, or None. ``repeated``: Ctrl-C came again after it.
    """

    def __init__(self, clock: Clock = SYSTEM.clock) -> None:
        self.signal: int | None = None
        self.repeated = False
        self._clock = clock
        self._first_at = 0.0
        self._expects_repeat = False
        self._cancel: Callable[[], object] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._received = threading.Event()
        self._executing = False
        self._forced = False  # the next signal is sent by this handler
        self._interrupted = False

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Handle the signals that end a process, except ignored ones (nohup)."""
        handled = [n for n in TERMINATION_SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]
        with self._waking_main_thread():
            former = {number: signal.signal(number, self._handle) for number in handled}
            try:
                yield
            finally:
                for number, handler in former.items():
                    signal.signal(number, handler)

    @contextlib.contextmanager
    def _waking_main_thread(self) -> Iterator[None]:
        """Wake the main thread for a signal that arrives just before it blocks."""
        done = threading.Event()
        numbers, written = socket.socketpair()
        written.setblocking(False)
        former = signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
        thread = threading.Thread(target=self._wake, args=(numbers, done), daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            signal.set_wakeup_fd(former)
            written.close()
            thread.join()
            numbers.close()

    def _wake(self, numbers: socket.socket, done: threading.Event) -> None:
        while (received := numbers.recv(64)) and self.signal is None:
            for number in set(TERMINATION_SIGNALS).intersection(received):
                while not done.wait(POLL_INTERVAL) and self.signal is None:
                    _send(number)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        forced, self._forced = self._forced, False
        if forced:
            if self._executing:
                self._interrupted = True
                raise KeyboardInterrupt(self.signal)
            return
        first = self.signal is None
        if first:
            self.signal = number
            self._first_at = self._clock.monotonic()
            self._received.set()
        elif number == signal.SIGHUP:
            return  # a terminal that is closed may send several
        elif number == signal.SIGINT:
            late = self._clock.monotonic() - self._first_at > DOUBLE_SECONDS
            self.repeated = self.repeated or self._expects_repeat or late
        if not first or self._cancel is None:
            raise KeyboardInterrupt(self.signal)
        self._cancel()

    def check(self) -> None:
        """Raise KeyboardInterrupt after a signal, in case the first exception was swallowed.

        Python discards exceptions that are raised in destructors, for example.
        """
        if self.signal is not None:
            raise KeyboardInterrupt(self.signal)

    def expect_repeat(self) -> None:
        """Count a further Ctrl-C from now on, however soon after the first it comes."""
        self._expects_repeat = True

    def wait_for_repeat(self, seconds: float) -> bool:
        """Wait for Ctrl-C after the first signal; return whether it came."""
        deadline = self._clock.monotonic() + seconds
        while not self.repeated and (left := deadline - self._clock.monotonic()) > 0:
            with contextlib.suppress(KeyboardInterrupt):
                self._clock.sleep(min(left, POLL_INTERVAL))
        return self.repeated

    @contextlib.contextmanager
    def cancelling(self, scope: anyio.CancelScope) -> Iterator[None]:
        """Cancel ``scope`` on the first signal. Call this within a running event loop.

        After the block a signal is only recorded: nothing but clean-up follows.
        """
        self._loop = loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_loop_error)
        self._cancel = lambda: loop.call_soon_threadsafe(scope.cancel)
        if self.signal is not None:
            scope.cancel()
        try:
            yield
        finally:
            self._cancel = lambda: None

    def _on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if self._interrupted:  # interrupted code inevitably causes errors
            logger.debug("%s: %r", context.get("message"), context.get("exception"))
        else:
            loop.default_exception_handler(context)

    @contextlib.contextmanager
    def interrupting_blocked_code(self, drain: Callable[[], object]) -> Iterator[None]:
        """Interrupt code that is still in the block BLOCKED_SECONDS after the first signal.

        User code that blocks the event loop cannot be cancelled. If the loop turns, the execution
        has CANCEL_TIMEOUT more, to name the code that swallows its cancellation. ``drain`` is
        called first; it waits for the current commit.
        """
        done = threading.Event()

        def interrupt() -> None:
            self._received.wait()
            given, turned = BLOCKED_SECONDS, self._loop_turn()
            if done.wait(given):
                return
            if turned.is_set():
                given += CANCEL_TIMEOUT
                if done.wait(CANCEL_TIMEOUT):
                    return
            drain()
            if done.wait(POLL_INTERVAL):
                return
            logger.warning(
                "interrupted code that did not end within %g s of the signal; nothing of its "
                "segment is committed", given,
            )  # fmt: skip
            while not done.is_set():
                if self.signal is not None:
                    self._forced = True
                    _send(self.signal)
                done.wait(REPEAT_SECONDS)

        self._executing = True
        threading.Thread(target=interrupt, name="motoko-interrupt", daemon=True).start()
        try:
            yield
        finally:
            self._executing = False
            done.set()
            self._received.set()

    def _loop_turn(self) -> threading.Event:
        """Return an event that the next turn of the event loop sets."""
        turned = threading.Event()
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(turned.set)
        return turned


def _send(number: int) -> None:
    """Signal the main thread; this ends a system call that it waits in."""
    main = threading.main_thread().ident
    if main is not None:
        signal.pthread_kill(main, number)
