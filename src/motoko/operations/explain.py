"""Explain why runs wait, and why they failed."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from motoko.config import load_workflow
from motoko.core.run_options import SLURM, RunOptions
from motoko.core.states import ACTIVE, Lifecycle
from motoko.errors import ConfigError, NoDatabaseError
from motoko.launcher.claiming import fits
from motoko.storage.leases import launcher_report, live_launchers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from motoko.config import WorkflowSettings
    from motoko.core.records import RunRecord
    from motoko.storage.leases import LauncherRegistration, LauncherReport
    from motoko.storage.store import WorkflowStore
    from motoko.storage.study_table import StudyTable
    from motoko.storage.tables import Tables

LOCALHOST = "localhost"


@dataclass(frozen=True, slots=True)
class LauncherCoverage:
    """The live launchers with their reports, and the run options of each configured study.

    ``now`` is in seconds since the epoch.
    """

    launchers: Sequence[tuple[LauncherRegistration, LauncherReport]]
    defaults: Mapping[str, Mapping[str, Any]]
    now: float

    @classmethod
    def read(cls, tables: Tables, config: WorkflowSettings, now: float) -> LauncherCoverage:
        """Read the live launchers of a workflow."""
        found = [
            (launcher, launcher_report(tables, launcher))
            for launcher in live_launchers(tables, now)
        ]
        defaults = {name: config.options(name).given() for name in config.task_managers}
        return cls(found, defaults, now)

    def options(self, record: RunRecord) -> RunOptions:
        """Return the run options that a launcher applies to a run."""
        return RunOptions.resolve(self.defaults.get(record.study, {}), record.options)

    def launchers_for(
        self, study: str, machine: str
    ) -> list[tuple[LauncherRegistration, LauncherReport]]:
        """Return the launchers that serve a study on a machine."""
        found = self.launchers
        return [(a, report) for a, report in found if study in a.studies and machine in a.machines]

    def unserved_reason(self, study: str, machine: str) -> str | None:
        """Return why no launcher serves a study on a machine, None if one does."""
        if self.launchers_for(study, machine):
            return None
        if not self.launchers:
            return "no launcher is running"
        if not any(study in launcher.studies for launcher, _ in self.launchers):
            return f"no launcher serves study {study!r}"
        return f"no launcher serves machine {machine!r}"

    def machine_of(self, study: str, requested: str | None) -> str:
        """Return the machine of a run that requests ``requested``."""
        return requested or self.defaults.get(study, {}).get("machine_name") or LOCALHOST

    def is_managed(self, record: RunRecord) -> bool:
        """Return whether a launcher owns a claimed run, or will soon adopt it."""
        if any(launcher.name == record.launcher for launcher, _ in self.launchers):
            return True
        machine = self.machine_of(record.study, record.options.get("machine_name"))
        return self.unserved_reason(record.study, machine) is None

    def configured_studies(self, tables: Tables) -> list[str]:
        """Return the configured studies that have a table."""
        return [name for name in tables.study_names() if name in self.defaults]

    def unserved_counts(
        self, tables: Tables, studies: Iterable[str], run_name: str | None
    ) -> dict[str, int]:
        """Return the number of CREATED runs that no launcher serves, by reason.

        ``run_name`` None stands for every run name.
        """
        found: Counter[str] = Counter()
        for study in studies:
            found.update(self._unserved(tables.study(study), study, run_name))
        return dict(found)

    def _unserved(self, table: StudyTable, study: str, run_name: str | None) -> dict[str, int]:
        reasons: dict[str, str] = {}  # by machine

        def is_unserved(_: str, requested: str) -> bool:
            machine = self.machine_of(study, requested)
            reason = self.unserved_reason(study, machine)
            if reason is not None:
                reasons[machine] = reason
            return reason is not None

        ids = set(table.created_ids(is_unserved))
        if ids and run_name is not None:
            ids &= set(table.ids(run_name, lifecycles=[Lifecycle.CREATED.value]))
        if not ids:
            return {}
        if len(set(reasons.values())) == 1:
            return {next(iter(reasons.values())): len(ids)}
        requested = (r.options.get("machine_name") for r in table.records(sorted(ids)))
        return Counter(reasons.get(self.machine_of(study, name), "") for name in requested)


def unserved_runs(store: WorkflowStore, run_names: Iterable[str]) -> dict[str, dict[str, int]]:
    """Return by run name the number of CREATED runs that no launcher serves, by reason.

    Return no counts without a database, or with an invalid configuration.
    """
    found: dict[str, dict[str, int]] = {name: {} for name in run_names}
    if not found:
        return found
    with suppress(NoDatabaseError, ConfigError), store.autocommit_scope.read() as session:
        tables = session.tables
        coverage = LauncherCoverage.read(tables, load_workflow(store.workflow_file), store.steady())
        studies = coverage.configured_studies(tables)
        for name in found:
            found[name] = coverage.unserved_counts(tables, studies, name)
    return found


class ReasonFinder:
    """Explains the state of each run; counts the active runs once, when it is built."""

    def __init__(self, tables: Tables, coverage: LauncherCoverage) -> None:
        self._coverage = coverage
        self._slots: Counter[tuple[str, str]] = Counter()  # by launcher and generator
        self._runs: Counter[tuple[str, str, str]] = Counter()  # by study, too
        for name in tables.study_names():
            table = tables.study(name)
            for record in table.records(table.ids(None, lifecycles=ACTIVE)):
                options, launcher = coverage.options(record), record.launcher or ""
                self._slots[launcher, options.generator] += options.slots
                self._runs[launcher, options.generator, name] += 1

    def reason(self, record: RunRecord) -> str:
        """Return why a run waits or failed, or its recorded reason; empty if there is none."""
        if record.lifecycle.is_terminal:
            return record.reason or ""
        options = self._coverage.options(record)
        machine = options.machine_name or LOCALHOST
        unserved = self._coverage.unserved_reason(record.study, machine)
        if record.lifecycle not in ACTIVE:
            return unserved or self._waiting(record, options, machine)
        if self._coverage.is_managed(record):
            unserved = None
        return "; ".join(filter(None, [record.reason, unserved and f"not managed: {unserved}"]))

    def _waiting(self, record: RunRecord, options: RunOptions, machine: str) -> str:
        after = f", after: {record.reason}" if record.reason else ""
        delay = record.not_before - self._coverage.now
        if delay > 0:
            return f"it is retried in {delay:.0f} s{after}"
        found = self._coverage.launchers_for(record.study, machine)
        obstacles = [self._obstacle(name, report, record, options) for name, report in found]
        if all(obstacles):
            return obstacles[0]
        return f"it is retried{after}" if after else ""

    def _obstacle(
        self,
        launcher: LauncherRegistration,
        report: LauncherReport,
        record: RunRecord,
        options: RunOptions,
    ) -> str:
        """Return why a launcher does not claim a run that it serves, empty if it will."""
        if report.claims_paused:
            return "its launcher claims no runs, because it is about to stop"
        if record.run_name in report.suspended:
            return (
                "its run name is suspended; `motoko run` or `motoko orchestrator start` resumes it"
            )
        generator = options.generator
        limit = report.per_study.get(record.study)
        if limit is not None and self._runs[launcher.name, generator, record.study] >= limit:
            return f"the limit of {limit} active runs of {record.study} is reached (max_concurrent)"
        slots, used = report.slots.get(generator), self._slots[launcher.name, generator]
        if slots is None or fits(options.slots, used, slots):
            return ""
        if generator == SLURM:
            return f"{used} runs are in the queue (max_queued)"
        return f"{used} of {slots} slots are in use (max_concurrent)"
