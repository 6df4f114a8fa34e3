"""Edits of runs, as pure functions from record to record.

An edit that the run's lifecycle does not allow raises StateError. ``conflicts_with`` reports
whether a concurrent commit changed what the edit writes. Times are seconds since the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Final

from motoko.core.provenance import UNKNOWN, add_reference
from motoko.core.records import RunRecord, Transition
from motoko.core.retry_policy import delay_before_retry, is_retried
from motoko.core.states import ACTIVE, RESERVED_LABELS, Lifecycle, check_label, check_transition
from motoko.core.values import MISSING, values_equal
from motoko.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Mapping

REASON: Final = 200  # characters of a reason in the history; the run keeps the full text


class RunEdit:
    """One change of one run. It conflicts if an attribute that it ``depends_on`` has changed."""

    __slots__ = ()
    depends_on: ClassVar[tuple[str, ...]] = ()

    def apply(self, run: RunRecord) -> RunRecord:
        """Return the changed record, or raise StateError if the lifecycle forbids the edit."""
        return self._edited(run)

    def _edited(self, run: RunRecord) -> RunRecord:
        return run

    def conflicts_with(self, seen: RunRecord, fresh: RunRecord) -> bool:
        """Return whether a concurrent commit changed what this edit depends on."""
        return any(getattr(seen, name) != getattr(fresh, name) for name in self.depends_on)


@dataclass(frozen=True, slots=True)
class EditSequence(RunEdit):
    """Edits of one run in order. The record is stored and indexed once, after the last one."""

    edits: tuple[RunEdit, ...]

    def _edited(self, run: RunRecord) -> RunRecord:
        for edit in self.edits:
            run = edit.apply(run)
        return run

    def conflicts_with(self, seen: RunRecord, fresh: RunRecord) -> bool:
        """Return whether a concurrent commit changed what one of the edits depends on."""
        return any(edit.conflicts_with(seen, fresh) for edit in self.edits)


def _cancel_reason(run: RunRecord) -> str:
    """Return the reason of a cancel request, empty without one."""
    return (run.reason or "cancelled on request") if run.cancel_requested else ""


def _shortened(reason: str) -> str:
    """Return a reason for the history: one line of bounded length."""
    line = " ".join(reason.split())
    return line if len(line) <= REASON else f"{line[: REASON - 3]}..."


def _transition(run: RunRecord, new: Lifecycle, at: float, cause: str, **changes: Any) -> RunRecord:
    check_transition(run.key, run.lifecycle, new)
    attempt = changes.get("attempt", run.attempt)
    history = (*run.history, Transition(at, new.value, cause, attempt))
    return run.changed(lifecycle=new, history=history, **changes)


@dataclass(frozen=True, slots=True)
class SetFields(RunEdit):
    """Set some of a run's free-form fields; MISSING removes a field."""

    fields: Mapping[str, Any]

    def _edited(self, run: RunRecord) -> RunRecord:
        merged = {**run.fields, **self.fields}
        return replace(run, fields={k: v for k, v in merged.items() if v is not MISSING})

    def conflicts_with(self, seen: RunRecord, fresh: RunRecord) -> bool:
        """Return whether one of these fields differs."""
        return any(
            not values_equal(seen.fields.get(name, MISSING), fresh.fields.get(name, MISSING))
            for name in self.fields
        )


@dataclass(frozen=True, slots=True)
class SetLabel(RunEdit):
    """Label a run in a terminal state; its own outcome as label removes the label."""

    depends_on: ClassVar = ("state", "lifecycle", "attempt")
    label: str
    at: float
    cause: str

    def _edited(self, run: RunRecord) -> RunRecord:
        label = check_label(self.label)
        if label == Lifecycle.CREATED:
            raise StateError(
                f"run {run.key} cannot be set to CREATED",
                hint="To run it again use run.retry() or `motoko retry`.",
            )
        if not run.lifecycle.is_terminal:
            raise StateError(
                f"run {run.key} is {run.lifecycle} and cannot be labelled {label!r} before it ends",
                hint="Only a run's own script may set a label before the run is in a terminal "
                "state.",
            )
        if label in RESERVED_LABELS and label != run.lifecycle:
            raise StateError(
                f"run {run.key} is {run.lifecycle} and a label cannot make it {label}",
                hint=f"Only evidence sets outcomes. Setting {run.lifecycle} removes the label.",
            )
        new = None if label == run.lifecycle else label
        if new == run.label:
            return run
        entry = Transition(self.at, label, self.cause, run.attempt)
        return replace(run, label=new, history=(*run.history, entry))


@dataclass(frozen=True, slots=True)
class _AttemptEdit(RunEdit):
    """An edit of the active attempt with its token; it leaves any other run unchanged."""

    token: str

    def apply(self, run: RunRecord) -> RunRecord:
        """Return the changed record, or the same one unless the attempt is active."""
        return self._edited(run) if run.token == self.token and run.lifecycle in ACTIVE else run


@dataclass(frozen=True, slots=True)
class Claim(RunEdit):
    """Claim a CREATED run for a launcher: a new attempt with a new token and scripts digest.

    ``provenance``: the reference of the attempt's facts.
    """

    depends_on: ClassVar = ("lifecycle", "attempt", "job")
    launcher: str
    token: str
    at: float
    scripts: str = ""
    provenance: bytes = UNKNOWN

    def _edited(self, run: RunRecord) -> RunRecord:
        return _transition(
            run, Lifecycle.SUBMITTED, self.at, f"launcher {self.launcher}",
            attempt=run.attempt + 1, token=self.token, launcher=self.launcher, label=None,
            outbox_offset=0, process=None, exit_code=None, reason=None,
            scripts=self.scripts or run.scripts,
            provenance=add_reference(run, run.attempt + 1, self.provenance),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class MarkStarted(_AttemptEdit):
    """Record that the attempt has started, as its start file shows.

    ``provenance``: the reference of the attempt's facts, if its start made more of them known.
    """

    at: float
    cause: str
    process: tuple[int, int, str] | tuple[int, int, str, int, str] | None = None
    provenance: bytes = UNKNOWN

    def _edited(self, run: RunRecord) -> RunRecord:
        if run.lifecycle is not Lifecycle.SUBMITTED:
            return run
        references = run.provenance
        if self.provenance:
            references = add_reference(run, run.attempt, self.provenance)
        return _transition(
            run, Lifecycle.START, self.at, self.cause,
            process=self.process, provenance=references,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class SetReason(_AttemptEdit):
    """Record the scheduler's reason for the state of an active attempt."""

    at: float
    reason: str | None
    cause: str

    def _edited(self, run: RunRecord) -> RunRecord:
        if run.reason == self.reason:
            return run
        entry = Transition(self.at, run.state, self.cause, run.attempt)
        return replace(run, reason=self.reason, history=(*run.history, entry))


@dataclass(frozen=True, slots=True)
class ApplyOutbox(_AttemptEdit):
    """Apply the attempt's outbox up to byte ``consumed``."""

    consumed: int
    at: float
    fields: Mapping[str, Any] = field(default_factory=dict)
    label: str | None = None

    def _edited(self, run: RunRecord) -> RunRecord:
        if self.consumed <= run.outbox_offset:
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
class TransferAttempt(_AttemptEdit):
    """Transfer an active attempt to another launcher."""

    launcher: str

    def _edited(self, run: RunRecord) -> RunRecord:
        return replace(run, launcher=self.launcher)


@dataclass(frozen=True, slots=True)
class EndAttempt(_AttemptEdit):
    """End an attempt. After a failure with retries left the run is CREATED again.

    ``retries`` and ``retry_delay`` are the run's resolved options; the delay doubles for each
    further retry. ``steady`` is the end on the clock of the delay, by default ``at``.
    """

    outcome: Lifecycle
    at: float
    cause: str
    exit_code: int | None = None
    reason: str | None = None
    retries: int = 0
    retry_delay: float = 0.0
    jitter: float = 1.0
    steady: float | None = None

    def _edited(self, run: RunRecord) -> RunRecord:
        label = run.label if self.outcome is Lifecycle.FINISHED else None
        cancelled = self.outcome is Lifecycle.CANCELLED
        reason = (cancelled and _cancel_reason(run)) or self.reason
        cause = self.cause if reason is None else f"{self.cause}, {_shortened(reason)}"
        ended = _transition(
            run, self.outcome, self.at, cause,
            label=label, exit_code=self.exit_code, reason=reason,
        )  # fmt: skip
        return self._retried(ended) if is_retried(run, self.outcome, self.retries) else ended

    def _retried(self, ended: RunRecord) -> RunRecord:
        tries = ended.tries - ended.retry_base
        wait = delay_before_retry(tries, self.retry_delay, self.jitter)
        ended_at = self.at if self.steady is None else self.steady
        return _transition(
            ended, Lifecycle.CREATED, self.at, f"{self.cause}, retry {tries} of {self.retries}",
            token=None, launcher=None, not_before=ended_at + wait,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Requeue(_AttemptEdit):
    """Put the run of an attempt back to CREATED; the attempt does not count against ``retries``.

    With a pending cancel request the run is CANCELLED instead. ``not_before`` is on the steady
    clock.
    """

    at: float
    cause: str
    not_before: float = 0.0

    def _edited(self, run: RunRecord) -> RunRecord:
        if run.cancel_requested:
            reason = _cancel_reason(run)
            return _transition(
                run, Lifecycle.CANCELLED, self.at, f"{self.cause}, {reason}",
                label=None, reason=reason,
            )  # fmt: skip
        return _transition(
            run, Lifecycle.CREATED, self.at, self.cause, token=None, launcher=None, label=None,
            reason=None, uncounted=run.uncounted + 1, not_before=self.not_before,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Retry(RunEdit):
    """Put a failed run back to CREATED with all its retries; ``again``: any terminal run."""

    depends_on: ClassVar = ("lifecycle",)
    at: float
    cause: str
    again: bool = False

    def _edited(self, run: RunRecord) -> RunRecord:
        if not (run.lifecycle.is_failure or (self.again and run.lifecycle.is_terminal)):
            raise StateError(
                f"run {run.key} is {run.lifecycle} and cannot be retried",
                hint="Only failed runs can be retried; to repeat a calculation create it with "
                "another replicate.",
            )
        return _transition(
            run, Lifecycle.CREATED, self.at, self.cause,
            label=None, token=None, launcher=None, not_before=0.0, cancel_requested=False,
            retry_base=run.tries,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cancel(RunEdit):
    """Cancel a CREATED run, or request it from the launcher of an active one."""

    at: float
    cause: str

    def _edited(self, run: RunRecord) -> RunRecord:
        if run.lifecycle.is_terminal or run.cancel_requested:
            return run
        reason = f"cancelled by {self.cause}"
        if run.lifecycle is Lifecycle.CREATED:
            return _transition(run, Lifecycle.CANCELLED, self.at, self.cause, reason=reason)
        return replace(run, cancel_requested=True, reason=reason)


@dataclass(frozen=True, slots=True)
class SetJob(RunEdit):
    """Give a run other job values, and the identity that follows from them.

    ``job_id`` is that of a new job; an existing job with these values is used instead.
    """

    depends_on: ClassVar = ("lifecycle", "attempt", "job", "identity")
    job: Mapping[str, Any]
    job_id: int
    identity: bytes
    at: float
    cause: str

    def _edited(self, run: RunRecord) -> RunRecord:
        if run.lifecycle in ACTIVE:
            raise StateError(
                f"run {run.key} is {run.lifecycle}, so its job parameters cannot change",
                hint="Wait until it ends, or cancel it.",
            )
        entry = Transition(self.at, run.state, self.cause, run.attempt)
        return replace(
            run, job=self.job, job_id=self.job_id, identity=self.identity,
            history=(*run.history, entry),
        )  # fmt: skip
