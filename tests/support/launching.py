"""A workflow on disk with runs in its database and a launcher."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from motoko.config import load_workflow
from motoko.core.changes import Change, CreateRun, EditRun
from motoko.core.parameter_space import job_identity, run_identity
from motoko.core.records import RunKey, RunRecord, Transition
from motoko.launcher.control import running_launchers, start_launcher, stop_launcher
from motoko.runtime.processes import ProcessIdentity, signal_group
from motoko.server.lifecycle import stop_server
from motoko.server.state_dir import StateDir
from motoko.storage.consistency import check_study
from motoko.storage.launcher_leases import live_launchers
from motoko.storage.schema import create_database
from motoko.storage.session import Session
from motoko.storage.store import WorkflowStore
from tests.support import workflow_processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from motoko.core.edits import RunEdit
    from motoko.launcher.control import LauncherProcess

PATIENCE = 90.0


@dataclass
class WorkflowHarness:
    """A workflow for tests. ``close`` ends all of its processes."""

    directory: Path
    store: WorkflowStore
    state: StateDir
    names: list[str] = field(default_factory=list)

    @classmethod
    def make(
        cls,
        directory: Path,
        scripts: Mapping[str, str],
        *,
        job: Mapping[str, str] | None = None,
        options: Mapping[str, Any] | None = None,
        study_options: Mapping[str, Any] | None = None,
        executable: bool = False,
    ) -> WorkflowHarness:
        """Write a workflow with these launch scripts and create its database."""
        directory.mkdir(parents=True, exist_ok=True)
        for name, script in scripts.items():
            study = directory / name
            study.mkdir()
            (study / "launch.sh").write_text(script, encoding="utf-8")
            if executable:
                (study / "launch.sh").chmod(0o755)
            content = {"job": dict(job or {"x": "int"}), **(study_options or {})}
            (study / "bd.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        content = {"task_managers": dict.fromkeys(scripts), "orchestrator": "steps.main"}
        text = yaml.safe_dump({**content, **(options or {})})
        (directory / "motoko.yaml").write_text(text, encoding="utf-8")
        config = load_workflow(directory)
        state = StateDir.of(directory)
        create_database(state, list(scripts))
        return cls(directory, WorkflowStore(state, config.studies), state, list(scripts))

    def create(
        self,
        jobs: list[dict[str, Any]],
        *,
        study: str | None = None,
        run_name: str = "test",
        fields: Mapping[str, Any] | None = None,
        **resources: Any,
    ) -> list[RunKey]:
        """Create one run for each job."""
        study = study or self.names[0]
        session = Session(self.store.database)
        try:
            first_run, first_job = session.reserve(study, len(jobs), len(jobs))
            table = session.tables.study(study)
            for n, job in enumerate(jobs):
                replicate = first_run + n  # permits several runs of the same job
                identity = run_identity(study, run_name, job, {}, replicate)
                record = RunRecord(
                    study, first_run + n, table.jobs.find(job_identity(job)) or first_job + n,
                    run_name, identity, job, replicate=replicate,
                    options=resources, fields=dict(fields or {}),
                    history=(Transition(time.time(), "CREATED", "test", 0),),
                )  # fmt: skip
                session.add(CreateRun(record, job_identity(job)))
            self.store.database.submit(session.commit).result()
        finally:
            session.close()
        return [RunKey(study, first_run + n) for n in range(len(jobs))]

    def run(self, **options: Any) -> RunKey:
        """Create one run."""
        return self.create([{"x": 1}], **options)[0]

    def edit(self, key: RunKey, edit: RunEdit) -> None:
        """Change one run."""
        self.commit(EditRun(key, edit, blind=True))

    def commit(self, *changes: Change) -> None:
        """Commit changes."""
        self.store.autocommit_scope.write(*changes)

    def record(self, key: RunKey) -> RunRecord:
        """Return the record of a run, after all commits of other processes."""
        self.store.database.catch_up()
        with self.store.autocommit_scope.read() as session:
            return session.run(key)

    def records(self, keys: list[RunKey]) -> list[RunRecord]:
        """Return the records of runs, after all commits of other processes."""
        self.store.database.catch_up()
        with self.store.autocommit_scope.read() as session:
            return [session.run(key) for key in keys]

    def quantity(self, key: RunKey, name: str) -> list[tuple[Any, Any]] | None:
        """Return a quantity of a run."""
        with self.store.autocommit_scope.read() as session:
            return session.tables.study(key.study).quantity(key.id, name)

    def directory_of(self, key: RunKey) -> Path:
        """Return a run's directory."""
        return self.store.run_directory(key.study, key.id)

    def start(self, **options: Any) -> LauncherProcess:
        """Start a launcher."""
        return start_launcher(self.state, **options)

    def wait(self, keys: list[RunKey], *, seconds: float = PATIENCE) -> list[RunRecord]:
        """Wait until runs have ended."""
        wait_until(lambda: all(r.lifecycle.is_terminal for r in self.records(keys)), seconds)
        return self.records(keys)

    def wait_for(self, key: RunKey, *lifecycles: str, seconds: float = PATIENCE) -> RunRecord:
        """Wait until a run is in one of these lifecycle states."""
        wait_until(lambda: self.record(key).lifecycle in lifecycles, seconds)
        return self.record(key)

    def recount(self) -> list[str]:
        """Return the errors in the indexes."""
        with self.store.autocommit_scope.read() as session:
            return [line for name in self.names for line in check_study(session.tables.study(name))]

    def log(self) -> str:
        """Return the launcher's log."""
        path = self.state.logs / "launcher.log"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def close(self) -> None:
        """Stop launchers, their runs and the server."""
        try:
            stop_launcher(self.state, stop_runs=True)
            assert not running_launchers(self.state)
            self._stop_remaining_runs()
        finally:
            self.store.close()
            stop_server(self.state)

    def _stop_remaining_runs(self) -> None:
        with self.store.autocommit_scope.read() as session:
            tables = [session.tables.study(name) for name in self.names]
            ids = [(t, t.ids(None, lifecycles=["SUBMITTED", "START"])) for t in tables]
            left = [record for table, found in ids for record in table.records(found)]
        for record in left:
            if record.process is not None:
                signal_group(ProcessIdentity(*record.process), signal.SIGKILL)


def one_slot(directory: Path, script: str) -> Iterator[WorkflowHarness]:
    """Yield a workflow of one study, "a", that executes one run at a time; it leaves no process."""
    place = WorkflowHarness.make(directory, {"a": script}, options={"max_concurrent": 1})
    yield place
    place.close()
    workflow_processes.wait_until_none_left(directory)


def count_exits(runs: Path) -> int:
    """Return the number of attempts below ``runs`` with an exit record."""
    return sum("\nexit " in path.read_text() for path in runs.glob("run-*/.motoko-*"))


def wait_until(true: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait until the condition is true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.01)


def wait_until_replaceable(store: WorkflowStore) -> None:
    """Wait until the leases of all suspended launchers have expired."""

    def replaceable() -> bool:
        with store.autocommit_scope.read() as session:
            alive = live_launchers(session.tables, store.steady())
        return not alive and all(running.unresponsive for running in running_launchers(store.state))

    wait_until(replaceable)
