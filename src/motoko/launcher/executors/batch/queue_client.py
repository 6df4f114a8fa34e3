"""Submit, poll, look up and cancel the jobs of one workflow."""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from motoko.errors import ConfigError, LauncherError
from motoko.launcher.executors.batch.submission_files import SCRIPT
from motoko.launcher.schedulers.base import (
    NOT_SEEN,
    JobPhase,
    Limits,
    Seen,
    SubmitFailure,
    SubmitRequest,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from motoko.core.run_options import RunOptions
    from motoko.launcher.executors.batch.submission_files import Submission
    from motoko.launcher.schedulers.base import JobId, JobStatus, Scheduler
    from motoko.runtime.ports import Clock, CommandResult, CommandRunner

PREFIX: Final = "motoko"
MAX_CANCELLED: Final = 500  # jobs in one command

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SubmitResult:
    """The result of a submission: the job's id, or the failure and its error.

    ``sent``: the scheduler got the request.
    """

    job: str | None = None
    failure: SubmitFailure | None = None
    error: str = ""
    sent: bool = True


@dataclass(frozen=True, slots=True)
class QueueSnapshot:
    """The answer to a poll: the status of each job and task, and the jobs of each submission.

    ``time``: the start of the poll on a monotonic clock. ``active``: the jobs of which a task
    waits or runs.
    """

    time: float
    statuses: Mapping[JobId, Seen] = field(default_factory=dict)
    jobs: Mapping[str, frozenset[str]] = field(default_factory=dict)
    active: frozenset[str] = frozenset()

    def status_of(self, token: str, job_id: JobId) -> JobStatus:
        """Return the status of a submission's job or task."""
        job, _ = job_id
        if job not in self.jobs.get(token, ()):
            return NOT_SEEN  # another job may have its id now
        # In a truncated list of tasks, None stands for the rest.
        return self.statuses.get(job_id) or self.statuses.get((job, None)) or NOT_SEEN


class QueueClient:
    """A scheduler as one workflow sees it. ``mark`` distinguishes its jobs from all others."""

    def __init__(
        self,
        scheduler: Scheduler,
        commands: CommandRunner,
        mark: str,
        clock: Clock,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.scheduler = scheduler
        self._commands = commands
        self._mark = f"{PREFIX}:{mark}:"
        self._clock = clock
        self._environment = dict(os.environ if environment is None else environment)
        self._limits: Limits | None = None
        self._unavailable = False

    async def submit(self, submission: Submission, options: RunOptions, name: str) -> SubmitResult:
        """Submit a job. Raise LauncherError if the scheduler's program is missing."""
        directory = str(submission.directory)
        request = SubmitRequest(
            script=f"{directory}/{SCRIPT}",
            name=name,
            comment=self._mark + submission.token,
            directory=directory,
            log=f"{directory}/{self.scheduler.name}.log",
            tasks=submission.size,
            nproc=options.nproc,
            timeout=options.timeout,
            options=self.scheduler.options_of(options),
        )
        try:
            argv = self.scheduler.submit_command(request)
        except ConfigError as error:
            text = ". ".join(filter(None, (error.message, error.hint)))
            return SubmitResult(failure=SubmitFailure.REFUSED, error=text, sent=False)
        result = await self._run(argv, directory=directory)
        if result.not_found:
            raise LauncherError(str(result.problem), hint=self.scheduler.missing_hint)
        if not result.succeeded:
            failure = self._failure(result)
            unconfirmed = failure is SubmitFailure.UNCONFIRMED
            text = self._error(argv[0], result) if unconfirmed else self._message(result)
            return SubmitResult(failure=failure, error=text)
        try:
            return SubmitResult(self.scheduler.parse_submitted(result.stdout))
        except ValueError as error:
            return SubmitResult(failure=SubmitFailure.UNCONFIRMED, error=str(error))

    async def poll(self) -> QueueSnapshot | None:
        """Poll all jobs with one command; return None if the scheduler does not answer."""
        time = self._clock.monotonic()
        argv = self.scheduler.poll_command()
        result = await self._run(argv)
        self._log_availability(None if result.succeeded else self._error(argv[0], result))
        if not result.succeeded:
            return None
        statuses: dict[JobId, Seen] = {}
        jobs: dict[str, set[str]] = {}
        for entry in await asyncio.to_thread(self.scheduler.parse_poll, result.stdout):
            if entry.comment.startswith(self._mark):
                statuses[entry.id] = entry.status
                jobs.setdefault(entry.comment.removeprefix(self._mark), set()).add(entry.job)
        active = frozenset(job for (job, _), s in statuses.items() if not s.phase.has_ended)
        by_token = {token: frozenset(ids) for token, ids in jobs.items()}
        return QueueSnapshot(time, statuses, by_token, active)

    def _log_availability(self, error: str | None) -> None:
        if error is not None and not self._unavailable:
            log.warning("the queue does not answer, so no state changes: %s", error)
        elif error is None and self._unavailable:
            log.warning("the queue answers again")
        self._unavailable = error is not None

    async def lookup(self, jobs: Mapping[str, str]) -> tuple[dict[JobId, Seen], set[str]]:
        """Look up jobs that are not listed, given with the tokens of their submissions.

        Return their statuses, and the jobs about which every source answered.
        """
        found: dict[JobId, Seen] = {}
        answered: set[str] = set()
        others: set[str] = set()
        for job, token in sorted(jobs.items()):
            result = await self._run(self.scheduler.lookup_command(job))
            if result.succeeded or self.scheduler.is_unknown_job(result.stderr):
                answered.add(job)
            for entry in self.scheduler.parse_lookup(result.stdout):
                if entry.comment in ("", self._mark + token):
                    found[entry.id] = entry.status
                else:
                    others.add(entry.job)  # another job has its id now
        limits = await self.limits()
        if answered and (limits is None or limits.has_accounting):
            result = await self._run(self.scheduler.accounting_command(sorted(answered)))
            if not result.succeeded:
                return found, set()
            for entry in self.scheduler.parse_accounting(result.stdout):
                if entry.status.phase is not JobPhase.UNKNOWN and entry.job not in others:
                    found.setdefault(entry.id, entry.status)
        return found, answered

    async def cancel(self, ids: Sequence[JobId]) -> bool:
        """Cancel jobs and tasks; return whether the scheduler confirmed all requests."""
        confirmed = True
        for start in range(0, len(ids), MAX_CANCELLED):
            argv = self.scheduler.cancel_command(ids[start : start + MAX_CANCELLED])
            result = await self._run(argv)
            if not result.succeeded and self._failure(result) is SubmitFailure.UNCONFIRMED:
                log.warning("jobs are not cancelled yet: %s", self._error(argv[0], result))
                confirmed = False
        return confirmed

    async def limits(self) -> Limits | None:
        """Return the site's limits, None until the scheduler answers."""
        if self._limits is None:
            result = await self._run(self.scheduler.limits_command())
            if result.succeeded:
                self._limits = self.scheduler.parse_limits(result.stdout)
        return self._limits

    async def _run(self, argv: Sequence[str], *, directory: str | None = None) -> CommandResult:
        submitting = argv[0] == self.scheduler.submit_program
        environment = self.scheduler.environment(self._environment, submitting=submitting)
        return await self._commands.run(argv, environment=environment, directory=directory)

    def _failure(self, result: CommandResult) -> SubmitFailure:
        if result.problem is not None or result.status is None or result.status < 0:
            return SubmitFailure.UNCONFIRMED
        return self.scheduler.classify_failure(result.stderr)

    def _message(self, result: CommandResult) -> str:
        return self.scheduler.error_message(result.stderr) or f"exit status {result.status}"

    def _error(self, program: str, result: CommandResult) -> str:
        return result.problem or f"{program}: {self._message(result)}"
