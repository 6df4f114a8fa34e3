"""Slurm's commands for watching built, what they print parsed: text in, records out.

Written for what Slurm 20.02 and later print; parsers skip lines that are not what they know, so
what is missing in an answer means "not said", never "gone".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from motoko.launcher.schedulers.slurm.states import full_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sized

SEPARATOR: Final = "|"
# The name comes last: it alone may contain the separator.
QUEUE_FORMAT: Final = SEPARATOR.join(("%F", "%K", "%T", "%r", "%k", "%j"))
ACCOUNTING_FIELDS: Final = ("JobID", "State", "ExitCode", "Reason")
MOST_TASKS: Final = 100_000  # that are listed one by one for a line
MOST_ENTRIES: Final = 1_000_000  # that an answer may have before its lines are listed as a whole
NOTHING: Final = frozenset({"", "(null)", "N/A", "None"})

# Numbers are ASCII and of a bounded length: Python refuses to read those of thousands of digits.
_JOB: Final = re.compile(r"[0-9]{1,18}")
_COUNT: Final = re.compile(r"[0-9]{1,9}")
_PART: Final = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9})(?::([1-9][0-9]{0,8}))?)?")
_ACCOUNTED: Final = re.compile(r"([0-9]{1,18})(?:_([0-9]{1,9}|\[.*\]?))?")
_SHOWN_ID: Final = re.compile(
    r"JobId=([0-9]{1,18})(?: ArrayJobId=([0-9]{1,18}) ArrayTaskId=(\S+))?(?=\s)"
)
# With what stands before it, for a job's name may look like a state.
_SHOWN_STATE: Final = re.compile(
    r"\sAccount=\S* QOS=\S*(?: WCKey=\S*)?\s+JobState=(\S+) Reason=(\S*) Dependency="
)
_EXIT: Final = re.compile(r"([0-9]{1,5}):([0-9]{1,5})")
_SETTING: Final = re.compile(r"([A-Za-z_]\w*)\s*=\s*(.*?)\s*")


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """One job, or task of an array, as squeue lists it.

    ``job`` is the id that sbatch answered; ``task`` the index in the array. In the entry of an
    array, ``task`` None means that Slurm cut the list of its tasks: any task not listed elsewhere
    may be in this state.
    """

    job: str
    task: int | None
    state: str
    reason: str
    name: str
    comment: str

    @property
    def id(self) -> str:
        """What scancel and scontrol call it."""
        return task_id(self.job, self.task)


@dataclass(frozen=True, slots=True)
class AccountingEntry:
    """One job or task in Slurm's accounting. ``status`` and ``signal`` of its script: None unknown.

    ``restarts``: how often it was put back into the queue, None where sacct did not say.
    """

    job: str
    task: int | None
    state: str
    status: int | None
    signal: int | None
    reason: str
    restarts: int | None


@dataclass(frozen=True, slots=True)
class JobEntry:
    """One job or task as ``scontrol show job`` describes it; ``nodes`` as Slurm writes them."""

    job: str
    task: int | None
    state: str
    reason: str
    status: int | None
    signal: int | None
    restarts: int | None
    nodes: str
    comment: str = ""


@dataclass(frozen=True, slots=True)
class SiteConfig:
    """What the launcher must know of a site; None where Slurm did not say. Times in seconds."""

    version: str | None = None
    max_array_size: int | None = None
    max_job_count: int | None = None
    min_job_age: int | None = None
    accounting: str | None = None

    @property
    def accounts(self) -> bool:
        """Whether ended jobs can be asked for with sacct."""
        return self.accounting is not None and not self.accounting.endswith("/none")


# --- watching -----------------------------------------------------------------------------------


def queue_command() -> tuple[str, ...]:
    """Return the one squeue for all of the user's jobs, in all states, pending arrays in a line."""
    return ("squeue", "--me", "--noheader", "--states=all", f"--format={QUEUE_FORMAT}")


def parse_queue(text: str) -> list[QueueEntry]:
    """Return what squeue lists: an entry for each job and each task of an array."""
    entries: list[QueueEntry] = []
    for line in text.splitlines():
        fields = line.split(SEPARATOR, 5)
        if len(fields) < 6 or _JOB.fullmatch(fields[0]) is None:
            continue  # a job's name went on in a second line
        job, tasks, state, reason, comment, name = fields
        entries += [
            QueueEntry(job, task, full_name(state), value(reason), name, value(comment))
            for task in tasks_of(tasks, _most(entries))
        ]
    return entries


def tasks_of(text: str, most: int = MOST_TASKS) -> tuple[int | None, ...]:
    """Return the tasks that squeue and scontrol name for one line, (None,) where there are none.

    ``3``, ``0-4,7,9-20%3`` and ``[0-10:2]`` name tasks. None stands after those that could be
    read for the rest of a list that was cut short, by Slurm or here after ``most``.
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
        if len(found) + len(tasks) > most:
            cut = True
            break
        found += tasks
    return (*found, None) if cut else tuple(found)


def _most(entries: Sized) -> int:
    return MOST_TASKS if len(entries) < MOST_ENTRIES else 0


def task_id(job: str, task: int | None) -> str:
    """Return what Slurm's commands call a task of an array, or a job if ``task`` is None."""
    return job if task is None else f"{job}_{task}"


def cancel_command(ids: Iterable[str]) -> tuple[str, ...]:
    """Return the scancel for jobs and tasks, by their ids."""
    return ("scancel", *ids)


def accounting_command(ids: Iterable[str], *, restarts: bool = False) -> tuple[str, ...]:
    """Return the sacct for jobs; an array's id stands for all of its tasks.

    ``restarts``: ask for the number of restarts too, which not every version knows.
    """
    fields = [*ACCOUNTING_FIELDS, "Restarts"] if restarts else ACCOUNTING_FIELDS
    wanted = (f"--format={','.join(fields)}", f"--jobs={','.join(ids)}")
    return ("sacct", "--allocations", "--parsable2", "--noheader", *wanted)


def parse_accounting(text: str) -> list[AccountingEntry]:
    """Return what sacct knows of jobs and tasks."""
    entries: list[AccountingEntry] = []
    for line in text.splitlines():
        fields = line.split(SEPARATOR)
        match = _ACCOUNTED.fullmatch(fields[0])
        if match is None or len(fields) < len(ACCOUNTING_FIELDS):
            continue
        status, signal = exit_code(fields[2])
        restarts = _count(fields[4]) if len(fields) > 4 else None
        entries += [
            AccountingEntry(
                match[1], task, full_name(fields[1]), status, signal, value(fields[3]), restarts
            )
            for task in tasks_of(match[2] or "", _most(entries))
        ]
    return entries


def show_job_command(job_id: str) -> tuple[str, ...]:
    """Return the scontrol that describes a job, an array with all its tasks, or one task."""
    return ("scontrol", "--oneliner", "show", "job", job_id)


def parse_show_job(text: str) -> list[JobEntry]:
    """Return what scontrol says of jobs and tasks."""
    entries: list[JobEntry] = []
    for part in re.split(r"^(?=JobId=)", text, flags=re.MULTILINE):
        who, what = _SHOWN_ID.match(part), _SHOWN_STATE.search(part)
        if who is None or what is None:
            continue
        job, array, tasks = who.groups()
        after = part[what.end() :]  # what comes before may be anything: the job's name
        status, signal = exit_code(_shown(after, "ExitCode"))
        entries += [
            JobEntry(
                array or job,
                task,
                full_name(what[1]),
                value(what[2]),
                status,
                signal,
                _count(_shown(after, "Restarts")),
                value(_shown(after, "NodeList")),
                value(_shown(after, "Comment")),
            )
            for task in tasks_of(tasks or "", _most(entries))
        ]
    return entries


def _shown(text: str, key: str) -> str:
    found = re.search(rf"\s{key}=(\S*)", text)
    return "" if found is None else found[1]


def exit_code(text: str) -> tuple[int | None, int | None]:
    """Return exit status and signal from Slurm's ``3:0``, None for both if it is something else."""
    found = _EXIT.fullmatch(text.strip())
    return (None, None) if found is None else (int(found[1]), int(found[2]))


def value(text: str) -> str:
    """Return a value that Slurm printed, "" where it printed that there is none."""
    return "" if text in NOTHING else text


# --- the site -----------------------------------------------------------------------------------


def config_command() -> tuple[str, ...]:
    """Return the scontrol that shows the site's configuration."""
    return ("scontrol", "show", "config")


def parse_config(text: str) -> SiteConfig:
    """Return what the launcher must know of the site's configuration.

    ``max_array_size`` is how many tasks an array may have whose indexes count from 0.
    """
    matches = filter(None, map(_SETTING.fullmatch, text.splitlines()))
    settings = {match[1]: value(match[2]) for match in matches}
    largest = _number(settings.get("MaxArraySize", ""))
    tasks = _number(settings.get("SchedulerParameters", ""), r"(?:.*,)?\s*max_array_tasks=")
    limits = [number for number in (largest, tasks) if number is not None]
    return SiteConfig(
        version=settings.get("SLURM_VERSION") or None,
        max_array_size=min(limits, default=None),
        max_job_count=_number(settings.get("MaxJobCount", "")),
        min_job_age=_number(settings.get("MinJobAge", "")),
        accounting=settings.get("AccountingStorageType") or None,
    )


def _number(text: str, before: str = "") -> int | None:
    found = re.match(rf"{before}([0-9]{{1,18}})(?![0-9])", text)
    return None if found is None else int(found[1])


def _count(text: str) -> int | None:
    return int(text) if _COUNT.fullmatch(text) else None
