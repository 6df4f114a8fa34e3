"""What the scheduler's word and an attempt's files mean together."""

from __future__ import annotations

import pytest

from motoko.core.states import Lifecycle
from motoko.launcher.executors.batch.decide import (
    AttemptState,
    Decision,
    JobStatus,
    Observation,
    decide,
)
from motoko.launcher.outcome import AttemptOutcome

pytestmark = pytest.mark.unit

NOW = 1000.0
LAG = 60.0
PENDING = JobStatus("PENDING", "Priority")
RUNNING = JobStatus("RUNNING")
COMPLETED = JobStatus("COMPLETED")
FAILED = JobStatus("FAILED", "NonZeroExitCode", status=3)


def step(sight: Observation, attempt: AttemptState | None = None) -> Decision:
    return decide(attempt or AttemptState(), sight, NOW, lag=LAG)


def ending(sight: Observation, attempt: AttemptState | None = None) -> AttemptOutcome:
    found = step(sight, attempt).ending
    assert found is not None
    return found


# -- while it goes on ------------------------------------------------------------------------


def test_what_waits_for_its_turn_is_left_alone() -> None:
    assert step(Observation(PENDING)) == Decision()


@pytest.mark.parametrize("reason", ["PartitionConfig", "DependencyNeverSatisfied", "JobHeldUser"])
def test_what_can_never_start_says_why_once(reason: str) -> None:
    word = JobStatus("PENDING", reason)
    first = step(Observation(word))
    assert first.remark is not None
    assert reason in first.remark
    assert not first.over
    assert step(Observation(word), AttemptState(remark=first.remark)) == Decision()


def test_a_remark_goes_when_its_cause_has_gone() -> None:
    assert step(Observation(PENDING), AttemptState(remark="it never starts")).remark == ""
    assert (
        step(Observation(RUNNING, began=9.0), AttemptState(remark="it is suspended")).remark == ""
    )


def test_it_runs_when_its_start_file_is_seen() -> None:
    assert step(Observation(RUNNING)).started is None
    assert step(Observation(RUNNING, began=9.0)).started == 9.0
    assert step(Observation(RUNNING, began=9.0), AttemptState(started=9.0)) == Decision()


def test_suspended_is_told_and_is_no_end() -> None:
    found = step(Observation(JobStatus("SUSPENDED"), began=9.0), AttemptState(started=9.0))
    assert found.remark is not None
    assert "SUSPENDED" in found.remark
    assert not found.over


@pytest.mark.parametrize("word", [JobStatus("MARTIAN"), JobStatus("")])
def test_a_state_that_nobody_knows_is_no_end(word: JobStatus) -> None:
    assert not step(Observation(word, began=9.0, status=3)).over


def test_completing_is_no_end_yet() -> None:
    assert not step(Observation(JobStatus("COMPLETING"), began=9.0, status=143)).over


# -- the exit record -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word", [None, RUNNING, COMPLETED, JobStatus("TIMEOUT"), JobStatus("NODE_FAIL")]
)
def test_an_exit_record_of_0_is_a_good_end_whatever_is_said(word: JobStatus | None) -> None:
    assert step(Observation(word, began=9.0, status=0)).status == 0


def test_another_exit_record_counts_once_the_scheduler_job_has_ended() -> None:
    assert not step(Observation(RUNNING, began=9.0, status=3)).over
    assert step(Observation(FAILED, began=9.0, status=3)).status == 3


def test_a_script_that_was_ended_at_its_limit_did_not_fail_by_itself() -> None:
    found = ending(Observation(JobStatus("TIMEOUT", "TimeLimit"), began=9.0, status=143))
    assert (found.outcome, found.exit_code) == (Lifecycle.TIMEOUT, 143)


# -- ended by something else -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "outcome"),
    [
        ("TIMEOUT", Lifecycle.TIMEOUT),
        ("DEADLINE", Lifecycle.TIMEOUT),
        ("OUT_OF_MEMORY", Lifecycle.FAILED),
        ("CANCELLED", Lifecycle.CANCELLED),
        ("REVOKED", Lifecycle.CANCELLED),
    ],
)
def test_limits_and_cancelling_have_their_outcomes(state: str, outcome: Lifecycle) -> None:
    found = ending(Observation(JobStatus(state), began=9.0))
    assert found.outcome is outcome
    assert found.reason is not None
    assert state in found.reason


@pytest.mark.parametrize("state", ["NODE_FAIL", "BOOT_FAIL", "PREEMPTED"])
def test_what_the_machine_ended_is_tried_again(state: str) -> None:
    found = step(Observation(JobStatus(state), began=9.0))
    assert found.requeue is not None
    assert state in found.requeue
    assert not found.take_back


@pytest.mark.parametrize("state", ["NODE_FAIL", "CANCELLED", "TIMEOUT"])
def test_what_never_began_is_made_sure_not_to_begin_later(state: str) -> None:
    assert step(Observation(JobStatus(state))).take_back


def test_what_was_asked_to_end_ends_as_asked() -> None:
    cancelled = JobStatus("CANCELLED")
    asked = AttemptState(stop=Lifecycle.CANCELLED)
    assert ending(Observation(cancelled, began=9.0), asked).reason == "cancelled on request"
    assert (
        ending(Observation(JobStatus("NODE_FAIL"), began=9.0), asked).outcome is Lifecycle.CANCELLED
    )
    recalled = step(Observation(cancelled), AttemptState(stop=Lifecycle.CREATED))
    assert recalled.requeue is not None
    assert recalled.take_back


@pytest.mark.parametrize("status", [None, 143])
def test_put_back_into_the_queue_it_would_not_run_a_second_time(status: int | None) -> None:
    waits = Observation(JobStatus("PENDING", "BeginTime"), began=9.0, status=status)
    # It may have started between the look at the queue and that at the files.
    first = step(waits, AttemptState(started=9.0))
    assert not first.over
    assert first.doubted == NOW
    found = step(waits, AttemptState(started=9.0, doubted=first.doubted))
    assert found.requeue is not None
    assert found.cancel


@pytest.mark.parametrize("word", [COMPLETED, FAILED, JobStatus("FAILED", status=111)])
def test_started_a_second_time_it_is_tried_again(word: JobStatus) -> None:
    killed = Observation(word, asked=True, began=9.0, status=143, again=True)
    assert step(killed, AttemptState(started=9.0)).requeue is not None
    unlisted = Observation(None, asked=True, began=9.0, status=143, again=True)
    assert step(unlisted, AttemptState(started=9.0, doubted=NOW)).requeue is not None
    assert (
        step(Observation(word, began=9.0, status=0, again=True), AttemptState(started=9.0)).status
        == 0
    )


def test_a_job_that_found_its_script_started_says_nothing_of_it() -> None:
    late = AttemptState(started=9.0, doubted=NOW - LAG)
    found = step(Observation(JobStatus("FAILED", status=111), asked=True, began=9.0), late)
    assert found.requeue is not None
    # A script that ends so leaves an exit record, unless it removes the directory.
    word = JobStatus("FAILED", status=111)
    removed = Observation(
        word, asked=True, began=9.0, fault="/r/.motoko/t does not exist", gone=True
    )
    reason = f"it left no exit record: it {word}: /r/.motoko/t does not exist"
    assert ending(removed, late) == AttemptOutcome(Lifecycle.FAILED, 111, reason)


def test_what_another_launcher_ended_was_not_cancelled_outside() -> None:
    recalled = Observation(JobStatus("CANCELLED"), began=9.0, stop=Lifecycle.CREATED)
    assert step(recalled).requeue is not None
    asked = Observation(JobStatus("CANCELLED"), began=9.0, stop=Lifecycle.CANCELLED)
    assert ending(asked).reason == "cancelled on request"


# -- files that are late, jobs that are gone -------------------------------------------------


def test_for_a_late_exit_record_it_waits() -> None:
    first = step(Observation(COMPLETED, began=9.0))
    assert not first.over
    assert first.doubted == NOW
    soon = step(Observation(COMPLETED, began=9.0), AttemptState(doubted=NOW - LAG + 1))
    assert not soon.over
    assert soon.doubted == NOW - LAG + 1


def test_the_schedulers_own_word_counts_where_no_exit_record_comes() -> None:
    late = AttemptState(doubted=NOW - LAG)
    assert step(Observation(COMPLETED, began=9.0), late).status == 0
    failed = ending(Observation(FAILED, began=9.0), late)
    assert (failed.outcome, failed.exit_code) == (Lifecycle.FAILED, 3)
    assert not step(Observation(FAILED)).over
    never = step(Observation(FAILED), AttemptState(doubted=NOW))
    assert never.take_back
    assert never.ending is not None
    assert never.ending.reason is not None
    assert "its script was not started" in never.ending.reason


def test_not_listed_is_lost_only_after_every_source_was_asked_and_a_while() -> None:
    late = AttemptState(doubted=NOW - LAG)
    assert step(Observation(None, began=9.0)).ask
    assert not step(Observation(None, began=9.0), late).over
    assert not step(Observation(None, asked=True, began=9.0)).over
    lost = ending(Observation(None, asked=True, began=9.0), late)
    assert (lost.outcome, lost.exit_code) == (Lifecycle.LOST, None)
    named = ending(Observation(None, asked=True, began=9.0, fault="/x/exit is a FIFO"), late)
    assert named.reason == f"{lost.reason}: /x/exit is a FIFO"
    assert not step(Observation(None, asked=True)).over
    never = step(Observation(None, asked=True), AttemptState(doubted=NOW))
    assert never.take_back
    assert never.ending is not None
    assert never.ending.outcome is Lifecycle.LOST


@pytest.mark.parametrize("began", [None, 9.0])
def test_cancelled_before_its_turn_it_is_listed_nowhere(began: float | None) -> None:
    asked = AttemptState(stop=Lifecycle.CANCELLED, doubted=NOW - LAG)
    found = step(Observation(None, asked=True, began=began), asked)
    assert found.ending == AttemptOutcome(Lifecycle.CANCELLED, None, "cancelled on request")
    assert found.take_back is (began is None)


def test_not_listed_with_an_exit_record_the_other_sources_are_asked_first() -> None:
    assert step(Observation(None, began=9.0, status=143)).ask
    known = ending(Observation(JobStatus("TIMEOUT"), asked=True, began=9.0, status=143))
    assert known.outcome is Lifecycle.TIMEOUT
    unknown = Observation(None, asked=True, began=9.0, status=3)
    assert step(unknown, AttemptState(doubted=NOW)).status == 3
