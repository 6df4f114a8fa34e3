"""Read the content of a crate from a workflow and one snapshot of its database."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from motoko.core.constraints import ALL
from motoko.core.provenance import attempts_of
from motoko.core.run_columns import ColumnTable
from motoko.core.states import TERMINAL
from motoko.errors import ConfigError
from motoko.operations.crate.content import (
    AttemptContent,
    Author,
    CrateContent,
    CrateFile,
    Execution,
    StudyContent,
)
from motoko.operations.table_text import csv_text
from motoko.orchestrator.run_ends import last_ends
from motoko.printable import one_line
from motoko.runtime.ports import utc, utc_text
from motoko.storage.columns import tabulate
from motoko.storage.query import check_run_name_exists, select_records

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from motoko.api.task_manager import TaskManager
    from motoko.api.workflow import Workflow
    from motoko.config import WorkflowSettings
    from motoko.core.records import RunRecord
    from motoko.orchestrator.run_ends import RunEnd
    from motoko.storage.session import Session

MOST_ATTEMPTS: Final = 1000  # described as actions of their own
MOTOKO_FILES: Final = "workflow"  # the directory of the workflow's files in the crate
LICENSES: Final = ("LICENSE", "LICENCE", "COPYING")
LEFT_OUT: Final = frozenset({"directory", "interpreter"})  # paths of this machine
ATTEMPT_COLUMNS: Final = {
    "id": "int", "run_name": "str", "attempt": "int", "outcome": "str", "claimed": "datetime",
    "started": "datetime", "ended": "datetime", "host": "str", "python_version": "str",
    "motoko_version": "str", "git_commit": "str", "git_dirty": "bool", "scripts": "str",
}  # fmt: skip


def read_content(
    workflow: Workflow,
    run_name: str | None,
    license_url: str | None,
    authors: Sequence[Author],
) -> CrateContent:
    """Return the content of a crate with the runs of a run name (None: of all).

    Raise ConfigError for studies or scripts that cannot be read.
    """
    for fault in workflow.config.faults.values():
        raise fault
    with workflow.store.autocommit_scope.read() as session:
        if run_name is not None:
            check_run_name_exists(session, run_name)
        records = {
            manager.name: _records(session, manager, run_name)
            for manager in workflow.task_managers.values()
        }
        attempts = {
            name: list(_attempts(workflow.directory, session, found))
            for name, found in records.items()
        }
        studies = [
            _study(
                workflow.directory, session, manager, records[manager.name], attempts[manager.name]
            )
            for manager in workflow.task_managers.values()
        ]
        transaction, committed = session.snapshot
    described = [attempt for found in attempts.values() for attempt in found]
    license_file = _license_file(Path(workflow.directory))
    files = list(_workflow_files(workflow, license_file))
    return CrateContent(
        name=Path(workflow.directory).name,
        workflow=files,
        version=_digest(files[0]),
        studies=studies,
        executions=_executions(workflow, records),
        attempts=described if len(described) <= MOST_ATTEMPTS else (),
        transaction=transaction,
        committed=committed.isoformat(timespec="seconds"),
        exported=utc_text(workflow.store.now()),
        license_file=license_file,
        license_url=license_url,
        authors=authors,
        number_of_attempts=len(described),
    )


def portable(directory: str, text: str | None) -> str:
    """Return a text on one line, with paths in a directory relative to it."""
    return one_line((text or "").replace(directory, "."))


def _records(session: Session, manager: TaskManager, run_name: str | None) -> list[RunRecord]:
    if manager.name not in session.tables.study_names():
        return []
    return list(select_records(session, manager.name, run_name, ALL, keep=False))


def _attempts(
    directory: str, session: Session, records: Sequence[RunRecord]
) -> Iterator[AttemptContent]:
    for record in map(session.tables.complete_record, records):
        for attempt in attempts_of(record, session.tables.provenance):
            last = attempt.number == record.attempt
            yield AttemptContent(
                record.study, record.id, record.job_id, record.run_name, record.job,
                portable(directory, record.reason) if last else "", attempt,
            )  # fmt: skip


def _study(
    directory: str,
    session: Session,
    manager: TaskManager,
    records: Sequence[RunRecord],
    attempts: Sequence[AttemptContent],
) -> StudyContent:
    config, name = manager.bd_config, manager.name
    files = dict.fromkeys([config.exec_file, "bd.yaml", *config.config_files])
    results = tabulate(session, manager.columns, records)
    shown = {name: values for name, values in results.values.items() if name not in LEFT_OUT}
    shown["reason"] = [text and portable(directory, text) for text in shown["reason"]]
    return StudyContent(
        name=name,
        digest=config.scripts_digest(),
        files=[
            CrateFile(
                f"{MOTOKO_FILES}/{name}/{file}", f"{file} of the study {name}",
                config.directory / file,
            )
            for file in files
        ],
        results=_table(
            f"results/{name}.csv", f"Runs of the study {name}", results.types, shown, len(records)
        ),
        attempts=_table(
            f"provenance/{name}.csv", f"Attempts of the runs of the study {name}",
            ATTEMPT_COLUMNS, _attempt_columns(attempts), len(attempts),
        ),
    )  # fmt: skip


def _table(
    path: str, name: str, types: Mapping[str, str | None], values: Mapping[str, Any], length: int
) -> CrateFile:
    kept = {column: types[column] for column in values}
    text = csv_text(ColumnTable("", kept, values, length=length))
    return CrateFile(path, name, text.encode("utf-8", "backslashreplace"))


def _attempt_columns(attempts: Sequence[AttemptContent]) -> dict[str, list[Any]]:
    found = {
        name: [getattr(attempt.provenance, name, None) for attempt in attempts]
        for name in ATTEMPT_COLUMNS
    }
    found["id"] = [attempt.run_id for attempt in attempts]
    found["run_name"] = [attempt.run_name for attempt in attempts]
    found["attempt"] = [attempt.provenance.number for attempt in attempts]
    for name in ("claimed", "started", "ended"):
        found[name] = [None if at is None else utc(at) for at in found[name]]
    return found


# -- files -------------------------------------------------------------------------------------


def _workflow_files(workflow: Workflow, license_file: str | None) -> Iterator[CrateFile]:
    directory = Path(workflow.directory)
    module = f"{workflow.config.orchestrator_module}.py"
    if not (directory / module).is_file():
        raise ConfigError(
            f"the orchestrator's module {directory / module} does not exist",
            hint="A crate needs it as its main workflow.",
        )
    yield CrateFile(f"{MOTOKO_FILES}/{module}", "The orchestrator", directory / module)
    settings = _without_secrets(workflow.config)
    yield CrateFile(f"{MOTOKO_FILES}/motoko.yaml", "The settings of the workflow", settings)
    if (directory / "README.md").is_file():
        yield CrateFile(
            f"{MOTOKO_FILES}/README.md", "The description of the workflow", directory / "README.md"
        )
    if license_file is not None:
        yield CrateFile(license_file, "The license", directory / license_file)


def _without_secrets(config: WorkflowSettings) -> bytes:
    """Return motoko.yaml; of the URL of a webhook, which may be secret, only the host."""
    content = config.path.read_bytes()
    for target in config.notify:
        if target.webhook is not None:
            content = content.replace(target.webhook.encode(), target.public_webhook.encode())
    return content


def _digest(file: CrateFile) -> str:
    content = file.source if isinstance(file.source, bytes) else file.source.read_bytes()
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def _license_file(directory: Path) -> str | None:
    names = [path.name for path in directory.iterdir() if path.is_file()]
    found = [name for name in sorted(names) if name.split(".")[0].upper() in LICENSES]
    return found[0] if found else None


# -- executions --------------------------------------------------------------------------------


def _executions(workflow: Workflow, records: Mapping[str, Sequence[RunRecord]]) -> list[Execution]:
    by_name: dict[str, list[RunRecord]] = {}
    for found in records.values():
        for record in found:
            by_name.setdefault(record.run_name, []).append(record)
    ends = last_ends(workflow.store.state, workflow.store.clock)
    return [
        _execution(workflow.directory, name, by_name[name], ends.get(name))
        for name in sorted(by_name)
    ]


def _execution(
    directory: str, run_name: str, records: Sequence[RunRecord], end: RunEnd | None
) -> Execution:
    times = [entry.time for record in records for entry in record.history]
    counts: dict[str, int] = {}
    for record in records:
        counts[record.state] = counts.get(record.state, 0) + 1
    terminal = all(record.lifecycle in TERMINAL for record in records)
    return Execution(
        run_name=run_name,
        started=utc_text(min(times)) if times else None,
        ended=utc_text(max(times)) if times and terminal else None,
        succeeded=None if end is None else end.status == 0,
        reason="" if end is None else portable(directory, end.reason),
        counts=dict(sorted(counts.items())),
    )
