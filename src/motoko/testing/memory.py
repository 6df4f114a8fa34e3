"""A store without files, server or processes, and short ways to fill one."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from motoko.config.study_file import StudyConfig, StudyFile
from motoko.core.changes import CreateRun
from motoko.core.parameter_space import job_identity, run_identity
from motoko.core.records import RunKey, RunRecord, Transition
from motoko.runtime.ports import SYSTEM
from motoko.server.state_dir import StateDir
from motoko.storage.database import Database
from motoko.storage.schema import create_tables
from motoko.storage.session import run_transaction
from motoko.storage.store import WorkflowStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from motoko.runtime.ports import Runtime
    from motoko.storage.session import Session


def study_config(
    name: str,
    job: Mapping[str, str],
    *,
    directory: Path | None = None,
    **options: Any,
) -> StudyConfig:
    """Return a study as its ``bd.yaml`` would give it; nothing needs to exist.

    ``job`` maps parameters to type names; ``options`` are further keys of ``bd.yaml``.
    """
    place = (directory or Path(tempfile.gettempdir())) / name
    written = StudyFile.model_validate({"study": name, "job": dict(job), **options})
    return StudyConfig.of(written, name, place, written.config_files)


def empty_database(studies: Iterable[str], database: Database | None = None) -> Database:
    """Give ``database`` (by default a new one in memory) empty tables, and return it."""
    found = Database.in_memory() if database is None else database
    names = list(studies)
    found.submit(
        lambda: run_transaction(found, lambda root: create_tables(root, names), initialising=True)
    ).result()
    return found


def memory_store(
    studies: Mapping[str, StudyConfig],
    *,
    directory: Path | None = None,
    runtime: Runtime = SYSTEM,
) -> WorkflowStore:
    """Return a store of these studies, by task manager, whose database lives in memory.

    ``directory`` stands for the workflow's; nothing is written there. Close the store after use.
    """
    place = directory or Path(tempfile.gettempdir()) / "workflow-in-memory"
    database = empty_database(studies)
    return WorkflowStore(StateDir(place / ".wf"), studies, database=database, runtime=runtime)


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
    """Ask for a run as ``create_task`` does: an existing one of this identity is returned.

    The creation is part of the session's next commit. ``fields`` are free-form run fields.
    """
    table = session.tables.study(study)
    identity = run_identity(study, run_name, job, {}, replicate)
    existing = table.find(identity)
    if existing is not None:
        return RunKey(study, existing)
    digest = job_identity(job)
    job_id = table.find_job(digest)
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
