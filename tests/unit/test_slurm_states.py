"""The meaning of Slurm's states and reasons."""

from __future__ import annotations

import pytest

from motoko.launcher.schedulers.base import JobPhase
from motoko.launcher.schedulers.slurm.states import (
    COMPACT,
    PHASES,
    describe,
    explain_hold,
    phase_of,
)

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (
            "PENDING CONFIGURING REQUEUED REQUEUE_FED REQUEUE_HOLD RESV_DEL_HOLD SPECIAL_EXIT",
            JobPhase.PENDING,
        ),
        ("RUNNING COMPLETING SIGNALING STAGE_OUT RESIZING", JobPhase.RUNNING),
        ("SUSPENDED STOPPED", JobPhase.SUSPENDED),
        ("COMPLETED", JobPhase.COMPLETED),
        ("FAILED", JobPhase.FAILED),
        ("TIMEOUT DEADLINE", JobPhase.TIMED_OUT),
        ("OUT_OF_MEMORY", JobPhase.LIMIT_EXCEEDED),
        ("NODE_FAIL BOOT_FAIL PREEMPTED", JobPhase.NODE_FAILURE),
        ("CANCELLED REVOKED", JobPhase.CANCELLED),
    ],
)
def test_every_state(states: str, expected: JobPhase) -> None:
    for state in states.split():
        assert phase_of(state) is expected
        assert phase_of(state.lower()) is expected
        assert phase_of(f"{state}+") is expected


def test_all_documented_states_are_known() -> None:
    # squeue(1) of Slurm 22.05, JOB STATE CODES.
    compact = "BF CA CD CF CG DL F NF OOM PD PR R RD RF RH RQ RS RV SI SE SO ST S TO"
    assert set(COMPACT) == set(compact.split())
    assert len(PHASES) == len(COMPACT)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("CG", JobPhase.RUNNING),
        ("oom", JobPhase.LIMIT_EXCEEDED),
        ("NF", JobPhase.NODE_FAILURE),
        ("S", JobPhase.SUSPENDED),
        ("CANCELLED by 1000", JobPhase.CANCELLED),
        ("", JobPhase.UNKNOWN),
        ("COMPLETE", JobPhase.UNKNOWN),
        ("EXPEDITING", JobPhase.UNKNOWN),
        ("N/A", JobPhase.UNKNOWN),
    ],
)
def test_other_forms_of_states(state: str, expected: JobPhase) -> None:
    assert phase_of(state) is expected


def test_active_and_ended_phases() -> None:
    active = {JobPhase.PENDING, JobPhase.RUNNING, JobPhase.SUSPENDED, JobPhase.UNKNOWN}
    assert {found for found in JobPhase if not found.has_ended} == active


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("DependencyNeverSatisfied", "depends on"),
        ("PartitionConfig", "partition has"),
        ("PartitionNodeLimit", "nodes"),
        ("PartitionTimeLimit", "timeout"),
        ("BadConstraints", "no node"),
        ("JobHeldUser", "scontrol release"),
        ("(JobHeldAdmin)", "administrator"),
        ("InvalidAccount", "account="),
        ("InvalidQOS", "qos="),
        ("QOSNotAllowed", "qos="),
        ("AssocGrpCPUMinutesLimit", "used up its grant (AssocGrpCPUMinutesLimit)"),
        ("QOSGrpGRESMinutes", "used up"),
        ("AssocGrpWallLimit", "used up"),
        ("AssocMaxWallDurationPerJobLimit", "more than one job may have"),
        ("QOSMaxCpuPerNode", "more than one job may have"),
        ("QOSMaxBBMinutesPerJob", "more than one job may have"),
        ("QOSMinCpuNotSatisfied", "less than"),
        ("launch_failed_requeued_held", "could not be started"),
        ("launch failed requeued held", "could not be started"),
        ("job requeued in held state", "requeued"),
        ("job_requeued_in_held_state", "scontrol release"),
    ],
)
def test_permanent_holds(reason: str, word: str) -> None:
    sentence = explain_hold(reason)
    assert sentence is not None
    assert word in sentence
    assert describe("PENDING", reason).startswith("never starts: ")


@pytest.mark.parametrize(
    "reason",
    [
        "", "None", "(null)", "Resources", "Priority", "Dependency", "BeginTime",
        "JobArrayTaskLimit", "PartitionDown", "NodeDown", "Licenses",
        "ReqNodeNotAvail, UnavailableNodes:n2", "AssocGrpCpuLimit", "AssocGrpCPURunMinutesLimit",
        "QOSMaxJobsPerUserLimit", "QOSMaxCpuPerUserLimit", "AssocMaxJobsLimit", "SomethingNew",
    ],
)  # fmt: skip
def test_temporary_reasons(reason: str) -> None:
    assert explain_hold(reason) is None
    assert describe("PENDING", reason).startswith("waits")


@pytest.mark.parametrize(
    ("state", "reason", "expected"),
    [
        ("PENDING", "Resources", "waits for free nodes (PENDING Resources)"),
        ("PD", "Strange", "waits (PENDING Strange)"),
        ("RUNNING", "None", "runs (RUNNING)"),
        ("COMPLETING", "", "is ending (COMPLETING)"),
        ("FAILED", "NonZeroExitCode", "failed (FAILED NonZeroExitCode)"),
        ("TIMEOUT", "TimeLimit", "reached its time limit (TIMEOUT TimeLimit)"),
        ("NODE_FAIL", "NodeDown", "lost its node (NODE_FAIL NodeDown)"),
        # A reason from before the end is not a reason to wait.
        ("CANCELLED", "JobHeldUser", "was cancelled (CANCELLED JobHeldUser)"),
        ("CANCELLED by 0", "Resources", "was cancelled (CANCELLED Resources)"),
        ("NEWS", "", "is in an unknown state (NEWS)"),
        ("", "", "is in an unknown state (no state)"),
    ],
)
def test_descriptions(state: str, reason: str, expected: str) -> None:
    assert describe(state, reason) == expected
