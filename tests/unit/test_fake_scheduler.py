"""The fake scheduler prints what Slurm printed in the recorded cases."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from motoko.testing.fake_scheduler import Cluster, FailureMode, FakeCommands
from tests.support.slurm_corpus import load, names

if TYPE_CHECKING:
    from collections.abc import Callable

    from motoko.testing.fake_scheduler import FakeTask
    from tests.support.slurm_corpus import Case

pytestmark = pytest.mark.unit


class ScriptedExits:
    """A job runner whose scripts end when the test sets their exit status."""

    def __init__(self) -> None:
        self.ends: dict[FakeTask, tuple[int, int]] = {}

    def start(self, task: FakeTask) -> None:
        pass

    def poll(self, task: FakeTask) -> tuple[int, int] | None:
        return self.ends.get(task)

    def stop(self, task: FakeTask) -> None:
        pass


class Replay:
    """A replay of a recorded case: its commands and the events between them."""

    def __init__(self, case: Case, slots: int = 100) -> None:
        self.case = case
        self.time = 1_800_000_000.0
        self.plan = ScriptedExits()
        self.cluster = Cluster(self.plan, lambda: self.time, slots=slots)
        self.commands = FakeCommands(self.cluster)
        self.compared = 0

    def task(self, name: str) -> FakeTask:
        (found,) = self.cluster.tasks(name)
        return found

    def step(self, about: str, *failures: FailureMode) -> None:
        """Run a recorded command; compare its output with the recorded one."""
        recorded = self.case.step(about)
        argv = recorded.argv[3:] if recorded.argv[0] == "env" else recorded.argv
        self.commands.plan(argv[0], *failures)
        length = 64 if recorded.argv[0] == "env" else 0
        printed = self.commands.call(argv, list_length=length)
        assert printed.status == recorded.status
        assert neutral(printed.stderr) == neutral(recorded.stderr)
        assert neutral(printed.stdout) == neutral(recorded.stdout)
        self.compared += 1


def neutral(text: str) -> list[str]:
    """Return the lines without times, priorities, scheduler names and ids."""
    for pattern, instead in (
        (r"\b(JobId=\d+) ArrayJobId", "JobId=N ArrayJobId"),  # the id of the task itself
        (r"=(\d{4}-\d\d-\d\dT[\d:]+|Unknown)\b", "=TIME"),
        (r"(RunTime|SuspendTime|PreemptTime)=\S+", r"\1=TIME"),
        (r"(Priority|SecsPreSuspend)=\d+", r"\1=N"),
        (r"Scheduler=\S+", "Scheduler=S"),
        (r"\bn\d BatchHost=n\d", "NODE"),
        (r"ReqNodeList=n2", "ReqNodeList=(null)"),
        (r"WorkDir=/runs", "WorkDir=/"),
    ):
        text = re.sub(pattern, instead, text)
    return sorted(text.splitlines())


REPLAYS: dict[str, Callable[[], Replay]] = {}


def replay(function: Callable[[], Replay]) -> Callable[[], Replay]:
    REPLAYS[function.__name__] = function
    return function


def ended(name: str, code: int, signal: int = 0) -> Replay:
    case = Replay(load(name))
    case.step("submit")
    case.cluster.advance()
    case.plan.ends[case.task("1")] = (code, signal)
    case.step("queue, ended")
    case.step("job, ended")
    return case


@replay
def single() -> Replay:
    case = Replay(load("single"))
    case.step("submit")
    case.step("queue, running")
    case.step("job, running")
    case.plan.ends[case.task("1")] = (0, 0)
    for about in ("queue, ended", "job, ended", "cancel, ended", "cancel, ended and missing"):
        case.step(about)
    return case


@replay
def failing() -> Replay:
    return ended("failing", 3)


@replay
def killed() -> Replay:
    return ended("killed", 0, 9)


@replay
def arrays() -> Replay:
    case = Replay(load("arrays"), slots=0)
    for about in ("submit", "submit, holes", "submit, steps"):
        case.step(about)
    case.cluster.slots = 2
    case.cluster.advance()
    for task in case.cluster.tasks("1"):
        task.reason = "Resources" if task.start_time is None else task.reason
    for index in (5, 6, 8):
        case.cluster.cancel(f"2_{index}")
    for about in ("queue, pending", "job, pending", "job, a task", "job, a cancelled task"):
        case.step(about)
    case.step("cancel, a task and an array")
    case.cluster.cancel("1")
    case.step("queue, ended")
    case.step("job, ended")
    return case


@replay
def array_outcomes() -> Replay:
    case = Replay(load("array_outcomes"))
    case.step("submit")
    case.cluster.advance()
    for task in case.cluster.tasks():
        case.plan.ends[task] = (task.index or 0, 0)
    case.step("queue, ended")
    case.step("job, ended")
    return case


@replay
def long_array() -> Replay:
    case = Replay(load("long_array"))
    case.step("submit")
    for index in range(0, 100, 3):
        case.cluster.cancel(f"1_{index}")
    case.step("queue, whole")
    case.step("queue, cut")
    return case


@replay
def throttled() -> Replay:
    case = Replay(load("throttled"))
    case.step("submit")
    case.cluster.advance()
    for task in case.cluster.tasks():
        task.reason = "JobArrayTaskLimit" if task.start_time is None else task.reason
    case.step("queue, pending")
    case.step("job, pending")
    return case


@replay
def cancelled_pending() -> Replay:
    case = Replay(load("cancelled_pending"))
    case.step("submit")
    case.cluster.hold(case.task("1"), "BeginTime")
    for about in ("queue, pending", "job, pending", "cancel", "queue, ended", "job, ended"):
        case.step(about)
    return case


@replay
def node_down() -> Replay:
    case = Replay(load("node_down"))
    case.step("submit")
    case.cluster.advance()
    case.cluster.finish(case.task("1"), "NODE_FAIL", "NodeDown", signal=15)
    case.step("queue, ended")
    case.step("job, ended")
    return case


@replay
def time_limit() -> Replay:
    case = Replay(load("time_limit"))
    case.step("submit")
    case.cluster.advance()
    case.time += 61
    case.step("queue, ended")
    case.step("job, ended")
    return case


@replay
def requeued() -> Replay:
    case = Replay(load("requeued"), slots=0)
    case.step("submit")
    case.cluster.start(case.task("1"))
    for about in ("requeue", "queue, requeued"):
        case.step(about)
    case.step("submit, without requeue")
    case.step("submit, to be held")
    for name in ("2", "3"):
        case.cluster.start(case.task(name))
    for about in ("requeue, without requeue", "requeue and hold", "queue, held"):
        case.step(about)
    return case


@replay
def held() -> Replay:
    case = Replay(load("held"))
    case.step("submit")
    case.step("submit, another")
    case.cluster.hold(case.task("2"), "JobHeldAdmin")
    case.step("queue, held")
    case.step("job, held")
    case.cluster.release(case.task("1"))
    case.step("queue, released")
    case.step("job, released")
    return case


@replay
def suspended() -> Replay:
    case = Replay(load("suspended"))
    case.step("submit")
    case.cluster.advance()
    case.cluster.suspend(case.task("1"))
    case.step("queue, suspended")
    case.step("job, suspended")
    case.cluster.resume(case.task("1"))
    case.step("queue, resumed")
    case.step("job, resumed")
    return case


@replay
def strange_names() -> Replay:
    case = Replay(load("strange_names"))
    for number in range(4):
        case.step(f"submit {number}")
    case.step("queue, held")
    for number in (2, 3, 4):
        case.step(f"job {number}")
    return case


@replay
def missing() -> Replay:
    case = Replay(load("missing"))
    case.step("submit")
    for about in ("queue, one", "queue, two", "queue, one of two", "job", "cancel"):
        case.step(about)
    case.step("cancel, nonsense")
    return case


@replay
def forgotten() -> Replay:
    case = Replay(load("forgotten"))
    case.step("submit")
    case.cluster.advance()
    case.plan.ends[case.task("1")] = (0, 0)
    case.cluster.advance()
    case.time += 301
    for about in ("submit, another", "queue, forgotten", "job, forgotten", "cancel"):
        case.step(about)
    return case


@replay
def controller_away() -> Replay:
    case = Replay(load("controller_away"))
    case.step("submit")
    for about in ("queue, away", "job, away", "submit, away", "cancel, away", "config, away"):
        case.step(about, FailureMode.UNREACHABLE)
    case.step("accounting, away")
    case.step("queue, back")
    return case


@replay
def controller_frozen() -> Replay:
    case = Replay(load("controller_frozen"))
    case.step("submit")
    case.step("queue, frozen", FailureMode.TIMED_OUT)
    case.step("submit, frozen", FailureMode.TIMED_OUT)
    case.plan.ends[case.task("1")] = (0, 0)
    case.step("queue, thawed")
    return case


@replay
def full() -> Replay:
    case = Replay(load("full"))
    case.step("submit")
    case.step("submit, too many", FailureMode.QUEUE_FULL)
    case.step("queue, pending")
    return case


@replay
def impossible() -> Replay:
    case = Replay(load("impossible"), slots=0)
    for about in ("CPUs", "nodes", "time"):
        case.step(f"submit, {about}")
    case.step("submit, tasks on one node", FailureMode.REFUSED_BUT_LISTED)
    reasons = ("PartitionConfig", "PartitionNodeLimit", "PartitionTimeLimit")
    for number, reason in enumerate(reasons, 1):
        case.cluster.hold(case.task(str(number)), reason)
    next(case.cluster._ids)  # the id of a submission that is never listed
    case.commands.plan("sbatch", FailureMode.REFUSED_BUT_LISTED)
    case.commands.call(case.case.step("submit, memory").argv)
    case.step("queue, pending")
    return case


@replay
def empty() -> Replay:
    case = Replay(load("empty"))
    for about in ("queue", "accounting", "accounting, restarts"):
        case.step(about)
    printed = case.commands.call(["scontrol", "show", "config"]).stdout
    recorded = neutral(case.case.out("config").replace("as of ", "as of ="))
    assert set(neutral(printed.replace("as of ", "as of ="))) <= set(recorded)
    return case


@pytest.mark.parametrize("name", REPLAYS)
def test_output_equals_the_recorded_output(name: str) -> None:
    assert REPLAYS[name]().compared >= 2


def test_most_recorded_cases_are_replayed() -> None:
    assert set(REPLAYS) <= set(names())
    assert len(REPLAYS) >= 0.7 * len(names())
