"""What to claim, and what evidence means: decisions without effects."""

from __future__ import annotations

import signal
from collections import deque
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from motoko.core.states import Lifecycle
from motoko.errors import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from motoko.core.records import RunRecord

SLURM: Final = "slurm"
LOCAL: Final = "bash"  # the generator whose runs take this machine's cores
LAST_SIGNAL: Final = 64
NAMED: Final = 5  # run fields in a remark
SHELL_SIGNAL: Final = 128  # a shell's exit code for "killed by signal n" is this plus n


@dataclass(frozen=True, slots=True)
class Terms:
    """How one run is executed. Times are in seconds; ``timeout`` None: no limit."""

    generator: str = "bash"
    nproc: int = 1
    timeout: float | None = None
    retries: int = 0
    retry_delay: float = 0.0
    machine_name: str | None = None
    bash_options: tuple[str, ...] = ()
    slurm_options: tuple[str, ...] = ()
    module: tuple[str, ...] = ()
    prologue: tuple[str, ...] = ()

    @property
    def slots(self) -> int:
        """Return how many of a launcher's slots the run takes; a scheduler counts runs only."""
        return self.nproc if self.generator == LOCAL else 1

    @classmethod
    def of(cls, defaults: Mapping[str, Any], resources: Mapping[str, Any]) -> Terms:
        """Return the options of a study, overridden by those of a run."""
        given = {**defaults, **resources}
        return cls(
            generator=str(given.get("generator") or "bash"),
            nproc=max(1, int(given.get("nproc") or 1)),
            timeout=float(given.get("timeout") or 0.0) or None,
            retries=int(given.get("retries") or 0),
            retry_delay=float(given.get("retry_delay") or 0.0),
            machine_name=given.get("machine_name"),
            bash_options=tuple(map(str, given.get("bash_options") or ())),
            # Later ones win, one by one: a study adds to what the workflow says.
            slurm_options=(
                *map(str, defaults.get("slurm_options") or ()),
                *map(str, resources.get("slurm_options") or ()),
            ),
            module=tuple(defaults.get("module") or ()),
            prologue=tuple(defaults.get("prologue") or ()),
        )


@dataclass(frozen=True, slots=True)
class ServedQueue:
    """What a launcher serves: runs for one of its generators, meant for one of its machines."""

    generators: frozenset[str]
    machines: frozenset[str]

    def serves(self, terms: Terms) -> bool:
        """Return whether a run with these terms is for this launcher."""
        meant_for = terms.machine_name or "localhost"
        return terms.generator in self.generators and meant_for in self.machines


@dataclass(frozen=True, slots=True)
class Capacity:
    """How much may be claimed: slots in all, runs by study, and at most so many runs ahead.

    A run claimed ahead waits until a slot is free, which then need not wait for a commit.
    """

    slots: int
    most_ahead: int = 0
    per_study: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Load:
    """What is claimed already: slots taken, runs by study, runs that wait for a slot.

    ``ended_lately``: so many runs ended within the last second.
    """

    taken: int = 0
    waiting: int = 0
    ended_lately: int = 0
    runs: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClaimPlan:
    """Which runs to claim, and when to look again because of a ``not_before``."""

    claims: tuple[tuple[RunRecord, Terms], ...] = ()
    wake_at: float | None = None


class _Chooser:
    def __init__(self, capacity: Capacity, load: Load, now: float) -> None:
        self.capacity = capacity
        self.now = now
        self.taken = load.taken
        self.waiting = load.waiting
        # Worth it only where runs are short: long ones had better stay free for others.
        self.ahead = min(capacity.most_ahead, load.ended_lately)
        self.runs = dict(load.runs)
        self.claims: list[tuple[RunRecord, Terms]] = []
        self.wake_at: float | None = None

    def full(self, study: str) -> bool:
        limit = self.capacity.per_study.get(study)
        return limit is not None and self.runs.get(study, 0) >= limit

    def due(self, record: RunRecord) -> bool:
        if record.not_before <= self.now:
            return True
        self.wake_at = min(record.not_before, self.wake_at or record.not_before)
        return False

    def take(self, record: RunRecord, terms: Terms) -> bool:
        """Take the run if there is room. One that is larger than all slots runs alone."""
        if not fits(terms.slots, self.taken, self.capacity.slots):
            if self.waiting >= self.ahead:
                return False
            self.waiting += 1
        self.taken += terms.slots
        self.runs[record.study] = self.runs.get(record.study, 0) + 1
        self.claims.append((record, terms))
        return True


def fits(wanted: int, taken: int, slots: int) -> bool:
    """Return whether a run may start; one that is larger than all slots does so alone."""
    return taken == 0 or taken + wanted <= slots


def choose_claims(
    queues: Sequence[tuple[str, Iterable[RunRecord]]],
    terms_of: Callable[[RunRecord], Terms | None],
    capacity: Capacity,
    load: Load,
    now: float,
) -> ClaimPlan:
    """Return which CREATED runs to claim: the studies take turns, each in the order given.

    ``terms_of`` returns None for a run that is not for this launcher. The first run that does not
    fit ends the search: smaller ones behind it would keep a large one waiting for ever.
    """
    chooser = _Chooser(capacity, load, now)
    turns: deque[tuple[str, Iterator[RunRecord]]] = deque((s, iter(runs)) for s, runs in queues)
    while turns:
        study, records = turns.popleft()
        if chooser.full(study):
            continue
        for record in records:
            terms = terms_of(record)
            if terms is not None and chooser.due(record):
                if not chooser.take(record, terms):
                    return ClaimPlan(tuple(chooser.claims), chooser.wake_at)
                turns.append((study, records))
                break
    return ClaimPlan(tuple(chooser.claims), chooser.wake_at)


# -- evidence --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AttemptOutcome:
    """How an attempt ended."""

    outcome: Lifecycle
    exit_code: int | None = None
    reason: str | None = None


def exit_code(status: int) -> int:
    """Return the exit code that a shell's status stands for: -n for "killed by signal n"."""
    if SHELL_SIGNAL < status <= SHELL_SIGNAL + LAST_SIGNAL:
        return SHELL_SIGNAL - status
    return status


def signal_name(number: int) -> str:
    """Return a signal's name for people."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def outcome_of_exit(
    status: int | None,
    *,
    stopped: Lifecycle | None = None,
    failed: str | None = None,
    timeout: float | None = None,
    fault: str | None = None,
) -> AttemptOutcome:
    """Return how an attempt ended.

    ``status`` is its wrapper's exit status, None if its process went without leaving one.
    ``stopped`` is why the launcher ended it, ``failed`` the reason its script gave for having
    failed, ``timeout`` its limit in seconds. ``fault``: what is wrong with its files.
    """
    code = None if status is None else exit_code(status)
    if stopped is Lifecycle.TIMEOUT:
        limit = "its timeout" if timeout is None else f"its timeout of {timeout:g} s"
        return AttemptOutcome(Lifecycle.TIMEOUT, code, f"it ran longer than {limit}")
    if stopped is Lifecycle.CANCELLED:
        return AttemptOutcome(Lifecycle.CANCELLED, code, "cancelled on request")
    if code is None:
        reason = "its process ended without an exit record"
        return AttemptOutcome(Lifecycle.LOST, None, f"{reason}: {fault}" if fault else reason)
    reasons = [f"its results cannot be read: {fault}"] if fault else []
    if code or failed is not None:
        told = f"killed by {signal_name(-code)}" if code < 0 else f"exit code {code}"
        reasons.insert(0, failed or told)
    outcome = Lifecycle.FAILED if reasons else Lifecycle.FINISHED
    return AttemptOutcome(outcome, code, "; ".join(reasons) or None)


def with_fields_checked(
    found: AttemptOutcome, declared: Iterable[str], given: Iterable[str], *, required: bool
) -> AttemptOutcome:
    """Return the ending with a remark on run fields that were not set, or are not declared.

    It applies to a run that finished, if the study declares fields. ``required``: a declared field
    that was not set makes the run FAILED.
    """
    missing, unknown = set(declared) - set(given), set(given) - set(declared)
    if found.outcome is not Lifecycle.FINISHED or not declared or not (missing or unknown):
        return found
    remarks = []
    if missing:
        remarks.append(f"it did not set {_listed(missing)}")
    if unknown:
        near = [(name, nearest(name, missing or declared)) for name in sorted(unknown)]
        meant = ", ".join(dict.fromkeys(repr(other) for _, other in near if other))
        question = f" (did you mean {meant}?)" if meant else ""
        remarks.append(f"it set {_listed(unknown)}, not declared in bd.yaml{question}")
    failed = required and bool(missing)
    outcome = Lifecycle.FAILED if failed else Lifecycle.FINISHED
    return AttemptOutcome(outcome, found.exit_code, "; ".join(remarks))


def with_damage(found: AttemptOutcome, lines: int) -> AttemptOutcome:
    """Return the ending with a remark on lines of the outbox that are no records."""
    if not lines:
        return found
    what = "1 line of its outbox is" if lines == 1 else f"{lines} lines of its outbox are"
    return _with_remark(found, f"{what} damaged and not among its results")


def with_processes_left(found: AttemptOutcome, names: Sequence[str]) -> AttemptOutcome:
    """Return the ending with a remark on processes that cannot be ended."""
    if not names:
        return found
    shown = ", ".join([*names[:NAMED], "..."] if len(names) > NAMED else names)
    return _with_remark(found, f"it left what cannot be ended: {shown}")


def _with_remark(found: AttemptOutcome, remark: str) -> AttemptOutcome:
    return replace(found, reason=f"{found.reason}; {remark}" if found.reason else remark)


def _listed(names: Iterable[str]) -> str:
    shown = [repr(name) for name in sorted(names)]
    return ", ".join([*shown[:NAMED], "..."] if len(shown) > NAMED else shown)


class Finding(Enum):
    """What is known of an attempt that another launcher began."""

    NEVER_STARTED = "never started"
    TAKEN_BACK = "taken back"
    UNCLEAR = "unclear"
    RUNNING = "running"
    ENDED = "ended"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an attempt left in its directory, and whether its process lives.

    ``started``: there is a start file. ``taken_back``: a launcher took it to re-queue the run.
    ``known``: it names a process. ``status``: the exit record. ``fault``: what is wrong with files.
    """

    started: bool = False
    taken_back: bool = False
    known: bool = False
    alive: bool = False
    status: int | None = None
    fault: str | None = None


def judge(evidence: Evidence) -> Finding:
    """Return what the evidence says of an attempt.

    While its process lives it runs, whatever somebody wrote into its exit record.
    """
    if evidence.alive:
        return Finding.RUNNING
    if evidence.status is not None:
        return Finding.ENDED
    if not evidence.started:
        return Finding.NEVER_STARTED
    if evidence.taken_back:
        return Finding.TAKEN_BACK
    return Finding.GONE if evidence.known else Finding.UNCLEAR
