"""What a workflow looks like now: who works for it, and how many runs are in which state."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from motoko.core.states import ACTIVE, NON_TERMINAL, Lifecycle
from motoko.errors import NoDatabaseError
from motoko.operations.explain import LauncherCoverage, ReasonFinder
from motoko.operations.history import FiringEntry, unregistered_firings
from motoko.runtime.daemons import PidFile
from motoko.runtime.environment import environment_differences
from motoko.server.integrity import Cut, last_cut
from motoko.server.lifecycle import is_responding
from motoko.storage.leases import LeaseHolder, StallReport, live_orchestrators, stall_reports
from motoko.storage.scripts import scripts_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from motoko.api.workflow import Workflow
    from motoko.core.records import RunRecord
    from motoko.server.state_dir import StateDir
    from motoko.storage.leases import LauncherRegistration
    from motoko.storage.session import Session
    from motoko.storage.tables import Tables

Counts: TypeAlias = "dict[str, dict[str, int]]"  # study -> state -> runs


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run name is: how many of its runs are in which state, by study.

    ``others``: where some of them wait, how many runs of other run names have not ended either.
    ``unserved``: how many wait that no launcher takes, by reason.
    """

    counts: Counts
    others: Mapping[str, int] = field(default_factory=dict)
    unserved: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StudyOverview:
    """One study: its runs by run name and state, and the runs themselves if asked for.

    ``outdated``: by run name, the ids of the ended runs whose scripts have changed since.
    ``remarks``: by run name, what is to be said of FINISHED runs, and the ids of those.
    ``changed``: how many runs were made with other job parameters than declared now, by how.
    ``reasons``: by id, why a run waits or ended badly; ``unserved``: how many CREATED runs no
    launcher takes, by reason.
    """

    name: str
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    runs: Sequence[RunRecord] = ()
    outdated: Mapping[str, Sequence[int]] = field(default_factory=dict)
    reasons: Mapping[int, str] = field(default_factory=dict)
    unserved: Mapping[str, int] = field(default_factory=dict)
    remarks: Mapping[str, Mapping[str, Sequence[int]]] = field(default_factory=dict)
    changed: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Overview:
    """A workflow as of now. ``server`` is the process that serves the database, None if none.

    ``stalls``: what those orchestrators wait for that are stalled, by run name. ``unregistered``:
    open firings of events that are no longer registered. ``cut``: what was last cut off the
    database file, which a commit that was not finished had left. ``removals``: how many deleted
    runs have directories that are still to be removed. By launcher: ``environments``:
    what of its environment is not as in this process's; ``problems``: what is wrong with its
    configuration.
    """

    directory: str
    database: bool
    server: int | None
    launchers: Sequence[LauncherRegistration] = ()
    orchestrators: Mapping[str, LeaseHolder] = field(default_factory=dict)
    stalls: Mapping[str, StallReport] = field(default_factory=dict)
    unregistered: Sequence[FiringEntry] = ()
    studies: Sequence[StudyOverview] = ()
    cut: Cut | None = None
    removals: int = 0
    environments: Mapping[str, Sequence[str]] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)


def load_overview(workflow: Workflow, *, study: str | None = None, runs: bool = False) -> Overview:
    """Return what is known of a workflow, of one study or of all; UnknownNameError if none such.

    For a workflow opened with ``load_overview`` no server is started.
    """
    names = list(workflow.task_managers) if study is None else [workflow.task_manager(study).name]
    store = workflow.store
    server = server_process(store.state)
    empty = Overview(workflow.directory, database=False, server=server)
    if not store.state.database.exists():
        return empty
    try:
        with store.autocommit_scope.read() as session:
            tables, now = session.tables, store.steady()
            serving = LauncherCoverage.of(tables, workflow.config, now)
            reasons = ReasonFinder(tables, serving) if runs else None
            launchers = [launcher for launcher, _ in serving.launchers]
            return Overview(
                workflow.directory,
                database=True,
                server=server,
                launchers=launchers,
                orchestrators=live_orchestrators(tables, now),
                stalls=stall_reports(tables, now),
                unregistered=unregistered_firings(tables),
                studies=[_study(workflow, tables, name, serving, reasons) for name in names],
                cut=last_cut(store.state.database),
                removals=len(tables.pending_removals()),
                environments={
                    found.name: environment_differences(found.identity) for found in launchers
                },
                problems={found.name: report.problem for found, report in serving.launchers},
            )
    except NoDatabaseError:
        return empty


def _study(
    workflow: Workflow,
    tables: Tables,
    name: str,
    serving: LauncherCoverage,
    reasons: ReasonFinder | None,
) -> StudyOverview:
    if name not in tables.study_names():
        return StudyOverview(name)
    table = tables.study(name)
    run_names = sorted(table.run_names())
    counts = {run_name: table.counts(run_name) for run_name in run_names}
    study = workflow.task_managers[name].bd_config
    right = name not in workflow.config.faults
    digest = scripts_digest(study) if right else ""
    outdated = {n: table.outdated(digest, n) for n in run_names if right}
    runs = [] if reasons is None else list(table.records(table.ids(None)))
    why = {} if reasons is None else {record.id: reasons.why(record) for record in runs}
    return StudyOverview(
        name,
        counts,
        runs,
        {run_name: ids for run_name, ids in outdated.items() if ids},
        {run_id: reason for run_id, reason in why.items() if reason},
        serving.unserved(tables, [name], None),
        {run_name: table.remarks(run_name) for run_name in run_names},
        table.changed(study.job) if right and table.seems_changed(study.job) else {},
    )


def counts_by_state(session: Session, studies: Iterable[str], run_name: str) -> Counts:
    """Return how many runs of a run name are in which state, by study."""
    return {name: session.tables.study(name).counts(run_name) for name in studies}


def executing(session: Session, studies: Iterable[str]) -> dict[str, int]:
    """Return how many runs are being executed, or are about to be, by run name.

    One that has just been started is SUBMITTED.
    """
    return _by_run_name(session, studies, ACTIVE)


def progress(
    session: Session,
    studies: Iterable[str],
    run_name: str,
    serving: Callable[[], LauncherCoverage] | None = None,
) -> Progress:
    """Return how far a run name is; ``serving``: says who executes runs now."""
    names = list(studies)
    counts = counts_by_state(session, names, run_name)
    if not any(Lifecycle.CREATED in states for states in counts.values()):
        return Progress(counts)
    waiting = _by_run_name(session, names, NON_TERMINAL)
    waiting.pop(run_name, None)
    unserved = {} if serving is None else serving().unserved(session.tables, names, run_name)
    return Progress(counts, waiting, unserved)


def _by_run_name(
    session: Session, studies: Iterable[str], lifecycles: Iterable[str]
) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for name in studies:
        counts.update(session.tables.study(name).counts_by_run_name(lifecycles))
    return dict(counts)


def remarks_of(
    session: Session, studies: Iterable[str], run_name: str
) -> dict[str, dict[str, list[int]]]:
    """Return what is to be said of FINISHED runs of a run name, by study, and their ids."""
    return {name: session.tables.study(name).remarks(run_name) for name in studies}


def runs_of(
    session: Session, studies: Iterable[str], run_name: str, limit: int
) -> dict[str, list[RunRecord]]:
    """Return the first ``limit`` runs of a run name in each study, in id order."""
    found: dict[str, list[RunRecord]] = {}
    for name in studies:
        table = session.tables.study(name)
        found[name] = list(table.records(table.ids(run_name)[:limit]))
    return found


def server_process(state: StateDir) -> int | None:
    """Return the pid of the server, None if none runs; 0 if one answers that left no record."""
    file = PidFile(state.server_record)
    record = file.read()
    if record is not None and file.owner_alive():
        return record.process.pid
    return 0 if state.path.exists() and is_responding(state) else None
