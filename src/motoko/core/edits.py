"""Edits of runs, as pure functions from record to record.

An edit that the run's lifecycle does not allow raises StateError. ``conflicts_with`` reports
whether a concurrent commit changed what the edit writes. Times are seconds since the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Protocol

from motoko.core.records import RunRecord, Transition
from motoko.core.states import ACTIVE, RESERVED_LABELS, Lifecycle, check_label, check_transition
from motoko.core.values import MISSING, values_equal
from motoko.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Mapping

REASON: Final = 200  # characters of a reason in the history; the run has all of the last one


class RunEdit(Protocol):
    """One change of one run."""

    def apply(self, run: RunRecord) -> RunRecord:
        """Return the changed record."""
        ...

    def conflicts_with(self, seen: RunRecord, fresh: RunRecord) -> bool:
        """Return whether what this edit writes differs between the two records."""
        ...


def _asked_to_cancel(run: RunRecord) -> str:
    """Return who asked to cancel an active run, empty if nobody did."""
    if not run.cancel_requested:
        return ""
    return run.reason or "cancelled on request"


def _shortened(reason: str) -> str:
    """Return a reason as a history keeps it: on one line, for a script may give any text."""
    line = " ".join(reason.split())
    return line if len(line) <= REASON else f"{line[: REASON - 3]}..."


def _moved(run: RunRecord, new: Lifecycle, at: float, cause: str, **changes: Any) -> RunRecord:
    check_transition(str(run.key), run.lifecycle, new)
    attempt = changes.get("attempt", run.attempt)
    history = (*run.history, Transition(at, new.value, cause, attempt))
    return replace(run, lifecycle=new, history=history, **changes)


@dataclass(frozen=True, slots=True)
class SetFields:
    """Set some of a run's free-form fields; those set to MISSING are removed."""

    fields: Mapping[str, Any]

    def apply(self, run: RunRecord) -> RunRecord:
        """Return the record with these fields, the later commit winning field by field."""
        merged = {**run.fields, **self.fields}
        return replace(run, fields={k: v for k, v in merged.items() if v is not MISSING})

    def conflicts_with(self, seen: RunRecord, fresh: RunRecord) -> bool:
        """Return whether one of these fields was changed by somebody else."""
        return any(
            not values_equal(seen.fields.get(name, MISSING), fresh.fields.get(name, MISSING))
            for name in self.fields
        )


@dataclass(frozen=True, slots=True)
class SetLabel:
    """Label a run that has ended; its own outcome as label removes the label."""

    label: str
    at: float
    cause: str

    def apply(self, run: RunRecord) -> RunRecord:
        """Return the labelled record; StateError where the lifecycle forbids it."""
        label = check_label(self.label)
        if label == Lifecycle.CREATED:
            raise StateError(
                f"run {run.key} cannot be set to CREATED",
                hint="To run it again use run.retry() or `motoko retry`.",
            )
        if not run.lifecycle.is_terminal:
            raise StateError(
                f"run {run.key} is {run.lifecycle} and cannot be labelled {label!r} before it ends",
                hint="Labels are for runs that have ended; only a run's own script may set one "
                "earlier.",
            )
        if label in RESERVED_LABELS and label != run.lifecycle:
            raise StateError(
                f"run {run.key} ended {run.lifecycle} and cannot be made {label} by a label",
                hint=f"Outcomes are evidence. Setting {run.lifecycle} removes the label.",
            )
        new = None if label == run.lifecycle else label
        if new == run.label:
            return run
        move = Transition(self.at, label, self.cause, run.attempt)
        return replace(run, label=new, history=(*run.history, move))

    def conflicts_with(self, seen: RunRecord, fresh: RunRecord) -> bool:
        """Return whether the run's state or attempt was changed by somebody else."""
        return (seen.state, seen.lifecycle, seen.attempt) != (
            fresh.state,
            fresh.lifecycle,
            fresh.attempt,
        )


class _ByToken:
    """An edit that belongs to one attempt: evidence of any other attempt is ignored."""

    __slots__ = ()

    def conflicts_with(self, seen: RunRecord, fresh: RunRecord) -> bool:
        """Return False: the attempt's token decides."""
        return False


@dataclass(frozen=True, slots=True)
class Claim:
    """A launcher takes a CREATED run: a new attempt under a new token.

    ``scripts`` is the digest of the scripts that the attempt gets.
    """

    launcher: str
    token: str
    at: float
    scripts: str = ""

    def apply(self, run: RunRecord) -> RunRecord:
        """Return the SUBMITTED record; StateError unless the run is CREATED."""
        return _moved(
            run, Lifecycle.SUBMITTED, self.at, f"launcher {self.launcher}",
            attempt=run.attempt + 1, token=self.token, launcher=self.launcher, label=None,
            outbox_offset=0, process=None, exit_code=None, reason=None,
            scripts=self.scripts or run.scripts,
        )  # fmt: skip

    def conflicts_with(self, seen: RunRecord, fresh: RunRecord) -> bool:
        """Return whether somebody else claimed or cancelled the run."""
        return (seen.lifecycle, seen.attempt) != (fresh.lifecycle, fresh.attempt)


@dataclass(frozen=True, slots=True)
class MarkStarted(_ByToken):
    """The attempt runs: evidence from its start file."""

    token: str
    at: float
    cause: str
    process: tuple[int, int, str] | tuple[int, int, str, int, str] | None = None

    def apply(self, run: RunRecord) -> RunRecord:
        """Return the record in START, unchanged if the attempt is another or has moved on."""
        if run.token != self.token or run.lifecycle is not Lifecycle.SUBMITTED:
            return run
        return _moved(run, Lifecycle.START, self.at, self.cause, process=self.process)


@dataclass(frozen=True, slots=True)
class SetReason(_ByToken):
    """Keep what a batch scheduler says of an attempt that goes on, such as why it waits."""

    token: str
    at: float
    reason: str | None
    cause: str

    def apply(self, run: RunRecord) -> RunRecord:
        """Return the record with the reason, unchanged if the attempt is another or has ended."""
        if run.token != self.token or run.lifecycle not in ACTIVE or run.reason == self.reason:
            return run
        move = Transition(self.at, run.state, self.cause, run.attempt)
        return replace(run, reason=self.reason, history=(*run.history, move))


@dataclass(frozen=True, slots=True)
class ApplyOutbox(_ByToken):
    """Take over what the attempt's outbox says, up to byte ``consumed``."""

    token: str
    consumed: int
    at: float
    fields: Mapping[str, Any] = field(default_factory=dict)
    label: str | None = None

    def apply(self, run: RunRecord) -> RunRecord:
        """Return the record with the script's fields and label, unchanged if outdated."""
        if (
            run.token != self.token
            or self.consumed <= run.outbox_offset
            or run.lifecycle.is_terminal
        ):
            return run
        history = run.history
        if self.label is not None and self.label != run.label:
            history = (*history, Transition(self.at, self.label, "script", run.attempt))
        return replace(
            run,
            fields={**run.fields, **self.fields},
            label=self.label if self.label is not None else run.label,
            outbox_offset=self.consumed,
            history=history,
        )


@dataclass(frozen=True, slots=True)
class TransferAttempt(_ByToken):
    """Another launcher answers for the attempt from now on, its own having gone."""

    token: str
    launcher: str

    def apply(self, run: RunRecord) -> RunRecord:
        """Return the record with the new launcher, unchanged if the attempt is another."""
        if run.token != self.token or run.lifecycle not in ACTIVE:
            return run
        return replace(run, launcher=self.launcher)


@dataclass(frozen=True, slots=True)
class EndAttempt(_ByToken):
    """The attempt has ended. With attempts left, a bad end makes the run CREATED again.

    ``retries`` and ``retry_delay`` (seconds before the first of them, twice as long before each
    further one) are those that hold for the run, wherever they were given. ``steady``: when it
    ended, on the clock that the delay follows; None: ``at``.
    """

    token: str
    outcome: Lifecycle
    at: float
    cause: str
    exit_code: int | None = None
    reason: str | None = None
    retries: int = 0
    retry_delay: float = 0.0
    jitter: float = 1.0
    steady: float | None = None

    def apply(self, run: RunRecord) -> RunRecord:
        """Return the ended (or re-queued) record, unchanged if the attempt is another."""
        if run.token != self.token or run.lifecycle not in ACTIVE:
            return run
        label = run.label if self.outcome is Lifecycle.FINISHED else None
        asked = _asked_to_cancel(run) if self.outcome is Lifecycle.CANCELLED else ""
        reason = asked or self.reason
        cause = self.cause if reason is None else f"{self.cause}, {_shortened(reason)}"
        ended = _moved(
            run, self.outcome, self.at, cause,
            label=label, exit_code=self.exit_code, reason=reason,
        )  # fmt: skip
        again = self.outcome.is_failure and self.outcome is not Lifecycle.CANCELLED
        if again and not run.cancel_requested and run.tries - run.retry_base <= self.retries:
            return self._again(ended)
        return ended

    def _again(self, ended: RunRecord) -> RunRecord:
        tries = ended.tries - ended.retry_base
        wait = self.retry_delay * 2.0 ** min(tries - 1, 20) * self.jitter
        ended_at = self.at if self.steady is None else self.steady
        return _moved(
            ended, Lifecycle.CREATED, self.at, f"{self.cause}, retry {tries} of {self.retries}",
            token=None, launcher=None, not_before=ended_at + wait,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Requeue(_ByToken):
    """Take the attempt back; it does not count against ``retries``.

    A run that somebody asked to cancel meanwhile is CANCELLED instead. It is not tried again before
    ``not_before``, in seconds of the steady clock.
    """

    token: str
    at: float
    cause: str
    not_before: float = 0.0

    def apply(self, run: RunRecord) -> RunRecord:
        """Return the CREATED record, unchanged if the attempt is another or has ended."""
        if run.token != self.token or run.lifecycle not in ACTIVE:
            return run
        if run.cancel_requested:
            asked = _asked_to_cancel(run)
            return _moved(
                run, Lifecycle.CANCELLED, self.at, f"{self.cause}, {asked}",
                label=None, reason=asked,
            )  # fmt: skip
        return _moved(
            run, Lifecycle.CREATED, self.at, self.cause, token=None, launcher=None, label=None,
            reason=None, uncounted=run.uncounted + 1, not_before=self.not_before,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Retry:
    """A badly ended run goes back to CREATED, on request; with ``again`` any ended one.

    It has all its ``retries`` again.
    """

    at: float
    cause: str
    again: bool = False

    def apply(self, run: RunRecord) -> RunRecord:
        """Return the CREATED record; StateError unless the run has ended badly."""
        if not (run.lifecycle.is_failure or (self.again and run.lifecycle.is_terminal)):
            raise StateError(
                f"run {run.key} is {run.lifecycle} and cannot be retried",
                hint="Only runs that ended badly can be; for the same calculation again create "
                "it with another replicate.",
            )
        return _moved(
            run, Lifecycle.CREATED, self.at, self.cause,
            label=None, token=None, launcher=None, not_before=0.0, cancel_requested=False,
            retry_base=run.tries,
        )  # fmt: skip

    def conflicts_with(self, seen: RunRecord, fresh: RunRecord) -> bool:
        """Return whether the run has moved since."""
        return seen.lifecycle != fresh.lifecycle


@dataclass(frozen=True, slots=True)
class Cancel:
    """CREATED runs are cancelled at once; for others the launcher is asked to.

    Who asked first is the run's ``reason`` from then on.
    """

    at: float
    cause: str

    def apply(self, run: RunRecord) -> RunRecord:
        """Return the record, CANCELLED or with the request noted; ended runs stay as they are."""
        if run.lifecycle.is_terminal or run.cancel_requested:
            return run
        reason = f"cancelled by {self.cause}"
        if run.lifecycle is Lifecycle.CREATED:
            return _moved(run, Lifecycle.CANCELLED, self.at, self.cause, reason=reason)
        return replace(run, cancel_requested=True, reason=reason)

    def conflicts_with(self, seen: RunRecord, fresh: RunRecord) -> bool:
        """Return False: a request to cancel is for the run as it is by then."""
        return False
