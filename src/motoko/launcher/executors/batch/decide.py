"""What the scheduler's word and an attempt's files mean together: decisions without effects."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from motoko.core.states import Lifecycle
from motoko.launcher.outcome import AttemptOutcome
from motoko.launcher.schedulers.slurm.states import JobPhase, condition, explain, never_starts

# A file written on another node may be seen here only after so many seconds: by default NFS
# clients keep the attributes of a directory for up to a minute.
FILES_LAG: Final = 60.0
# With which batch script and wrapper end that find the start file taken. A script that ends with it
# leaves an exit record, unless it removes the directory.
NOT_RUN: Final = 111


@dataclass(frozen=True, slots=True)
class JobStatus:
    """What a scheduler says of one scheduler job: its state and reason, and the exit code if known.

    ``restarts``: how often it was put back into the queue.
    """

    state: str
    reason: str = ""
    status: int | None = None
    restarts: int = 0

    @property
    def condition(self) -> JobPhase:
        """What is to be made of the state."""
        return condition(self.state)

    def __str__(self) -> str:
        return explain(self.state, self.reason)


@dataclass(frozen=True, slots=True)
class AttemptState:
    """What is known of an attempt from before. ``doubted`` is a time of the steady clock.

    ``stop``: why the launcher ends it, CREATED if the run shall be tried again. ``doubted``: since
    when the evidence is incomplete. ``remark``: what was last kept of the scheduler's words.
    """

    started: float | None = None
    stop: Lifecycle | None = None
    doubted: float | None = None
    remark: str | None = None
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """One look at an attempt: the queue was asked first, then its files were looked at.

    ``word`` None: the queue does not list it. ``asked``: all other sources were asked as well.
    ``began``: when its start file was taken, ``status``: the exit record. ``again``: it was started
    a second time under the same token. ``stop``: why a launcher, perhaps another one, ends it.
    ``grown``: its outbox holds more than what was read; ``ended``: when the exit record was
    written. ``fault``: what is wrong with the exit record, if it is wanted and not complete;
    ``gone``: so is the attempt's directory.
    """

    word: JobStatus | None
    asked: bool = False
    began: float | None = None
    status: int | None = None
    again: bool = False
    stop: Lifecycle | None = None
    grown: bool = False
    ended: float | None = None
    fault: str | None = None
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from a look.

    ``started``: record that it runs. ``remark``: keep these words ("" for none any more).
    ``status``: it ended with this exit record; ``ending``: it ended so; ``requeue``: it is to be
    tried again for this reason, which does not count. ``take_back``: make sure first that it never
    starts. ``cancel``: tell the scheduler to end it. ``ask``: ask the other sources.
    """

    started: float | None = None
    remark: str | None = None
    status: int | None = None
    ending: AttemptOutcome | None = None
    requeue: str | None = None
    take_back: bool = False
    cancel: bool = False
    ask: bool = False
    doubted: float | None = None

    @property
    def over(self) -> bool:
        """Whether the attempt is at its end."""
        return self.status is not None or self.ending is not None or self.requeue is not None


def decide(
    attempt: AttemptState, sight: Observation, now: float, *, lag: float = FILES_LAG
) -> Decision:
    """Return what follows from a look at an attempt.

    ``lag``: how many seconds files may be late. An exit record of 0 is enough for a good end;
    any other waits for the scheduler to say whether it was the one to end the script.
    """
    word = sight.word
    if sight.began is None and attempt.started is not None:
        # The database knows that it began, whatever has become of its start file.
        sight = replace(sight, began=attempt.started)
    if attempt.stop is None and sight.stop is not None:
        attempt = replace(attempt, stop=sight.stop)
    if sight.status == 0:
        return Decision(status=0)
    if word is None:
        return _unlisted(attempt, sight, now, lag)
    if word.condition is JobPhase.UNKNOWN:
        return Decision(started=_newly(attempt, sight), remark=_remark(attempt, str(word)))
    if word.condition.is_end:
        return _ended(attempt, sight, word, now, lag)
    return _going(attempt, sight, word, now)


def _newly(attempt: AttemptState, sight: Observation) -> float | None:
    return sight.began if attempt.started is None else None


def _remark(attempt: AttemptState, text: str) -> str | None:
    return None if text == (attempt.remark or "") else text


def _going(attempt: AttemptState, sight: Observation, word: JobStatus, now: float) -> Decision:
    if word.condition is JobPhase.WAITING:
        if sight.began is not None:
            return _put_back(attempt, word, now)
        telling = never_starts(word.reason) is not None or word.state != "PENDING"
        return Decision(remark=_remark(attempt, f"it {word}" if telling else ""))
    paused = word.condition is JobPhase.PAUSED
    return Decision(
        started=_newly(attempt, sight), remark=_remark(attempt, f"it {word}" if paused else "")
    )


def _put_back(attempt: AttemptState, word: JobStatus, now: float) -> Decision:
    """Judge a scheduler job that waits though its script was started."""
    if attempt.doubted is None:
        # It may have started after the queue was asked; in the next look it does not wait then.
        return Decision(doubted=now)
    # The start file is there to run a script once: what waits now would not run.
    return Decision(requeue=f"the scheduler put it back into the queue: it {word}", cancel=True)


def _ended(
    attempt: AttemptState, sight: Observation, word: JobStatus, now: float, lag: float
) -> Decision:
    never_began = sight.began is None
    match word.condition:
        case JobPhase.MACHINE:
            if attempt.stop is Lifecycle.CANCELLED:
                return Decision(ending=_stopped(attempt), take_back=never_began)
            return Decision(requeue=f"it {word}", take_back=never_began)
        case JobPhase.CANCELLED:
            return _cancelled(attempt, word, never_began=never_began)
        case JobPhase.LIMIT:
            return Decision(ending=_limit(attempt, sight, word), take_back=never_began)
        case _:
            return _by_itself(attempt, sight, word, now, lag)


def _stopped(attempt: AttemptState) -> AttemptOutcome:
    return AttemptOutcome(Lifecycle.CANCELLED, None, "cancelled on request")


def _cancelled(attempt: AttemptState, word: JobStatus, *, never_began: bool) -> Decision:
    if attempt.stop is Lifecycle.CREATED:
        return Decision(requeue="recalled by its launcher", take_back=never_began)
    if attempt.stop is not None:
        return Decision(ending=_stopped(attempt), take_back=never_began)
    ending = AttemptOutcome(Lifecycle.CANCELLED, None, f"cancelled outside Motoko: it {word}")
    return Decision(ending=ending, take_back=never_began)


def _limit(attempt: AttemptState, sight: Observation, word: JobStatus) -> AttemptOutcome:
    if attempt.stop is Lifecycle.CANCELLED:
        return _stopped(attempt)
    timed = word.state in ("TIMEOUT", "DEADLINE")
    return AttemptOutcome(
        Lifecycle.TIMEOUT if timed else Lifecycle.FAILED, sight.status, f"it {word}"
    )


def _by_itself(
    attempt: AttemptState, sight: Observation, word: JobStatus, now: float, lag: float
) -> Decision:
    """Judge a scheduler job that ended by itself, well or not; the exit record says how."""
    if sight.again:
        # What the exit record says may come from being ended for that.
        return Decision(requeue="the scheduler had started it a second time")
    if sight.status is not None:
        return Decision(status=sight.status)
    if sight.began is None and attempt.doubted is not None:
        # No need to wait: if the start file can be taken, the script was never started.
        what = "it left no exit record" if sight.gone else "its script was not started"
        reason = f"{what}: it {word}{_naming(sight) if sight.gone else ''}"
        return Decision(
            ending=AttemptOutcome(Lifecycle.FAILED, word.status, reason), take_back=True
        )
    if not _late(attempt, now, lag):
        return Decision(started=_newly(attempt, sight), doubted=attempt.doubted or now)
    if word.condition is JobPhase.ENDED_WELL:
        return Decision(status=0)
    if word.status == NOT_RUN and not sight.gone:
        return Decision(requeue="the scheduler had started it a second time")
    reason = f"it left no exit record: it {word}{_naming(sight)}"
    return Decision(ending=AttemptOutcome(Lifecycle.FAILED, word.status or None, reason))


def _unlisted(attempt: AttemptState, sight: Observation, now: float, lag: float) -> Decision:
    if sight.status is not None:
        if attempt.doubted is None or not sight.asked:
            return Decision(ask=True, doubted=attempt.doubted or now)
        if sight.again:
            return Decision(requeue="the scheduler had started it a second time")
        if attempt.stop is not None:  # perhaps noted by a launcher that was replaced since
            return _cancelled(attempt, JobStatus("CANCELLED"), never_began=False)
        return Decision(status=sight.status)
    if sight.began is None and sight.asked and attempt.doubted is not None:
        # A task of an array that is cancelled before its turn is listed nowhere.
        return _vanished(attempt)
    if not sight.asked or not _late(attempt, now, lag):
        return Decision(started=_newly(attempt, sight), ask=True, doubted=attempt.doubted or now)
    if sight.again:
        return Decision(requeue="the scheduler had started it a second time")
    if attempt.stop is not None:
        return _cancelled(attempt, JobStatus("CANCELLED"), never_began=False)
    reason = "it left no exit record, and the scheduler does not know it any more"
    return Decision(ending=AttemptOutcome(Lifecycle.LOST, None, reason + _naming(sight)))


def _naming(sight: Observation) -> str:
    return "" if sight.fault is None else f": {sight.fault}"


def _vanished(attempt: AttemptState) -> Decision:
    if attempt.stop is not None:
        return _cancelled(attempt, JobStatus("CANCELLED"), never_began=True)
    reason = "it never started, and the scheduler does not know it any more: was it cancelled?"
    return Decision(ending=AttemptOutcome(Lifecycle.LOST, None, reason), take_back=True)


def _late(attempt: AttemptState, now: float, lag: float) -> bool:
    return attempt.doubted is not None and now - attempt.doubted >= lag
