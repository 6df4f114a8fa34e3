"""Committing: again on conflicts, patiently where the server has gone, never twice.

A commit during which the server goes is in doubt. Each transaction therefore carries a mark of its
own, and whether it is in the database is looked up when the server is back.
"""

from __future__ import annotations

import contextlib
import errno
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
    from collections.abc import Callable

    from motoko.storage.contention import PriorityLock
    from motoko.storage.database import Database

T = TypeVar("T")

FIRST_PAUSE: Final = 0.002
MAX_DOUBLINGS: Final = 6


def commit_with_retry(
    database: Database,
    manager: Any,
    connection: Any,
    prepare: Callable[[int], T],
    turn: PriorityLock | None = None,
) -> T:
    """Have ``prepare(attempt)`` apply the changes, and commit them; returns its result.

    Attempt 0 finds the transaction as it stands, each further one an ended transaction: it has to
    begin one. ``turn`` has an attempt wait for others, or others for it. Raises ConflictError,
    ServerError or StorageError where the commit cannot be made.
    """
    runtime = database.runtime
    deadline = runtime.clock.monotonic() + database.patience
    conflicts = 0
    for attempt in itertools.count():
        mark = None
        if turn is not None:
            turn.wait(conflicts)
        try:
            result = prepare(attempt)
            mark = _marked(database, manager, connection)
            if mark:
                fault_points.point("storage.before_commit")
            manager.commit()
        except (StoreConflict, TransientError) as error:
            abort(manager)
            if isinstance(error, ClientDisconnected):
                database.request_server()
                if mark and database.was_committed(*mark):
                    return result
            else:
                conflicts += 1
            if runtime.clock.monotonic() > deadline:
                raise _given_up(database, error) from error
            pause = FIRST_PAUSE * 2 ** min(attempt, MAX_DOUBLINGS)
            runtime.clock.sleep(runtime.random.uniform(0, pause))
        except (POSError, OSError) as error:
            abort(manager)
            raise _refused(error) from error
        else:
            if mark:
                fault_points.point("storage.after_commit")
            return result
    raise AssertionError("unreachable")


def _marked(database: Database, manager: Any, connection: Any) -> tuple[bytes, str] | None:
    """Describe the transaction by a new mark; returns it and an object that will be written."""
    written = connection._registered_objects  # noqa: SLF001 - ZODB has no public name for it
    if not written:
        return None
    mark = database.new_mark()
    manager.get().description = mark
    return written[0]._p_oid, mark  # noqa: SLF001 - ZODB's public names begin so


def _given_up(database: Database, error: Exception) -> StorageError:
    if isinstance(error, ClientDisconnected):
        return database.unreachable()
    return ConflictError(f"a commit met conflicts for {database.patience:g} s: {error}")


def _refused(error: Exception) -> StorageError:
    # What the server could not do comes as the name of the exception and its arguments.
    number = error.errno if isinstance(error, OSError) else _number(error.args[1:])
    if number in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(
            "there is no room left on the disk for the workflow's database; nothing of this commit "
            "was written",
            hint="Make room, and start again what was stopped: it goes on from its last commit.",
        )
    return StorageError(f"the database refused a commit: {error}")


def _number(arguments: tuple[Any, ...]) -> Any:
    first = arguments[0] if arguments else None
    return first[0] if isinstance(first, tuple) and first else None


def abort(manager: Any) -> None:
    """End the transaction under way, if there is one, without a trace."""
    with contextlib.suppress(NoTransaction):
        manager.abort()


def run_transaction(
    database: Database, work: Callable[[Any], T], *, initialising: bool = False
) -> T:
    """Run ``work(tables)`` in a transaction of its own, again on conflict; returns its result.

    For bookkeeping (ids, leases). ``initialising`` passes ``work`` the database's root instead.
    Call it in the committer thread.
    """
    database.check_writable()
    manager = transaction.TransactionManager(explicit=True)
    connection = database.open(manager)

    def prepare(attempt: int) -> T:
        abort(manager)
        manager.begin()
        root = connection.root()
        return work(root if initialising else Tables(root))

    try:
        return commit_with_retry(database, manager, connection, prepare)
    finally:
        abort(manager)
        connection.close()
