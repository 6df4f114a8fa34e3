"""Decisions about an attempt, from its scheduler job and its files."""

from __future__ import annotations

import pytest

from motoko.core.states import Lifecycle
from motoko.launcher.attempt_outcome import AttemptOutcome
from motoko.launcher.executors.batch.decide import (
    AttemptState,
    Decision,
    Observation,
    decide,
)
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


# -- active attempts -------------------------------------------------------------------------


def test_a_pending_job_needs_no_action() -> None:
    assert decision(Observation(PENDING)) == Decision()


@pytest.mark.parametrize("reason", ["PartitionConfig", "DependencyNeverSatisfied", "JobHeldUser"])
def test_the_reason_of_a_hold_is_set_once(reason: str) -> None:
    job = job_status("PENDING", reason)
    first = decision(Observation(job))
    assert first.reason is not None
    assert reason in first.reason
    assert not first.is_final
    assert decision(Observation(job), AttemptState(reason=first.reason)) == Decision()


def test_a_reason_is_removed_when_its_cause_ends() -> None:
    assert decision(Observation(PENDING), AttemptState(reason="it never starts")).reason == ""
    assert (
        decision(
            Observation(RUNNING, started_at=9.0), AttemptState(reason="it is suspended")
        ).reason
        == ""
    )


def test_an_attempt_is_running_once_its_start_file_exists() -> None:
    assert decision(Observation(RUNNING)).started_at is None
    assert decision(Observation(RUNNING, started_at=9.0)).started_at == 9.0
    assert (
        decision(Observation(RUNNING, started_at=9.0), AttemptState(started_at=9.0)) == Decision()
    )


def test_a_suspended_job_is_reported_and_not_ended() -> None:
    found = decision(
        Observation(job_status("SUSPENDED"), started_at=9.0), AttemptState(started_at=9.0)
    )
    assert found.reason is not None
    assert "SUSPENDED" in found.reason
    assert not found.is_final


@pytest.mark.parametrize("job", [job_status("MARTIAN"), job_status("")])
def test_a_job_in_an_unknown_state_is_not_ended(job: JobStatus) -> None:
    assert not decision(Observation(job, started_at=9.0, exit_status=3)).is_final


def test_a_completing_job_is_not_ended() -> None:
    assert not decision(
        Observation(job_status("COMPLETING"), started_at=9.0, exit_status=143)
    ).is_final


# -- the exit record -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "job", [NOT_SEEN, RUNNING, COMPLETED, job_status("TIMEOUT"), job_status("NODE_FAIL")]
)
def test_exit_record_0_means_success_in_any_job_state(job: JobStatus) -> None:
    assert decision(Observation(job, started_at=9.0, exit_status=0)).exit_status == 0


def test_a_nonzero_exit_record_counts_once_the_job_has_ended() -> None:
    assert not decision(Observation(RUNNING, started_at=9.0, exit_status=3)).is_final
    assert decision(Observation(FAILED, started_at=9.0, exit_status=3)).exit_status == 3


def test_a_script_stopped_at_its_time_limit_is_timed_out() -> None:
    found = outcome_of(
        Observation(job_status("TIMEOUT", "TimeLimit"), started_at=9.0, exit_status=143)
    )
    assert (found.state, found.exit_code) == (Lifecycle.TIMEOUT, 143)


# -- ended by another cause ------------------------------------------------------------------


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
def test_outcomes_of_limits_and_cancellation(state: str, outcome: Lifecycle) -> None:
    found = outcome_of(Observation(job_status(state), started_at=9.0))
    assert found.state is outcome
    assert found.reason is not None
    assert state in found.reason


@pytest.mark.parametrize("state", ["NODE_FAIL", "BOOT_FAIL", "PREEMPTED"])
def test_a_node_failure_requeues_the_run(state: str) -> None:
    found = decision(Observation(job_status(state), started_at=9.0))
    assert found.requeue is not None
    assert state in found.requeue
    assert not found.block_start


@pytest.mark.parametrize("state", ["NODE_FAIL", "CANCELLED", "TIMEOUT"])
def test_an_attempt_that_never_started_is_blocked(state: str) -> None:
    assert decision(Observation(job_status(state))).block_start


def test_the_outcome_of_a_stopped_attempt_follows_the_stop_reason() -> None:
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
def test_a_job_requeued_by_the_scheduler_is_cancelled(status: int | None) -> None:
    waits = Observation(job_status("PENDING", "BeginTime"), started_at=9.0, exit_status=status)
    # It may have started between the poll of the queue and the read of the files.
    first = decision(waits, AttemptState(started_at=9.0))
    assert not first.is_final
    assert first.unconfirmed_since == NOW
    found = decision(waits, AttemptState(started_at=9.0, unconfirmed_since=first.unconfirmed_since))
    assert found.requeue is not None
    assert found.cancel_job


@pytest.mark.parametrize("job", [COMPLETED, FAILED, job_status("FAILED", "", 111)])
def test_a_restarted_job_requeues_the_run(job: JobStatus) -> None:
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


def test_the_exit_code_of_a_second_start_is_ignored() -> None:
    late = AttemptState(started_at=9.0, unconfirmed_since=NOW - LAG)
    found = decision(
        Observation(job_status("FAILED", "", 111), all_sources=True, started_at=9.0), late
    )
    assert found.requeue is not None
    # Such a script leaves an exit record, unless it removes the directory.
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


def test_cancellation_by_another_launcher_is_not_external() -> None:
    requeued = Observation(job_status("CANCELLED"), started_at=9.0, stop=Lifecycle.CREATED)
    assert decision(requeued).requeue is not None
    asked = Observation(job_status("CANCELLED"), started_at=9.0, stop=Lifecycle.CANCELLED)
    assert outcome_of(asked).reason == "cancelled on request"


# -- late files and unlisted jobs ------------------------------------------------------------


def test_a_late_exit_record_has_a_grace_period() -> None:
    first = decision(Observation(COMPLETED, started_at=9.0))
    assert not first.is_final
    assert first.unconfirmed_since == NOW
    soon = decision(
        Observation(COMPLETED, started_at=9.0), AttemptState(unconfirmed_since=NOW - LAG + 1)
    )
    assert not soon.is_final
    assert soon.unconfirmed_since == NOW - LAG + 1


def test_without_exit_record_the_job_state_counts() -> None:
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


def test_an_unlisted_job_is_lost_after_all_sources_and_a_grace_period() -> None:
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
def test_an_unlisted_task_with_a_stop_request_is_cancelled(began: float | None) -> None:
    asked = AttemptState(stop=Lifecycle.CANCELLED, unconfirmed_since=NOW - LAG)
    found = decision(Observation(NOT_SEEN, all_sources=True, started_at=began), asked)
    assert found.outcome == AttemptOutcome(Lifecycle.CANCELLED, None, "cancelled on request")
    assert found.block_start is (began is None)


def test_an_unlisted_job_with_exit_record_is_looked_up_first() -> None:
    assert decision(Observation(NOT_SEEN, started_at=9.0, exit_status=143)).lookup
    known = outcome_of(
        Observation(job_status("TIMEOUT"), all_sources=True, started_at=9.0, exit_status=143)
    )
    assert known.state is Lifecycle.TIMEOUT
    unknown = Observation(NOT_SEEN, all_sources=True, started_at=9.0, exit_status=3)
    assert decision(unknown, AttemptState(unconfirmed_since=NOW)).exit_status == 3
