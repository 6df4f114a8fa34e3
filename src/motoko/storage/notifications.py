"""The recorded notifications: which were sent, and which are being sent.

An entry is recorded as SENDING before it is sent. So a process that is killed meanwhile never
causes a second message. Of several processes, one can make the change from one state to the next.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from motoko.core.notifications import Key, NotificationState

if TYPE_CHECKING:
    from motoko.storage.tables import Tables


@dataclass(frozen=True, slots=True)
class StoredNotification:
    """One recorded notification.

    ``at``: when it got its state, in seconds since the epoch. ``target``: the name of its target.
    ``problem``: why it failed. ``sender``: the process that sends it or did so last.
    """

    key: Key
    message: str
    target: str
    state: NotificationState
    at: float
    attempts: int = 1
    problem: str = ""
    sender: tuple[int, int, str, int, str] = (0, 0, "", 0, "")

    def stored(self) -> dict[str, Any]:
        """Return the entry as plain data without its key."""
        values = {**asdict(self), "state": self.state.value}
        del values["key"]
        return values

    @classmethod
    def of(cls, key: tuple[str, str, str, str], stored: Any) -> StoredNotification:
        """Return a stored entry."""
        values = {name: stored[name] for name in cls.__slots__ if name != "key"}
        values["state"] = NotificationState(values["state"])
        return cls(key=Key(*key), **values)


def stored_notifications(tables: Tables) -> dict[Key, StoredNotification]:
    """Return all recorded notifications, in order of time."""
    found = (StoredNotification.of(key, stored) for key, stored in tables.notifications())
    return {entry.key: entry for entry in sorted(found, key=lambda entry: entry.at)}


def swap(
    tables: Tables, former: StoredNotification | None, new: StoredNotification
) -> StoredNotification | None:
    """Record ``new`` if ``former`` is recorded (None: nothing); return the entry recorded now."""
    stored = tables.notification(new.key)
    present = None if stored is None else StoredNotification.of(new.key, stored)
    if present != former:
        return present
    tables.set_notification(new.key, new.stored())
    return new
