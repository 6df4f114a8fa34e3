"""The notifications of a workflow, from their first record to the last attempt to send them."""

from __future__ import annotations

import threading
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

from motoko.core.notifications import NotificationState, pause_after
from motoko.notifier.journal import Change
from motoko.notifier.sending import Message, Outcome
from motoko.runtime import fault_points
from motoko.runtime.processes import Liveness, ProcessIdentity, current, liveness
from motoko.storage.notifications import StoredNotification

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from motoko.config.notify_targets import NotifyTarget
    from motoko.core.notifications import Key, Notification
    from motoko.runtime.ports import Runtime

RESUME_SECONDS: Final = 3600.0  # after which no notification of an earlier notifier is sent
MAX_SENDING: Final = 16  # at once
KILLED: Final = "its sender was killed meanwhile: it may have been sent, and is not sent again"
LATE: Final = "the notifier was stopped before it could send it again"
REMOVED: Final = "its target is no longer in motoko.yaml"


class Deliveries:
    """Proposes the changes of notifications, and sends those that it has got recorded.

    ``deliver`` sends one notification. Threads call it, so that one that hangs delays no other, and
    then ``on_result``.
    """

    def __init__(
        self,
        recorded: Mapping[Key, StoredNotification],
        workflow: Path,
        runtime: Runtime,
        deliver: Callable[[NotifyTarget, Message], Outcome],
        on_result: Callable[[], object],
    ) -> None:
        self._known = dict(recorded)
        self._workflow = workflow
        self._runtime = runtime
        self._deliver = deliver
        self._on_result = on_result
        self._results: SimpleQueue[tuple[StoredNotification, Outcome]] = SimpleQueue()
        self._sending = 0
        self._ended: list[Change] = []  # to be recorded
        self._due: dict[Key, float] = {}  # monotonic times of WAITING ones
        self._adopt()

    def _adopt(self) -> None:
        """Continue with the notifications of an earlier notifier."""
        for entry in self._known.values():
            if entry.state is NotificationState.SENDING:
                if liveness(ProcessIdentity(*entry.sender)) is Liveness.DEAD:
                    self._end(entry, NotificationState.FAILED, KILLED)
            elif entry.state is NotificationState.WAITING:
                if self._runtime.clock.now() - entry.at > RESUME_SECONDS:
                    self._end(entry, NotificationState.FAILED, LATE)
                else:
                    self._due[entry.key] = self._runtime.clock.monotonic()

    def _end(self, entry: StoredNotification, state: NotificationState, problem: str = "") -> None:
        new = replace(entry, state=state, at=self._runtime.clock.now(), problem=problem)
        self._ended.append(Change(entry, new))

    @property
    def sending(self) -> bool:
        """Whether notifications are being sent whose results have not arrived."""
        return self._sending > self._results.qsize()

    @property
    def idle(self) -> bool:
        """Whether nothing is sent, recorded or sent again."""
        return not (self._sending or self._ended or self._due)

    def knows(self, key: Key) -> bool:
        """Return whether a notification is recorded."""
        return key in self._known

    def ends(self) -> list[Change]:
        """Return the results of attempts that are not recorded yet."""
        while True:
            try:
                entry, outcome = self._results.get_nowait()
            except Empty:
                return list(self._ended)
            self._sending -= 1
            pause = None
            if outcome.again:
                pause = pause_after(entry.attempts, self._runtime.rng.uniform(-1, 1))
            if outcome.sent:
                self._end(entry, NotificationState.SENT)
            elif pause is None:
                self._end(entry, NotificationState.FAILED, outcome.problem)
            else:
                self._end(entry, NotificationState.WAITING, outcome.problem)
                self._due[entry.key] = self._runtime.clock.monotonic() + pause

    def claims(
        self, targets: Mapping[str, NotifyTarget], found: Iterable[Notification]
    ) -> list[Change]:
        """Return the changes that make this process the sender of the messages due now."""
        now, changes = self._runtime.clock.monotonic(), []
        unrecorded = {change.new.key for change in self._ended}
        for key, at in [*self._due.items()]:
            former = self._known[key]
            if key in unrecorded or at > now:
                continue
            if key.target in targets:
                changes.append(Change(former, self._claimed(former, former.attempts + 1)))
            else:
                self._end(former, NotificationState.FAILED, REMOVED)
        for key, message in found:
            if key not in self._known:
                new = StoredNotification(
                    key, message, targets[key.target].name, NotificationState.SENDING, 0.0
                )
                changes.append(Change(None, self._claimed(new, 1)))
        return changes[: MAX_SENDING - self._sending]

    def _claimed(self, entry: StoredNotification, attempts: int) -> StoredNotification:
        return replace(
            entry,
            state=NotificationState.SENDING,
            at=self._runtime.clock.now(),
            attempts=attempts,
            sender=current().plain(),
        )

    def on_recorded(
        self,
        changes: Sequence[Change],
        recorded: Sequence[StoredNotification | None],
        targets: Mapping[str, NotifyTarget],
    ) -> None:
        """Learn which changes were made; send what this process has to send."""
        self._ended = [change for change in self._ended if change not in changes]
        for change, entry in zip(changes, recorded, strict=True):
            key = change.new.key
            if entry != change.new or entry.state is not NotificationState.WAITING:
                self._due.pop(key, None)
            if entry is None:  # the database was replaced
                self._known.pop(key, None)
                continue
            self._known[key] = entry
            if entry == change.new and entry.state is NotificationState.SENDING:
                fault_points.point("notifier.recorded")
                self._sending += 1
                arguments = (entry, targets[key.target])
                threading.Thread(target=self._send, args=arguments, daemon=True).start()

    def _send(self, entry: StoredNotification, target: NotifyTarget) -> None:
        key = entry.key
        event = key.event.partition(":")[0]  # without the number of failures
        message = Message(event, key.run_name, entry.message, self._workflow)
        try:
            outcome = self._deliver(target, message)
        except Exception as error:  # noqa: BLE001 - a bug must not leave it open
            outcome = Outcome(False, f"{type(error).__name__}: {error}")
        fault_points.point("notifier.sent")
        self._results.put((entry, outcome))
        self._on_result()
