"""The current state of a workflow: its processes, and its runs by state."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from motoko.core.holds import NO_HOLDS, Holds
from motoko.core.run_keys import NAMED, FirstIds
from motoko.core.states import ACTIVE
from motoko.errors import NoDatabaseError
from motoko.operations.explain import LauncherCoverage, ReasonFinder
from motoko.operations.history import FiringEntry, unregistered_firings
from motoko.operations.notifications import NO_NOTIFICATIONS, NotificationOverview
from motoko.operations.usage import server_process, server_suspension
from motoko.orchestrator.run_ends import RunEnd, last_ends
from motoko.runtime.environment import environment_differences
from motoko.server.file_integrity import TornTail, last_torn_tail
from motoko.storage.launcher_leases import suspended_launchers
from motoko.storage.orchestrator_leases import (
    LeaseHolder,
    StallReport,
    live_orchestrators,
    stall_reports,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from motoko.api.workflow import Workflow
    from motoko.core.records import RunRecord
    from motoko.storage.launcher_leases import LauncherRegistration
    from motoko.storage.session import Session
    from motoko.storage.tables import Tables

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StudyOverview:
    """One study: its runs by run name and state, and on request the runs themselves.

    ``outdated``: by run name, the number of ended runs whose scripts have changed since.
    ``finished_reasons``: by run name, the reasons of FINISHED runs, and the first of their ids.
    ``changed``: the number of runs made with other job parameters than now declared, by difference.
    ``reasons``: by id, why a run waits or failed. ``unserved``: the number of CREATED runs that no
    launcher serves, by reason. ``unmanaged``: the number of active runs that no launcher owns, by
    reason.
    """

    name: str
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    runs: Sequence[RunRecord] = ()
    outdated: Mapping[str, int] = field(default_factory=dict)
    reasons: Mapping[int, str] = field(default_factory=dict)
    unserved: Mapping[str, int] = field(default_factory=dict)
    finished_reasons: Mapping[str, Mapping[str, FirstIds]] = field(default_factory=dict)
    changed: Mapping[str, int] = field(default_factory=dict)
    unmanaged: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Overview:
    """The current state of a workflow. ``server``: its pid; None if none is running.

    ``server_suspension``: a remark if it is stopped (SIGSTOP), else "".
    ``stalls``: by run name, what stalled orchestrators wait for. ``unregistered``: open firings of
    events that are no longer registered. ``cut``: the last unfinished commit that was cut off the
    database file. ``removals``: the number of deleted runs whose directories still exist. By
    launcher: ``environments``, the differences between its environment and this process's, and
    ``problems``, the errors in its configuration, and ``directories``, those of ended runs that it
    could not pack or remove. ``ends``: the last end of each run name.
    ``holds``: the holds of runs. ``notifications``: those of the run name.
    """

    directory: str
    database: bool
    server: int | None
    launchers: Sequence[LauncherRegistration] = ()
    orchestrators: Mapping[str, LeaseHolder] = field(default_factory=dict)
    stalls: Mapping[str, StallReport] = field(default_factory=dict)
    unregistered: Sequence[FiringEntry] = ()
    studies: Sequence[StudyOverview] = ()
    cut: TornTail | None = None
    removals: int = 0
    environments: Mapping[str, Sequence[str]] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    directories: Mapping[str, str] = field(default_factory=dict)
    ends: Mapping[str, RunEnd] = field(default_factory=dict)
    holds: Holds = NO_HOLDS
    server_suspension: str = ""
    notifications: NotificationOverview = NO_NOTIFICATIONS


def load_overview(
    workflow: Workflow,
    studies: Iterable[str],
    *,
    run_name: str | None = None,
    runs: bool = False,
    named: int | None = NAMED,
) -> Overview:
    """Return the state of these studies, of one run name or of all; with ``runs``, their runs.

    ``named``: the most ids of runs listed under one reason; None: all.
    """
    store = workflow.store
    ends = _of(run_name, last_ends(store.state, store.clock))
    server = server_process(store.state)
    suspension = "" if server is None else server_suspension(store.state)
    empty = Overview(
        workflow.directory, database=False, server=server, ends=ends, server_suspension=suspension
    )
    if not store.state.database.exists():
        return empty
    try:
        with store.autocommit_scope.read() as session:
            reader = _StudyReader(workflow, session.tables, run_name, runs=runs, named=named)
            found = [reader.read(name) for name in studies]
            return _with_processes(replace(empty, studies=found), workflow, reader)
    except NoDatabaseError:
        return empty


def _with_processes(overview: Overview, workflow: Workflow, reader: _StudyReader) -> Overview:
    store, tables, run_name = workflow.store, reader.tables, reader.run_name
    now, found = store.steady(), reader.coverage.launchers
    firings = unregistered_firings(tables)
    return replace(
        overview,
        database=True,
        launchers=[*(launcher for launcher, _ in found), *suspended_launchers(tables, now)],
        orchestrators=_of(run_name, live_orchestrators(tables, now)),
        stalls=_of(run_name, stall_reports(tables, now)),
        unregistered=[firing for firing in firings if run_name in (None, firing.run_name)],
        cut=last_torn_tail(store.state.database),
        removals=len(tables.pending_removals()),
        environments={one.name: environment_differences(one.identity) for one, _ in found},
        problems={one.name: report.problem for one, report in found},
        directories={one.name: report.directories for one, report in found},
        holds=tables.holds,
        notifications=NotificationOverview.read(store.state, tables, run_name),
    )


def _of(run_name: str | None, found: Mapping[str, T]) -> dict[str, T]:
    return {name: one for name, one in found.items() if run_name in (None, name)}


class _StudyReader:
    """Reads studies, of one run name or of all (None)."""

    def __init__(
        self,
        workflow: Workflow,
        tables: Tables,
        run_name: str | None,
        *,
        runs: bool,
        named: int | None,
    ) -> None:
        self.tables = tables
        self.run_name = run_name
        self.coverage = LauncherCoverage.read(tables, workflow.config, workflow.store)
        self._workflow = workflow
        self._named = named
        self._reasons = ReasonFinder(tables, self.coverage) if runs else None

    def read(self, name: str) -> StudyOverview:
        """Return the overview of one study."""
        tables, run_name, reasons = self.tables, self.run_name, self._reasons
        if name not in tables.study_names():
            return StudyOverview(name)
        table = tables.study(name)
        names = sorted(_of(run_name, dict.fromkeys(table.run_names())))
        study = self._workflow.task_managers[name].bd_config
        valid = name not in self._workflow.config.faults
        digest = study.scripts_digest() if valid else ""
        outdated = {n: table.count_other_scripts(digest, n) for n in names if valid}
        runs = [] if reasons is None else list(table.records(table.ids(run_name)))
        why = {} if reasons is None else {record.id: reasons.reason(record) for record in runs}
        return StudyOverview(
            name,
            {n: table.counts(n) for n in names},
            runs,
            {n: number for n, number in outdated.items() if number},
            {run_id: reason for run_id, reason in why.items() if reason},
            self.coverage.unserved_counts(tables, [name], run_name),
            {n: table.finished_by_reason(n, self._named) for n in names},
            table.count_other_parameters(study.job) if valid else {},
            self.coverage.unmanaged_counts(tables, name, run_name),
        )


def counts_by_run_name(
    session: Session, studies: Iterable[str], lifecycles: Iterable[str] = ACTIVE
) -> dict[str, int]:
    """Return the number of runs in these lifecycle states, by default active ones, by run name."""
    counts: Counter[str] = Counter()
    for name in studies:
        counts.update(session.tables.study(name).counts_by_run_name(lifecycles))
    return dict(counts)
