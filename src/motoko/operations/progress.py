"""Read the progress of a run name from the database, at a cost independent of its size."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from motoko.core.progress import EndedRun, ProgressModel, StudyProgress
from motoko.core.provenance import attempt_times
from motoko.core.reasons import Code, Reason
from motoko.core.states import ACTIVE, NON_TERMINAL, Lifecycle
from motoko.handles.failure_text import cause_line
from motoko.operations.explain import READY, LauncherCoverage, ReasonFinder
from motoko.operations.overview import counts_by_run_name
from motoko.operations.reason_text import moment, reason_text
from motoko.storage.ended_runs import EndedRuns

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from motoko.config import WorkflowSettings
    from motoko.core.records import RunKey, RunRecord
    from motoko.storage.ended_runs import NewEnds
    from motoko.storage.session import Session
    from motoko.storage.store import WorkflowStore

TIMED: Final = 2000  # ends of a study between two looks whose durations are read
DESCRIBED: Final = 3  # new failures that are described
SAMPLED: Final = 50  # the first and the last waiting runs of a study whose reasons are found
USERS: Final = 1000  # active runs up to which the slots in use are counted
RETRY: Final = "the next retry is at "
COUNTED: Final = frozenset(  # exactly, by indexes
    {
        Code.HELD,
        Code.NO_LAUNCHER,
        Code.STUDY_NOT_SERVED,
        Code.MACHINE_NOT_SERVED,
        Code.LAUNCHER_SUSPENDED,
    }
)
IGNORED: Final = COUNTED | READY | {Code.RETRY_DUE}


@dataclass(frozen=True, slots=True)
class Failure:
    """A run that failed. ``text``: the last line of its stderr, or the recorded reason."""

    key: RunKey
    outcome: Lifecycle
    exit_code: int | None
    text: str


@dataclass(frozen=True, slots=True)
class Wait:
    """A number of CREATED runs that wait for the same. ``about``: it is an estimate."""

    runs: int
    text: str
    about: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a run name, of all its studies and of each.

    ``failed``: the number of new failures, the first of which are ``failures``. If runs are
    CREATED: ``waits``, and ``others``, the unfinished runs of each other run name. By study:
    ``lifecycles``, the runs by lifecycle state, and ``ends``, those that ended since the last look.
    """

    total: StudyProgress
    studies: Mapping[str, StudyProgress]
    failures: Sequence[Failure] = ()
    failed: int = 0
    waits: Sequence[Wait] = ()
    others: Mapping[str, int] = field(default_factory=dict)
    lifecycles: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    ends: Mapping[str, NewEnds] = field(default_factory=dict)


class ProgressReader:
    """Reads the progress of a run name again and again; a look compares with the one before.

    It follows the commits until ``close``. ``model``: of a reader before this one.
    """

    def __init__(
        self,
        store: WorkflowStore,
        config: WorkflowSettings,
        run_name: str,
        model: ProgressModel | None = None,
    ) -> None:
        self._store = store
        self.clock = store.clock
        self._config = config
        self._run_name = run_name
        self._studies = list(config.task_managers)
        self._ended = EndedRuns(store.database, run_name)
        self._model = ProgressModel() if model is None else model

    def close(self) -> None:
        """Stop following the commits."""
        self._ended.close()

    def read(self, session: Session) -> Progress:
        """Return the progress in the session's snapshot."""
        found = self.look(session)
        if not any(states.get(Lifecycle.CREATED) for states in found.lifecycles.values()):
            return found
        studies = [*found.lifecycles]
        others = counts_by_run_name(session, studies, NON_TERMINAL)
        others.pop(self._run_name, None)
        return replace(found, waits=self.waits(session, studies), others=others)

    def look(self, session: Session) -> Progress:
        """Return the progress without what runs wait for."""
        name, tables = self._run_name, session.tables
        studies = [study for study in self._studies if study in tables.study_names()]
        counts = {study: tables.study(study).counts(name) for study in studies}
        lifecycles = {s: tables.study(s).counts(name, index="lifecycles") for s in studies}
        ends: list[EndedRun] = []
        failed: list[RunRecord] = []
        number = 0
        ended = self._ended.look(session, studies)
        for study, new in ended.items():
            table = tables.study(study)
            ends += _ended_runs(study, new, table.records(new.ids[:TIMED], keep=False))
            records = [r for r in table.records(new.failed[:TIMED]) if _is_problem(r)]
            failed += records[: DESCRIBED - len(failed)]
            number += len(records) + max(0, len(new.failed) - TIMED)
        found = self._model.add(self.clock.monotonic(), counts, lifecycles, ends)
        total = found.pop("")
        failures = [self._describe(record) for record in failed]
        return Progress(total, found, failures, number, lifecycles=lifecycles, ends=ended)

    def _describe(self, record: RunRecord) -> Failure:
        text = cause_line(self._store, record)
        return Failure(record.key, record.lifecycle, record.exit_code, text)

    def waits(self, session: Session, studies: Sequence[str]) -> list[Wait]:
        """Return what CREATED runs wait for."""
        tables = session.tables
        coverage = LauncherCoverage.read(tables, self._config, self._store)
        unserved = coverage.unserved_counts(tables, studies, self._run_name)
        waits = [Wait(number, text) for text, number in sorted(unserved.items())]
        active = counts_by_run_name(session, tables.study_names(), ACTIVE)
        if sum(active.values()) > USERS:
            return waits
        finder, found = ReasonFinder(tables, coverage), []
        for study in studies:
            created = tables.created(study)
            few = created.sample(self._run_name, SAMPLED)
            weight = sum(created.count_unheld(self._run_name).values()) / max(1, len(few))
            records = tables.study(study).records(few)
            found += [(finder.next(record)[0], weight) for record in records]
        return waits + grouped(found, self._store.now())


def grouped(reasons: Iterable[tuple[Reason, float]], now: float) -> list[Wait]:
    """Return the reasons why runs wait with the numbers of the runs, the largest number first.

    Each reason stands for as many runs as its weight. Leave out runs that are held, that no
    launcher serves, or that will be claimed. ``now`` is in seconds since the epoch.
    """
    groups: dict[str, list[tuple[Reason, float]]] = {}
    for reason, weight in reasons:
        same = RETRY if reason.code is Code.RETRY_DELAYED else reason_text(reason, now)
        groups.setdefault(same, []).append((reason, weight))
    waits = []
    for text, group in groups.items():
        first, number = group[0][0], round(sum(weight for _, weight in group))
        if first.code in IGNORED:
            continue
        retry = first.code is Code.RETRY_DELAYED
        at = moment(min(reason.fields["at"] for reason, _ in group), now) if retry else ""
        about = len(groups) > 1 and any(weight > 1 for _, weight in group)
        waits.append(Wait(number, f"{text}{at}", about))
    return sorted(waits, key=lambda wait: -wait.runs)


def _is_problem(record: RunRecord) -> bool:
    return record.lifecycle is not Lifecycle.CANCELLED


def _ended_runs(study: str, new: NewEnds, records: Iterable[RunRecord]) -> list[EndedRun]:
    """Return the runs that ended; those beyond TIMED have no duration."""
    found = [EndedRun(study, r.lifecycle, attempt_times(r, r.attempt).duration) for r in records]
    return found + [EndedRun(study, Lifecycle.FINISHED)] * (len(new.ids) - len(found))
