"""The database side of a launcher; all of it runs in the committer thread.

One commit holds the pending updates of any number of attempts and the claims for the free slots.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

from motoko.core.changes import EditRun, RecordProvenance
from motoko.core.edits import Claim
from motoko.core.provenance import Provenance
from motoko.core.run_options import BASH, RunOptions
from motoko.core.states import ACTIVE
from motoko.errors import ConfigError, ConflictError, LauncherError, UnknownRunError
from motoko.launcher.attempt_changes import AttemptChanges
from motoko.launcher.attempt_paths import AttemptPaths
from motoko.launcher.attempts import Attempt
from motoko.launcher.claiming import ClaimPlan, choose_claims, most_claims
from motoko.runtime import fault_points
from motoko.runtime.processes import host, predates_boot
from motoko.server.state_dir_guard import StateDirGuard
from motoko.storage.commit import run_transaction
from motoko.storage.launcher_leases import (
    change_launcher,
    fence,
    register_launcher,
    registered_launchers,
    renew_launcher,
)
from motoko.storage.leases import LeaseGuard
from motoko.storage.schema import create_tables
from motoko.storage.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any

    from motoko.config import StudyConfig
    from motoko.core.records import RunRecord
    from motoko.launcher.attempts import PendingUpdates
    from motoko.launcher.claiming import Capacity, Load, ServedQueue
    from motoko.storage.launcher_leases import LauncherRegistration, LauncherReport
    from motoko.storage.store import WorkflowStore
    from motoko.storage.tables import Tables

MAX_COMMIT_TRIES: Final = 50
TOKEN_BYTES: Final = 8
RECORD_BATCH: Final = 64  # records to read at a time while searching for runs to claim

OUTDATED: Final = ClaimPlan()  # runs could be claimed, but the facts to record are outdated

_T = TypeVar("_T")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SyncResult:
    """The result of one commit.

    ``facts_outdated``: runs wait to be claimed, until the facts of the code are read again.
    ``unfinished``: their outboxes hold more. ``cancelled``: their cancellation was requested.
    ``no_longer_owned``: their runs belong to another launcher, or do not exist.
    """

    claimed: tuple[Attempt, ...] = ()
    next_wakeup: float | None = None
    unfinished: tuple[Attempt, ...] = ()
    cancelled: tuple[Attempt, ...] = ()
    no_longer_owned: tuple[Attempt, ...] = ()
    facts_outdated: bool = False


class StoreSync:
    """The session and the lease of a launcher.

    ``facts`` returns the facts of the code to record with claims, None if they are outdated.
    """

    def __init__(
        self,
        store: WorkflowStore,
        me: LauncherRegistration,
        served: ServedQueue,
        capacities: Mapping[str, Capacity],
        defaults: Mapping[str, Mapping[str, Any]],
        facts: Callable[[], Provenance | None] = Provenance,
    ) -> None:
        self._facts = facts
        self._store = store
        self._directory = StateDirGuard.of(store.state)
        self._me = me
        self._served = served
        self._capacities = capacities
        self._defaults = defaults
        self._session: Session | None = None

    def open(self, report: LauncherReport | None = None) -> None:
        """Acquire the lease; LauncherError if another launcher serves the same runs."""
        self._create_tables(self._me.studies)
        now = self._store.steady()
        self._transact(lambda tables: register_launcher(tables, self._me, now, report))
        guard = LeaseGuard(self._me.key, self._me.token)
        self._session = Session(self._store.database, guard=guard, source=self._me.name)

    def renew(self, report: LauncherReport | None = None) -> None:
        """Renew the lease; Fenced if another launcher has replaced this one."""
        now = self._store.steady()
        self._transact(lambda tables: renew_launcher(tables, self._me, now, report))

    def reconfigure(
        self,
        me: LauncherRegistration,
        capacities: Mapping[str, Capacity],
        defaults: Mapping[str, Mapping[str, Any]],
        report: LauncherReport,
    ) -> LauncherRegistration:
        """Apply a changed configuration; return the registration with the studies served."""
        self._create_tables(me.studies)
        now = self._store.steady()
        self._me = self._transact(lambda tables: change_launcher(tables, me, now, report))
        self._capacities, self._defaults = capacities, defaults
        return self._me

    def close(self) -> None:
        """Close the session and release the lease."""
        if self._session is not None:
            self._session.close()
            self._session = None
        self._transact(lambda tables: tables.drop_lease(self._me.key))

    def _create_tables(self, studies: tuple[str, ...]) -> None:
        """Create the tables of studies that are new in motoko.yaml."""
        run_transaction(
            self._store.database, lambda root: create_tables(root, studies), initialising=True
        )

    def _transact(self, work: Callable[[Tables], _T]) -> _T:
        return run_transaction(self._store.database, work)

    def is_moved(self) -> bool:
        """Return whether the workflow was moved or removed since this was created."""
        return self._directory.is_replaced()

    @property
    def session(self) -> Session:
        """The session, once it is open."""
        if self._session is None:
            raise LauncherError("the launcher has no session yet")
        return self._session

    def sync_once(
        self,
        updates: PendingUpdates,
        *,
        remaining: tuple[Attempt, ...] = (),
        loads: Mapping[str, Load] | None = None,
        suspended: frozenset[str] = frozenset(),
    ) -> SyncResult:
        """Commit updates and claims, and retry on conflict.

        Raise ServerError if attempts have ended and the workflow was moved: their files are in the
        new place, where the next launcher reads them.

        ``remaining``: the attempts to check for cancellation. ``loads``, by generator, limit the
        claims; None: claim nothing. ``suspended``: run names of which nothing is claimed.
        """
        attempt_changes = AttemptChanges(self._store, self._me.name)
        attempt_changes.add(updates, self.session.tables)
        if updates.ended:
            self._directory.check()  # after the files of these attempts were read
        runtime = self._store.runtime
        for number in range(MAX_COMMIT_TRIES):
            self.session.refresh()
            try:
                self._apply(attempt_changes)
                cancelled, no_longer_owned = self._check_ownership(remaining)
                plan = ClaimPlan() if loads is None else self._claim(loads, suspended)
                if self.session.pending:
                    fault_points.point("launcher.before_commit")
                    self.session.commit()
                    fault_points.point("launcher.after_commit")
            except (ConflictError, UnknownRunError) as error:
                log.debug("retry after a conflict: %s", error)
                runtime.clock.sleep(runtime.rng.uniform(0, 0.002 * 2 ** min(number, 6)))
                continue
            attempt_changes.on_committed()
            self._refresh_records((*updates.started, *updates.adopted))
            claimed = tuple(self._attempts(plan.claims))
            unfinished = tuple(attempt_changes.unfinished)
            return SyncResult(
                claimed, plan.next_wakeup, unfinished, cancelled, no_longer_owned, plan is OUTDATED
            )
        raise LauncherError(f"a commit conflicted {MAX_COMMIT_TRIES} times")

    def _apply(self, attempt_changes: AttemptChanges) -> None:
        tables = self.session.tables
        for change in attempt_changes.changes:
            key = getattr(change, "key", None)
            if key is None or tables.study(key.study).has_run(key.id):
                self.session.add(change)

    def _refresh_records(self, attempts: Iterable[Attempt]) -> None:
        for attempt in attempts:
            attempt.record = self._record(attempt) or attempt.record

    def _record(self, attempt: Attempt) -> RunRecord | None:
        return self.session.tables.study(attempt.key.study).runs.find(attempt.key.id)

    def _check_ownership(
        self, attempts: tuple[Attempt, ...]
    ) -> tuple[tuple[Attempt, ...], tuple[Attempt, ...]]:
        """Return the attempts with a cancellation request, and those no longer owned."""
        cancelled: list[Attempt] = []
        no_longer_owned: list[Attempt] = []
        for attempt in attempts:
            record = self._record(attempt)
            if record is None or record.token != attempt.token or record.lifecycle not in ACTIVE:
                no_longer_owned.append(attempt)
                continue
            attempt.record = record
            if record.cancel_requested:
                cancelled.append(attempt)
        return tuple(cancelled), tuple(no_longer_owned)

    def _claim(self, loads: Mapping[str, Load], suspended: frozenset[str]) -> ClaimPlan:
        now, steady = self._store.now(), self._store.steady()
        plans = [
            self._choose(generator, load, suspended, steady) for generator, load in loads.items()
        ]
        claims = [claim for plan in plans for claim in plan.claims]
        wakeups = [plan.next_wakeup for plan in plans if plan.next_wakeup is not None]
        code = self._facts() if claims else None
        if claims and code is None:
            return OUTDATED
        if code is not None:
            self.session.rely_on_holds()
            facts = self._record_facts(code, claims)
            tokens = self._store.runtime.rng.token(TOKEN_BYTES * len(claims))
            for number, (record, options) in enumerate(claims):
                scripts, reference = facts[record.study, options.generator]
                token = tokens[2 * TOKEN_BYTES * number :][: 2 * TOKEN_BYTES]
                claim = Claim(self._me.name, token, now, scripts, reference)
                self.session.add(EditRun(record.key, claim))
        claimed = tuple((self.session.run(record.key), options) for record, options in claims)
        return ClaimPlan(claimed, min(wakeups, default=None))

    def _record_facts(
        self, code: Provenance, claims: Iterable[tuple[RunRecord, RunOptions]]
    ) -> dict[tuple[str, str], tuple[str, bytes]]:
        """Store the facts of these claims.

        Return the digest of the scripts and the facts' reference by study and generator.
        """
        found: dict[tuple[str, str], tuple[str, bytes]] = {}
        for kind in {(record.study, options.generator) for record, options in claims}:
            study, generator = kind
            scripts = _digest(self._store.studies[study])
            here = host() if generator == BASH else None
            facts = replace(code, scripts=scripts, host=here)
            found[kind] = scripts, facts.reference
            if self.session.tables.provenance(facts.reference) is None:
                self.session.add(RecordProvenance(facts))
        return found

    def _choose(
        self, generator: str, load: Load, suspended: frozenset[str], now: float
    ) -> ClaimPlan:
        capacity = self._capacities[generator]
        batch = min(most_claims(capacity, load) + 1, RECORD_BATCH)
        queues = [
            (name, self._created(name, generator, suspended, batch)) for name in self._me.studies
        ]
        usual = cache(lambda study: RunOptions.resolve(self._defaults[study], {}))

        def options_of(record: RunRecord) -> RunOptions:
            return self.options_of(record) if record.options else usual(record.study)

        return choose_claims(queues, options_of, capacity, load, now)

    def options_of(self, record: RunRecord) -> RunOptions:
        """Return how a run is executed."""
        return RunOptions.resolve(self._defaults[record.study], record.options)

    def _created(
        self, study: str, generator: str, suspended: frozenset[str], first: int
    ) -> Iterator[RunRecord]:
        """Yield the CREATED runs of a study that this launcher executes with a generator.

        ``first``: the number of records to read at first. Held runs and those of suspended run
        names are left out.
        """
        defaults = self._defaults[study]

        def is_served(generator_name: str, machine: str) -> bool:
            named = {"generator": generator_name or None, "machine_name": machine or None}
            resources = {name: value for name, value in named.items() if value is not None}
            options = RunOptions.resolve(defaults, resources)
            return options.generator == generator and self._served.serves(options)

        table = self.session.tables.study(study)
        ids = self.session.tables.created(study).ids(is_served, without=suspended)
        while batch := list(islice(ids, first)):
            yield from table.records(batch)
            first = RECORD_BATCH

    def abandoned_attempts(self, known: frozenset[str]) -> list[tuple[Attempt, bool]]:
        """Fence dead launchers; return their attempts, except those with ``known`` tokens.

        With each: whether its machine has restarted since. A fenced launcher can commit nothing.
        """
        self.session.refresh()
        now = self._store.steady()
        found: list[tuple[RunRecord, RunOptions]] = []
        for study in self._me.studies:
            for record in _active_records(self.session.tables, study):
                options = self.options_of(record)
                if record.token not in known and self._served.serves(options):
                    found.append((record, options))
        owners = {record.launcher or "" for record, _ in found} - {self._me.name}
        restarted = {
            launcher.name
            for launcher in registered_launchers(self.session.tables)
            if predates_boot(launcher.identity)
        }
        gone = {owner for owner in owners if self._transact(partial(fence, name=owner, now=now))}
        self.session.refresh()
        return [
            (attempt, attempt.record.launcher in restarted)
            for attempt in self._attempts(
                (self.session.run(record.key), options)
                for record, options in found
                if (record.launcher or "") in gone
            )
        ]

    def known_launchers(self) -> set[str]:
        """Return the launchers with leases, and those that own active attempts."""
        self.session.refresh()
        tables = self.session.tables
        names = {launcher.name for launcher in registered_launchers(tables)}
        for study in tables.study_names():
            names.update(record.launcher or "" for record in _active_records(tables, study))
        return names

    def _attempts(self, runs: Iterable[tuple[RunRecord, RunOptions]]) -> Iterator[Attempt]:
        root = cache(self._store.runs_root)
        for record, options in runs:
            yield Attempt(record, options, AttemptPaths.for_record(root(record.study), record))


def _active_records(tables: Tables, study: str) -> Iterable[RunRecord]:
    table = tables.study(study)
    return table.records(table.ids(None, lifecycles=[state.value for state in ACTIVE]))


def _digest(study: StudyConfig) -> str:
    try:
        return study.scripts_digest()
    except ConfigError:  # the attempt fails with the name of the file
        return ""
