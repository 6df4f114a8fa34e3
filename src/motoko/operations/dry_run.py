"""Execute an orchestrator on a copy of the database in memory, without a launcher.

``main`` and the actions run for real, but their changes of the database are dropped. They get as
far as the awaits of results that do not exist yet.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from motoko.api.workflow import Workflow
from motoko.errors import NoDatabaseError, WorkflowStalled
from motoko.operations import bulk_edit
from motoko.operations.execute import execute
from motoko.storage.commit import run_transaction
from motoko.storage.database import Database
from motoko.storage.orchestrator_leases import ORCHESTRATOR
from motoko.storage.query import existing_records
from motoko.storage.schema import create_tables
from motoko.storage.tables import Tables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from motoko.core.records import RunKey, RunRecord
    from motoko.operations.signals import SignalHandler
    from motoko.runtime.ports import Runtime
    from motoko.storage.run_requests import RunRequest
    from motoko.storage.session import Session


@dataclass(frozen=True, slots=True)
class StudyPlan:
    """The runs of one study that an orchestrator requested.

    ``created`` did not exist. ``outdated``: those of ``reused`` that ended, and whose scripts have
    changed since. ``changed``: the number of runs made with other job parameters, by difference.
    """

    name: str
    created: Sequence[RunRecord] = ()
    reused: Sequence[RunRecord] = ()
    outdated: Sequence[RunKey] = ()
    changed: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What an execution would do before it needs results that do not exist.

    ``retried``: failed runs that it would execute again. ``waits``: what it would wait for then,
    empty if it would end. ``error``: the exception that would end it, or an interruption.
    """

    run_name: str
    studies: Sequence[StudyPlan]
    retried: Sequence[RunKey] = ()
    waits: Sequence[str] = ()
    error: BaseException | None = None


def plan_execution(
    workflow: Workflow, params: Mapping[str, Any], signals: SignalHandler, *, retry_failed: bool
) -> RunPlan:
    """Execute the orchestrator of ``workflow`` without effect on its database, and report.

    Start no process and write no file. The orchestrator's own side effects happen.
    """
    run_name = workflow.run_name or ""
    database = _scratch_database(workflow, run_name)
    runtime = workflow.store.runtime
    copy = Workflow(workflow.config_path, database=database, dry_run=True, runtime=runtime)
    copy.run_name = run_name
    copy.orchestrator_function = workflow.get_orchestrator_function()
    requests: list[RunRequest] = []
    copy.context.on_request = requests.append
    waits: Sequence[str] = ()
    error: BaseException | None = None
    try:
        with copy.store.autocommit_scope.read() as session:
            last_ids = _last_ids(session)
        retried: list[RunKey] = []
        if retry_failed:
            failed = bulk_edit.failed_runs(copy, bulk_edit.RunSelection(run_name=run_name))
            retried = bulk_edit.retry(copy, failed, "--retry-failed")
        try:
            execute(copy, params, signals)
        except WorkflowStalled as stall:
            waits = stall.waits
        except (Exception, KeyboardInterrupt) as raised:  # noqa: BLE001 - the caller raises it
            error = raised
        with copy.store.autocommit_scope.read() as session:
            studies = _study_plans(copy, session, requests, last_ids)
        return RunPlan(run_name, studies, retried, waits, error)
    finally:
        copy.close()


def _scratch_database(workflow: Workflow, run_name: str) -> Database:
    """Return a copy in memory, in which no orchestrator holds the run name."""

    def prepare(root: Any) -> None:
        create_tables(root, workflow.task_managers)
        Tables(root).drop_lease(ORCHESTRATOR + run_name)

    database = _copy_in_memory(workflow.store.state.database, workflow.store.runtime)
    try:
        database.submit(lambda: run_transaction(database, prepare, initialising=True)).result()
    except BaseException:
        database.close()
        raise
    return database


def _copy_in_memory(file: Path, runtime: Runtime) -> Database:
    try:
        return Database.scratch_copy(file, runtime=runtime)
    except NoDatabaseError:
        return Database.in_memory()


def _last_ids(session: Session) -> dict[str, int]:
    tables = session.tables
    return {name: tables.study(name).last_id for name in tables.study_names()}


def _study_plans(
    workflow: Workflow,
    session: Session,
    requests: Sequence[RunRequest],
    last_ids: Mapping[str, int],
) -> list[StudyPlan]:
    keys: dict[str, set[RunKey]] = {name: set() for name in workflow.task_managers}
    for request in requests:
        keys[request.study].update(request.find(session) or ())
    return [
        _study_plan(workflow, session, name, sorted(found), last_ids.get(name, 0))
        for name, found in keys.items()
    ]


def _study_plan(
    workflow: Workflow, session: Session, name: str, keys: Sequence[RunKey], last_id: int
) -> StudyPlan:
    config = workflow.task_managers[name].bd_config
    records = existing_records(session, keys)
    reused = [record for record in records if record.id <= last_id]
    digest = config.scripts_digest() if reused else ""
    outdated = [r.key for r in reused if r.lifecycle.is_terminal and r.scripts != digest]
    table = session.tables.study(name)
    changed = table.count_other_parameters(config.job, workflow.run_name)
    created = [record for record in records if record.id > last_id]
    return StudyPlan(name, created, reused, outdated, changed)
