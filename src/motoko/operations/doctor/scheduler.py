"""Does the batch scheduler respond, and does the configuration fit its limits?"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, replace
from shutil import which
from typing import TYPE_CHECKING, Final

import anyio

from motoko.launcher.composition import SCHEDULERS
from motoko.operations.doctor.findings import Finding, fault, ok, warning
from motoko.operations.doctor.scripts import options_of
from motoko.printable import join_names, one_line
from motoko.runtime.commands import SystemCommandRunner

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from motoko.launcher.schedulers.base import Limits, Scheduler
    from motoko.operations.doctor.patient import Patient
    from motoko.runtime.ports import CommandResult

SECONDS: Final = 5.0  # for an answer of the scheduler


@dataclass(frozen=True, slots=True)
class SchedulerFacts:
    """A scheduler that studies use: its missing programs and its answers.

    ``poll`` and ``configuration`` are problems of the two queries, "" without one. ``limits``: of
    the site, None if unknown. ``missing_hint``: advice for missing programs.
    """

    name: str
    studies: Sequence[str]
    missing: Sequence[str] = ()
    missing_hint: str = ""
    poll: str = ""
    configuration: str = ""
    limits: Limits | None = None
    array_size: int = 0


def examine_scheduler(patient: Patient) -> list[Finding]:
    """Examine the schedulers that the studies of the workflow use."""
    written = patient.diagnosis.written
    users: dict[str, list[str]] = {}
    for name, study in patient.diagnosis.studies.items():
        users.setdefault(options_of(name, study, written).generator, []).append(name)
    findings: list[Finding] = []
    for name in users.keys() & SCHEDULERS.keys():
        facts = anyio.run(read, SCHEDULERS[name](), users[name])
        size = facts.array_size if written is None else written.array_size
        findings += judge(replace(facts, array_size=size))
    return findings or [ok("scheduler", "scheduler", "no study uses one")]


async def read(scheduler: Scheduler, studies: Sequence[str]) -> SchedulerFacts:
    """Look for the programs of a scheduler, and query it twice within a time limit."""
    commands = (
        (scheduler.submit_program,),
        scheduler.poll_command(),
        scheduler.cancel_command([("0", None)]),
    )
    missing = [argv[0] for argv in commands if which(argv[0]) is None]
    facts = SchedulerFacts(scheduler.name, studies, missing, scheduler.missing_hint)
    if missing:
        return facts
    runner = SystemCommandRunner()
    environment = scheduler.environment(os.environ, submitting=False)
    poll, site = await asyncio.gather(
        *(
            runner.run(argv, environment=environment, seconds=SECONDS)
            for argv in (scheduler.poll_command(), scheduler.limits_command())
        )
    )
    limits = scheduler.parse_limits(site.stdout) if site.succeeded else None
    return replace(
        facts, poll=_problem(poll, scheduler), configuration=_problem(site, scheduler),
        limits=limits,
    )  # fmt: skip


def _problem(result: CommandResult, scheduler: Scheduler) -> str:
    if result.succeeded:
        return ""
    printed = scheduler.error_message(result.stderr) or result.stderr.strip()
    return one_line(result.problem or printed or f"it exited with status {result.status}")


def judge(facts: SchedulerFacts) -> list[Finding]:
    """Return the findings about a scheduler."""
    return [*_judge(facts)] or [ok("scheduler", facts.name, _about(facts))]


def _judge(facts: SchedulerFacts) -> Iterator[Finding]:
    if facts.missing:
        message = f"{join_names(facts.missing)} not found on PATH; {_used_by(facts)}"
        yield fault("scheduler-missing", facts.name, message, facts.missing_hint)
        return
    if facts.poll:
        message = f"its queue cannot be read: {facts.poll}"
        step = "Launchers wait until it responds. Ask your site if this lasts."
        yield fault("scheduler-unresponsive", facts.name, message, step)
    if facts.configuration:
        message = f"its configuration cannot be read: {facts.configuration}"
        step = "Motoko then submits without knowing the limits of the site."
        yield warning("scheduler-configuration", facts.name, message, step)
    if facts.limits is None:
        return
    largest = facts.limits.max_array_size
    if largest is not None and facts.array_size > largest:
        message = f"array_size is {facts.array_size:,}, but the site allows {largest:,}"
        step = f"Motoko submits smaller arrays; `array_size: {largest}` in motoko.yaml says so."
        yield warning("scheduler-limit", facts.name, message, step)
    if not facts.limits.has_accounting:
        message = "it keeps no accounting of ended jobs"
        step = "Runs without an exit record may become LOST; keep run directories on a shared disk."
        yield warning("scheduler-accounting", facts.name, message, step)


def _about(facts: SchedulerFacts) -> str:
    largest = None if facts.limits is None else facts.limits.max_array_size
    limit = "" if largest is None else f"; arrays of at most {largest:,} runs"
    return f"responds; {_used_by(facts)}{limit}"


def _used_by(facts: SchedulerFacts) -> str:
    return f"used by {join_names(facts.studies)}"
