"""Build Slurm's query commands and parse their output.

This covers the output of Slurm 20.02 and later. The parsers skip unknown lines, so a job that is
missing in an answer is unknown, never ended.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from motoko.launcher.schedulers.base import JobEntry, Limits
from motoko.launcher.schedulers.slurm.states import job_status

if TYPE_CHECKING:
    from collections.abc import Iterable, Sized

    from motoko.launcher.schedulers.base import JobId

SEPARATOR: Final = "|"
# The name comes last: it alone may contain the separator.
QUEUE_FORMAT: Final = SEPARATOR.join(("%F", "%K", "%T", "%r", "%k", "%j"))
ACCOUNTING_FIELDS: Final = ("JobID", "State", "ExitCode", "Reason")
MAX_TASKS: Final = 100_000  # listed one by one for a line
MAX_ENTRIES: Final = 1_000_000  # in an answer, before a line counts as one entry
EMPTY_VALUES: Final = frozenset({"", "(null)", "N/A", "None"})
UNKNOWN_JOB: Final = "Invalid job id"

# ASCII digits of limited length: Python refuses to convert thousands of digits.
_JOB: Final = re.compile(r"[0-9]{1,18}")
_PART: Final = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9})(?::([1-9][0-9]{0,8}))?)?")
_ACCOUNTED: Final = re.compile(r"([0-9]{1,18})(?:_([0-9]{1,9}|\[.*\]?))?")
_SHOWN_ID: Final = re.compile(
    r"JobId=([0-9]{1,18})(?: ArrayJobId=([0-9]{1,18}) ArrayTaskId=(\S+))?(?=\s)"
)
# The text before the state is part of the pattern because a job's name may look like a state.
_SHOWN_STATE: Final = re.compile(
    r"\sAccount=\S* QOS=\S*(?: WCKey=\S*)?\s+JobState=(\S+) Reason=(\S*) Dependency="
)
_EXIT: Final = re.compile(r"([0-9]{1,5}):[0-9]{1,5}")
_SETTING: Final = re.compile(r"([A-Za-z_]\w*)\s*=\s*(.*?)\s*")


def poll_command() -> tuple[str, ...]:
    """Return the squeue for all jobs of the user, in all states, pending arrays in one line."""
    return ("squeue", "--me", "--noheader", "--states=all", f"--format={QUEUE_FORMAT}")


def parse_poll(text: str) -> list[JobEntry]:
    """Return the jobs and array tasks that squeue lists."""
    entries: list[JobEntry] = []
    for line in text.splitlines():
        fields = line.split(SEPARATOR, 5)
        if len(fields) < 6 or _JOB.fullmatch(fields[0]) is None:
            continue  # the second line of a job's name
        job, tasks, state, reason, comment, _ = fields
        status = job_status(state, value(reason))
        for task in expand_tasks(tasks, _task_limit(entries)):
            entries.append(JobEntry(job, task, status, value(comment)))
    return entries


def expand_tasks(text: str, limit: int = MAX_TASKS) -> tuple[int | None, ...]:
    """Return the array indexes in a list such as ``[0-4,7,9-20:2%3]``, (None,) without an array.

    None at the end stands for the rest of a list that Slurm cut, or that exceeds ``limit``.
    """
    listed = text.strip().strip("[]").partition("%")[0].strip("]")
    if value(listed) == "":
        return (None,)
    found: list[int | None] = []
    cut = False
    for part in listed.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            cut = True
            continue
        first, last, step = match.groups()
        tasks = range(int(first), int(last or first) + 1, int(step or 1))
        if len(found) + len(tasks) > limit:
            cut = True
            break
        found += tasks
    return (*found, None) if cut else tuple(found)


def _task_limit(entries: Sized) -> int:
    return MAX_TASKS if len(entries) < MAX_ENTRIES else 0


def cancel_command(ids: Iterable[JobId]) -> tuple[str, ...]:
    """Return the scancel for jobs and array tasks."""
    return ("scancel", *(job if task is None else f"{job}_{task}" for job, task in ids))


def accounting_command(jobs: Iterable[str]) -> tuple[str, ...]:
    """Return the sacct for jobs; an array's id stands for all its tasks."""
    wanted = (f"--format={','.join(ACCOUNTING_FIELDS)}", f"--jobs={','.join(jobs)}")
    return ("sacct", "--allocations", "--parsable2", "--noheader", *wanted)


def parse_accounting(text: str) -> list[JobEntry]:
    """Return the jobs and tasks that sacct lists."""
    entries: list[JobEntry] = []
    for line in text.splitlines():
        fields = line.split(SEPARATOR)
        match = _ACCOUNTED.fullmatch(fields[0])
        if match is None or len(fields) < len(ACCOUNTING_FIELDS):
            continue
        status = job_status(fields[1], value(fields[3]), exit_code(fields[2]))
        for task in expand_tasks(match[2] or "", _task_limit(entries)):
            entries.append(JobEntry(match[1], task, status))
    return entries


def lookup_command(job: str) -> tuple[str, ...]:
    """Return the scontrol that describes a job, an array with all its tasks, or one task."""
    return ("scontrol", "--oneliner", "show", "job", job)


def parse_lookup(text: str) -> list[JobEntry]:
    """Return the jobs and tasks that ``scontrol show job`` describes."""
    entries: list[JobEntry] = []
    for part in re.split(r"^(?=JobId=)", text, flags=re.MULTILINE):
        ids, state = _SHOWN_ID.match(part), _SHOWN_STATE.search(part)
        if ids is None or state is None:
            continue
        job, array, tasks = ids.groups()
        after = part[state.end() :]  # the part before may be anything: the job's name
        code = exit_code(_shown_value(after, "ExitCode"))
        status = job_status(state[1], value(state[2]), code)
        comment = value(_shown_value(after, "Comment"))
        for task in expand_tasks(tasks or "", _task_limit(entries)):
            entries.append(JobEntry(array or job, task, status, comment))
    return entries


def is_unknown_job(stderr: str) -> bool:
    """Return whether scontrol has no such job."""
    return UNKNOWN_JOB in stderr


def _shown_value(text: str, key: str) -> str:
    found = re.search(rf"\s{key}=(\S*)", text)
    return "" if found is None else found[1]


def exit_code(text: str) -> int | None:
    """Return the exit status in Slurm's ``status:signal``, None in any other text."""
    found = _EXIT.fullmatch(text.strip())
    return None if found is None else int(found[1])


def value(text: str) -> str:
    """Return a printed value, "" for Slurm's words for none."""
    return "" if text in EMPTY_VALUES else text


def limits_command() -> tuple[str, ...]:
    """Return the scontrol that shows the site's configuration."""
    return ("scontrol", "show", "config")


def parse_limits(text: str) -> Limits:
    """Return the site's limits. Array indexes count from 0."""
    matches = filter(None, map(_SETTING.fullmatch, text.splitlines()))
    settings = {match[1]: value(match[2]) for match in matches}
    largest = _number(settings.get("MaxArraySize", ""))
    tasks = _number(settings.get("SchedulerParameters", ""), r"(?:.*,)?\s*max_array_tasks=")
    accounting = settings.get("AccountingStorageType", "")
    sizes = [number for number in (largest, tasks) if number is not None]
    return Limits(
        max_array_size=min(sizes, default=None),
        has_accounting=bool(accounting) and not accounting.endswith("/none"),
    )


def _number(text: str, before: str = "") -> int | None:
    found = re.match(rf"{before}([0-9]{{1,18}})(?![0-9])", text)
    return None if found is None else int(found[1])
