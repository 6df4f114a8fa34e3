"""Why a run is in its state, and what happens next: records and facts in, reasons out.

A reason is a code with fields that JSON has; ``operations/reason_text.py`` has the texts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from motoko.core.holds import NO_HOLDS, Holds
from motoko.core.run_options import BASH, RunOptions
from motoko.core.states import ACTIVE, Lifecycle

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from motoko.core.holds import Hold
    from motoko.core.records import RunRecord

LOCALHOST: Final = "localhost"


class Code(StrEnum):
    """The kinds of reasons. Documented for users of ``--json``: never rename one."""

    # who created a run
    BY_MAIN = "by_main"  # at
    BY_EVENT = "by_event"  # at, event, action, runs, number, study, opened, done, digest, recorded
    BY_SCRIPT = "by_script"  # at, run
    BY_USER = "by_user"  # at, function, cause
    DELETED = "deleted"
    # why a run is in its state
    CREATED = "created"  # at, cause
    REQUEUED = "requeued"  # at, cause
    CLAIMED = "claimed"  # at, launcher, host, live
    STARTED = "started"  # at, launcher, host, live
    ENDED = "ended"  # at, outcome, exit_code, signal, cause
    LABELLED = "labelled"  # at, label, cause
    RECORDED = "recorded"  # reason: of the scheduler, the launcher or the script
    # what happens next
    NO_LAUNCHER = "no_launcher"
    STUDY_NOT_SERVED = "study_not_served"  # study
    MACHINE_NOT_SERVED = "machine_not_served"  # machine
    LAUNCHER_SUSPENDED = "launcher_suspended"  # pid: of a process of this machine
    NOT_MANAGED = "not_managed"  # because: one of the four codes above, and its fields
    HELD = "held"  # at, cause, study, run_name, id: the hold; None for all of them
    RETRY_DELAYED = "retry_delayed"  # seconds, at, after
    RETRY_DUE = "retry_due"  # after
    CLAIMS_PAUSED = "claims_paused"
    RUN_NAME_SUSPENDED = "run_name_suspended"  # run_name
    STUDY_LIMIT = "study_limit"  # study, limit
    QUEUE_LIMIT = "queue_limit"  # used, limit
    SLOTS_IN_USE = "slots_in_use"  # used, limit, needed
    CLAIM_DUE = "claim_due"
    START_DUE = "start_due"
    IN_QUEUE = "in_queue"  # generator
    RUNNING = "running"  # timeout_at: None without a timeout
    CANCELLING = "cancelling"
    TERMINAL = "terminal"  # outcome
    SELECTED = "selected"  # event, firing, once_done, running: whether the orchestrator is
    AWAITED = "awaited"  # owner
    NOT_SELECTED = "not_selected"  # events: their number
    FAILED = "failed"  # outcome, exit_code, signal, reason
    # why an event does not fire
    NOT_RUNNING = "not_running"  # run_name
    NO_RUNS = "no_runs"  # study
    CLAUSE_FAILS = "clause_fails"  # study, clause, values, nearest, examined: None for all
    MATCHES = "matches"  # study, runs, number
    FIRING = "firing"  # runs, number, firings, since, running: whether the orchestrator is
    FIRED_ONCE = "fired_once"  # study, runs, number
    COOLING = "cooling"  # number
    CONDITION_FALSE = "condition_false"  # study, asked, seconds, reads, evaluated
    CONDITION_TRUE = "condition_true"  # the same
    CONDITION_SELECTS = "condition_selects"  # the same, and runs, number
    CONDITION_RAISED = "condition_raised"  # study, asked, seconds, reads, error
    CONDITION_NOT_ASKED = "condition_not_asked"  # study


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason. Its fields are described at its code; times are in seconds since the epoch."""

    code: Code
    fields: Mapping[str, Any] = field(default_factory=dict, hash=False)


def reason(code: Code, **fields: Any) -> Reason:
    """Return a reason with these fields."""
    return Reason(code, fields)


EVENT_CAUSE: Final = "event "  # the cause of a firing's writes: this, then the event
SCRIPT_CAUSE: Final = "script of "  # the cause of a run's own writes: this, then the run
SHOWN: Final = 5  # runs in a reason


@dataclass(frozen=True, slots=True)
class LauncherFacts:
    """A live launcher: the runs that it serves, its limits, and what it does not claim.

    ``slots``: its capacity by generator; ``per_study``: its limit of runs by study.
    ``stopped_pid``: its process if that is suspended (SIGSTOP).
    """

    name: str
    host: str
    studies: frozenset[str]
    machines: frozenset[str]
    slots: Mapping[str, int] = field(default_factory=dict)
    per_study: Mapping[str, int] = field(default_factory=dict)
    suspended: frozenset[str] = frozenset()
    claims_paused: bool = False
    stopped_pid: int | None = None

    def serves(self, study: str, machine: str) -> bool:
        """Return whether it serves a study on a machine."""
        return study in self.studies and machine in self.machines


@dataclass(frozen=True, slots=True)
class Usage:
    """The active runs: their slots by launcher and generator, their number by study, too."""

    slots: Mapping[tuple[str, str], int] = field(default_factory=dict)
    runs: Mapping[tuple[str, str, str], int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunFacts:
    """The facts about a workflow that decide what happens to its runs.

    ``lapsed``: launchers that lost their lease while they were suspended (SIGSTOP).
    ``defaults``: the run options of each configured study. ``steady`` is the time on the clock of
    delays, ``now`` the time of day, in seconds.
    """

    launchers: Sequence[LauncherFacts]
    defaults: Mapping[str, Mapping[str, Any]]
    steady: float
    now: float
    holds: Holds = NO_HOLDS
    lapsed: Sequence[LauncherFacts] = ()

    def options(self, record: RunRecord) -> RunOptions:
        """Return the run options that a launcher applies to a run."""
        return RunOptions.resolve(self.defaults.get(record.study, {}), record.options)

    def machine_of(self, study: str, requested: str | None) -> str:
        """Return the machine of a run that requests ``requested``."""
        return requested or self.defaults.get(study, {}).get("machine_name") or LOCALHOST

    def launchers_for(self, study: str, machine: str) -> list[LauncherFacts]:
        """Return the launchers that serve a study on a machine."""
        return [one for one in self.launchers if one.serves(study, machine)]

    def unserved(self, study: str, machine: str) -> Reason | None:
        """Return why no launcher serves a study on a machine, None if one does."""
        serving = self.launchers_for(study, machine)
        if any(one.stopped_pid is None for one in serving):
            return None
        for one in (*serving, *self.lapsed):
            if one.serves(study, machine):
                return reason(Code.LAUNCHER_SUSPENDED, pid=one.stopped_pid)
        if not self.launchers:
            return reason(Code.NO_LAUNCHER)
        if not any(study in launcher.studies for launcher in self.launchers):
            return reason(Code.STUDY_NOT_SERVED, study=study)
        return reason(Code.MACHINE_NOT_SERVED, machine=machine)

    def owner(self, record: RunRecord) -> LauncherFacts | None:
        """Return the live launcher that claimed a run, None if there is none."""
        return next((one for one in self.launchers if one.name == record.launcher), None)

    def owner_suspension(self, record: RunRecord) -> Reason | None:
        """Return that the owner of a run is suspended, None if it is not."""
        owner = self.owner(record)
        if owner is None or owner.stopped_pid is None:
            return None
        return reason(Code.LAUNCHER_SUSPENDED, pid=owner.stopped_pid)

    def unmanaged(self, record: RunRecord) -> Reason | None:
        """Return why no launcher owns a claimed run or will adopt it, None if one does."""
        if self.owner(record) is not None:
            return None
        machine = self.machine_of(record.study, record.options.get("machine_name"))
        return self.unserved(record.study, machine)


def fits(requested_slots: int, used: int, slots: int) -> bool:
    """Return whether a run may start; one larger than all slots runs alone."""
    return used == 0 or used + requested_slots <= slots


def usage_of(active: Iterable[RunRecord], facts: RunFacts) -> Usage:
    """Return the slots that these active runs use."""
    slots: dict[tuple[str, str], int] = {}
    runs: dict[tuple[str, str, str], int] = {}
    for record in active:
        options, launcher = facts.options(record), record.launcher or ""
        own, of_study = (launcher, options.generator), (launcher, options.generator, record.study)
        slots[own] = slots.get(own, 0) + options.slots
        runs[of_study] = runs.get(of_study, 0) + 1
    return Usage(slots, runs)


# -- who created a run -----------------------------------------------------------------------


def origin_reason(record: RunRecord, firing: Mapping[str, Any] | None) -> Reason:
    """Return who created a run; ``firing``: the stored firing that did, None if unknown."""
    first = record.history[0] if record.history else None
    at, cause = (None, "") if first is None else (first.time, first.cause)
    if cause == "main":
        return reason(Code.BY_MAIN, at=at)
    if cause.startswith(SCRIPT_CAUSE):
        return reason(Code.BY_SCRIPT, at=at, run=cause.removeprefix(SCRIPT_CAUSE))
    if not cause.startswith(EVENT_CAUSE):
        return reason(Code.BY_USER, at=at, function=record.event_name, cause=cause)
    stored = firing or {}
    keys = [f"{study}.{run_id}" for study, run_id in stored.get("runs", ())]
    return reason(
        Code.BY_EVENT,
        at=at,
        event=cause.removeprefix(EVENT_CAUSE),
        action=record.event_name,
        runs=keys[:SHOWN],
        number=len(keys),
        study=stored.get("trigger", ""),
        opened=stored.get("opened"),
        done=stored.get("done"),
        digest=stored.get("code", ""),
        recorded=firing is not None,
    )


def parent_of(origin: Reason) -> str | None:
    """Return the first run that led to a run, None if no run did or it is unknown."""
    if origin.code is Code.BY_SCRIPT:
        return str(origin.fields["run"])
    runs = origin.fields.get("runs")
    return str(runs[0]) if runs else None


# -- why a run is in its state ---------------------------------------------------------------


def state_reasons(record: RunRecord, facts: RunFacts) -> tuple[Reason, ...]:
    """Return why a run is in its state, from its record."""
    found = [_lifecycle_reason(record, facts)]
    if record.label is not None:
        entry = next((e for e in reversed(record.history) if e.state == record.label), None)
        found.append(
            reason(
                Code.LABELLED,
                label=record.label,
                at=None if entry is None else entry.time,
                cause="" if entry is None else entry.cause,
            )
        )
    known = f"exit code {record.exit_code}"  # the launcher's reason without a better one
    if record.reason and record.lifecycle is not Lifecycle.CREATED and record.reason != known:
        found.append(reason(Code.RECORDED, reason=record.reason))
    return tuple(found)


def _lifecycle_reason(record: RunRecord, facts: RunFacts) -> Reason:
    state = record.lifecycle
    entry = next((e for e in reversed(record.history) if e.state == state.value), None)
    at, cause = (None, "") if entry is None else (entry.time, entry.cause)
    if state is Lifecycle.CREATED:
        return reason(Code.REQUEUED if record.attempt else Code.CREATED, at=at, cause=cause)
    if state.is_terminal:
        status = record.exit_code
        number = -status if status is not None and status < 0 else None
        return reason(
            Code.ENDED, at=at, outcome=state.value, exit_code=status, signal=number, cause=cause
        )
    owner = facts.owner(record)
    host = owner.host if owner is not None else launcher_host(record.launcher or "")
    code = Code.CLAIMED if state is Lifecycle.SUBMITTED else Code.STARTED
    return reason(code, at=at, launcher=record.launcher, host=host, live=owner is not None)


def launcher_host(name: str) -> str:
    """Return the host in a launcher's name, which is ``HOST-PID-TOKEN``."""
    return "-".join(name.split("-")[:-2])


# -- what happens next -----------------------------------------------------------------------


def next_reasons(record: RunRecord, facts: RunFacts, usage: Usage) -> tuple[Reason, ...]:
    """Return what happens next to a run, or what it waits for."""
    if record.lifecycle.is_terminal:
        return (reason(Code.TERMINAL, outcome=record.lifecycle.value),)
    if record.lifecycle in ACTIVE:
        return _of_active(record, facts)
    hold = facts.holds.find(record.key, record.run_name)
    if hold is not None:
        return (_held(hold),)
    options = facts.options(record)
    machine = options.machine_name or LOCALHOST
    unserved = facts.unserved(record.study, machine)
    if unserved is not None:
        return (unserved,)
    return (_waiting(record, options, machine, facts, usage),)


def _held(hold: Hold) -> Reason:
    return reason(
        Code.HELD, at=hold.at, cause=hold.cause, study=hold.study, run_name=hold.run_name,
        id=hold.id,
    )  # fmt: skip


def _of_active(record: RunRecord, facts: RunFacts) -> tuple[Reason, ...]:
    found = []
    unmanaged = facts.unmanaged(record) or facts.owner_suspension(record)
    if unmanaged is not None:
        because = {"code": unmanaged.code.value, **unmanaged.fields}
        found.append(reason(Code.NOT_MANAGED, because=because))
    if record.cancel_requested:
        found.append(reason(Code.CANCELLING))
    elif record.lifecycle is Lifecycle.START:
        found.append(_running(record, facts.options(record)))
    elif (generator := facts.options(record).generator) != BASH:
        found.append(reason(Code.IN_QUEUE, generator=generator))
    elif unmanaged is None:
        found.append(reason(Code.START_DUE))
    return tuple(found)


def _running(record: RunRecord, options: RunOptions) -> Reason:
    started = next(
        (e.time for e in reversed(record.history) if e.state == Lifecycle.START.value), None
    )
    limit = options.timeout
    at = None if started is None or limit is None else started + limit
    return reason(Code.RUNNING, timeout_at=at)


def _waiting(
    record: RunRecord, options: RunOptions, machine: str, facts: RunFacts, usage: Usage
) -> Reason:
    after = record.reason or ""
    delay = record.not_before - facts.steady
    if delay > 0:
        return reason(Code.RETRY_DELAYED, seconds=delay, at=facts.now + delay, after=after)
    found = facts.launchers_for(record.study, machine)
    obstacles = [_obstacle(launcher, record, options, usage) for launcher in found]
    if obstacles and all(obstacles):
        assert obstacles[0] is not None
        return obstacles[0]
    return reason(Code.RETRY_DUE, after=after) if after else reason(Code.CLAIM_DUE)


def _obstacle(
    launcher: LauncherFacts, record: RunRecord, options: RunOptions, usage: Usage
) -> Reason | None:
    """Return why a launcher does not claim a run that it serves, None if it will."""
    if launcher.claims_paused:
        return reason(Code.CLAIMS_PAUSED)
    if record.run_name in launcher.suspended:
        return reason(Code.RUN_NAME_SUSPENDED, run_name=record.run_name)
    generator = options.generator
    limit = launcher.per_study.get(record.study)
    active = usage.runs.get((launcher.name, generator, record.study), 0)
    if limit is not None and active >= limit:
        return reason(Code.STUDY_LIMIT, study=record.study, limit=limit)
    slots, used = launcher.slots.get(generator), usage.slots.get((launcher.name, generator), 0)
    if slots is None or fits(options.slots, used, slots):
        return None
    if generator != BASH:
        return reason(Code.QUEUE_LIMIT, used=used, limit=slots)
    return reason(Code.SLOTS_IN_USE, used=used, limit=slots, needed=options.slots)
