"""The state of notifications, and a test of their targets."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from motoko.config import load_workflow
from motoko.core.notifications import ALL_RUN_NAMES, NotificationState
from motoko.errors import ConfigError, NoDatabaseError
from motoko.notifier.control import running_notifier
from motoko.notifier.sending import Message, Outcome, send
from motoko.notifier.watched import watched_executions
from motoko.storage.notifications import StoredNotification, stored_notifications

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from motoko.config.notify_targets import NotifyTarget
    from motoko.server.state_dir import StateDir
    from motoko.storage.store import WorkflowStore
    from motoko.storage.tables import Tables

TEST: Final = "test"


@dataclass(frozen=True, slots=True)
class NotificationOverview:
    """The notifications of a workflow. ``notifier``: its pid, None if none is running.

    ``watched``: the number of executions whose end is not notified yet. ``entries``: the recorded
    notifications in order of time.
    """

    notifier: int | None = None
    watched: int = 0
    entries: Sequence[StoredNotification] = ()
    counts: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def read(
        cls, state: StateDir, tables: Tables | None, run_name: str | None = None
    ) -> NotificationOverview:
        """Return the notifications of one run name or of all."""
        process = running_notifier(state)
        known: Iterable[StoredNotification] = ()
        if tables is not None:
            known = stored_notifications(tables).values()
        entries = [one for one in known if run_name in (None, one.key.run_name, ALL_RUN_NAMES)]
        return cls(
            None if process is None else process.pid,
            len(watched_executions(state)),
            entries,
            dict(Counter(entry.state.value for entry in entries)),
        )

    @property
    def last_failed(self) -> StoredNotification | None:
        """The last notification that could not be sent."""
        failed = [one for one in self.entries if one.state is NotificationState.FAILED]
        return failed[-1] if failed else None


NO_NOTIFICATIONS: Final = NotificationOverview()


def read_overview(store: WorkflowStore, run_name: str | None = None) -> NotificationOverview:
    """Return the notifications of one run name or of all; start no process."""
    try:
        with store.autocommit_scope.read() as session:
            return NotificationOverview.read(store.state, session.tables, run_name)
    except NoDatabaseError:
        return NotificationOverview.read(store.state, None, run_name)


def configured_targets(directory: Path) -> tuple[NotifyTarget, ...]:
    """Return the targets in ``motoko.yaml``."""
    return load_workflow(directory, studies=False).notify


def send_test(
    directory: Path, *, deliver: Callable[[NotifyTarget, Message], Outcome] = send
) -> list[tuple[NotifyTarget, Outcome]]:
    """Send a test message to every target at once, once; return the results.

    Raise ConfigError if there is no target.
    """
    targets = configured_targets(directory)
    if not targets:
        raise ConfigError(
            "notify: is missing or empty",
            file=str(directory / "motoko.yaml"),
            hint="Add `notify:` with a command or a webhook.",
        )
    message = Message(TEST, "", "a test of motoko notify", directory)
    with ThreadPoolExecutor(len(targets)) as pool:
        outcomes = pool.map(lambda target: deliver(target, message), targets)
        return list(zip(targets, outcomes, strict=True))
