"""Answers the commands sbatch, squeue, scancel, scontrol and sacct."""

from __future__ import annotations

import re
from collections import Counter, defaultdict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from motoko.testing.fake_scheduler import output
from motoko.testing.fake_scheduler.cluster import FakeJob
from motoko.testing.fake_scheduler.failure_modes import FailureMode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from motoko.testing.fake_scheduler.cluster import Cluster, FakeTask

NAMES: Final = ("sbatch", "squeue", "scancel", "scontrol", "sacct")
AWAY: Final = "Unable to contact slurm controller (connect failure)"
TIMED_OUT: Final = "Socket timed out on send/recv operation"
UNKNOWN_ID: Final = "slurm_load_jobs error: Invalid job id specified\n"
NO_ACCOUNTING: Final = "Slurm accounting storage is disabled\n"
RETRYING: Final = "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\n"
FAILED: Final = "sbatch: error: Batch job submission failed: {}\n"
# How each of the commands says that it could not do what it was asked for, and its exit status.
TROUBLE: Final = {
    "sbatch": (1, FAILED),
    "squeue": (1, "slurm_load_jobs error: {}\n"),
    "scancel": (8, "scancel: error: Kill job error on job id {id}: {}\n"),
    "scontrol show job": (1, "slurm_load_jobs error: {}\n"),
    "scontrol show config": (1, "slurm_load_ctl_conf error: {}\n"),
    "sacct": (1, "sacct: error: slurm_persist_conn_open: {}\n"),
}
SHORT_OPTIONS: Final = {
    "-J": "job-name", "-o": "output", "-D": "chdir", "-c": "cpus-per-task", "-t": "time",
    "-a": "array", "-H": "hold", "-j": "jobs",
}  # fmt: skip
SHORT_WITH_VALUE: Final = frozenset("JoDctajpnNACwxdb")
BAD: Final = frozenset({FailureMode.REFUSED, FailureMode.REFUSED_YET_LISTED})
LATER: Final = frozenset({FailureMode.NOT_NOW, FailureMode.SLEEPS_AND_RETRIES})
UNHEARD: Final = frozenset(
    {FailureMode.AWAY, FailureMode.HANGS_UNHEARD, FailureMode.HEARD_LATE, *LATER, *BAD}
)
ENDLESS: Final = frozenset(
    {
        FailureMode.HANGS,
        FailureMode.HANGS_UNHEARD,
        FailureMode.HEARD_LATE,
        FailureMode.SLEEPS_AND_RETRIES,
    }
)


@dataclass(frozen=True, slots=True)
class Printed:
    """What a call printed, and its exit status: None if it does not end."""

    status: int | None
    stdout: str = ""
    stderr: str = ""


class Programs:
    """The commands of one cluster.

    ``mishap`` is asked at each call what goes wrong with it; by default what ``plan`` was told.
    ``calls`` counts the calls of each program; ``late_by``: by how many seconds those are late
    that are heard late.
    """

    def __init__(
        self, cluster: Cluster, mishap: Callable[[str], FailureMode | None] | None = None
    ) -> None:
        self.cluster = cluster
        self.calls: Counter[str] = Counter()
        self.late_by = 5.0
        self._late: list[tuple[float, Sequence[str]]] = []
        self._mishap = mishap if mishap is not None else self._planned
        self._plans: dict[str, deque[FailureMode]] = defaultdict(deque)

    def plan(self, program: str, *mishaps: FailureMode) -> None:
        """Have the next calls of a program go wrong, one after another."""
        self._plans[program].extend(mishaps)

    def _planned(self, program: str) -> FailureMode | None:
        plans = self._plans[program]
        return plans.popleft() if plans else None

    def call(self, argv: Sequence[str], *, list_length: int = output.SHORT) -> Printed:
        """Answer a call. ``list_length`` 0: squeue does not cut lists of tasks."""
        program = argv[0]
        self.calls[program] += 1
        mishap = self._mishap(program)
        self._hear_late()
        self.cluster.advance()
        if mishap in UNHEARD:
            done = self._unheard(argv, mishap)
        else:
            done = self._carried_out(argv, mishap, cut=list_length > 0)
        if mishap in ENDLESS:
            return Printed(None, stderr=done.stderr)
        if mishap is FailureMode.TIMED_OUT:
            return _trouble(argv, TIMED_OUT)
        if mishap is FailureMode.SILENT:
            return Printed(0)
        if mishap is FailureMode.FAILS:
            return Printed(1)
        if mishap is FailureMode.CUT_SHORT:
            return Printed(1, done.stdout[: len(done.stdout) // 2])
        return done

    def _hear_late(self) -> None:
        now = self.cluster.now()
        for item in [item for item in self._late if item[0] <= now]:
            self._late.remove(item)
            self._submit(item[1])

    def _unheard(self, argv: Sequence[str], mishap: FailureMode) -> Printed:
        if mishap is FailureMode.HEARD_LATE:
            self._late.append((self.cluster.now() + self.late_by, argv))
            return Printed(None)
        if mishap is FailureMode.NOT_NOW:
            reason = "Job violates accounting/QOS policy (job submit limit, user's size and/or "
            return Printed(1, stderr=FAILED.format(reason + "time limits)"))
        if mishap is FailureMode.SLEEPS_AND_RETRIES:
            return Printed(None, stderr=RETRYING)
        if mishap in BAD:
            if mishap is FailureMode.REFUSED_YET_LISTED:
                for task in self._submit(argv, held=True).tasks:
                    self.cluster.finish(task, "FAILED", "BadConstraints")
            return Printed(1, stderr=FAILED.format("Requested node configuration is not available"))
        return _trouble(argv, AWAY)

    def _carried_out(
        self, argv: Sequence[str], mishap: FailureMode | None, *, cut: bool
    ) -> Printed:
        match argv[0]:
            case "sbatch":
                if mishap is FailureMode.REPEATS:
                    self._submit(argv)
                job = self._submit(argv)
                return Printed(0, f"{job.id}\n")
            case "squeue":
                return self._queue(argv, mishap, cut=cut or mishap is FailureMode.NO_LONG_LISTS)
            case "scancel":
                return self._cancel(argv)
            case "scontrol":
                return self._control(argv)
            case "sacct":
                return self._accounting(argv)
        raise ValueError(f"there is no program {argv[0]!r}")

    # -- the five of them ------------------------------------------------------------------

    def _submit(self, argv: Sequence[str], *, held: bool = False) -> FakeJob:
        options, words = parse(argv[1:])
        script = words[0]
        array, _, throttle = options.get("array", "").partition("%")
        job = FakeJob(
            "", script, options.get("job-name", script.rpartition("/")[2]),
            comment=options.get("comment", ""),
            directory=options.get("chdir", "/"),
            output=options.get("output", "/dev/null").replace("%%", "%"),
            cpus=int(options.get("cpus-per-task", "1")),
            limit=_seconds(options["time"]) if "time" in options else None,
            throttle=int(throttle) if throttle else None,
            requeue=[o for o in options if o in ("requeue", "no-requeue")][-1:] != ["no-requeue"],
        )  # fmt: skip
        indexes = expand(array) if array else None
        return self.cluster.submit(job, indexes, held=held or "hold" in options)

    def _queue(self, argv: Sequence[str], mishap: FailureMode | None, *, cut: bool) -> Printed:
        options, _ = parse(argv[1:])
        pattern = options.get("format", "%i %j %T %r")
        tasks = [task for task in self.cluster.tasks() if task.listed]
        wanted = options["jobs"].split(",") if "jobs" in options else None
        if wanted is not None:
            tasks = [task for task in tasks if any(map(task.named, wanted))]
            if len(wanted) == 1 and not tasks:
                return Printed(1, stderr=UNKNOWN_ID)
        if mishap is FailureMode.LEAVES_OUT:
            tasks = []
        text = output.queue(tasks, pattern, cut=cut)
        if mishap is FailureMode.STRANGE_STATES:
            text = re.sub(r"\|(PENDING|[A-Z_]{4,})\|", "|MARTIAN|", text)
        return Printed(0, text * 2 if mishap is FailureMode.REPEATS else text)

    def _cancel(self, argv: Sequence[str]) -> Printed:
        _, words = parse(argv[1:])
        for word in words:
            if not re.fullmatch(r"\d+(_\d+)?", word):
                return Printed(1, stderr=f"scancel: error: Invalid job id {word}\n")
        for word in words:
            self.cluster.cancel(word)
        return Printed(0)

    def _control(self, argv: Sequence[str]) -> Printed:
        _, words = parse(argv[1:])
        if words[:2] == ["show", "config"]:
            return Printed(0, output.config(self.cluster))
        known = [task for task in self.cluster.tasks(words[-1]) if task.listed]
        if words[:2] == ["show", "job"]:
            if known:
                return Printed(0, output.shown(known, self.cluster.now()))
            job = words[-1].partition("_")[0]
            if any(task.listed for task in self.cluster.tasks(job)):
                return Printed(1, f"Job {words[-1]} not found\n")
            return Printed(1, stderr=UNKNOWN_ID)
        for task in known:
            if words[0].startswith("requeue") and not task.job.requeue:
                reason = "Requested operation is presently disabled for job"
                return Printed(1, stderr=f"{reason} {words[-1]}\n")
            self._change(words[0], task)
        return Printed(0)

    def _change(self, action: str, task: FakeTask) -> None:
        match action:
            case "requeue":
                self.cluster.requeue(task)
            case "requeuehold":
                self.cluster.requeue(task, "job requeued in held state", held=True)
            case "hold":
                self.cluster.hold(task, "JobHeldAdmin")
            case "release":
                self.cluster.release(task)
            case "suspend":
                self.cluster.suspend(task)
            case "resume":
                self.cluster.resume(task)

    def _accounting(self, argv: Sequence[str]) -> Printed:
        if not self.cluster.accounting:
            return Printed(1, stderr=NO_ACCOUNTING)
        options, _ = parse(argv[1:])
        wanted = options["jobs"].split(",")
        tasks = [t for name in wanted for t in self.cluster.tasks(name) if t.accounted]
        return Printed(0, output.accounted(tasks))


def _trouble(argv: Sequence[str], reason: str) -> Printed:
    _, words = parse(argv[1:])
    what = " ".join([argv[0], *words[:2]]) if argv[0] == "scontrol" else argv[0]
    status, text = TROUBLE.get(what, TROUBLE["squeue"])
    return Printed(status, stderr=text.format(reason, id=words[0] if words else ""))


def parse(arguments: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Return options, by their long names, and the other words of a command."""
    options: dict[str, str] = {}
    words: list[str] = []
    rest = iter(arguments)
    for word in rest:
        if words or not word.startswith("-"):
            words.append(word)
        elif word.startswith("--"):
            name, _, value = word[2:].partition("=")
            options[name] = value
        else:
            value = word[2:]
            if not value and word[1] in SHORT_WITH_VALUE:
                value = next(rest, "")
            options[SHORT_OPTIONS.get(word[:2], word[1:2])] = value
    return options, words


def expand(array: str) -> list[int]:
    """Return the indexes that ``--array`` asks for."""
    found: list[int] = []
    for part in array.split(","):
        bounds, _, step = part.partition(":")
        first, _, last = bounds.partition("-")
        found += range(int(first), int(last or first) + 1, int(step or 1))
    return found


def _seconds(limit: str) -> float:
    """Return a time limit, given as minutes or minutes:seconds, as whole minutes in seconds."""
    minutes, _, seconds = limit.partition(":")
    return 60.0 * (int(minutes) + (1 if int(seconds or 0) else 0))


__all__ = ["NAMES", "Printed", "Programs", "expand", "parse"]
