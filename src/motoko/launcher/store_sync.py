"""What a launcher reads and writes in the database; all of it in the committer thread.

One round is one commit: the ends and news of however many attempts, the claims for the slots that
they leave, and a look at what was asked of the attempts that go on.
"""

from __future__ import annotations

import logging
import random
import secrets
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from motoko.core.changes import EditRun
from motoko.core.edits import Claim, EndAttempt, MarkStarted, Requeue, SetReason, TransferAttempt
from motoko.core.run_options import RunOptions
from motoko.core.states import ACTIVE, Lifecycle
from motoko.errors import ConfigError, ConflictError, LauncherError, UnknownRunError
from motoko.launcher.attempt_files import describe_missing_exit, mark_ended
from motoko.launcher.claiming import ClaimPlan, choose_claims
from motoko.launcher.harvest import (
    MAX_FIELD_CHARACTERS,
    OutboxUpdate,
    convert_fields,
    drop_oversized_fields,
    outbox_loss,
    read_updates,
)
from motoko.launcher.outcome import (
    outcome_of_exit,
    with_damage,
    with_fields_checked,
    with_processes_left,
)
from motoko.launcher.run_directory import AttemptPaths
from motoko.runtime import fault_points
from motoko.runtime.processes import predates_boot
from motoko.storage import leases
from motoko.storage.commit import run_transaction
from motoko.storage.schema import create_tables
from motoko.storage.scripts import scripts_digest
from motoko.storage.session import LeaseGuard, Session
from motoko.worker import OUTBOX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from motoko.config import StudyConfig
    from motoko.core.changes import Change
    from motoko.core.records import RunRecord
    from motoko.launcher.attempts import Attempt, AttemptEnd, UpdateNotes
    from motoko.launcher.claiming import Capacity, Load, ServedQueue
    from motoko.launcher.outcome import AttemptOutcome
    from motoko.storage.leases import LauncherRegistration, LauncherReport
    from motoko.storage.store import WorkflowStore
    from motoko.storage.tables import Tables

MAX_COMMIT_TRIES: Final = 50
RECORD_BATCH: Final = 64  # records read at a time while looking for runs to claim
# What the outboxes and the runs they belong to may hold for one commit; others wait for it.
MAX_COMMIT_BYTES: Final = 8 * 2**20
OUTBOX_TRUNCATED: Final = "its outbox was not read to its end"
SHOWN_LINES: Final = 3  # damaged outbox lines that are logged, of each reading
NO_LONGER_HELD: Final = "nothing holds it up any more"  # what a scheduler said before is over
SHOWN_TEXT: Final = 200  # characters of what is wrong with a field: its value may be long

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SyncRound:
    """What one round is to record, and what it has to know.

    ``going``: the attempts that go on; ``held``: run names of which nothing is claimed. Without
    ``loads``, by generator, nothing is claimed at all.
    """

    notes: UpdateNotes
    going: tuple[Attempt, ...] = ()
    loads: Mapping[str, Load] | None = None
    held: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What came of a round: what was claimed, and what is to be done about attempts.

    ``unfinished``: their outboxes hold more; ``cancelled``: somebody asked for it; ``lost_touch``:
    the run is no longer this launcher's, or not there at all.
    """

    claims: tuple[tuple[RunRecord, RunOptions], ...] = ()
    wake_at: float | None = None
    unfinished: tuple[Attempt, ...] = ()
    cancelled: tuple[Attempt, ...] = ()
    lost_touch: tuple[Attempt, ...] = ()


@dataclass(frozen=True, slots=True)
class OrphanedAttempt:
    """An attempt whose launcher is gone; ``restarted``: because its machine was."""

    record: RunRecord
    terms: RunOptions
    restarted: bool


@dataclass(slots=True)
class _Draft:
    """What is to be written, and the attempts' marks once that is done."""

    changes: list[Change] = field(default_factory=list)
    news: list[tuple[Attempt, OutboxUpdate]] = field(default_factory=list)
    unfinished: list[Attempt] = field(default_factory=list)
    size: int = 0

    @property
    def full(self) -> bool:
        """Whether outboxes that were not read yet have to wait for the next commit."""
        return self.size > MAX_COMMIT_BYTES


class StoreSync:
    """A launcher's session."""

    def __init__(
        self,
        store: WorkflowStore,
        me: LauncherRegistration,
        site: ServedQueue,
        capacities: Mapping[str, Capacity],
        defaults: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self._store = store
        self._me = me
        self._site = site
        self._capacities = capacities
        self._defaults = defaults
        self._session: Session | None = None

    # -- the lease -------------------------------------------------------------------------

    def open(self, report: LauncherReport | None = None) -> None:
        """Take the lease and begin; LauncherError where another launcher has the work."""
        studies = self._me.studies  # a study may be new in motoko.yaml
        run_transaction(
            self._store.database, lambda root: create_tables(root, studies), initialising=True
        )
        now = self._store.steady()
        self._transact(lambda tables: leases.register_launcher(tables, self._me, now, report))
        guard = LeaseGuard(self._me.key, self._me.token)
        self._session = Session(self._store.database, guard=guard, source=self._me.name)

    def renew(self, report: LauncherReport | None = None) -> None:
        """Renew the lease; Fenced if another launcher has taken over."""
        now = self._store.steady()
        self._transact(lambda tables: leases.renew_launcher(tables, self._me, now, report))

    def change(
        self,
        me: LauncherRegistration,
        capacities: Mapping[str, Capacity],
        defaults: Mapping[str, Mapping[str, Any]],
        report: LauncherReport,
    ) -> LauncherRegistration:
        """Work by a changed configuration; return the registration with the studies served."""
        studies = me.studies
        run_transaction(
            self._store.database, lambda root: create_tables(root, studies), initialising=True
        )
        now = self._store.steady()
        self._me = run_transaction(
            self._store.database, lambda tables: leases.change_launcher(tables, me, now, report)
        )
        self._capacities, self._defaults = capacities, defaults
        return self._me

    def close(self) -> None:
        """Give the lease back and end."""
        if self._session is not None:
            self._session.close()
            self._session = None
        self._transact(lambda tables: tables.drop_lease(self._me.key))

    def _transact(self, work: Callable[[Tables], object]) -> None:
        run_transaction(self._store.database, work)

    @property
    def session(self) -> Session:
        """The session, once it is open."""
        if self._session is None:
            raise LauncherError("the launcher has no session yet")
        return self._session

    # -- a round ---------------------------------------------------------------------------

    def settle(self, turn: SyncRound) -> SyncResult:
        """Commit a round. What somebody else changed meanwhile is looked at again."""
        draft = self._draft(turn.notes)
        for attempt in range(MAX_COMMIT_TRIES):
            self.session.refresh()
            try:
                result = self._apply(draft, turn)
                if self.session.pending:
                    fault_points.point("launcher.before_commit")
                    self.session.commit()
                    fault_points.point("launcher.after_commit")
            except (ConflictError, UnknownRunError) as error:
                log.debug("again: %s", error)
                time.sleep(random.uniform(0, 0.002 * 2 ** min(attempt, 6)))
                continue
            for active, news in draft.news:
                active.read = news.consumed
                active.failed = _failure(active, news)
            self._note_records((*turn.notes.started, *turn.notes.adopted))
            return result
        raise LauncherError(f"a commit met conflicts {MAX_COMMIT_TRIES} times")

    def _note_records(self, attempts: tuple[Attempt, ...]) -> None:
        for active in attempts:
            table = self.session.tables.study(active.key.study)
            if table.has_run(active.key.id):
                active.record = table.run(active.key.id)

    def _apply(self, draft: _Draft, turn: SyncRound) -> SyncResult:
        tables = self.session.tables
        for change in draft.changes:
            if tables.study(change.key.study).has_run(change.key.id):  # type: ignore[union-attr]
                self.session.add(change)
        cancelled, lost_touch = self._asked(turn.going)
        choice = self._claim(turn)
        return SyncResult(
            choice.claims, choice.wake_at, tuple(draft.unfinished), cancelled, lost_touch
        )

    def _asked(self, going: tuple[Attempt, ...]) -> tuple[tuple[Attempt, ...], tuple[Attempt, ...]]:
        """Return which attempts are to be cancelled, and which are no longer ours."""
        cancelled: list[Attempt] = []
        lost_touch: list[Attempt] = []
        for active in going:
            table = self.session.tables.study(active.key.study)
            record = table.run(active.key.id) if table.has_run(active.key.id) else None
            if record is None or record.token != active.token or record.lifecycle not in ACTIVE:
                lost_touch.append(active)
                continue
            active.record = record
            if record.cancel_requested:
                cancelled.append(active)
        return tuple(cancelled), tuple(lost_touch)

    # -- claiming --------------------------------------------------------------------------

    def _claim(self, turn: SyncRound) -> ClaimPlan:
        if turn.loads is None:
            return ClaimPlan()
        now, steady = self._store.now(), self._store.steady()
        choices = [
            self._chosen(generator, load, turn.held, steady)
            for generator, load in turn.loads.items()
        ]
        claims = [claim for choice in choices for claim in choice.claims]
        moments = [choice.wake_at for choice in choices if choice.wake_at is not None]
        studies = {record.study for record, _ in claims}
        scripts = {study: _digest(self._store.studies[study]) for study in studies}
        for record, _ in claims:
            claim = Claim(self._me.name, secrets.token_hex(8), now, scripts[record.study])
            self.session.add(EditRun(record.key, claim))
        claimed = tuple((self.session.run(record.key), terms) for record, terms in claims)
        return ClaimPlan(claimed, min(moments, default=None))

    def _chosen(self, generator: str, load: Load, held: frozenset[str], now: float) -> ClaimPlan:
        def terms_of(record: RunRecord) -> RunOptions | None:
            return None if record.run_name in held else self.terms(record)

        queues = [(study, self._created(study, generator)) for study in self._me.studies]
        return choose_claims(queues, terms_of, self._capacities[generator], load, now)

    def terms(self, record: RunRecord) -> RunOptions:
        """Return how a run is to be executed."""
        return RunOptions.resolve(self._defaults[record.study], record.options)

    def _created(self, study: str, generator: str) -> Iterator[RunRecord]:
        defaults = self._defaults[study]

        def served(asked: str, machine: str) -> bool:
            given = {"generator": asked or None, "machine_name": machine or None}
            resources = {name: value for name, value in given.items() if value is not None}
            terms = RunOptions.resolve(defaults, resources)
            return terms.generator == generator and self._site.serves(terms)

        table = self.session.tables.study(study)
        ids = table.waiting(served)
        for start in range(0, len(ids), RECORD_BATCH):
            yield from table.records(ids[start : start + RECORD_BATCH])

    # -- recording -------------------------------------------------------------------------

    def _draft(self, notes: UpdateNotes) -> _Draft:
        draft = _Draft()
        now = self._store.now()
        leaving = notes.leaving
        for active in notes.adopted:
            draft.changes.append(EditRun(active.key, TransferAttempt(active.token, self._me.name)))
        for active in notes.started:
            if active not in leaving:
                draft.changes.append(self._started(active, now))
        for active in notes.grown:
            if active not in leaving and not draft.full:
                self._read(draft, active, now)
        for active, text in notes.remarks:
            if active not in leaving:
                remark = SetReason(active.token, now, text or None, text or NO_LONGER_HELD)
                draft.changes.append(EditRun(active.key, remark))
        for active, cause, later in notes.requeued:
            not_before = self._store.steady() + later if later else 0.0
            requeue = Requeue(active.token, now, cause, not_before)
            draft.changes.append(EditRun(active.key, requeue))
        for ended in notes.ended:
            self._end(draft, ended)
        return draft

    def _started(self, active: Attempt, now: float) -> Change:
        process = active.handle.process if active.handle is not None else None
        identity = None if process is None else process.plain()
        at = active.since if active.since is not None else now
        return EditRun(active.key, MarkStarted(active.token, at, self._cause, identity))

    def _read(self, draft: _Draft, active: Attempt, now: float) -> OutboxUpdate:
        news = drop_oversized_fields(
            read_updates(self._outbox(active), active.read), active.record.fields
        )
        draft.size += news.consumed - active.read + min(active.read, MAX_FIELD_CHARACTERS)
        for line in news.damaged[:SHOWN_LINES]:
            log.warning("run %s: a damaged line in its outbox is ignored: %s", active.key, line)
        active.damaged += len(news.damaged)
        news = self._typed(active, news)
        draft.changes.extend(news.changes(active.key, active.token, now))
        draft.news.append((active, news))
        return news

    @staticmethod
    def _outbox(active: Attempt) -> str:
        return f"{active.place.private}/{OUTBOX}"

    def _typed(self, active: Attempt, news: OutboxUpdate) -> OutboxUpdate:
        types = self._store.field_types(active.key.study)
        fields, misfits = convert_fields(news.fields, types, f"run {active.key}")
        for name in sorted(misfits.keys() - active.misfits):
            log.warning(
                "%s; bd.yaml declares it as %s, what the script set is kept",
                misfits[name][:SHOWN_TEXT], types[name],
            )  # fmt: skip
        active.misfits |= misfits.keys()
        return replace(news, fields=fields)

    def _end(self, draft: _Draft, ended: AttemptEnd) -> None:
        active = ended.active
        if draft.full:
            draft.unfinished.append(active)
            return
        if not active.recorded_start and active.since is not None:
            draft.changes.append(self._started(active, ended.at))
        mark_ended(active.place)
        if active.stop is Lifecycle.CREATED:
            cause = f"recalled by launcher {self._me.name}"
            draft.changes.append(EditRun(active.key, Requeue(active.token, ended.at, cause)))
            return
        news = self._read(draft, active, ended.at)
        if news.more and active.stop is None:
            draft.unfinished.append(active)
            return
        fault = ended.fault or news.fault or outbox_loss(self._outbox(active), active.read)
        if fault is None and ended.status is None:
            fault = describe_missing_exit(active.place)
        found = ended.ending or outcome_of_exit(
            ended.status,
            stopped=active.stop,
            failed=_failure(active, news),
            timeout=active.terms.timeout,
            fault=fault,
        )
        if news.more:  # who asked for its end does not wait for all that it may have written
            found = replace(found, reason=f"{found.reason}; {OUTBOX_TRUNCATED}")
        found = with_processes_left(self._checked(active, found, news), active.left)
        terms = active.terms
        edit = EndAttempt(
            active.token, found.outcome, ended.at, self._cause, found.exit_code, found.reason,
            terms.retries, terms.retry_delay, random.uniform(0.8, 1.2), self._store.steady(),
        )  # fmt: skip
        draft.changes.append(EditRun(active.key, edit))
        level = logging.WARNING if found.reason else logging.INFO
        log.log(level, "run %s: %s %s", active.key, found.outcome, found.reason or "")

    def _checked(
        self, active: Attempt, found: AttemptOutcome, news: OutboxUpdate
    ) -> AttemptOutcome:
        """Return the ending with what is to be said of the results of a run that finished."""
        study = self._store.studies[active.key.study]
        if found.outcome is not Lifecycle.FINISHED:
            return found
        if study.run:
            table = self.session.tables.study(active.key.study)
            known = table.run(active.key.id).fields if table.has_run(active.key.id) else {}
            given = known.keys() | news.fields.keys()
            found = with_fields_checked(found, study.run, given, required=study.require_fields)
        return with_damage(found, active.damaged)

    @property
    def _cause(self) -> str:
        return f"launcher {self._me.name}"

    # -- what others left ------------------------------------------------------------------

    def orphans(self, known: frozenset[str]) -> list[OrphanedAttempt]:
        """Return the attempts of launchers that are gone; from here on those commit nothing."""
        self.session.refresh()
        now = self._store.steady()
        found: list[tuple[RunRecord, RunOptions]] = []
        for study in self._me.studies:
            table = self.session.tables.study(study)
            ids = table.ids(None, lifecycles=[state.value for state in ACTIVE])
            for record in table.records(ids):
                terms = self.terms(record)
                if record.token not in known and self._site.serves(terms):
                    found.append((record, terms))
        owners = {record.launcher or "" for record, _ in found} - {self._me.name}
        restarted = {
            launcher.name
            for launcher in leases.registered_launchers(self.session.tables)
            if predates_boot(launcher.identity)
        }
        gone = {owner for owner in owners if self._fence(owner, now)}
        self.session.refresh()
        return [
            OrphanedAttempt(self.session.run(record.key), terms, record.launcher in restarted)
            for record, terms in found
            if (record.launcher or "") in gone
        ]

    def answerable(self) -> set[str]:
        """Return the launchers that work, and those that attempts which have not ended name."""
        self.session.refresh()
        tables = self.session.tables
        names = {launcher.name for launcher in leases.registered_launchers(tables)}
        for study in tables.study_names():
            table = tables.study(study)
            ids = table.ids(None, lifecycles=[state.value for state in ACTIVE])
            names.update(record.launcher or "" for record in table.records(ids))
        return names

    def _fence(self, name: str, now: float) -> bool:
        return bool(
            run_transaction(self._store.database, lambda tables: leases.fence(tables, name, now))
        )

    def place(self, record: RunRecord) -> AttemptPaths:
        """Return where a run's present attempt is."""
        return AttemptPaths.of(self._store.runs_root(record.study), record)


def _digest(study: StudyConfig) -> str:
    try:
        return scripts_digest(study)
    except ConfigError:  # the attempt fails, and says which file it is
        return ""


def _failure(active: Attempt, news: OutboxUpdate) -> str | None:
    if news.finished:
        return None
    return news.failed if news.failed is not None else active.failed
