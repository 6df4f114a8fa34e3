"""The change feed: every commit that this process comes to know of, pushed to subscribers.

ZEO tells a client of other clients' commits by calling ``invalidate(tid, oids)`` on what was given
to the storage's ``registerDB``. The proxy here passes that on twice: to ZODB, and to the feed. The
process's own commits do not come that way; sessions publish them.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from motoko.core.records import RunKey


logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CommitNotice:
    """What a commit touched.

    ``oids`` are object ids still to be looked up (a commit of another process); ``runs`` and
    ``variables`` are known already (a commit of this one). ``source`` is what the committing
    session called itself. ``everything``: anything may have changed (after a reconnect).
    ``number`` counts the commits that this process learnt of.
    """

    oids: frozenset[bytes] = frozenset()
    runs: frozenset[RunKey] = frozenset()
    variables: bool = False
    source: object = None
    everything: bool = False
    number: int = 0


class Feed:
    """Hands commits to subscribers, in the thread that learnt of them: callbacks only pass on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._number = 0
        self._subscribers: tuple[Callable[[CommitNotice], None], ...] = ()

    def subscribe(self, callback: Callable[[CommitNotice], None]) -> Callable[[], None]:
        """Call ``callback`` with every commit from now on; returns what ends that."""
        with self._lock:
            self._subscribers = (*self._subscribers, callback)

        def unsubscribe() -> None:
            with self._lock:
                self._subscribers = tuple(s for s in self._subscribers if s is not callback)

        return unsubscribe

    @property
    def number(self) -> int:
        """Return the number of the last commit: a snapshot taken from now on includes it."""
        return self._number

    def publish(self, commit: CommitNotice) -> None:
        """Hand one commit to all subscribers; what one of them raises concerns nobody else."""
        with self._lock:
            self._number += 1
            commit = replace(commit, number=self._number)
            subscribers = self._subscribers
        for callback in subscribers:
            try:
                callback(commit)
            except Exception:
                # The commit is made: its author must not take it for failed.
                logger.exception("a subscriber of the change feed failed")


class FeedProxy:
    """Stands between a storage and the object ZODB registered with it."""

    def __init__(self, target: Any, feed: Feed) -> None:
        self._target = target
        self._feed = feed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    def invalidate(self, tid: bytes, oids: Any, *args: Any) -> None:
        """Pass on another client's commit."""
        oids = frozenset(oids)
        self._target.invalidate(tid, oids, *args)
        self._later(CommitNotice(oids=oids))

    def invalidateCache(self) -> None:  # noqa: N802 - the name is ZODB's
        """Pass on that anything may have changed."""
        self._target.invalidateCache()
        self._later(CommitNotice(everything=True))

    def _later(self, commit: CommitNotice) -> None:
        # ZEO calls before its own last transaction id is set: a snapshot taken at once could
        # miss the commit it is told of. One turn of ZEO's loop later it cannot.
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._feed.publish(commit)
        else:
            loop.call_soon(self._feed.publish, commit)
