"""Decisions about an attempt from its scheduler job and its files."""

from __future__ import annotations

import pytest

from motoko.core.states import Lifecycle
from motoko.launcher.executors.batch.decide import (
    AttemptState,
    Decision,
    Observation,
    decide,
)
from motoko.launcher.outcome import AttemptOutcome
from motoko.launcher.schedulers.base import NOT_SEEN, JobStatus
from motoko.launcher.schedulers.slurm.states import job_status

pytestmark = pytest.mark.unit

NOW = 1000.0
LAG = 60.0
PENDING = job_status("PENDING", "Priority")
RUNNING = job_status("RUNNING")
COMPLETED = job_status("COMPLETED")
FAILED = job_status("FAILED", "NonZeroExitCode", 3)


def decision(seen: Observation, attempt: AttemptState | None = None) -> Decision:
    return decide(attempt or AttemptState(), seen, NOW, lag=LAG)


def outcome_of(seen: Observation, attempt: AttemptState | None = None) -> AttemptOutcome:
    found = decision(seen, attempt).outcome
    assert found is not None
    return found


# -- while it goes on ------------------------------------------------------------------------


def test_what_waits_for_its_turn_is_left_alone() -> None:
    assert decision(Observation(PENDING)) == Decision()


@pytest.mark.parametrize("reason", ["PartitionConfig", "DependencyNeverSatisfied", "JobHeldUser"])
def test_what_can_never_start_says_why_once(reason: str) -> None:
    job = job_status("PENDING", reason)
    first = decision(Observation(job))
    assert first.reason is not None
    assert reason in first.reason
    assert not first.is_final
    assert decision(Observation(job), AttemptState(reason=first.reason)) == Decision()


def test_a_reason_is_removed_with_its_cause() -> None:
    assert decision(Observation(PENDING), AttemptState(reason="it never starts")).reason == ""
    assert (
        decision(
            Observation(RUNNING, started_at=9.0), AttemptState(reason="it is suspended")
        ).reason
        == ""
    )


def test_it_runs_when_its_start_file_is_seen() -> None:
    assert decision(Observation(RUNNING)).started_at is None
    assert decision(Observation(RUNNING, started_at=9.0)).started_at == 9.0
    assert (
        decision(Observation(RUNNING, started_at=9.0), AttemptState(started_at=9.0)) == Decision()
    )


def test_suspended_is_reported_and_is_no_end() -> None:
    found = decision(
        Observation(job_status("SUSPENDED"), started_at=9.0), AttemptState(started_at=9.0)
    )
    assert found.reason is not None
    assert "SUSPENDED" in found.reason
    assert not found.is_final


@pytest.mark.parametrize("job", [job_status("MARTIAN"), job_status("")])
def test_an_unknown_state_is_no_end(job: JobStatus) -> None:
    assert not decision(Observation(job, started_at=9.0, exit_status=3)).is_final


def test_completing_is_no_end_yet() -> None:
    assert not decision(
        Observation(job_status("COMPLETING"), started_at=9.0, exit_status=143)
    ).is_final


# -- the exit record -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "job", [NOT_SEEN, RUNNING, COMPLETED, job_status("TIMEOUT"), job_status("NODE_FAIL")]
)
def test_an_exit_record_of_0_is_a_good_end_whatever_is_said(job: JobStatus) -> None:
    assert decision(Observation(job, started_at=9.0, exit_status=0)).exit_status == 0


def test_another_exit_record_counts_once_the_scheduler_job_has_ended() -> None:
    assert not decision(Observation(RUNNING, started_at=9.0, exit_status=3)).is_final
    assert decision(Observation(FAILED, started_at=9.0, exit_status=3)).exit_status == 3


def test_a_script_that_was_ended_at_its_limit_did_not_fail_by_itself() -> None:
    found = outcome_of(
        Observation(job_status("TIMEOUT", "TimeLimit"), started_at=9.0, exit_status=143)
    )
    assert (found.state, found.exit_code) == (Lifecycle.TIMEOUT, 143)


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
    found = outcome_of(Observation(job_status(state), started_at=9.0))
    assert found.state is outcome
    assert found.reason is not None
    assert state in found.reason


@pytest.mark.parametrize("state", ["NODE_FAIL", "BOOT_FAIL", "PREEMPTED"])
def test_what_the_machine_ended_is_tried_again(state: str) -> None:
    found = decision(Observation(job_status(state), started_at=9.0))
    assert found.requeue is not None
    assert state in found.requeue
    assert not found.block_start


@pytest.mark.parametrize("state", ["NODE_FAIL", "CANCELLED", "TIMEOUT"])
def test_what_never_began_is_made_sure_not_to_begin_later(state: str) -> None:
    assert decision(Observation(job_status(state))).block_start


def test_what_was_asked_to_end_ends_as_asked() -> None:
    cancelled = job_status("CANCELLED")
    asked = AttemptState(stop=Lifecycle.CANCELLED)
    assert (
        outcome_of(Observation(cancelled, started_at=9.0), asked).reason == "cancelled on request"
    )
    assert (
        outcome_of(Observation(job_status("NODE_FAIL"), started_at=9.0), asked).state
        is Lifecycle.CANCELLED
    )
    requeued = decision(Observation(cancelled), AttemptState(stop=Lifecycle.CREATED))
    assert requeued.requeue is not None
    assert requeued.block_start


@pytest.mark.parametrize("status", [None, 143])
def test_put_back_into_the_queue_it_would_not_run_a_second_time(status: int | None) -> None:
    waits = Observation(job_status("PENDING", "BeginTime"), started_at=9.0, exit_status=status)
    # It may have started between the look at the queue and that at the files.
    first = decision(waits, AttemptState(started_at=9.0))
    assert not first.is_final
    assert first.unconfirmed_since == NOW
    found = decision(waits, AttemptState(started_at=9.0, unconfirmed_since=first.unconfirmed_since))
    assert found.requeue is not None
    assert found.cancel_job


@pytest.mark.parametrize("job", [COMPLETED, FAILED, job_status("FAILED", "", 111)])
def test_started_a_second_time_it_is_tried_again(job: JobStatus) -> None:
    killed = Observation(job, all_sources=True, started_at=9.0, exit_status=143, restarted=True)
    assert decision(killed, AttemptState(started_at=9.0)).requeue is not None
    unlisted = Observation(
        NOT_SEEN, all_sources=True, started_at=9.0, exit_status=143, restarted=True
    )
    assert (
        decision(unlisted, AttemptState(started_at=9.0, unconfirmed_since=NOW)).requeue is not None
    )
    assert (
        decision(
            Observation(job, started_at=9.0, exit_status=0, restarted=True),
            AttemptState(started_at=9.0),
        ).exit_status
        == 0
    )


def test_a_job_that_found_its_script_started_says_nothing_of_it() -> None:
    late = AttemptState(started_at=9.0, unconfirmed_since=NOW - LAG)
    found = decision(
        Observation(job_status("FAILED", "", 111), all_sources=True, started_at=9.0), late
    )
    assert found.requeue is not None
    # A script that ends so leaves an exit record, unless it removes the directory.
    job = job_status("FAILED", "", 111)
    removed = Observation(
        job,
        all_sources=True,
        started_at=9.0,
        fault="/r/.motoko/t does not exist",
        directory_removed=True,
    )
    reason = f"it left no exit record: it {job.description}: /r/.motoko/t does not exist"
    assert outcome_of(removed, late) == AttemptOutcome(Lifecycle.FAILED, 111, reason)


def test_what_another_launcher_ended_was_not_cancelled_outside() -> None:
    requeued = Observation(job_status("CANCELLED"), started_at=9.0, stop=Lifecycle.CREATED)
    assert decision(requeued).requeue is not None
    asked = Observation(job_status("CANCELLED"), started_at=9.0, stop=Lifecycle.CANCELLED)
    assert outcome_of(asked).reason == "cancelled on request"


# -- files that are late, jobs that are gone -------------------------------------------------


def test_for_a_late_exit_record_it_waits() -> None:
    first = decision(Observation(COMPLETED, started_at=9.0))
    assert not first.is_final
    assert first.unconfirmed_since == NOW
    soon = decision(
        Observation(COMPLETED, started_at=9.0), AttemptState(unconfirmed_since=NOW - LAG + 1)
    )
    assert not soon.is_final
    assert soon.unconfirmed_since == NOW - LAG + 1


def test_the_schedulers_own_state_counts_where_no_exit_record_comes() -> None:
    late = AttemptState(unconfirmed_since=NOW - LAG)
    assert decision(Observation(COMPLETED, started_at=9.0), late).exit_status == 0
    failed = outcome_of(Observation(FAILED, started_at=9.0), late)
    assert (failed.state, failed.exit_code) == (Lifecycle.FAILED, 3)
    assert not decision(Observation(FAILED)).is_final
    never = decision(Observation(FAILED), AttemptState(unconfirmed_since=NOW))
    assert never.block_start
    assert never.outcome is not None
    assert never.outcome.reason is not None
    assert "its script was not started" in never.outcome.reason


def test_not_listed_is_lost_only_after_every_source_was_asked_and_a_while() -> None:
    late = AttemptState(unconfirmed_since=NOW - LAG)
    assert decision(Observation(NOT_SEEN, started_at=9.0)).lookup
    assert not decision(Observation(NOT_SEEN, started_at=9.0), late).is_final
    assert not decision(Observation(NOT_SEEN, all_sources=True, started_at=9.0)).is_final
    lost = outcome_of(Observation(NOT_SEEN, all_sources=True, started_at=9.0), late)
    assert (lost.state, lost.exit_code) == (Lifecycle.LOST, None)
    named = outcome_of(
        Observation(NOT_SEEN, all_sources=True, started_at=9.0, fault="/x/exit is a FIFO"), late
    )
    assert named.reason == f"{lost.reason}: /x/exit is a FIFO"
    assert not decision(Observation(NOT_SEEN, all_sources=True)).is_final
    never = decision(Observation(NOT_SEEN, all_sources=True), AttemptState(unconfirmed_since=NOW))
    assert never.block_start
    assert never.outcome is not None
    assert never.outcome.state is Lifecycle.LOST


@pytest.mark.parametrize("began", [None, 9.0])
def test_cancelled_before_its_turn_it_is_listed_nowhere(began: float | None) -> None:
    asked = AttemptState(stop=Lifecycle.CANCELLED, unconfirmed_since=NOW - LAG)
    found = decision(Observation(NOT_SEEN, all_sources=True, started_at=began), asked)
    assert found.outcome == AttemptOutcome(Lifecycle.CANCELLED, None, "cancelled on request")
    assert found.block_start is (began is None)


def test_not_listed_with_an_exit_record_the_other_sources_are_asked_first() -> None:
    assert decision(Observation(NOT_SEEN, started_at=9.0, exit_status=143)).lookup
    known = outcome_of(
        Observation(job_status("TIMEOUT"), all_sources=True, started_at=9.0, exit_status=143)
    )
    assert known.state is Lifecycle.TIMEOUT
    unknown = Observation(NOT_SEEN, all_sources=True, started_at=9.0, exit_status=3)
    assert decision(unknown, AttemptState(unconfirmed_since=NOW)).exit_status == 3
