"""Commits: retried on conflicts and after a lost connection, and never made twice.

If the connection is lost during a commit, its outcome is unknown. So each transaction carries a
unique mark, and after the reconnection the client looks for it in the database.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import itertools
from typing import TYPE_CHECKING, Any, Final, TypeVar

import transaction
from transaction.interfaces import NoTransaction, TransientError
from ZEO.Exceptions import ClientDisconnected
from ZODB.POSException import ConflictError as StoreConflict
from ZODB.POSException import POSError

from motoko.errors import ConflictError, StorageError
from motoko.runtime import fault_points
from motoko.storage.tables import Tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from motoko.storage.contention import PriorityLock
    from motoko.storage.database import Database

T = TypeVar("T")

FIRST_PAUSE: Final = 0.002
MAX_DOUBLINGS: Final = 6
MANY_RUNS: Final = 500  # whose commit takes long


def commit_with_retry(
    database: Database,
    manager: Any,
    connection: Any,
    prepare: Callable[[int], T],
    lock: PriorityLock | None = None,
) -> T:
    """Commit the changes that ``prepare(attempt)`` applies; return its result.

    Attempt 0 uses the open transaction; for each further one ``prepare`` begins a new one. ``lock``
    orders attempts under contention. Raises ConflictError, ServerError or StorageError.
    """
    clock, rng = database.runtime.clock, database.runtime.rng
    deadline = clock.monotonic() + database.retry_timeout
    conflicts = lost = 0
    for attempt in itertools.count():
        mark = None
        if lock is not None:
            lock.wait(conflicts)
        try:
            result = prepare(attempt)
            mark = _mark(database, manager, connection)
            if mark:
                fault_points.point("storage.before_commit")
            manager.commit()
        except (StoreConflict, TransientError) as error:
            abort(manager)
            if isinstance(error, ClientDisconnected):
                database.request_server()
                if mark and database.was_committed(*mark):
                    return result
                if mark and not lost:  # the server responded until now, however long that took
                    deadline = clock.monotonic() + database.retry_timeout
                lost += 1
            else:
                conflicts += 1
            if clock.monotonic() > deadline:
                raise _timeout_error(database, error) from error
            clock.sleep(rng.uniform(0, FIRST_PAUSE * 2 ** min(attempt, MAX_DOUBLINGS)))
        except (POSError, OSError) as error:
            abort(manager)
            raise _refusal_error(error) from error
        else:
            if mark:
                fault_points.point("storage.after_commit")
            return result
    raise AssertionError("unreachable")


def _mark(database: Database, manager: Any, connection: Any) -> tuple[bytes, str] | None:
    """Mark the transaction; return an object that it writes, and the mark."""
    written = connection._registered_objects  # noqa: SLF001 - ZODB has no public name for it
    if not written:
        return None
    mark = database.new_mark()
    manager.get().description = mark
    return written[0]._p_oid, mark  # noqa: SLF001 - ZODB's public names begin so


def _timeout_error(database: Database, error: Exception) -> StorageError:
    if isinstance(error, ClientDisconnected):
        return database.unreachable()
    return ConflictError(f"a commit had conflicts for {database.retry_timeout:g} s: {error}")


def _refusal_error(error: Exception) -> StorageError:
    # The server sends the name and the arguments of its exception.
    number = error.errno if isinstance(error, OSError) else _errno_in(error.args[1:])
    if number in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(
            "the disk is full, so the workflow's database cannot be written; nothing of this "
            "commit was written",
            hint="Free disk space, and restart the stopped processes: earlier commits are kept.",
        )
    return StorageError(f"the database refused a commit: {error}")


def _errno_in(arguments: tuple[Any, ...]) -> Any:
    first = arguments[0] if arguments else None
    return first[0] if isinstance(first, tuple) and first else None


def abort(manager: Any) -> None:
    """Abort the current transaction, if any."""
    with contextlib.suppress(NoTransaction):
        manager.abort()


def run_transaction(
    database: Database, work: Callable[[Any], T], *, initialising: bool = False
) -> T:
    """Run ``work(tables)`` in a transaction, again on conflict; return its result.

    It serves bookkeeping (ids, leases). ``initialising`` passes the database's root instead. Call
    it in the committer thread.
    """
    database.check_writable()
    manager = transaction.TransactionManager(explicit=True)
    connection = database.open(manager)

    def prepare(attempt: int) -> T:
        abort(manager)
        manager.begin()
        root = connection.root()
        if initialising:
            return work(root)
        tables = Tables(root)
        result = work(tables)
        tables.flush()
        return result

    try:
        return commit_with_retry(database, manager, connection, prepare)
    finally:
        abort(manager)
        connection.close()


@contextlib.contextmanager
def collector_paused(runs: int) -> Iterator[None]:
    """Stop Python's collector of reference cycles while so many runs are created, if many.

    It would walk their records again and again, and find no cycle: a sixth of the time.
    """
    if runs < MANY_RUNS or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
