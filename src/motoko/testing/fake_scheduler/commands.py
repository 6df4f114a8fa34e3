"""The fake commands sbatch, squeue, scancel, scontrol and sacct."""

from __future__ import annotations

import re
from collections import Counter, defaultdict, deque
from typing import TYPE_CHECKING, Final

from motoko.runtime.ports import CommandResult
from motoko.testing.fake_scheduler.cluster import FakeJob
from motoko.testing.fake_scheduler.failure_modes import FailureMode
from motoko.testing.fake_scheduler.output import (
    MAX_LIST,
    format_accounting,
    format_config,
    format_jobs,
    format_queue,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from motoko.testing.fake_scheduler.cluster import Cluster, FakeTask

NAMES: Final = ("sbatch", "squeue", "scancel", "scontrol", "sacct")
UNREACHABLE: Final = "Unable to contact slurm controller (connect failure)"
TIMED_OUT: Final = "Socket timed out on send/recv operation"
UNKNOWN_ID: Final = "slurm_load_jobs error: Invalid job id specified\n"
NO_ACCOUNTING: Final = "Slurm accounting storage is disabled\n"
BUSY: Final = "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\n"
FAILED: Final = "sbatch: error: Batch job submission failed: {}\n"
# Each command's exit status and message for an error of the controller.
ERRORS: Final = {
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
REFUSALS: Final = frozenset({FailureMode.REFUSED, FailureMode.REFUSED_BUT_LISTED})
DEFERRALS: Final = frozenset({FailureMode.RETRY_LATER, FailureMode.QUEUE_FULL})
IGNORED_AND_HANGING: Final = frozenset({FailureMode.HANGS_IGNORED, FailureMode.SUBMITTED_LATE})
IGNORED: Final = IGNORED_AND_HANGING | REFUSALS | DEFERRALS | {FailureMode.UNREACHABLE}
HANGING: Final = IGNORED_AND_HANGING | {FailureMode.HANGS, FailureMode.QUEUE_FULL}


class FakeCommands:
    """The commands of one cluster. ``calls`` counts the calls of each program.

    ``next_failure`` chooses the failure of each call; by default these are the planned ones.
    ``delay`` is in seconds, for calls that the scheduler executes late.
    """

    def __init__(
        self, cluster: Cluster, next_failure: Callable[[str], FailureMode | None] | None = None
    ) -> None:
        self.cluster = cluster
        self.calls: Counter[str] = Counter()
        self.delay = 5.0
        self._delayed: list[tuple[float, Sequence[str]]] = []
        self._next_failure = next_failure or self._planned
        self._plans: dict[str, deque[FailureMode]] = defaultdict(deque)

    def plan(self, program: str, *failures: FailureMode) -> None:
        """Make the next calls of a program fail, one after another."""
        self._plans[program].extend(failures)

    def _planned(self, program: str) -> FailureMode | None:
        plans = self._plans[program]
        return plans.popleft() if plans else None

    def call(self, argv: Sequence[str], *, list_length: int = MAX_LIST) -> CommandResult:
        """Return the result of a call, without status if it does not end.

        ``list_length`` 0: squeue does not cut lists of tasks.
        """
        program = argv[0]
        self.calls[program] += 1
        failure = self._next_failure(program)
        self._execute_delayed()
        self.cluster.advance()
        if failure in IGNORED:
            done = self._ignore(argv, failure)
        else:
            done = self._execute(argv, failure, cut=list_length > 0)
        if failure in HANGING:
            return CommandResult(None, stderr=done.stderr)
        if failure is FailureMode.TIMED_OUT:
            return _error(argv, TIMED_OUT)
        if failure is FailureMode.PRINTS_NOTHING:
            return CommandResult(0)
        if failure is FailureMode.FAILS_SILENTLY:
            return CommandResult(1)
        if failure is FailureMode.TRUNCATED:
            return CommandResult(1, done.stdout[: len(done.stdout) // 2])
        return done

    def _execute_delayed(self) -> None:
        now = self.cluster.now()
        for item in [item for item in self._delayed if item[0] <= now]:
            self._delayed.remove(item)
            self._sbatch(item[1])

    def _ignore(self, argv: Sequence[str], failure: FailureMode) -> CommandResult:
        if failure is FailureMode.SUBMITTED_LATE:
            self._delayed.append((self.cluster.now() + self.delay, argv))
            return CommandResult(None)
        if failure is FailureMode.RETRY_LATER:
            reason = "Job violates accounting/QOS policy (job submit limit, user's size and/or "
            return CommandResult(1, stderr=FAILED.format(reason + "time limits)"))
        if failure is FailureMode.QUEUE_FULL:
            return CommandResult(None, stderr=BUSY)
        if failure in REFUSALS:
            if failure is FailureMode.REFUSED_BUT_LISTED:
                for task in self._sbatch(argv, held=True).tasks:
                    self.cluster.finish(task, "FAILED", "BadConstraints")
            return CommandResult(
                1, stderr=FAILED.format("Requested node configuration is not available")
            )
        return _error(argv, UNREACHABLE)

    def _execute(
        self, argv: Sequence[str], failure: FailureMode | None, *, cut: bool
    ) -> CommandResult:
        program = argv[0]
        if program == "sbatch":
            if failure is FailureMode.DUPLICATES:
                self._sbatch(argv)
            return CommandResult(0, f"{self._sbatch(argv).id}\n")
        if program == "squeue":
            return self._squeue(argv, failure, cut=cut or failure is FailureMode.CUTS_LISTS)
        queries = {"scancel": self._scancel, "scontrol": self._scontrol, "sacct": self._sacct}
        return queries[program](argv)

    # -- commands --------------------------------------------------------------------------

    def _sbatch(self, argv: Sequence[str], *, held: bool = False) -> FakeJob:
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

    def _squeue(
        self, argv: Sequence[str], failure: FailureMode | None, *, cut: bool
    ) -> CommandResult:
        options, _ = parse(argv[1:])
        pattern = options.get("format", "%i %j %T %r")
        tasks = [task for task in self.cluster.tasks() if task.listed]
        wanted = options["jobs"].split(",") if "jobs" in options else None
        if wanted is not None:
            tasks = [task for task in tasks if any(map(task.matches, wanted))]
            if len(wanted) == 1 and not tasks:
                return CommandResult(1, stderr=UNKNOWN_ID)
        if failure is FailureMode.LISTS_NOTHING:
            tasks = []
        text = format_queue(tasks, pattern, cut=cut)
        if failure is FailureMode.UNKNOWN_STATES:
            text = re.sub(r"\|[A-Z_]{4,}\|", "|MARTIAN|", text)
        return CommandResult(0, text * 2 if failure is FailureMode.DUPLICATES else text)

    def _scancel(self, argv: Sequence[str]) -> CommandResult:
        _, words = parse(argv[1:])
        for word in words:
            if not re.fullmatch(r"\d+(_\d+)?", word):
                return CommandResult(1, stderr=f"scancel: error: Invalid job id {word}\n")
        for word in words:
            self.cluster.cancel(word)
        return CommandResult(0)

    def _scontrol(self, argv: Sequence[str]) -> CommandResult:
        _, words = parse(argv[1:])
        if words[:2] == ["show", "config"]:
            return CommandResult(0, format_config(self.cluster))
        known = [task for task in self.cluster.tasks(words[-1]) if task.listed]
        if words[:2] == ["show", "job"]:
            if known:
                return CommandResult(0, format_jobs(known, self.cluster.now()))
            job = words[-1].partition("_")[0]
            if any(task.listed for task in self.cluster.tasks(job)):
                return CommandResult(1, f"Job {words[-1]} not found\n")
            return CommandResult(1, stderr=UNKNOWN_ID)
        for task in known:
            if words[0].startswith("requeue") and not task.job.requeue:
                reason = "Requested operation is presently disabled for job"
                return CommandResult(1, stderr=f"{reason} {words[-1]}\n")
            self._change(words[0], task)
        return CommandResult(0)

    def _change(self, action: str, task: FakeTask) -> None:
        cluster = self.cluster
        if action == "requeuehold":
            cluster.requeue(task, "job requeued in held state", held=True)
        elif action == "hold":
            cluster.hold(task, "JobHeldAdmin")
        else:
            actions = {"requeue": cluster.requeue, "release": cluster.release}
            actions |= {"suspend": cluster.suspend, "resume": cluster.resume}
            actions[action](task)

    def _sacct(self, argv: Sequence[str]) -> CommandResult:
        if not self.cluster.accounting:
            return CommandResult(1, stderr=NO_ACCOUNTING)
        options, _ = parse(argv[1:])
        wanted = options["jobs"].split(",")
        tasks = [t for name in wanted for t in self.cluster.tasks(name) if t.accounted]
        return CommandResult(0, format_accounting(tasks))


def _error(argv: Sequence[str], reason: str) -> CommandResult:
    _, words = parse(argv[1:])
    what = " ".join([argv[0], *words[:2]]) if argv[0] == "scontrol" else argv[0]
    status, text = ERRORS.get(what, ERRORS["squeue"])
    return CommandResult(status, stderr=text.format(reason, id=words[0] if words else ""))


def parse(arguments: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Return a command's options, by their long names, and its other words."""
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
    """Return the indexes in an ``--array`` option."""
    found: list[int] = []
    for part in array.split(","):
        bounds, _, step = part.partition(":")
        first, _, last = bounds.partition("-")
        found += range(int(first), int(last or first) + 1, int(step or 1))
    return found


def _seconds(limit: str) -> float:
    """Return a limit of minutes or minutes:seconds in seconds, rounded up to whole minutes."""
    minutes, _, seconds = limit.partition(":")
    return 60.0 * (int(minutes) + (1 if int(seconds or 0) else 0))
