"""The interface of batch schedulers: pure functions that build commands and parse their output."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from motoko.core.run_options import RunOptions

# The scheduler's id of a submission and the index in its array, None for the job as a whole.
JobId = tuple[str, int | None]


class JobPhase(Enum):
    """The state of a scheduler job, in words common to all schedulers."""

    PENDING = "pending"
    RUNNING = "running"
    SUSPENDED = "suspended"
    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed out"
    LIMIT_EXCEEDED = "exceeded a limit"
    NODE_FAILURE = "node failure"  # not the run's fault: retried without counting
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"  # no information: poll again

    @property
    def has_ended(self) -> bool:
        """Whether the job has ended."""
        return self not in _ACTIVE


_ACTIVE: Final = frozenset(
    {JobPhase.PENDING, JobPhase.RUNNING, JobPhase.SUSPENDED, JobPhase.UNKNOWN}
)


@dataclass(frozen=True, slots=True)
class Seen:
    """A job that the scheduler reports: its phase, and the scheduler's own state and reason.

    ``description`` is a phrase for users; ``notable``: it explains why the job does not run.
    ``is_new``: the job waits for its first start. ``exit_code`` is None if unknown.
    """

    phase: JobPhase
    state: str = ""
    reason: str = ""
    description: str = ""
    notable: bool = False
    is_new: bool = False
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class NotSeen:
    """A job that the scheduler does not report."""


NOT_SEEN: Final = NotSeen()
JobStatus = Seen | NotSeen


@dataclass(frozen=True, slots=True)
class JobEntry:
    """One job or array task in a scheduler's answer.

    ``task`` None in the entry of an array stands for every task that has no entry itself.
    """

    job: str
    task: int | None
    status: Seen
    comment: str = ""

    @property
    def id(self) -> JobId:
        """The scheduler's id."""
        return self.job, self.task


@dataclass(frozen=True, slots=True)
class SubmitRequest:
    """A submission. ``tasks`` above 1: an array with indexes from 0.

    ``comment`` identifies the job later. ``timeout`` is in seconds, None for no limit.
    """

    script: str
    name: str
    comment: str
    directory: str
    log: str
    tasks: int = 1
    nproc: int = 1
    timeout: float | None = None
    options: tuple[str, ...] = ()


class SubmitFailure(Enum):
    """Why a submission failed."""

    UNCONFIRMED = "the scheduler may have accepted it"
    RETRY_LATER = "the scheduler may accept it later"
    REFUSED = "the scheduler never accepts it as it is"


@dataclass(frozen=True, slots=True)
class Limits:
    """The configuration of a site. ``max_array_size`` is None if unknown."""

    max_array_size: int | None = None
    has_accounting: bool = False


class Scheduler(Protocol):
    """One batch scheduler. No method has effects; the batch executor runs the commands."""

    name: str  # the value of ``generator:`` that selects it
    submit_program: str  # must be on PATH
    missing_hint: str  # advice for users without that program
    task_index: str  # shell expression: the index of the array task, 0 outside an array
    restart_count: str  # shell expression: how often the scheduler restarted the job

    def environment(self, base: Mapping[str, str], *, submitting: bool) -> dict[str, str]:
        """Return the variables for a command. Jobs inherit those of a submission."""

    def options_of(self, options: RunOptions) -> tuple[str, ...]:
        """Return the scheduler options that the user gave for a run."""

    def submit_command(self, request: SubmitRequest) -> tuple[str, ...]:
        """Return the command that submits; raise ConfigError for an invalid option."""

    def parse_submitted(self, text: str) -> str:
        """Return the new job's id; raise ValueError if the output contains none."""

    def classify_failure(self, stderr: str) -> SubmitFailure:
        """Return the meaning of a failed request's stderr."""

    def error_message(self, stderr: str) -> str:
        """Return the line of stderr that explains an error, "" if none does."""

    def poll_command(self) -> tuple[str, ...]:
        """Return the command that lists all jobs of the user."""

    def parse_poll(self, text: str) -> list[JobEntry]:
        """Return the listed jobs and array tasks."""

    def lookup_command(self, job: str) -> tuple[str, ...]:
        """Return the command that describes one job and all its tasks."""

    def parse_lookup(self, text: str) -> list[JobEntry]:
        """Return the described job or its tasks."""

    def is_unknown_job(self, stderr: str) -> bool:
        """Return whether a lookup failed because the scheduler has no such job."""

    def accounting_command(self, jobs: Iterable[str]) -> tuple[str, ...]:
        """Return the command that reads jobs from the accounting."""

    def parse_accounting(self, text: str) -> list[JobEntry]:
        """Return the accounted jobs and tasks."""

    def cancel_command(self, ids: Iterable[JobId]) -> tuple[str, ...]:
        """Return the command that cancels jobs and tasks."""

    def limits_command(self) -> tuple[str, ...]:
        """Return the command that shows the site's configuration."""

    def parse_limits(self, text: str) -> Limits:
        """Return the site's limits."""
