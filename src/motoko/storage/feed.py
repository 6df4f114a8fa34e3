"""The change feed pushes every commit that this process learns of to subscribers.

ZEO reports other clients' commits through ``invalidate(tid, oids)`` of the object registered with
``registerDB``. The proxy here forwards them to ZODB and to the feed. ZEO does not report commits of
this process; sessions publish them.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from motoko.core.changes import CreateRun, DeleteRun, EditRun, PushQuantities, SetVariable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from motoko.core.changes import Change
    from motoko.core.records import RunKey


logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CommitNotice:
    """The objects that a commit wrote.

    ``oids``: ids of objects to be looked up, for a commit of another process. ``runs`` and
    ``variables``: known, for a commit of this one. ``source``: the committing session's source.
    ``everything``: anything may have changed, after a reconnection. ``number`` counts the notices.
    """

    oids: frozenset[bytes] = frozenset()
    runs: frozenset[RunKey] = frozenset()
    variables: bool = False
    source: object = None
    everything: bool = False
    number: int = 0


def notice_of(
    changes: Iterable[Change], present: Callable[[RunKey], RunKey], source: object
) -> CommitNotice:
    """Return the notice of a commit of this process; ``present`` returns the key of a run now."""
    runs: set[RunKey] = set()
    variables = False
    for change in changes:
        if isinstance(change, CreateRun):
            runs.add(change.record.key)
        elif isinstance(change, EditRun | DeleteRun | PushQuantities):
            runs.add(present(change.key))
        variables = variables or isinstance(change, SetVariable)
    return CommitNotice(runs=frozenset(runs), variables=variables, source=source)


class Feed:
    """Calls subscribers in the thread that learnt of a commit. They must only pass it on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._number = 0
        self._subscribers: tuple[Callable[[CommitNotice], None], ...] = ()

    def subscribe(self, callback: Callable[[CommitNotice], None]) -> Callable[[], None]:
        """Call ``callback`` with every later commit; return a function that ends this."""
        with self._lock:
            self._subscribers = (*self._subscribers, callback)

        def unsubscribe() -> None:
            with self._lock:
                self._subscribers = tuple(s for s in self._subscribers if s is not callback)

        return unsubscribe

    @property
    def number(self) -> int:
        """Return the number of the last commit; later snapshots include it."""
        return self._number

    def publish(self, commit: CommitNotice) -> None:
        """Pass one commit to all subscribers; log their exceptions."""
        with self._lock:
            self._number += 1
            commit = replace(commit, number=self._number)
            subscribers = self._subscribers
        for callback in subscribers:
            try:
                callback(commit)
            except Exception:
                # The commit is made: its author must not consider it failed.
                logger.exception("a subscriber of the change feed failed")


class FeedProxy:
    """Stands between a storage and the object that ZODB registered with it."""

    def __init__(self, target: Any, feed: Feed) -> None:
        self._target = target
        self._feed = feed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    def invalidate(self, tid: bytes, oids: Any, *args: Any) -> None:
        """Forward another client's commit."""
        oids = frozenset(oids)
        self._target.invalidate(tid, oids, *args)
        self._publish_soon(CommitNotice(oids=oids))

    def invalidateCache(self) -> None:  # noqa: N802 - the name is ZODB's
        """Forward that anything may have changed."""
        self._target.invalidateCache()
        self._publish_soon(CommitNotice(everything=True))

    def _publish_soon(self, commit: CommitNotice) -> None:
        # ZEO calls before it sets its own last transaction id: a snapshot taken at once could miss
        # the reported commit. After one turn of ZEO's loop it cannot.
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._feed.publish(commit)
        else:
            loop.call_soon(self._feed.publish, commit)
