"""The current state of a workflow: its processes, and its runs by state."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from motoko.core.states import ACTIVE, NON_TERMINAL, Lifecycle
from motoko.errors import NoDatabaseError
from motoko.operations.explain import LauncherCoverage, ReasonFinder
from motoko.operations.history import FiringEntry, unregistered_firings
from motoko.operations.usage import server_process
from motoko.runtime.environment import environment_differences
from motoko.server.file_integrity import TornTail, last_torn_tail
from motoko.storage.leases import LeaseHolder, StallReport, live_orchestrators, stall_reports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from motoko.api.workflow import Workflow
    from motoko.core.records import RunRecord
    from motoko.storage.leases import LauncherRegistration
    from motoko.storage.session import Session
    from motoko.storage.tables import Tables

Counts: TypeAlias = "dict[str, dict[str, int]]"  # study -> state -> runs


@dataclass(frozen=True, slots=True)
class Progress:
    """The runs of a run name by study and state.

    If some are CREATED: ``others``, the unfinished runs of each other run name, and ``unserved``,
    the runs that no launcher serves, by reason.
    """

    counts: Counts
    others: Mapping[str, int] = field(default_factory=dict)
    unserved: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StudyOverview:
    """One study: its runs by run name and state, and on request the runs themselves.

    ``outdated``: by run name, the ids of ended runs whose scripts have changed since.
    ``finished_reasons``: by run name, the reasons recorded for FINISHED runs, and their ids.
    ``changed``: the number of runs made with other job parameters than now declared, by difference.
    ``reasons``: by id, why a run waits or failed. ``unserved``: the number of CREATED runs that no
    launcher serves, by reason.
    """

    name: str
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    runs: Sequence[RunRecord] = ()
    outdated: Mapping[str, Sequence[int]] = field(default_factory=dict)
    reasons: Mapping[int, str] = field(default_factory=dict)
    unserved: Mapping[str, int] = field(default_factory=dict)
    finished_reasons: Mapping[str, Mapping[str, Sequence[int]]] = field(default_factory=dict)
    changed: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Overview:
    """The current state of a workflow. ``server``: its pid; None if none is running.

    ``stalls``: by run name, what stalled orchestrators wait for. ``unregistered``: open firings of
    events that are no longer registered. ``cut``: the last unfinished commit that was cut off the
    database file. ``removals``: the number of deleted runs whose directories still exist. By
    launcher: ``environments``, the differences between its environment and this process's, and
    ``problems``, the errors in its configuration.
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


def load_overview(workflow: Workflow, *, study: str | None = None, runs: bool = False) -> Overview:
    """Return the state of one study or of all; raise UnknownNameError for an unknown study."""
    names = list(workflow.task_managers) if study is None else [workflow.task_manager(study).name]
    store = workflow.store
    server = server_process(store.state)
    empty = Overview(workflow.directory, database=False, server=server)
    if not store.state.database.exists():
        return empty
    try:
        with store.autocommit_scope.read() as session:
            tables, now = session.tables, store.steady()
            coverage = LauncherCoverage.read(tables, workflow.config, now)
            reasons = ReasonFinder(tables, coverage) if runs else None
            launchers = [launcher for launcher, _ in coverage.launchers]
            return Overview(
                workflow.directory,
                database=True,
                server=server,
                launchers=launchers,
                orchestrators=live_orchestrators(tables, now),
                stalls=stall_reports(tables, now),
                unregistered=unregistered_firings(tables),
                studies=[_study(workflow, tables, name, coverage, reasons) for name in names],
                cut=last_torn_tail(store.state.database),
                removals=len(tables.pending_removals()),
                environments={
                    found.name: environment_differences(found.identity) for found in launchers
                },
                problems={found.name: report.problem for found, report in coverage.launchers},
            )
    except NoDatabaseError:
        return empty


def _study(
    workflow: Workflow,
    tables: Tables,
    name: str,
    coverage: LauncherCoverage,
    reasons: ReasonFinder | None,
) -> StudyOverview:
    if name not in tables.study_names():
        return StudyOverview(name)
    table = tables.study(name)
    run_names = sorted(table.run_names())
    study = workflow.task_managers[name].bd_config
    valid = name not in workflow.config.faults
    digest = study.scripts_digest() if valid else ""
    outdated = {n: table.with_other_scripts(digest, n) for n in run_names if valid}
    runs = [] if reasons is None else list(table.records(table.ids(None)))
    why = {} if reasons is None else {record.id: reasons.reason(record) for record in runs}
    return StudyOverview(
        name,
        {run_name: table.counts(run_name) for run_name in run_names},
        runs,
        {run_name: ids for run_name, ids in outdated.items() if ids},
        {run_id: reason for run_id, reason in why.items() if reason},
        coverage.unserved_counts(tables, [name], None),
        {run_name: table.finished_by_reason(run_name) for run_name in run_names},
        table.count_other_parameters(study.job)
        if valid and table.has_other_parameters(study.job)
        else {},
    )


def progress(
    session: Session,
    studies: Iterable[str],
    run_name: str,
    coverage: Callable[[], LauncherCoverage] | None = None,
) -> Progress:
    """Return the progress of a run name; ``coverage`` reads the live launchers."""
    names = list(studies)
    counts = {name: session.tables.study(name).counts(run_name) for name in names}
    if not any(Lifecycle.CREATED in states for states in counts.values()):
        return Progress(counts)
    others = counts_by_run_name(session, names, NON_TERMINAL)
    others.pop(run_name, None)
    unserved = (
        {} if coverage is None else coverage().unserved_counts(session.tables, names, run_name)
    )
    return Progress(counts, others, unserved)


def counts_by_run_name(
    session: Session, studies: Iterable[str], lifecycles: Iterable[str] = ACTIVE
) -> dict[str, int]:
    """Return the number of runs in these lifecycle states, by default active ones, by run name."""
    counts: Counter[str] = Counter()
    for name in studies:
        counts.update(session.tables.study(name).counts_by_run_name(lifecycles))
    return dict(counts)


def study_results(
    session: Session, studies: Iterable[str], run_name: str, limit: int
) -> list[StudyOverview]:
    """Return the counts, the first ``limit`` runs and the reasons of a run name, by study."""
    results = []
    for name in studies:
        table = session.tables.study(name)
        runs = list(table.records(table.ids(run_name)[:limit]))
        counts, reasons = table.counts(run_name), {run_name: table.finished_by_reason(run_name)}
        results.append(StudyOverview(name, {run_name: counts}, runs, finished_reasons=reasons))
    return results
