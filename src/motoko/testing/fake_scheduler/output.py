"""Slurm's output: templates of what Slurm 22.05 prints, with the values of jobs put in."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from motoko.testing.fake_scheduler.cluster import PENDING, SUSPENDED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from motoko.testing.fake_scheduler.cluster import Cluster, FakeTask

NOTHING: Final = "(null)"
SHORT: Final = 64
FOR_EVER: Final = 365 * 86400.0

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
MinJobAge               = {remembered:.0f} sec
SLURM_VERSION           = 22.05.8
"""


def indexes(numbers: Sequence[int], throttle: int | None = None, *, cut: bool = False) -> str:
    """Return indexes of tasks as Slurm writes them: runs of neighbours, or one step for all."""
    text = ",".join(_ranges(sorted(numbers)))
    if cut and len(text) >= SHORT:
        text = text[: text.rindex(",", 0, SHORT - 2) + 1] + "..."
    return text if throttle is None else f"{text}%{throttle}"


def _ranges(numbers: Sequence[int]) -> Iterable[str]:
    start = 0
    for at in range(1, len(numbers) + 1):
        if at == len(numbers) or numbers[at] != numbers[at - 1] + 1:
            first, last = numbers[start], numbers[at - 1]
            yield str(first) if first == last else f"{first}-{last}"
            start = at


def lines(tasks: Iterable[FakeTask]) -> list[list[FakeTask]]:
    """Return the tasks as they share lines: what never started of an array stands together."""
    shared: dict[object, list[FakeTask]] = {}
    for task in tasks:
        alone = task.started is not None or task.index is None or task.restarts > 0
        key = task if alone else (task.job, task.state, task.reason)
        shared.setdefault(key, []).append(task)
    return list(shared.values())


def queue(tasks: Iterable[FakeTask], pattern: str, *, cut: bool) -> str:
    """Return what squeue prints of listed tasks."""
    return "".join(f"{_queue_line(line, pattern, cut=cut)}\n" for line in lines(tasks))


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
    return indexes(numbers, throttle, cut=cut)


def shown(tasks: Iterable[FakeTask], now: float) -> str:
    """Return what ``scontrol --oneliner show job`` prints of tasks."""
    return "".join(_shown_line(line, now) for line in lines(tasks))


def _shown_line(line: list[FakeTask], now: float) -> str:
    task = line[0]
    job = task.job
    array = ""
    if task.index is not None:
        throttle = "" if job.throttle is None else f"ArrayTaskThrottle={job.throttle} "
        array = f"ArrayJobId={job.id} ArrayTaskId={_indexes(line, cut=False)} {throttle}"
    began = task.started is not None
    end = task.ended
    if end is None and task.started is not None:
        end = task.started + (job.limit or FOR_EVER)
    preempted = moment(task.ended) if task.state == "PREEMPTED" else "None"
    settled = began or task.over
    return _JOB.format(
        id=task.id, array=array, name=job.name, priority=0 if task.wont_start else 4294901759,
        state=task.state, reason=task.reason.replace(" ", "_"), requeue=int(job.requeue),
        restarts=task.restarts, code=task.code, signal=task.signal,
        run_time=duration(0.0 if task.started is None else (task.ended or now) - task.started),
        limit=_limit(task), submitted=moment(task.submitted),
        started=moment(task.started if began else task.ended), ended=moment(end),
        preempt=f"PreemptEligibleTime={moment(task.started)} PreemptTime={preempted} "
        if settled else "",
        suspended=moment(task.suspended) if task.suspended is not None else "None",
        nodes="n1 BatchHost=n1" if began else "", cpus=job.cpus,
        tasks="N/A" if task.over and not began else 1,
        memory="" if began else "mem=16000M,", script=job.script, directory=job.directory,
        comment=f"Comment={job.comment}  " if job.comment else "", output=job.output,
    )  # fmt: skip


def _limit(task: FakeTask) -> str:
    if task.job.limit is not None:
        return duration(task.job.limit)
    return "365-00:00:00" if task.started is not None else "UNLIMITED"


def duration(seconds: float) -> str:
    """Return a duration as hours, minutes and seconds."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest:02d}"


def moment(seconds: float | None) -> str:
    """Return a moment as Slurm writes it."""
    return "Unknown" if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%FT%T}"


def config(cluster: Cluster) -> str:
    """Return the part of ``scontrol show config`` that matters for watching."""
    kind = "slurmdbd" if cluster.accounting else "none"
    return _CONFIG.format(
        now=moment(cluster.now()), accounting=f"accounting_storage/{kind}",
        max_array_size=cluster.max_array_size, remembered=cluster.remembered,
    )  # fmt: skip


def accounted(tasks: Iterable[FakeTask]) -> str:
    """Return what sacct prints: JobID, State, ExitCode and Reason."""
    return "".join(
        f"{_accounting_id(line)}|{_accounting_state(line[0])}|{line[0].code}:{line[0].signal}"
        f"|{line[0].reason}\n"
        for line in lines(tasks)
    )


def _accounting_id(line: list[FakeTask]) -> str:
    task = line[0]
    if task.index is None:
        return task.job.id
    waits = task.started is None
    index = f"[{_indexes(line, cut=False)}]" if waits else str(task.index)
    return f"{task.job.id}_{index}"


def _accounting_state(task: FakeTask) -> str:
    return "CANCELLED by 1000" if task.state == "CANCELLED" else task.state


__all__ = ["SUSPENDED", "accounted", "config", "indexes", "moment", "queue", "shown"]
