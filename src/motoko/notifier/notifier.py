"""The loop of the notifier: watch executions, record the messages that are due, then send them."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final

from motoko.core.notifications import due
from motoko.errors import MotokoError, NoDatabaseError
from motoko.notifier.deliveries import Deliveries
from motoko.notifier.journal import record
from motoko.notifier.observation import Observer, end_of
from motoko.notifier.sending import Message, Outcome, send
from motoko.notifier.watched import remove_watched, watched_executions
from motoko.storage.notifications import stored_notifications

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from motoko.config.notify_targets import NotifyTarget
    from motoko.core.notifications import Notification
    from motoko.notifier.journal import Change
    from motoko.notifier.watched import WatchedExecution
    from motoko.orchestrator.run_ends import RunEnd
    from motoko.runtime.ports import Clock
    from motoko.storage.store import WorkflowStore

POLL_SECONDS: Final = 1.0
PAUSE_SECONDS: Final = 5.0  # between two attempts to use an unavailable database
GIVE_UP_SECONDS: Final = 3600.0

log = logging.getLogger(__name__)


class Availability:
    """Spaces attempts to use the database while it is unavailable."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._next = 0.0
        self._since: float | None = None

    @property
    def may_try(self) -> bool:
        """Whether to try now."""
        return self._clock.monotonic() >= self._next

    def on_success(self) -> None:
        """Record that an attempt succeeded."""
        self._since = None

    def pause(self) -> None:
        """Delay the next attempt."""
        self._next = self._clock.monotonic() + PAUSE_SECONDS

    def on_failure(self, error: MotokoError | OSError) -> None:
        """Delay the next attempt; raise the error after GIVE_UP_SECONDS of failures."""
        now = self._clock.monotonic()
        if self._since is None:
            self._since = now
            log.warning("cannot use the database: %s", error)
        if isinstance(error, NoDatabaseError) or now - self._since > GIVE_UP_SECONDS:
            raise error
        self.pause()


class Notifier:
    """Sends the notifications of a workflow until nothing is left to watch and to send.

    ``store`` only reads. ``read_targets`` returns the configured targets. ``deliver`` sends one
    notification, and blocks.
    """

    def __init__(
        self,
        store: WorkflowStore,
        read_targets: Callable[[], Sequence[NotifyTarget]],
        deliver: Callable[[NotifyTarget, Message], Outcome] = send,
    ) -> None:
        self._store = store
        self._state = store.state
        self._read_targets = read_targets
        self._deliver = deliver
        self._observer = Observer(store)
        self._deliveries: Deliveries | None = None
        self._reading = Availability(store.clock)
        self._writing = Availability(store.clock)
        self._wake = threading.Event()
        self.stopped = False

    def serve(self, check: Callable[[], object] = lambda: None) -> None:
        """Work until all is done or ``stop`` is called; ``check`` is called each second."""
        while not self.stopped:
            check()
            self.step()
            if self.is_done():
                return
            self._wake.wait(POLL_SECONDS)
            self._wake.clear()

    def stop(self) -> None:
        """End ``serve`` soon. A signal handler may call this."""
        self.stopped = True
        self._wake.set()

    def finish(self, seconds: float) -> None:
        """Wait for notifications that are being sent, and record the results."""
        deliveries, clock = self._deliveries, self._store.clock
        if deliveries is None:
            return
        deadline = clock.monotonic() + seconds
        while deliveries.sending and clock.monotonic() < deadline:
            self._wake.wait(deadline - clock.monotonic())
            self._wake.clear()
        self._write(deliveries, deliveries.ends(), {})

    def is_done(self) -> bool:
        """Return whether nothing is left to watch and to send."""
        idle = self._deliveries is not None and self._deliveries.idle
        return idle and not watched_executions(self._state)

    def step(self) -> None:
        """Look once, and start to send the messages that are due."""
        targets = {target.id: target for target in self._read_targets()}
        ends = dict(self._ends())
        found = self._observe(ends, targets.values())
        if self._deliveries is None or not self._writing.may_try:
            return
        deliveries = self._deliveries
        claims = deliveries.claims(targets, found or ())
        changes = [*deliveries.ends(), *claims]
        written = self._write(deliveries, changes, targets)
        if written and found is not None and all(deliveries.knows(one.key) for one in found):
            for execution in (one for one, end in ends.items() if end is not None):
                remove_watched(self._state, execution)
                self._observer.forget(execution)

    def _ends(self) -> Iterator[tuple[WatchedExecution, RunEnd | None]]:
        for execution in watched_executions(self._state):
            try:
                yield execution, end_of(self._state, execution, self._store.now())
            except LookupError:
                log.info("no end of run name %r is known", execution.run_name)
                remove_watched(self._state, execution)

    def _observe(
        self, ends: Mapping[WatchedExecution, RunEnd | None], targets: Iterable[NotifyTarget]
    ) -> list[Notification] | None:
        """Return all notifications that the facts ask for; None if the facts are unknown."""
        if not self._reading.may_try or not (ends or self._deliveries is None):
            return None
        running = [execution for execution, end in ends.items() if end is None]
        observer, store = self._observer, self._store
        try:
            with store.autocommit_scope.read() as session:
                if self._deliveries is None:
                    self._deliveries = Deliveries(
                        stored_notifications(session.tables),
                        self._state.path.parent,
                        store.runtime,
                        self._deliver,
                        self._wake.set,
                    )
                facts = [observer.execution(session, *item) for item in ends.items()]
                launchers = list(observer.launchers(session, running))
            served = store.database.is_served
        except (MotokoError, OSError) as error:
            store.close()
            self._reading.on_failure(error)
            return None
        self._reading.on_success()
        if not served:  # the file does not show later commits
            store.close()
            self._reading.pause()
        return due(facts, launchers, [target.subscription for target in targets])

    def _write(
        self,
        deliveries: Deliveries,
        changes: Sequence[Change],
        targets: Mapping[str, NotifyTarget],
    ) -> bool:
        """Record changes, and start to send the notifications among them; return whether it did."""
        if not changes:
            return True
        try:
            recorded = record(self._state, changes, self._store.runtime)
        except (MotokoError, OSError) as error:
            self._writing.on_failure(error)
            return False
        self._writing.on_success()
        deliveries.on_recorded(changes, recorded, targets)
        return True
