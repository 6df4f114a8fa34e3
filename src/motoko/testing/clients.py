"""Two clients of one database, whose transactions a test interleaves by hand."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from motoko.core.changes import EditRun
from motoko.core.edits import Claim, EndAttempt, MarkStarted
from motoko.core.states import Lifecycle
from motoko.storage.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from motoko.core.records import RunKey
    from motoko.storage.database import Database

    Connect = Callable[[], Database]

PATIENCE: Final = 60.0


def eventually(condition: Callable[[], Any], *, seconds: float = PATIENCE) -> Any:
    """Return what ``condition`` returns as soon as it is true; AssertionError if it never is."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "this did not come true in time"
        time.sleep(0.005)
    return found


def commit(database: Database, session: Session) -> None:
    """Commit as everybody does: in the committer thread."""
    database.submit(session.commit).result()


class Clients:
    """Two sessions, of two clients where there can be two."""

    def __init__(self, connect: Connect) -> None:
        self.databases = (connect(), connect())
        self.first, self.second = (Session(database) for database in self.databases)
        self._extra: list[Session] = []

    def commit_first(self) -> None:
        """Commit the first client's session."""
        commit(self.databases[0], self.first)

    def commit_second(self) -> None:
        """Commit the second client's session."""
        commit(self.databases[1], self.second)

    def session(self, **options: Any) -> Session:
        """Return a further session of the first client."""
        self._extra.append(Session(self.databases[0], **options))
        return self._extra[-1]

    def meet(self) -> None:
        """Give both sessions a snapshot with all that was committed."""
        eventually(lambda: self._state(self.first) == self._state(self.second))

    @staticmethod
    def _state(session: Session) -> str:
        session.refresh()
        tables = session.tables
        runs = {
            name: [*tables.study(name).records(tables.study(name).ids(None))]
            for name in tables.study_names()
        }
        variables = {name: tables.variable(None, name) for name in tables.variable_names(None)}
        return repr((runs, variables))

    def close(self) -> None:
        """Give all sessions back."""
        for session in (self.first, self.second, *self._extra):
            session.close()


def run_to_end(session: Session, key: RunKey, token: str, outcome: Lifecycle) -> None:
    """Have a CREATED run claimed, started and ended."""
    for edit in (
        Claim("launcher", token, 0.0),
        MarkStarted(token, 0.0, "launcher"),
        EndAttempt(token, outcome, 0.0, "launcher", 0 if outcome is Lifecycle.FINISHED else 1),
    ):
        session.add(EditRun(key, edit))
