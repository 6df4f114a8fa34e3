"""Stores in memory with runs, and two clients of one database for tests of conflicts."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from motoko.config.study_file import StudyConfig, StudyFile
from motoko.core.changes import CreateRun, EditRun
from motoko.core.edits import Claim, EndAttempt, MarkStarted
from motoko.core.parameter_space import job_identity, run_identity
from motoko.core.records import RunKey, RunRecord, Transition
from motoko.core.states import Lifecycle
from motoko.runtime.ports import SYSTEM
from motoko.server.state_dir import StateDir
from motoko.storage.database import Database
from motoko.storage.schema import create_tables
from motoko.storage.session import Session, run_transaction
from motoko.storage.store import WorkflowStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from motoko.runtime.ports import Runtime

    Connect = Callable[[], Database]

PATIENCE: Final = 60.0  # seconds


def study_config(
    name: str, job: Mapping[str, str], *, directory: Path | None = None, **options: Any
) -> StudyConfig:
    """Return a study without files. ``options`` are further keys of ``bd.yaml``.

    ``job`` maps parameters to type names.
    """
    root = (directory or Path(tempfile.gettempdir())) / name
    written = StudyFile.model_validate({"study": name, "job": dict(job), **options})
    return StudyConfig.of(written, name, root, written.config_files)


def empty_database(studies: Iterable[str], database: Database | None = None) -> Database:
    """Create empty tables in ``database``, by default a new one in memory, and return it."""
    found = Database.in_memory() if database is None else database
    names = list(studies)
    found.submit(
        lambda: run_transaction(found, lambda root: create_tables(root, names), initialising=True)
    ).result()
    return found


def memory_store(
    studies: Mapping[str, StudyConfig], *, directory: Path | None = None, runtime: Runtime = SYSTEM
) -> WorkflowStore:
    """Return a store of these studies, by task manager, with a database in memory.

    ``directory`` represents the workflow's, and stays untouched. Close the store after use.
    """
    root = directory or Path(tempfile.gettempdir()) / "workflow-in-memory"
    database = empty_database(studies)
    return WorkflowStore(StateDir(root / ".wf"), studies, database=database, runtime=runtime)


def add_run(
    session: Session,
    study: str,
    job: Mapping[str, Any],
    *,
    run_name: str = "test",
    replicate: int = 0,
    at: float = 0.0,
    **fields: Any,
) -> RunKey:
    """Create a run in the session's next commit, or return the existing one of this identity.

    ``fields`` are free-form run fields.
    """
    table = session.tables.study(study)
    identity = run_identity(study, run_name, job, {}, replicate)
    existing = table.find(identity)
    if existing is not None:
        return RunKey(study, existing)
    digest = job_identity(job)
    job_id = table.jobs.find(digest)
    run_id, new_job_id = session.reserve(study, 1, 0 if job_id else 1)
    record = RunRecord(
        study=study,
        id=run_id,
        job_id=job_id or new_job_id,
        run_name=run_name,
        identity=identity,
        job=dict(job),
        replicate=replicate,
        fields=fields,
        history=(Transition(at, "CREATED", "test", 0),),
    )
    session.add(CreateRun(record, digest))
    return record.key


def eventually(condition: Callable[[], Any], *, seconds: float = PATIENCE) -> Any:
    """Return the first true value of ``condition``; raise AssertionError after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "the condition did not become true in time"
        time.sleep(0.005)
    return found


def commit(database: Database, session: Session) -> None:
    """Commit in the committer thread."""
    database.submit(session.commit).result()


class Clients:
    """Two sessions, of two clients if the database supports several."""

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

    def synchronize(self) -> None:
        """Wait until both sessions see the same commits."""
        eventually(lambda: self._newest(self.first) == self._newest(self.second))

    @staticmethod
    def _newest(session: Session) -> str:
        session.refresh()
        return session.snapshot[0]

    def close(self) -> None:
        """Close all sessions."""
        for session in (self.first, self.second, *self._extra):
            session.close()


def finish_run(
    session: Session, key: RunKey, token: str, outcome: Lifecycle, *, at: float = 0.0
) -> None:
    """Claim, start and end a CREATED run at a time."""
    for edit in (
        Claim("launcher", token, at),
        MarkStarted(token, at, "launcher"),
        EndAttempt(token, outcome, at, "launcher", 0 if outcome is Lifecycle.FINISHED else 1),
    ):
        session.add(EditRun(key, edit))
