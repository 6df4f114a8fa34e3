"""The output of Slurm 22.05, for the jobs of a `Cluster`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from motoko.testing.fake_scheduler.cluster import PENDING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from motoko.testing.fake_scheduler.cluster import Cluster, FakeTask

NOTHING: Final = "(null)"
MAX_LIST: Final = 64
NO_LIMIT: Final = 365 * 86400.0

_JOB: Final = (
    "JobId={id} {array}JobName={name} UserId=user(1000) GroupId=user(1000) MCS_label=N/A "
    "Priority={priority} Nice=0 Account=(null) QOS=(null) JobState={state} Reason={reason} "
    "Dependency=(null) Requeue={requeue} Restarts={restarts} BatchFlag=1 Reboot=0 "
    "ExitCode={code}:{signal} RunTime={run_time} TimeLimit={limit} TimeMin=N/A "
    "SubmitTime={submitted} EligibleTime={submitted} AccrueTime={submitted} StartTime={started} "
    "EndTime={ended} Deadline=N/A {preempt}SuspendTime={suspended} SecsPreSuspend=0 "
    "LastSchedEval={submitted} Scheduler=Main Partition=debug AllocNode:Sid=login:1 "
    "ReqNodeList=(null) ExcNodeList=(null) NodeList={nodes} NumNodes=1 NumCPUs={cpus} "
    "NumTasks={tasks} CPUs/Task={cpus} ReqB:S:C:T=0:0:*:* "
    "TRES=cpu={cpus},{memory}node=1,billing={cpus} Socks/Node=* NtasksPerN:B:S:C=0:0:*:* "
    "CoreSpec=* MinCPUsNode={cpus} MinMemoryNode=0 MinTmpDiskNode=0 Features=(null) "
    "DelayBoot=00:00:00 OverSubscribe=OK Contiguous=0 Licenses=(null) Network=(null) "
    "Command={script} WorkDir={directory} {comment}StdErr={output} StdIn=/dev/null "
    "StdOut={output} Power= \n"
)
_CONFIG: Final = """\
Configuration data as of {now}
AccountingStorageType   = {accounting}
MaxArraySize            = {max_array_size}
MaxJobCount             = 20000
MinJobAge               = {retention:.0f} sec
SLURM_VERSION           = 22.05.8
"""


def format_indexes(
    numbers: Sequence[int], throttle: int | None = None, *, cut: bool = False
) -> str:
    """Return array indexes in Slurm's notation, consecutive ones as ranges."""
    text = ",".join(_ranges(sorted(numbers)))
    if cut and len(text) >= MAX_LIST:
        text = text[: text.rindex(",", 0, MAX_LIST - 2) + 1] + "..."
    return text if throttle is None else f"{text}%{throttle}"


def _ranges(numbers: Sequence[int]) -> Iterable[str]:
    start = 0
    for at in range(1, len(numbers) + 1):
        if at == len(numbers) or numbers[at] != numbers[at - 1] + 1:
            first, last = numbers[start], numbers[at - 1]
            yield str(first) if first == last else f"{first}-{last}"
            start = at


def group_lines(tasks: Iterable[FakeTask]) -> list[list[FakeTask]]:
    """Group tasks by line: the tasks of an array that never started share one."""
    shared: dict[object, list[FakeTask]] = {}
    for task in tasks:
        alone = task.start_time is not None or task.index is None or task.restarts > 0
        key = task if alone else (task.job, task.state, task.reason)
        shared.setdefault(key, []).append(task)
    return list(shared.values())


def format_queue(tasks: Iterable[FakeTask], pattern: str, *, cut: bool) -> str:
    """Return squeue's output for listed tasks."""
    return "".join(f"{_queue_line(line, pattern, cut=cut)}\n" for line in group_lines(tasks))


def _queue_line(line: list[FakeTask], pattern: str, *, cut: bool) -> str:
    task = line[0]
    job = task.job
    index = "N/A" if task.index is None else _indexes(line, cut=cut)
    values = {
        "%F": job.id, "%i": job.id if task.index is None else f"{job.id}_{index}", "%K": index,
        "%T": task.state, "%r": task.reason, "%k": job.comment or NOTHING, "%j": job.name,
    }  # fmt: skip
    parts = pattern.split("%")
    return parts[0] + "".join(values[f"%{part[0]}"] + part[1:] for part in parts[1:])


def _indexes(line: list[FakeTask], *, cut: bool) -> str:
    numbers = [task.index for task in line if task.index is not None]
    throttle = line[0].job.throttle if line[0].state == PENDING else None
    return format_indexes(numbers, throttle, cut=cut)


def format_jobs(tasks: Iterable[FakeTask], now: float) -> str:
    """Return the output of ``scontrol --oneliner show job`` for tasks."""
    return "".join(_shown_line(line, now) for line in group_lines(tasks))


def _shown_line(line: list[FakeTask], now: float) -> str:
    task = line[0]
    job = task.job
    array = ""
    if task.index is not None:
        throttle = "" if job.throttle is None else f"ArrayTaskThrottle={job.throttle} "
        array = f"ArrayJobId={job.id} ArrayTaskId={_indexes(line, cut=False)} {throttle}"
    started = task.start_time is not None
    end = task.end_time
    if end is None and task.start_time is not None:
        end = task.start_time + (job.limit or NO_LIMIT)
    preempted = format_time(task.end_time) if task.state == "PREEMPTED" else "None"
    placed = started or task.has_ended
    return _JOB.format(
        id=task.id, array=array, name=job.name, priority=0 if task.is_held else 4294901759,
        state=task.state, reason=task.reason.replace(" ", "_"), requeue=int(job.requeue),
        restarts=task.restarts, code=task.code, signal=task.signal,
        run_time=format_duration(_run_time(task, now)),
        limit=_limit(task), submitted=format_time(task.submit_time),
        started=format_time(task.start_time if started else task.end_time), ended=format_time(end),
        preempt=f"PreemptEligibleTime={format_time(task.start_time)} PreemptTime={preempted} "
        if placed else "",
        suspended=format_time(task.suspend_time) if task.suspend_time is not None else "None",
        nodes="n1 BatchHost=n1" if started else "", cpus=job.cpus,
        tasks="N/A" if task.has_ended and not started else 1,
        memory="" if started else "mem=16000M,", script=job.script, directory=job.directory,
        comment=f"Comment={job.comment}  " if job.comment else "", output=job.output,
    )  # fmt: skip


def _run_time(task: FakeTask, now: float) -> float:
    return 0.0 if task.start_time is None else (task.end_time or now) - task.start_time


def _limit(task: FakeTask) -> str:
    if task.job.limit is not None:
        return format_duration(task.job.limit)
    return "365-00:00:00" if task.start_time is not None else "UNLIMITED"


def format_duration(seconds: float) -> str:
    """Return a duration as hours, minutes and seconds."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest:02d}"


def format_time(seconds: float | None) -> str:
    """Return a time in Slurm's notation."""
    return "Unknown" if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%FT%T}"


def format_config(cluster: Cluster) -> str:
    """Return the part of ``scontrol show format_config`` that matters for watching."""
    kind = "slurmdbd" if cluster.accounting else "none"
    return _CONFIG.format(
        now=format_time(cluster.now()), accounting=f"accounting_storage/{kind}",
        max_array_size=cluster.max_array_size, retention=cluster.retention,
    )  # fmt: skip


def format_accounting(tasks: Iterable[FakeTask]) -> str:
    """Return sacct's output: JobID, State, ExitCode and Reason."""
    return "".join(
        f"{_accounting_id(line)}|{_accounting_state(line[0])}|{line[0].code}:{line[0].signal}"
        f"|{line[0].reason}\n"
        for line in group_lines(tasks)
    )


def _accounting_id(line: list[FakeTask]) -> str:
    task = line[0]
    if task.index is None:
        return task.job.id
    is_pending = task.start_time is None
    index = f"[{_indexes(line, cut=False)}]" if is_pending else str(task.index)
    return f"{task.job.id}_{index}"


def _accounting_state(task: FakeTask) -> str:
    return "CANCELLED by 1000" if task.state == "CANCELLED" else task.state
