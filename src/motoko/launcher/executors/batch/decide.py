"""Decide what happens to an attempt, from its scheduler job and its files: pure functions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from motoko.core.states import Lifecycle
from motoko.launcher.attempt_outcome import AttemptOutcome
from motoko.launcher.schedulers.base import JobPhase, JobStatus, NotSeen, Seen

# Files written on another node may be visible here only after so many seconds: by default NFS
# clients cache the attributes of a directory for up to a minute.
FILES_LAG: Final = 60.0
# Exit code of a batch script or wrapper that finds the start file taken. A run's script with the
# same exit code leaves an exit record, unless it removes the directory.
ALREADY_STARTED: Final = 111

_RESTARTED: Final = "the scheduler had started it a second time"
_UNKNOWN_TO_SCHEDULER: Final = "the scheduler no longer knows it"


@dataclass(frozen=True, slots=True)
class AttemptState:
    """The known state of an attempt before an observation.

    ``stop``: why the launcher ends it, CREATED to requeue the run. ``unconfirmed_since``: the time
    since which evidence is missing, on a steady clock. ``reason``: the recorded reason.
    """

    started_at: float | None = None
    stop: Lifecycle | None = None
    unconfirmed_since: float | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """One observation of an attempt: first of its scheduler job, then of its files.

    ``all_sources``: the job was looked up everywhere. ``exit_status`` and ``exit_time`` come from
    the exit record; ``fault`` says why a required record is missing. ``restarted``: the scheduler
    started the job twice. ``stop``: why any launcher ended the attempt. ``host``: the machine that
    the start file names.
    """

    job: JobStatus
    all_sources: bool = False
    started_at: float | None = None
    exit_status: int | None = None
    restarted: bool = False
    stop: Lifecycle | None = None
    has_new_data: bool = False
    exit_time: float | None = None
    fault: str | None = None
    directory_removed: bool = False
    host: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """The consequences of an observation.

    The attempt ends with ``exit_status`` or ``outcome``, or is requeued for the reason ``requeue``;
    ``block_start``: first ensure that it never starts. ``started_at`` and ``reason`` are recorded,
    "" removes a reason. ``lookup``: query all sources.
    """

    started_at: float | None = None
    reason: str | None = None
    exit_status: int | None = None
    outcome: AttemptOutcome | None = None
    requeue: str | None = None
    block_start: bool = False
    cancel_job: bool = False
    lookup: bool = False
    unconfirmed_since: float | None = None

    @property
    def is_final(self) -> bool:
        """Whether the attempt ends."""
        return not (self.exit_status is None and self.outcome is None and self.requeue is None)


def decide(
    attempt: AttemptState, seen: Observation, now: float, *, lag: float = FILES_LAG
) -> Decision:
    """Return the consequences of an observation. Files may be ``lag`` seconds late.

    Exit record 0 suffices for success. Any other exit record waits for the scheduler, which may
    itself have ended the script.
    """
    if seen.started_at is None and attempt.started_at is not None:
        # The database recorded the start, even if the start file is missing.
        seen = replace(seen, started_at=attempt.started_at)
    if attempt.stop is None and seen.stop is not None:
        attempt = replace(attempt, stop=seen.stop)
    if seen.exit_status == 0:
        return Decision(exit_status=0)
    job = seen.job
    if isinstance(job, NotSeen):
        return _not_seen(attempt, seen, now, lag)
    if job.phase.has_ended:
        return _ended(attempt, seen, job, now, lag)
    if job.phase is JobPhase.PENDING and seen.started_at is not None:
        return _requeued(attempt, job, now)
    reason = f"it {job.description}" if job.notable else ""
    if reason == (attempt.reason or ""):
        return Decision(_new_start(attempt, seen))
    return Decision(_new_start(attempt, seen), reason)


def _new_start(attempt: AttemptState, seen: Observation) -> float | None:
    return seen.started_at if attempt.started_at is None else None


def _requeued(attempt: AttemptState, job: Seen, now: float) -> Decision:
    """Handle a job that is pending although its script was started."""
    if attempt.unconfirmed_since is None:
        # The script may have started after the poll. Then the next poll reports it as running.
        return Decision(unconfirmed_since=now)
    # The start file permits one execution: the pending job would not run the script.
    requeue = f"the scheduler put it back into the queue: it {job.description}"
    return Decision(requeue=requeue, cancel_job=True)


def _ended(attempt: AttemptState, seen: Observation, job: Seen, now: float, lag: float) -> Decision:
    block = seen.started_at is None
    match job.phase:
        case JobPhase.NODE_FAILURE if attempt.stop is not Lifecycle.CANCELLED:
            return Decision(requeue=f"it {job.description}", block_start=block)
        case JobPhase.CANCELLED if attempt.stop is None:
            reason = f"cancelled outside Motoko: it {job.description}"
            outcome = AttemptOutcome(Lifecycle.CANCELLED, None, reason)
            return Decision(outcome=outcome, block_start=block)
        case JobPhase.CANCELLED:
            return _stopped(attempt, block_start=block)
        case JobPhase.NODE_FAILURE:
            return Decision(outcome=_cancelled(), block_start=block)
        case JobPhase.TIMED_OUT | JobPhase.LIMIT_EXCEEDED:
            return Decision(outcome=_limit_outcome(attempt, seen, job), block_start=block)
        case _:
            return _ended_by_itself(attempt, seen, job, now, lag)


def _cancelled() -> AttemptOutcome:
    return AttemptOutcome(Lifecycle.CANCELLED, None, "cancelled on request")


def _stopped(attempt: AttemptState, *, block_start: bool) -> Decision:
    """End an attempt whose job a launcher cancelled."""
    if attempt.stop is Lifecycle.CREATED:
        return Decision(requeue="requeued by its launcher", block_start=block_start)
    return Decision(outcome=_cancelled(), block_start=block_start)


def _limit_outcome(attempt: AttemptState, seen: Observation, job: Seen) -> AttemptOutcome:
    if attempt.stop is Lifecycle.CANCELLED:
        return _cancelled()
    timed_out = job.phase is JobPhase.TIMED_OUT
    lifecycle = Lifecycle.TIMEOUT if timed_out else Lifecycle.FAILED
    return AttemptOutcome(lifecycle, seen.exit_status, f"it {job.description}")


def _ended_by_itself(
    attempt: AttemptState, seen: Observation, job: Seen, now: float, lag: float
) -> Decision:
    """Handle a job that completed or failed. The exit record has its status."""
    if seen.restarted:
        # The second start may have ended the script, and caused its exit record.
        return Decision(requeue=_RESTARTED)
    if seen.exit_status is not None:
        return Decision(exit_status=seen.exit_status)
    if seen.started_at is None and attempt.unconfirmed_since is not None:
        # Nothing to wait for: a script whose start can still be blocked was never started.
        what = "it left no exit record" if seen.directory_removed else "its script was not started"
        fault = _fault_suffix(seen) if seen.directory_removed else ""
        reason = f"{what}: it {job.description}{fault}"
        outcome = AttemptOutcome(Lifecycle.FAILED, job.exit_code, reason)
        return Decision(outcome=outcome, block_start=True)
    if not _grace_expired(attempt, now, lag):
        return Decision(
            _new_start(attempt, seen), unconfirmed_since=attempt.unconfirmed_since or now
        )
    if job.phase is JobPhase.COMPLETED:
        return Decision(exit_status=0)
    if job.exit_code == ALREADY_STARTED and not seen.directory_removed:
        return Decision(requeue=_RESTARTED)
    reason = f"it left no exit record: it {job.description}{_fault_suffix(seen)}"
    return Decision(outcome=AttemptOutcome(Lifecycle.FAILED, job.exit_code or None, reason))


def _not_seen(attempt: AttemptState, seen: Observation, now: float, lag: float) -> Decision:
    waiting_since = attempt.unconfirmed_since or now
    if seen.exit_status is not None:
        if attempt.unconfirmed_since is None or not seen.all_sources:
            return Decision(lookup=True, unconfirmed_since=waiting_since)
    elif seen.started_at is None and seen.all_sources and attempt.unconfirmed_since is not None:
        # A pending task of an array that was cancelled is listed nowhere.
        return _vanished(attempt)
    elif not seen.all_sources or not _grace_expired(attempt, now, lag):
        return Decision(_new_start(attempt, seen), lookup=True, unconfirmed_since=waiting_since)
    if seen.restarted:
        return Decision(requeue=_RESTARTED)
    if attempt.stop is not None:  # possibly recorded by a launcher that has since been replaced
        return _stopped(attempt, block_start=False)
    if seen.exit_status is not None:
        return Decision(exit_status=seen.exit_status)
    reason = f"it left no exit record, and {_UNKNOWN_TO_SCHEDULER}{_fault_suffix(seen)}"
    return Decision(outcome=AttemptOutcome(Lifecycle.LOST, None, reason))


def _vanished(attempt: AttemptState) -> Decision:
    if attempt.stop is not None:
        return _stopped(attempt, block_start=True)
    reason = f"it never started, and {_UNKNOWN_TO_SCHEDULER}: was it cancelled?"
    return Decision(outcome=AttemptOutcome(Lifecycle.LOST, None, reason), block_start=True)


def _fault_suffix(seen: Observation) -> str:
    return "" if seen.fault is None else f": {seen.fault}"


def _grace_expired(attempt: AttemptState, now: float, lag: float) -> bool:
    since = attempt.unconfirmed_since
    return since is not None and now - since >= lag
