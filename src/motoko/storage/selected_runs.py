"""An iteration over the runs that a constraint selects, which reads them as they are used."""

from __future__ import annotations

import contextlib
from array import array
from itertools import islice
from typing import TYPE_CHECKING, Final

from motoko.errors import PastStateError
from motoko.storage.query import query_database, select_records, stream_ids

if TYPE_CHECKING:
    from collections.abc import Iterator

    from motoko.core.constraints import Constraint
    from motoko.core.records import RunRecord
    from motoko.storage.scope import Scope
    from motoko.storage.session import Session

FIRST: Final = 25  # records read before the ids of all others are
BATCH: Final = 500  # records read together later


def iterate_selected(
    scope: Scope, study: str, run_name: str | None, constraint: Constraint
) -> Iterator[RunRecord]:
    """Yield the records of the runs that match when the iteration starts, in id order.

    It holds no snapshot while the caller uses a record. Runs that were deleted meanwhile are
    skipped.
    """
    with scope.read() as session:
        found = select_records(session, study, run_name, constraint)
        first = list(islice(found, FIRST))
        view = session.snapshot[0]
        remaining = array("i")
        if session.pending:  # no earlier state has the session's own changes
            remaining.extend(record.id for record in found)
    pending = bool(remaining)
    yield from first
    if not pending and len(first) == FIRST:
        remaining = _remaining(scope, study, run_name, constraint, first[-1].id, view)
    del first
    for start in range(0, len(remaining), BATCH):
        with scope.read() as session:
            table = session.tables.study(study)
            records = list(table.records(remaining[start : start + BATCH]))
        yield from records


def _remaining(
    scope: Scope, study: str, run_name: str | None, constraint: Constraint, after: int, view: str
) -> array[int]:
    """Return the ids that follow ``after`` in the state at the transaction ``view``."""

    def read(session: Session) -> array[int]:
        found = stream_ids(session, study, run_name, constraint, after=after, keep=True)
        return array("i", found)

    with scope.read() as session:
        if session.snapshot[0] == view and not session.pending:
            return read(session)
    # If a pack dropped that state, the newest one must do.
    with contextlib.suppress(PastStateError):
        return query_database(scope.database, read, at=view)
    with scope.read() as session:
        return read(session)
