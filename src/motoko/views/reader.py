"""Read the campaign of a run name again and again, at a cost that its size hardly changes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from motoko.core.progress import ProgressModel, StudyProgress
from motoko.core.states import ACTIVE
from motoko.operations.explain import HELD, LauncherCoverage
from motoko.operations.orchestrator_facts import OrchestratorFacts, known_run_names
from motoko.operations.progress import ProgressReader
from motoko.orchestrator.run_ends import last_ends
from motoko.views.campaign import Campaign, Need, OrchestratorView, StudyView
from motoko.views.events import event_needs, event_views
from motoko.views.failed_runs import FailedRuns
from motoko.views.happenings import happenings
from motoko.views.past import PastEnds, replay
from motoko.views.processes import (
    launcher_needs,
    launcher_views,
    orchestrator_needs,
    orchestrator_view,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from motoko.api.workflow import Workflow
    from motoko.operations.progress import Progress
    from motoko.storage.session import Session
    from motoko.storage.tables import Tables
    from motoko.views.campaign import Happening
    from motoko.views.connection import ReadConnection

WAITS: Final = 3  # reasons that are shown
SLOW_SECONDS: Final = 2.0  # between two readings of what changes rarely or takes long


class CampaignReader:
    """Reads one run name. Call ``read`` from one thread at a time; end with ``close``."""

    def __init__(self, connection: ReadConnection, run_name: str) -> None:
        self.run_name = run_name
        self._connection = connection
        self._generation = -1
        self._progress: ProgressReader | None = None
        self._model = ProgressModel()
        self._failed = FailedRuns(connection.workflow.store, run_name)
        self._past = PastEnds(run_name)
        self._slow: tuple[float, _SlowParts] | None = None
        self._known: int | None = None
        self._happenings: tuple[Happening, ...] = ()

    @property
    def _workflow(self) -> Workflow:
        return self._connection.workflow

    def read(self) -> Campaign:
        """Return the campaign in a fresh snapshot."""
        with self._connection.read() as session:
            if session is None:
                return self._empty()
            store = self._workflow.store
            if self._generation != self._connection.generation or self._progress is None:
                self.close()
                self._progress = ProgressReader(
                    store, self._workflow.config, self.run_name, self._model
                )
                self._generation = self._connection.generation
            return self._read(session, self._progress)

    def close(self) -> None:
        """Stop following the commits."""
        if self._progress is not None:
            self._progress.close()
            self._progress = None

    def _empty(self) -> Campaign:
        end = last_ends(self._workflow.store.state, self._workflow.store.clock)
        directory = Path(self._workflow.directory)
        return Campaign(
            directory.name, str(directory), self.run_name, self._workflow.store.now(), "", False,
            OrchestratorView(), StudyProgress(), others=tuple(sorted(end)),
        )  # fmt: skip

    def _read(self, session: Session, reader: ProgressReader) -> Campaign:
        store, tables = self._workflow.store, session.tables
        if self._known is None:
            self._replay(tables)
        progress = reader.look(session)
        now = store.now()
        self._failed.look(tables, progress.ends)
        self._past.look(tables, progress.lifecycles, now, progress.ends)
        slow = self._slow_parts(session, reader, progress)
        known = progress.total.known
        if known != self._known:
            self._known = known
            self._happenings = happenings(tables, progress.lifecycles, self.run_name)
        columns, interval = self._past.throughput.columns(now)
        directory = Path(self._workflow.directory)
        return Campaign(
            directory.name,
            str(directory),
            self.run_name,
            now,
            session.snapshot[0],
            self._connection.is_served,
            slow.orchestrator,
            progress.total,
            tuple(
                StudyView(name, progress.studies[name], lifecycles)
                for name, lifecycles in progress.lifecycles.items()
            ),
            columns,
            interval,
            tuple(sorted([*slow.needs, *self._failure_needs()], key=lambda n: (n.rank, -n.number))),
            self._failed.groups,
            self._failed.left_out,
            slow.events,
            slow.launchers,
            self._happenings,
            slow.others,
            slow.waits,
        )

    def _replay(self, tables: Tables) -> None:
        """Let the model know the ends before the first look."""
        store, names = self._workflow.store, {*self._workflow.task_managers}
        studies = [study for study in tables.study_names() if study in names]
        now = store.now()
        past = self._past.look(tables, studies, now, {})
        counts = {s: tables.study(s).counts(self.run_name, index="lifecycles") for s in studies}
        replay(self._model, past, counts, monotonic=store.clock.monotonic(), now=now)

    def _failure_needs(self) -> Iterator[Need]:
        for group in self._failed.groups:
            command = f"motoko why {group.target}"
            text = f"{group.cause} {group.text}".rstrip()
            yield Need(1, group.number, group.study, text, command, group.id)

    def _slow_parts(
        self, session: Session, reader: ProgressReader, progress: Progress
    ) -> _SlowParts:
        now = self._workflow.store.clock.monotonic()
        if self._slow is None or now - self._slow[0] >= SLOW_SECONDS:
            self._slow = now, _SlowParts(self._connection, session, reader, progress, self.run_name)
        return self._slow[1]


class _SlowParts:
    """The parts of a campaign that are read every SLOW_SECONDS."""

    def __init__(
        self,
        connection: ReadConnection,
        session: Session,
        reader: ProgressReader,
        progress: Progress,
        run_name: str,
    ) -> None:
        workflow, tables = connection.workflow, session.tables
        store = workflow.store
        facts = OrchestratorFacts.read(workflow, tables, run_name)
        ends = last_ends(store.state, store.clock)
        self.orchestrator = orchestrator_view(facts, ends.get(run_name))
        self.launchers = tuple(launcher_views(tables, store))
        self.events = event_views(workflow, tables, facts)
        names = {*known_run_names(tables), *ends} - {run_name}
        self.others = tuple(sorted(names))
        coverage = LauncherCoverage.read(tables, workflow.config, store)
        self.waits = _waits(session, reader, progress)
        self.needs: Sequence[Need] = [
            *orchestrator_needs(
                self.orchestrator, run_name, left=progress.total.known - progress.total.done
            ),
            *launcher_needs(self.launchers, store.now(), active=_active(progress)),
            *event_needs(facts),
            *_unserved(coverage, tables, [*progress.lifecycles], run_name),
            *_unmanaged(coverage, tables, progress, run_name),
        ]


def _active(progress: Progress) -> int:
    return sum(found.get(state, 0) for found in progress.lifecycles.values() for state in ACTIVE)


def _unserved(
    coverage: LauncherCoverage, tables: Tables, studies: Sequence[str], run_name: str
) -> Iterator[Need]:
    for text, number in coverage.unserved_counts(tables, studies, run_name).items():
        command = "motoko release --help" if text == HELD else "motoko launcher"
        yield Need(3, number, "waiting", text, command)


def _waits(session: Session, reader: ProgressReader, progress: Progress) -> tuple[str, ...]:
    studies = [*progress.lifecycles]
    if not any(progress.lifecycles[study].get("CREATED") for study in studies):
        return ()
    found = reader.waits(session, studies)
    return tuple(
        f"{'about ' if one.about else ''}{one.runs:,} wait: {one.text}" for one in found[:WAITS]
    )


def _unmanaged(
    coverage: LauncherCoverage, tables: Tables, progress: Progress, run_name: str
) -> Iterator[Need]:
    for study in progress.lifecycles:
        for text, number in coverage.unmanaged_counts(tables, study, run_name).items():
            yield Need(2, number, study, f"not managed: {text}", "motoko launcher")
