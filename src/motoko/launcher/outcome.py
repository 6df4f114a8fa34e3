"""How an attempt ended, and what the evidence about it means: decisions without effects."""

from __future__ import annotations

import signal
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Final

from motoko.core.states import Lifecycle
from motoko.errors import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LAST_SIGNAL: Final = 64
MAX_NAMES: Final = 5  # run fields or processes that a reason names
SHELL_SIGNAL: Final = 128  # a shell's exit code for "killed by signal n" is this plus n


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
    shown = ", ".join([*names[:MAX_NAMES], "..."] if len(names) > MAX_NAMES else names)
    return _with_remark(found, f"it left what cannot be ended: {shown}")


def _with_remark(found: AttemptOutcome, remark: str) -> AttemptOutcome:
    return replace(found, reason=f"{found.reason}; {remark}" if found.reason else remark)


def _listed(names: Iterable[str]) -> str:
    shown = [repr(name) for name in sorted(names)]
    return ", ".join([*shown[:MAX_NAMES], "..."] if len(shown) > MAX_NAMES else shown)


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
