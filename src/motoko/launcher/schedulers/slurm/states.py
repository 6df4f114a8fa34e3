"""What Slurm's job states and reasons mean.

Source: squeue(1), sections "JOB STATE CODES" and "JOB REASON CODES", and the behaviour of Slurm
22.05.
"""

from __future__ import annotations

import re
from enum import Enum
from types import MappingProxyType
from typing import Final

SHOWN: Final = 200  # characters of a state or a reason that are kept


class JobPhase(Enum):
    """What is to be made of a job that Slurm reports in some state."""

    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"
    ENDED_WELL = "ended well"
    FAILED = "failed"
    LIMIT = "ended at a limit"
    MACHINE = "ended by the machine"  # not the run's fault: tried again without counting
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"  # says nothing: ask again

    @property
    def is_end(self) -> bool:
        """Whether the job has ended."""
        return self in _ENDS


_ENDS: Final = frozenset(
    {
        JobPhase.ENDED_WELL,
        JobPhase.FAILED,
        JobPhase.LIMIT,
        JobPhase.MACHINE,
        JobPhase.CANCELLED,
    }
)

# State, its compact form, what is made of it. COMPLETING is still running: its processes are being
# ended, and its outcome is not there yet.
_STATES: Final = (
    ("PENDING", "PD", JobPhase.WAITING),
    ("CONFIGURING", "CF", JobPhase.WAITING),
    ("REQUEUED", "RQ", JobPhase.WAITING),
    ("REQUEUE_FED", "RF", JobPhase.WAITING),
    ("REQUEUE_HOLD", "RH", JobPhase.WAITING),
    ("RESV_DEL_HOLD", "RD", JobPhase.WAITING),
    ("SPECIAL_EXIT", "SE", JobPhase.WAITING),
    ("RUNNING", "R", JobPhase.RUNNING),
    ("COMPLETING", "CG", JobPhase.RUNNING),
    ("SIGNALING", "SI", JobPhase.RUNNING),
    ("STAGE_OUT", "SO", JobPhase.RUNNING),
    ("RESIZING", "RS", JobPhase.RUNNING),
    ("SUSPENDED", "S", JobPhase.PAUSED),
    ("STOPPED", "ST", JobPhase.PAUSED),
    ("COMPLETED", "CD", JobPhase.ENDED_WELL),
    ("FAILED", "F", JobPhase.FAILED),
    ("TIMEOUT", "TO", JobPhase.LIMIT),
    ("DEADLINE", "DL", JobPhase.LIMIT),
    ("OUT_OF_MEMORY", "OOM", JobPhase.LIMIT),
    ("NODE_FAIL", "NF", JobPhase.MACHINE),
    ("BOOT_FAIL", "BF", JobPhase.MACHINE),
    ("PREEMPTED", "PR", JobPhase.MACHINE),
    ("CANCELLED", "CA", JobPhase.CANCELLED),
    ("REVOKED", "RV", JobPhase.CANCELLED),
)
CONDITIONS: Final = MappingProxyType({name: found for name, _, found in _STATES})
COMPACT: Final = MappingProxyType({short: name for name, short, _ in _STATES})

_STATE_PHRASES: Final = MappingProxyType(
    {
        "CONFIGURING": "waits for its nodes to get ready",
        "REQUEUED": "was put back into the queue",
        "REQUEUE_FED": "was put back into the queue",
        "REQUEUE_HOLD": "was put back into the queue and is held",
        "RESV_DEL_HOLD": "is held, for its reservation was deleted",
        "SPECIAL_EXIT": "was put back into the queue and is held",
        "COMPLETING": "is ending",
        "SIGNALING": "is being signalled",
        "STAGE_OUT": "is copying its files out",
        "RESIZING": "is changing its size",
        "SUSPENDED": "is suspended",
        "STOPPED": "is stopped",
        "TIMEOUT": "reached its time limit",
        "DEADLINE": "reached its deadline",
        "OUT_OF_MEMORY": "used more memory than it had asked for",
        "NODE_FAIL": "lost its node",
        "BOOT_FAIL": "got a node that did not boot",
        "PREEMPTED": "had to give way to another job",
        "REVOKED": "runs on another cluster",
    }
)
_CONDITION_PHRASES: Final = MappingProxyType(
    {
        JobPhase.WAITING: "waits",
        JobPhase.RUNNING: "runs",
        JobPhase.PAUSED: "is paused",
        JobPhase.ENDED_WELL: "ended well",
        JobPhase.FAILED: "failed",
        JobPhase.LIMIT: "reached a limit",
        JobPhase.MACHINE: "was ended by the machine",
        JobPhase.CANCELLED: "was cancelled",
        JobPhase.UNKNOWN: "is in a state that says nothing",
    }
)
_REASON_PHRASES: Final = MappingProxyType(
    {
        "Resources": "for nodes to get free",
        "Priority": "behind jobs of higher priority",
        "Dependency": "for another job that it depends on",
        "BeginTime": "for its begin time",
        "JobArrayTaskLimit": "for other tasks of its array",
        "Licenses": "for a licence",
        "Reservation": "for its reservation to begin",
        "PartitionDown": "for its partition to come up",
        "PartitionInactive": "for its partition to become active",
        "ReqNodeNotAvail": "for a node that is not available",
        "NodeDown": "for a node that is down",
        "Cleaning": "for its last execution to be cleaned up",
    }
)

_RELEASE: Final = "release it with `scontrol release`, or cancel the run"
_RESUBMIT: Final = "cancel the run, correct slurm_options or nproc, and create it again"
_NEVER: Final = MappingProxyType(
    {
        "DependencyNeverSatisfied": "the job that it depends on did not end as it should have: "
        "cancel the run, or give another dependency",
        "PartitionConfig": f"it asks for more than its partition has: {_RESUBMIT}",
        "PartitionNodeLimit": f"it asks for more nodes, or fewer, than its partition allows: "
        f"{_RESUBMIT}",
        "PartitionTimeLimit": "its time limit is beyond that of its partition: cancel the run, "
        "give a shorter timeout or another partition, and create it again",
        "BadConstraints": f"no node can be what it asks for: {_RESUBMIT}",
        "JobHeldUser": f"it is held: {_RELEASE}",
        "JobHeldAdmin": "it is held by an administrator, who alone can release it: "
        "ask the site, or cancel the run",
        "JobHoldMaxRequeue": "it is held, for it was put back into the queue too often: "
        + _RELEASE,
        "launch_failed_requeued_held": "it could not be started and is held: look at the node, "
        + _RELEASE,
        "job_requeued_in_held_state": f"it was put back into the queue and is held: {_RELEASE}",
        "InvalidAccount": "its account is not valid: give another one (`account=...` in "
        "slurm_options) and create the run again",
        "AccountNotAllowed": "its account may not use this partition: give another account or "
        "partition in slurm_options and create the run again",
        "InvalidQOS": "its quality of service is not valid: give another one (`qos=...` in "
        "slurm_options) and create the run again",
        "QOSNotAllowed": "its partition or account does not allow its quality of service: give "
        "another one (`qos=...` in slurm_options) and create the run again",
        "ReservationDeleted": "its reservation was deleted: give another one in slurm_options and "
        "create the run again",
    }
)
# Limits of an account (Assoc...) or a quality of service (QOS...). What other running jobs hold
# comes free in time (Grp...Limit, PerUser, RunMinutes); the following does not.
_PER_JOB: Final = re.compile(r"(Assoc|QOS)Max\w*Per(Job|Node)(Limit)?")
_TOO_LITTLE: Final = re.compile(r"QOSMin\w+")
_SPENT: Final = re.compile(r"(Assoc|QOS)Grp(\w*(?<!Run)Minutes(Limit)?|WallLimit)")


def condition(state: str) -> JobPhase:
    """Return what to make of a state, in any form in which Slurm prints it.

    Compact forms (``CG``), suffixes (``CANCELLED+``, ``CANCELLED by 0``) and lower case are
    accepted; anything else is UNKNOWN.
    """
    return CONDITIONS.get(full_name(state), JobPhase.UNKNOWN)


def full_name(state: str) -> str:
    """Return the name of a state in capitals, without suffixes."""
    words = state.split(maxsplit=1)
    name = words[0][:SHOWN].rstrip("+").upper() if words else ""
    return COMPACT.get(name, name)


def never_starts(reason: str) -> str | None:
    """Return why a pending job with this reason starts only if somebody does something, and what.

    None for reasons that pass.
    """
    word = _cause(reason)
    if word in _NEVER:
        return _NEVER[word]
    if _PER_JOB.fullmatch(word):
        return f"it asks for more than one job may have ({word}): {_RESUBMIT}"
    if _TOO_LITTLE.fullmatch(word):
        return f"it asks for less than its quality of service demands ({word}): {_RESUBMIT}"
    if _SPENT.fullmatch(word):
        return (
            f"what its account was granted is used up ({word}): ask the site for more, or give "
            "another account in slurm_options and create the run again"
        )
    return None


def explain(state: str, reason: str) -> str:
    """Return one phrase about a job, for people: what it does, and the scheduler's own words."""
    name = full_name(state)
    found = condition(state)
    phrase = _STATE_PHRASES.get(name) or _CONDITION_PHRASES[found]
    cause = _cause(reason)
    if found is JobPhase.WAITING:
        never = never_starts(reason)
        if never is not None:
            return f"never starts: {never} ({_words(name, cause)})"
        more = _REASON_PHRASES.get(cause)
        if name == "PENDING" and more is not None:
            phrase = f"{phrase} {more}"
    return f"{phrase} ({_words(name, cause)})"


def _words(name: str, cause: str) -> str:
    return f"{name} {cause}".strip() or "no state"


def _cause(reason: str) -> str:
    """Return a reason as one word, without details (``ReqNodeNotAvail, UnavailableNodes:n1``).

    Some are sentences, which squeue prints with spaces and scontrol with underscores.
    """
    text = reason.strip().strip("()").partition(",")[0][:SHOWN]
    return "" if text in ("None", "N/A", "null") else "_".join(text.split())
