"""Find the runs that ended since the last look, from the commits since then."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from motoko.core.states import ACTIVE, FAILURES, TERMINAL
from motoko.errors import PastStateError
from motoko.storage.bulk_read import prefetch_leaves
from motoko.storage.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterable

    from motoko.storage.database import Database
    from motoko.storage.feed import CommitNotice
    from motoko.storage.study_table import StudyTable

MOST_OBJECTS: Final = 8000  # of one commit that are looked up


@dataclass(frozen=True, slots=True)
class NewEnds:
    """The runs of a study that reached a terminal state, and the failed ones among them."""

    ids: list[int]
    failed: list[int]


class EndedRuns:
    """The runs of a run name that reach a terminal state, until ``close``.

    A look reads the runs that commits changed, now and in the snapshot of the look before. After a
    reconnection or a huge commit it reads only those that were active at the look before.
    """

    def __init__(self, database: Database, run_name: str) -> None:
        self._database = database
        self._run_name = run_name
        self._commits: list[CommitNotice] = []
        self._recent: list[CommitNotice] = []  # a snapshot may lack those that arrive with it
        self._active: dict[str, list[int]] = {}
        self._before: str | None = None
        self.close = database.feed.subscribe(self._commits.append)

    def look(self, session: Session, studies: Iterable[str]) -> dict[str, NewEnds]:
        """Return the runs that ended since the last look, by study; none at the first look."""
        changed = self._changed(session)
        before, self._before = self._before, session.snapshot[0]
        found: dict[str, NewEnds] = {}
        for study in studies:
            table = session.tables.study(study)
            ids = changed.get(study, set())
            if ids and before is not None:
                ended = self._in(table, ids, TERMINAL)
                new = sorted(ended - self._ended_before(before, study, ended))
                if new:
                    found[study] = NewEnds(new, sorted(self._in(table, new, FAILURES)))
            self._active[study] = table.ids(self._run_name, lifecycles=ACTIVE)
        return found

    def _changed(self, session: Session) -> dict[str, set[int]]:
        """Return the runs that may have changed since the last look, by study."""
        number = len(self._commits)
        new, self._commits[:number] = self._commits[:number], []
        commits, self._recent = [*self._recent, *new], new
        oids: set[bytes] = set()
        found: dict[str, set[int]] = {}
        for commit in commits:
            if commit.everything or len(commit.oids) > MOST_OBJECTS:
                for study, ids in self._active.items():
                    found.setdefault(study, set()).update(ids)
            else:
                oids |= commit.oids
        runs, _ = session.classify(oids)
        for key in runs.union(*(commit.runs for commit in commits)):
            found.setdefault(key.study, set()).add(key.id)
        return found

    def _ended_before(self, snapshot: str, study: str, ids: set[int]) -> set[int]:
        """Return those of the runs that were in a terminal state in an earlier snapshot."""
        try:
            with contextlib.closing(Session(self._database, at=snapshot)) as session:
                return self._in(session.tables.study(study), ids, TERMINAL)
        except PastStateError:  # packed since; rather leave them out than report them again
            return ids

    def _in(self, table: StudyTable, ids: Iterable[int], lifecycles: Any) -> set[int]:
        """Return those of the runs in these lifecycle states."""
        wanted, found = sorted(ids), set[int]()
        for listed in table.id_sets("lifecycles", lifecycles, self._run_name):
            prefetch_leaves(listed, wanted)
            found.update(run_id for run_id in wanted if run_id in listed)
        return found
