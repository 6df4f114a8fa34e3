"""What is asked of the scheduler: to take runs, to say what became of them, to end them."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from motoko.core.sbatch_options import with_suggestion
from motoko.errors import ConfigError
from motoko.launcher.executors.batch.decide import JobStatus
from motoko.launcher.executors.batch.submission_files import LOG, SCRIPT
from motoko.launcher.schedulers.slurm.queries import (
    SiteConfig,
    accounting_command,
    cancel_command,
    config_command,
    parse_accounting,
    parse_config,
    parse_queue,
    parse_show_job,
    queue_command,
    show_job_command,
)
from motoko.launcher.schedulers.slurm.states import JobPhase
from motoko.launcher.schedulers.slurm.submit import (
    SubmitFailure,
    failure,
    file_pattern,
    parse_submitted,
    submit_command,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from motoko.core.run_options import RunOptions
    from motoko.launcher.executors.batch.submission_files import Submission
    from motoko.launcher.schedulers.slurm.commands import CommandRunner

PREFIX: Final = "motoko"
CANCELLED_AT_A_TIME: Final = 500
GONE: Final = "Invalid job id"

log = logging.getLogger(__name__)

Key = tuple[str, int | None]


@dataclass(frozen=True, slots=True)
class SubmitResult:
    """What came of a submission: the job's id, or what kind of failure it was and why.

    ``asked``: whether the scheduler was asked at all.
    """

    job: str | None = None
    failure: SubmitFailure | None = None
    why: str = ""
    asked: bool = True


@dataclass(frozen=True, slots=True)
class QueueSnapshot:
    """What the queue said: a word for each job or task, and the jobs of each of our batches.

    ``began``: when it was asked, in seconds of a monotonic clock. ``going``: the jobs of which
    something waits or runs.
    """

    began: float
    words: Mapping[Key, JobStatus] = field(default_factory=dict)
    jobs: Mapping[str, frozenset[str]] = field(default_factory=dict)
    going: frozenset[str] = frozenset()

    def word(self, token: str, job: str, task: int | None) -> JobStatus | None:
        """Return what is said of a task of a batch, None if nothing is."""
        if job not in self.jobs.get(token, ()):
            return None  # another job may have its id by now
        found = self.words.get((job, task))
        # Of an array whose list of tasks was cut short, None stands for the rest.
        return found if found is not None else self.words.get((job, None))


class QueueClient:
    """One workflow's side of a scheduler. ``mark`` tells its jobs apart from all others."""

    def __init__(self, scheduler: CommandRunner, mark: str) -> None:
        self._scheduler = scheduler
        self._mark = f"{PREFIX}:{mark}:"
        self._site: SiteConfig | None = None
        self._silent = False

    async def submit(self, batch: Submission, terms: RunOptions, name: str) -> SubmitResult:
        """Have the scheduler take a batch. LauncherError if there is no scheduler at all."""
        directory = str(batch.directory)
        try:
            argv = submit_command(
                f"{directory}/{SCRIPT}",
                name=name,
                comment=self._mark + batch.token,
                output=file_pattern(f"{directory}/{LOG}"),
                options=("open-mode=append", *terms.slurm_options),
                array=range(batch.size) if batch.size > 1 else None,
                nproc=terms.nproc,
                timeout_seconds=terms.timeout,
                chdir=directory,
            )
        except ConfigError as error:
            why = ". ".join(filter(None, (error.message, error.hint)))
            return SubmitResult(failure=SubmitFailure.REFUSED, why=why, asked=False)
        answer = await self._scheduler.run(argv, directory=directory)
        if not answer.good:
            kind = SubmitFailure.LOST if answer.unknown else failure(answer.stderr)
            return SubmitResult(failure=kind, why=with_suggestion(answer.error))
        try:
            return SubmitResult(parse_submitted(answer.stdout))
        except ValueError as error:
            return SubmitResult(failure=SubmitFailure.LOST, why=str(error))

    async def look(self) -> QueueSnapshot | None:
        """Ask the queue once for everything; None if it does not answer."""
        began = time.monotonic()
        answer = await self._scheduler.run(queue_command())
        if not answer.good:
            self._say(f"the queue does not answer, nothing changes meanwhile: {answer.error}")
            return None
        self._say(None)
        words: dict[Key, JobStatus] = {}
        jobs: dict[str, set[str]] = {}
        for entry in await asyncio.to_thread(parse_queue, answer.stdout):
            if entry.comment.startswith(self._mark):
                words[entry.job, entry.task] = JobStatus(entry.state, entry.reason)
                jobs.setdefault(entry.comment.removeprefix(self._mark), set()).add(entry.job)
        going = frozenset(job for (job, _), word in words.items() if not word.condition.is_end)
        return QueueSnapshot(
            began, words, {token: frozenset(ids) for token, ids in jobs.items()}, going
        )

    def _say(self, trouble: str | None) -> None:
        if trouble is not None and not self._silent:
            log.warning("%s", trouble)
        elif trouble is None and self._silent:
            log.warning("the queue answers again")
        self._silent = trouble is not None

    async def ask(self, jobs: Mapping[str, str]) -> tuple[dict[Key, JobStatus], set[str]]:
        """Ask all other sources about jobs, with the tokens of their batches, that are not listed.

        Returns what they say, and the jobs of which every source gave an answer.
        """
        found: dict[Key, JobStatus] = {}
        asked: set[str] = set()
        others: set[str] = set()
        for job, token in sorted(jobs.items()):
            answer = await self._scheduler.run(show_job_command(job))
            if answer.good or GONE in answer.stderr:
                asked.add(job)
            for entry in parse_show_job(answer.stdout):
                if entry.comment not in ("", self._mark + token):
                    others.add(entry.job)  # another job has its id by now
                    continue
                found[entry.job, entry.task] = JobStatus(
                    entry.state, entry.reason, entry.status, entry.restarts or 0
                )
        site = await self.site()
        if asked and (site is None or site.accounts):
            answer = await self._scheduler.run(accounting_command(sorted(asked)))
            if not answer.good:
                return found, set()
            for record in parse_accounting(answer.stdout):
                word = JobStatus(record.state, record.reason, record.status, record.restarts or 0)
                if word.condition is not JobPhase.UNKNOWN and record.job not in others:
                    found.setdefault((record.job, record.task), word)
        return found, asked

    async def cancel(self, ids: list[str]) -> bool:
        """Have jobs and tasks ended; returns whether the scheduler took note of all."""
        good = True
        for start in range(0, len(ids), CANCELLED_AT_A_TIME):
            argv = cancel_command(ids[start : start + CANCELLED_AT_A_TIME])
            answer = await self._scheduler.run(argv)
            if answer.unknown is not None:
                log.warning("jobs are still to be cancelled: %s", answer.error)
                good = False
        return good

    async def site(self) -> SiteConfig | None:
        """Return what is known of the site's configuration, None while it does not answer."""
        if self._site is None:
            answer = await self._scheduler.run(config_command())
            if answer.good:
                self._site = parse_config(answer.stdout)
        return self._site
