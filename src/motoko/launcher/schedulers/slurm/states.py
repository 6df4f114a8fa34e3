"""The meaning of Slurm's job states and reasons.

Source: squeue(1), sections "JOB STATE CODES" and "JOB REASON CODES", and the behaviour of Slurm
22.05.
"""

from __future__ import annotations

import re
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from motoko.launcher.schedulers.base import JobPhase, Seen

MAX_WORD: Final = 200  # characters of a state or a reason that are kept

# States with their compact forms. A COMPLETING job is still running: Slurm is ending its
# processes, and its outcome is unknown.
_STATES: Final = {
    JobPhase.PENDING: "PENDING PD, CONFIGURING CF, REQUEUED RQ, REQUEUE_FED RF, REQUEUE_HOLD RH, "
    "RESV_DEL_HOLD RD, SPECIAL_EXIT SE",
    JobPhase.RUNNING: "RUNNING R, COMPLETING CG, SIGNALING SI, STAGE_OUT SO, RESIZING RS",
    JobPhase.SUSPENDED: "SUSPENDED S, STOPPED ST",
    JobPhase.COMPLETED: "COMPLETED CD",
    JobPhase.FAILED: "FAILED F",
    JobPhase.TIMED_OUT: "TIMEOUT TO, DEADLINE DL",
    JobPhase.LIMIT_EXCEEDED: "OUT_OF_MEMORY OOM",
    JobPhase.NODE_FAILURE: "NODE_FAIL NF, BOOT_FAIL BF, PREEMPTED PR",
    JobPhase.CANCELLED: "CANCELLED CA, REVOKED RV",
}
_PAIRS: Final = [
    (phase, pair.split()) for phase, text in _STATES.items() for pair in text.split(",")
]
PHASES: Final = MappingProxyType({names[0]: phase for phase, names in _PAIRS})
COMPACT: Final = MappingProxyType({names[1]: names[0] for _, names in _PAIRS})

_STATE_PHRASES: Final = MappingProxyType(
    {
        "CONFIGURING": "waits for its nodes to boot",
        "REQUEUED": "was requeued",
        "REQUEUE_FED": "was requeued",
        "REQUEUE_HOLD": "was requeued and is held",
        "RESV_DEL_HOLD": "is held because its reservation was deleted",
        "SPECIAL_EXIT": "was requeued and is held",
        "COMPLETING": "is ending",
        "SIGNALING": "is being signalled",
        "STAGE_OUT": "is copying its output files",
        "RESIZING": "is being resized",
        "STOPPED": "is stopped",
        "DEADLINE": "reached its deadline",
        "OUT_OF_MEMORY": "used more memory than it requested",
        "BOOT_FAIL": "got a node that did not boot",
        "PREEMPTED": "was preempted by another job",
        "REVOKED": "runs on another cluster",
    }
)
_PHASE_PHRASES: Final = MappingProxyType(
    {
        JobPhase.PENDING: "waits",
        JobPhase.RUNNING: "runs",
        JobPhase.SUSPENDED: "is suspended",
        JobPhase.COMPLETED: "completed",
        JobPhase.FAILED: "failed",
        JobPhase.TIMED_OUT: "reached its time limit",
        JobPhase.LIMIT_EXCEEDED: "exceeded a limit",
        JobPhase.NODE_FAILURE: "lost its node",
        JobPhase.CANCELLED: "was cancelled",
        JobPhase.UNKNOWN: "is in an unknown state",
    }
)
_REASON_PHRASES: Final = MappingProxyType(
    {
        "Resources": "for free nodes",
        "Priority": "behind jobs of higher priority",
        "Dependency": "for a job that it depends on",
        "BeginTime": "for its begin time",
        "JobArrayTaskLimit": "for other tasks of its array",
        "Licenses": "for a licence",
        "Reservation": "for the start of its reservation",
        "PartitionDown": "until its partition is up",
        "PartitionInactive": "until its partition is active",
        "ReqNodeNotAvail": "for an unavailable node",
        "NodeDown": "for a node that is down",
        "Cleaning": "until the node is cleaned up",
    }
)

_RELEASE: Final = "release it with `scontrol release`, or cancel the run"
_RESUBMIT: Final = "cancel the run, correct slurm_options or nproc, and create it again"
_GIVE_ANOTHER: Final = "give another one (`{}=...` in slurm_options) and create the run again"
_NEVER: Final = MappingProxyType(
    {
        "DependencyNeverSatisfied": "a job that it depends on ended with another result: "
        "cancel the run, or give another dependency",
        "PartitionConfig": f"it requests more than its partition has: {_RESUBMIT}",
        "PartitionNodeLimit": f"it requests more or fewer nodes than its partition allows: "
        f"{_RESUBMIT}",
        "PartitionTimeLimit": "its time limit exceeds that of its partition: cancel the run, "
        "give a shorter timeout or another partition, and create it again",
        "BadConstraints": f"no node satisfies its request: {_RESUBMIT}",
        "JobHeldUser": f"it is held: {_RELEASE}",
        "JobHeldAdmin": "an administrator holds it and must release it: "
        "ask the site, or cancel the run",
        "JobHoldMaxRequeue": f"it is held because it was requeued too often: {_RELEASE}",
        "launch_failed_requeued_held": "it could not be started and is held: check the node, "
        + _RELEASE,
        "job_requeued_in_held_state": f"it was requeued and is held: {_RELEASE}",
        "InvalidAccount": f"its account is not valid: {_GIVE_ANOTHER.format('account')}",
        "AccountNotAllowed": "its account may not use this partition: give another account or "
        "partition in slurm_options and create the run again",
        "InvalidQOS": f"its quality of service is not valid: {_GIVE_ANOTHER.format('qos')}",
        "QOSNotAllowed": "its partition or account does not allow its quality of service: "
        + _GIVE_ANOTHER.format("qos"),
        "ReservationDeleted": "its reservation was deleted: give another one in slurm_options and "
        "create the run again",
    }
)
# Limits of an account (Assoc...) or a quality of service (QOS...) that hold a job forever.
# Limits on running jobs together (Grp...Limit, PerUser, RunMinutes) end with those jobs.
_PER_JOB: Final = re.compile(r"(Assoc|QOS)Max\w*Per(Job|Node)(Limit)?")
_TOO_LITTLE: Final = re.compile(r"QOSMin\w+")
_SPENT: Final = re.compile(r"(Assoc|QOS)Grp(\w*(?<!Run)Minutes(Limit)?|WallLimit)")
# Reasons of jobs that wait for their first start: none of them has run.
_FIRST_REASONS: Final = frozenset(
    {"", "None", "Priority", "Resources", "JobArrayTaskLimit", "Dependency", "Licenses"}
)


@lru_cache(maxsize=4096)
def job_status(state: str, reason: str = "", exit_code: int | None = None) -> Seen:
    """Return the status for a state and a reason, in any form in which Slurm prints them."""
    name, phase = full_name(state), phase_of(state)
    waits = phase is JobPhase.PENDING
    held = waits and (name != "PENDING" or explain_hold(reason) is not None)
    return Seen(
        phase,
        name,
        reason,
        describe(state, reason),
        notable=held or phase in (JobPhase.SUSPENDED, JobPhase.UNKNOWN),
        is_new=name == "PENDING" and reason in _FIRST_REASONS,
        exit_code=exit_code,
    )


def phase_of(state: str) -> JobPhase:
    """Return the phase of a state. It may be compact (``CG``) or have a suffix (``CANCELLED+``)."""
    return PHASES.get(full_name(state), JobPhase.UNKNOWN)


def full_name(state: str) -> str:
    """Return the name of a state in capitals, without suffixes."""
    words = state.split(maxsplit=1)
    name = words[0][:MAX_WORD].rstrip("+").upper() if words else ""
    return COMPACT.get(name, name)


def explain_hold(reason: str) -> str | None:
    """Return why a pending job never starts by itself and how to help, None if it does."""
    word = _first_word(reason)
    if word in _NEVER:
        return _NEVER[word]
    if _PER_JOB.fullmatch(word):
        return f"it requests more than one job may have ({word}): {_RESUBMIT}"
    if _TOO_LITTLE.fullmatch(word):
        return f"it requests less than its quality of service demands ({word}): {_RESUBMIT}"
    if _SPENT.fullmatch(word):
        return (
            f"its account has used up its grant ({word}): ask the site for more, or give "
            "another account in slurm_options and create the run again"
        )
    return None


def describe(state: str, reason: str) -> str:
    """Return a phrase about a job for users, with the scheduler's own words."""
    name, phase, cause = full_name(state), phase_of(state), _first_word(reason)
    words = f"{name} {cause}".strip() or "no state"
    phrase = _STATE_PHRASES.get(name) or _PHASE_PHRASES[phase]
    if phase is JobPhase.PENDING:
        hold = explain_hold(reason)
        if hold is not None:
            return f"never starts: {hold} ({words})"
        if name == "PENDING" and cause in _REASON_PHRASES:
            phrase = f"{phrase} {_REASON_PHRASES[cause]}"
    return f"{phrase} ({words})"


def _first_word(reason: str) -> str:
    """Return a reason as one word, without details (``ReqNodeNotAvail, UnavailableNodes:n1``).

    Some are sentences, which squeue prints with spaces and scontrol with underscores.
    """
    text = reason.strip().strip("()").partition(",")[0][:MAX_WORD]
    return "" if text in ("None", "N/A", "null") else "_".join(text.split())
