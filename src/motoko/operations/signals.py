"""Signals that end a command: what is under way is finished, what does not heed them is left."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from motoko.orchestrator.asyncio_tasks import CANCEL_TIMEOUT
from motoko.runtime.processes import TERMINATION_SIGNALS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    import anyio

HEED_SECONDS: Final = 2.0  # that user code may take to end which blocks the event loop
MOMENT: Final = 0.05  # seconds until a signal is taken for unnoticed, a wait for ended
AGAIN_SECONDS: Final = 0.5  # then it is interrupted as often as that
DOUBLE_SECONDS: Final = 0.3  # a signal that comes so soon after the first is the same one

logger = logging.getLogger("motoko.operations")


class SignalHandler:
    """Turns signals into a clean end: the first cancels, a further one interrupts at once.

    ``signal`` is the first one, None so far. ``again`` is set if Ctrl-C came after the first.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.again = False
        self._first_at = 0.0
        self._expected = False
        self._cancel: Callable[[], object] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._came_first = threading.Event()
        self._executing = False
        self._insisted = False
        self._interrupted = False

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """Catch the signals that end a process, unless they are ignored (nohup)."""
        wanted = [n for n in TERMINATION_SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]
        with self._noticed():
            former = {number: signal.signal(number, self._came) for number in wanted}
            try:
                yield
            finally:
                for number, handler in former.items():
                    signal.signal(number, handler)

    @contextlib.contextmanager
    def _noticed(self) -> Iterator[None]:
        """Have the main thread notice a signal that came just before it began to wait.

        Python would run the handler of such a signal when the wait has ended.
        """
        over = threading.Event()
        numbers, written = socket.socketpair()
        written.setblocking(False)
        former = signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
        thread = threading.Thread(target=self._notice, args=(numbers, over), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            signal.set_wakeup_fd(former)
            written.close()
            thread.join()
            numbers.close()

    def _notice(self, numbers: socket.socket, over: threading.Event) -> None:
        while (came := numbers.recv(64)) and self.signal is None:
            for number in set(TERMINATION_SIGNALS).intersection(came):
                while not over.wait(MOMENT) and self.signal is None:
                    _send(number)

    def _came(self, number: int, _frame: FrameType | None) -> None:
        insisted, self._insisted = self._insisted, False
        if insisted:
            if self._executing:
                self._interrupted = True
                raise KeyboardInterrupt(self.signal)
            return
        first = self.signal is None
        if first:
            self.signal = number
            self._first_at = time.monotonic()
            self._came_first.set()
        elif number == signal.SIGHUP:
            return  # a terminal that is closed may send several
        elif number == signal.SIGINT:
            late = time.monotonic() - self._first_at > DOUBLE_SECONDS
            self.again = self.again or self._expected or late
        if not first or self._cancel is None:
            raise KeyboardInterrupt(self.signal)
        self._cancel()

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal came: the first one may have been swallowed.

        What is raised while Python calls a destructor, or the like, is gone.
        """
        if self.signal is not None:
            raise KeyboardInterrupt(self.signal)

    def expect_another(self) -> None:
        """Count a further Ctrl-C from now on, however soon after the first it comes."""
        self._expected = True

    def comes_again(self, seconds: float) -> bool:
        """Wait for Ctrl-C after the first signal; return whether it has come by then."""
        deadline = time.monotonic() + seconds
        while not self.again and (left := deadline - time.monotonic()) > 0:
            with contextlib.suppress(KeyboardInterrupt):
                time.sleep(min(left, MOMENT))
        return self.again

    @contextlib.contextmanager
    def cancelling(self, scope: anyio.CancelScope) -> Iterator[None]:
        """Have the first signal cancel ``scope``; from within a running event loop.

        One that comes when the block has ended is only noted: nothing but cleaning up is left.
        """
        self._loop = loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._note)
        self._cancel = lambda: loop.call_soon_threadsafe(scope.cancel)
        if self.signal is not None:
            scope.cancel()
        try:
            yield
        finally:
            self._cancel = lambda: None

    def _note(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if self._interrupted:  # what was interrupted cannot but complain
            logger.debug("%s: %r", context.get("message"), context.get("exception"))
        else:
            loop.default_exception_handler(context)

    @contextlib.contextmanager
    def insisting(self, drain: Callable[[], object]) -> Iterator[None]:
        """Interrupt what is still in the block HEED_SECONDS after the first signal.

        That is user code that blocks the event loop, which no cancelling reaches. Where the loop
        turns, the execution has PATIENCE more, in which it names what swallows its cancellation.
        ``drain`` is called before; it waits for the commit under way.
        """
        over = threading.Event()

        def insist() -> None:
            self._came_first.wait()
            given, turned = HEED_SECONDS, self._turned()
            if over.wait(given):
                return
            if turned.is_set():
                given += CANCEL_TIMEOUT
                if over.wait(CANCEL_TIMEOUT):
                    return
            drain()
            if over.wait(MOMENT):
                return
            logger.warning(
                "what did not end within %g s after the signal is left where it was; nothing "
                "of its stretch is committed", given,
            )  # fmt: skip
            while not over.is_set():
                self._interrupt()
                over.wait(AGAIN_SECONDS)

        self._executing = True
        threading.Thread(target=insist, name="motoko-insist", daemon=True).start()
        try:
            yield
        finally:
            self._executing = False
            over.set()
            self._came_first.set()

    def _turned(self) -> threading.Event:
        """Return what is set once the event loop turns."""
        turned = threading.Event()
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it was closed
                self._loop.call_soon_threadsafe(turned.set)
        return turned

    def _interrupt(self) -> None:
        if self.signal is not None:
            self._insisted = True
            _send(self.signal)


def _send(number: int) -> None:
    """Signal the main thread, which ends a system call that it waits in."""
    main = threading.main_thread().ident
    if main is not None:
        signal.pthread_kill(main, number)
