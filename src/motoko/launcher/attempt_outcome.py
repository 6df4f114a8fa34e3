"""Decide how an attempt ended, from its exit status or other evidence: no effects."""

from __future__ import annotations

import signal
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Final

from motoko.core.states import Lifecycle
from motoko.errors import nearest
from motoko.printable import join_names

if TYPE_CHECKING:
    from collections.abc import Iterable

LAST_SIGNAL: Final = 64
MAX_NAMES: Final = 5  # run fields or processes that a reason names
SHELL_SIGNAL: Final = 128  # a shell adds the number of the signal


@dataclass(frozen=True, slots=True)
class AttemptOutcome:
    """The end of an attempt: a terminal state, with exit code and reason."""

    state: Lifecycle
    exit_code: int | None = None
    reason: str | None = None

    def with_reason(self, reason: str) -> AttemptOutcome:
        """Return the outcome with a further reason."""
        return replace(self, reason=f"{self.reason}; {reason}" if self.reason else reason)


def exit_code(status: int) -> int:
    """Return the exit code of a shell's status, -n after signal n."""
    if SHELL_SIGNAL < status <= SHELL_SIGNAL + LAST_SIGNAL:
        return SHELL_SIGNAL - status
    return status


def signal_name(number: int) -> str:
    """Return the name of a signal."""
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
    """Return the outcome of an attempt with this exit status, None if there is no exit record.

    ``stopped``: why the launcher ended it. ``failed``: the failure that its script reported.
    ``fault``: why its files cannot be read.
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
        cause = f"killed by {signal_name(-code)}" if code < 0 else f"exit code {code}"
        reasons.insert(0, failed or cause)
    state = Lifecycle.FAILED if reasons else Lifecycle.FINISHED
    return AttemptOutcome(state, code, "; ".join(reasons) or None)


def check_fields(
    found: AttemptOutcome, declared: Iterable[str], given: Iterable[str], *, required: bool
) -> AttemptOutcome:
    """Return the outcome of a finished run, with a reason if its fields are not as declared.

    ``required``: a missing field makes the run FAILED.
    """
    missing, unknown = set(declared) - set(given), set(given) - set(declared)
    if found.state is not Lifecycle.FINISHED or not declared or not (missing or unknown):
        return found
    reasons = []
    if missing:
        reasons.append(f"it did not set {_quote(missing)}")
    if unknown:
        near = [(name, nearest(name, missing or declared)) for name in sorted(unknown)]
        meant = ", ".join(dict.fromkeys(repr(other) for _, other in near if other))
        question = f" (did you mean {meant}?)" if meant else ""
        reasons.append(f"it set {_quote(unknown)}, not declared in bd.yaml{question}")
    state = Lifecycle.FAILED if required and missing else Lifecycle.FINISHED
    return AttemptOutcome(state, found.exit_code, "; ".join(reasons))


def _quote(names: Iterable[str]) -> str:
    return join_names(map(repr, sorted(names)), MAX_NAMES)


class Finding(Enum):
    """The conclusion about an attempt of an earlier launcher."""

    NEVER_STARTED = "never started"
    RECLAIMED = "reclaimed"
    UNCLEAR = "unclear"
    RUNNING = "running"
    ENDED = "ended"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Evidence:
    """The files that an attempt left, and whether its process is alive.

    ``started``: it has a start file; ``reclaimed``: a launcher wrote it to requeue the run;
    ``process_known``: it names a process. ``status``: the exit record. ``fault``: why files cannot
    be read.
    """

    started: bool = False
    reclaimed: bool = False
    process_known: bool = False
    alive: bool = False
    status: int | None = None
    fault: str | None = None


def judge(evidence: Evidence) -> Finding:
    """Return the conclusion from the evidence about an attempt.

    A living process outweighs the exit record, which any process can write.
    """
    if evidence.alive:
        return Finding.RUNNING
    if evidence.status is not None:
        return Finding.ENDED
    if not evidence.started:
        return Finding.NEVER_STARTED
    if evidence.reclaimed:
        return Finding.RECLAIMED
    return Finding.LOST if evidence.process_known else Finding.UNCLEAR
