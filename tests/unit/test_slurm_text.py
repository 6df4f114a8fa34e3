"""What Slurm printed in recorded cases, read; expected is what happened there."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest

from motoko.launcher.schedulers.slurm.queries import (
    AccountingEntry,
    JobEntry,
    QueueEntry,
    accounting_command,
    cancel_command,
    parse_accounting,
    parse_config,
    parse_queue,
    parse_show_job,
    queue_command,
    show_job_command,
    tasks_of,
)
from motoko.launcher.schedulers.slurm.states import JobPhase, condition, never_starts
from motoko.launcher.schedulers.slurm.submit import (
    SubmitFailure,
    failure,
    first_error,
    parse_submitted,
)
from tests.support.slurm_corpus import Case, load, names

pytestmark = pytest.mark.unit

COMMENT = "motoko:0123456789abcdef"  # with which all recorded jobs were submitted

Seen = list[tuple[str, str, str]]


def queue(case: Case, moment: str) -> Seen:
    """Id, state and reason of what was listed, in order of ids."""
    return sorted((e.id, e.state, e.reason) for e in parse_queue(case.out(f"queue, {moment}")))


@pytest.mark.parametrize(
    ("name", "moment", "expected"),
    [
        ("single", "running", [("1", "RUNNING", "")]),
        ("single", "ended", [("1", "COMPLETED", "")]),
        ("failing", "ended", [("1", "FAILED", "NonZeroExitCode")]),
        ("killed", "ended", [("1", "FAILED", "JobLaunchFailure")]),
        ("cancelled_pending", "pending", [("1", "PENDING", "BeginTime")]),
        ("cancelled_pending", "ended", [("1", "CANCELLED", "BeginTime")]),
        ("cancelled_running", "ending", [("1", "COMPLETING", "")]),
        ("cancelled_running", "ended", [("1", "CANCELLED", "")]),
        ("time_limit", "ended", [("1", "TIMEOUT", "TimeLimit")]),
        ("node_down", "ended", [("1", "NODE_FAIL", "NodeDown")]),
        ("requeued", "requeued", [("1", "PENDING", "BeginTime")]),
        ("held", "held", [("1", "PENDING", "JobHeldUser"), ("2", "PENDING", "JobHeldAdmin")]),
        ("held", "released", [("1", "RUNNING", ""), ("2", "PENDING", "JobHeldAdmin")]),
        ("suspended", "suspended", [("1", "SUSPENDED", "")]),
        ("suspended", "resumed", [("1", "RUNNING", "")]),
        ("dependency", "waiting", [("1", "RUNNING", ""), ("2", "PENDING", "Dependency")]),
        (
            "dependency",
            "for ever",
            [("1", "FAILED", "NonZeroExitCode"), ("2", "PENDING", "DependencyNeverSatisfied")],
        ),
        (
            "impossible",
            "pending",
            [
                ("1", "PENDING", "PartitionConfig"),
                ("2", "PENDING", "PartitionNodeLimit"),
                ("3", "PENDING", "PartitionTimeLimit"),
                # sbatch refused these, and Slurm lists them all the same.
                ("4", "FAILED", "BadConstraints"),
                ("6", "FAILED", "BadConstraints"),
            ],
        ),
        ("preempted", "ended", [("1", "PREEMPTED", ""), ("2", "RUNNING", "")]),
        (
            "launch_failure",
            "ended",
            [("1", "FAILED", "JobLaunchFailure"), ("2", "FAILED", "NonZeroExitCode")],
        ),
        (
            "array_outcomes",
            "ended",
            [
                ("1_0", "COMPLETED", ""),
                ("1_1", "FAILED", "NonZeroExitCode"),
                ("1_2", "FAILED", "NonZeroExitCode"),
            ],
        ),
        ("forgotten", "forgotten", [("2", "RUNNING", "")]),
    ],
)
def test_what_the_queue_showed(name: str, moment: str, expected: Seen) -> None:
    case = load(name)
    assert queue(case, moment) == expected
    # It is this project's own command that printed it.
    assert case.step(f"queue, {moment}").argv == queue_command()


def test_arrays_in_the_queue() -> None:
    case = load("arrays")
    running = [(f"1_{task}", "RUNNING", "") for task in (0, 1)]
    waiting = [(f"1_{task}", "PENDING", "Resources") for task in (2, 3, 4)]
    holes = [(f"2_{task}", "PENDING", "JobHeldUser") for task in (0, 1, 2, 3, 4, 7, 9)]
    steps = [(f"3_{task}", "PENDING", "JobHeldUser") for task in (0, 2, 4, 6, 8, 10)]
    assert queue(case, "pending") == sorted(running + waiting + holes + steps)
    # Task 4 was cancelled before it started, the others with their array.
    ended = {entry.id: entry.state for entry in parse_queue(case.out("queue, ended"))}
    assert set(ended.values()) == {"CANCELLED"}
    assert [task for task in ended if task.startswith("1_")] == ["1_2", "1_3", "1_0", "1_1"]


def test_a_task_cancelled_before_it_started_is_nowhere() -> None:
    case = load("arrays")
    assert "2_5" not in [entry.id for entry in parse_queue(case.out("queue, pending"))]
    step = case.step("job, a cancelled task")
    assert (step.status, parse_show_job(step.stdout)) == (1, [])


def test_a_long_list_of_tasks() -> None:
    case = load("long_array")
    left = [task for task in range(100) if task % 3 != 0]
    assert [entry.task for entry in parse_queue(case.out("queue, whole"))] == left
    cut = [entry.task for entry in parse_queue(case.out("queue, cut"))]
    assert cut[-1] is None
    assert cut[:-1] == left[: len(cut) - 1]


def test_an_array_of_which_only_some_may_run_at_once() -> None:
    waiting = [(f"1_{task}", "PENDING", "JobArrayTaskLimit") for task in range(2, 10)]
    running = [(f"1_{task}", "RUNNING", "") for task in range(2)]
    assert queue(load("throttled"), "pending") == running + waiting


def test_names_and_comments() -> None:
    (entry,) = parse_queue(load("single").out("queue, running"))
    assert entry == QueueEntry(
        "1", None, "RUNNING", "", "motoko-study-1", "motoko:0123456789abcdef"
    )
    strange = parse_queue(load("strange_names").out("queue, held"))
    assert {entry.id: (entry.name, entry.comment) for entry in strange} == {
        "1": ("a|b", ""),
        "2": (" JobState=COMPLETED Reason=None Dependency=", ""),
        "3": ("é%j", ""),
        **{f"4_{task}": ("script.sh", "x y") for task in range(4)},
    }
    assert {entry.state for entry in strange} == {"PENDING"}


def shown(case: Case, about: str) -> list[JobEntry]:
    step = case.step(about)
    assert step.argv == show_job_command(step.argv[-1])
    return sorted(parse_show_job(step.stdout), key=lambda entry: (entry.job, entry.task or 0))


@pytest.mark.parametrize(
    ("name", "about", "expected"),
    [
        ("single", "running", JobEntry("1", None, "RUNNING", "", 0, 0, 0, "n1")),
        ("single", "ended", JobEntry("1", None, "COMPLETED", "", 0, 0, 0, "n1")),
        ("failing", "ended", JobEntry("1", None, "FAILED", "NonZeroExitCode", 3, 0, 0, "n1")),
        ("killed", "ended", JobEntry("1", None, "FAILED", "JobLaunchFailure", 0, 9, 0, "n1")),
        ("cancelled_running", "ended", JobEntry("1", None, "CANCELLED", "", 0, 9, 0, "n1")),
        ("cancelled_pending", "ended", JobEntry("1", None, "CANCELLED", "BeginTime", 0, 0, 0, "")),
        ("time_limit", "ended", JobEntry("1", None, "TIMEOUT", "TimeLimit", 0, 15, 0, "n1")),
        ("node_down", "ended", JobEntry("1", None, "NODE_FAIL", "NodeDown", 0, 15, 0, "n2")),
        ("requeued", "requeued", JobEntry("1", None, "PENDING", "BeginTime", 0, 0, 1, "")),
        ("preempted", "ended", JobEntry("1", None, "PREEMPTED", "", 0, 15, 0, "n[1-2]")),
        ("suspended", "suspended", JobEntry("1", None, "SUSPENDED", "", 0, 0, 0, "n1")),
        (
            "dependency",
            "for ever",
            JobEntry("2", None, "PENDING", "DependencyNeverSatisfied", 0, 0, 0, ""),
        ),
    ],
)
def test_what_a_job_was_described_as(name: str, about: str, expected: JobEntry) -> None:
    assert shown(load(name), f"job, {about}") == [replace(expected, comment=COMMENT)]


def test_an_array_as_described() -> None:
    assert shown(load("array_outcomes"), "job, ended") == [
        JobEntry("1", 0, "COMPLETED", "", 0, 0, 0, "n1", COMMENT),
        JobEntry("1", 1, "FAILED", "NonZeroExitCode", 1, 0, 0, "n1", COMMENT),
        JobEntry("1", 2, "FAILED", "NonZeroExitCode", 2, 0, 0, "n1", COMMENT),
    ]
    pending = shown(load("throttled"), "job, pending")
    assert [(entry.task, entry.state) for entry in pending] == [
        *((task, "RUNNING") for task in range(2)),
        *((task, "PENDING") for task in range(2, 10)),
    ]
    (one,) = shown(load("arrays"), "job, a task")
    assert (one.job, one.task, one.state, one.status) == ("1", 0, "RUNNING", 0)


def test_a_name_is_no_state() -> None:
    case = load("strange_names")
    for about, name in (("job, held", "1"), ("job 2", "2"), ("job 3", "3")):
        (entry,) = parse_show_job(case.out(about))
        assert (entry.job, entry.state, entry.reason) == (name, "PENDING", "JobHeldUser")
        assert (entry.restarts, entry.status) == (0, 0)


def test_a_job_that_went_back_into_the_queue_waits() -> None:
    for name in ("requeued", "node_down_requeue"):
        (entry,) = parse_queue(load(name).out("queue, requeued"))
        assert condition(entry.state) is JobPhase.WAITING
        (described,) = shown(load(name), "job, requeued")
        assert described.restarts == 1
    (held,) = shown(load("requeued"), "job, held")
    listed = {entry.id: entry for entry in parse_queue(load("requeued").out("queue, held"))}
    for state, reason in ((held.state, held.reason), (listed["3"].state, listed["3"].reason)):
        assert condition(state) is JobPhase.WAITING
        assert never_starts(reason) is not None
    assert never_starts(listed["1"].reason) is None
    assert listed["2"].state == "RUNNING"


def test_ids_of_submissions() -> None:
    for name in names():
        given = [s for s in load(name).steps if s.argv[0] == "sbatch" and s.status == 0]
        numbers = [int(parse_submitted(step.stdout)) for step in given]
        assert numbers == sorted(set(numbers))


@pytest.mark.parametrize(
    ("about", "word"),
    [
        ("partition", "invalid partition specified: nowhere"),
        ("misspelt", "unrecognized option '--partitoin=debug'"),
        ("time", "Invalid --time specification"),
        ("array, too large", "Invalid job array specification"),
        ("script is missing", "Unable to open file /runs/missing.sh"),
        ("script is empty", "Batch script is empty!"),
    ],
)
def test_refusals(about: str, word: str) -> None:
    step = load("refused").step(about)
    assert step.status not in (0, None)
    assert failure(step.stderr) is SubmitFailure.REFUSED
    assert word in first_error(step.stderr)


@pytest.mark.parametrize("about", ["tasks on one node", "feature", "memory"])
def test_more_refusals(about: str) -> None:
    step = load("impossible").step(f"submit, {about}")
    assert (step.status, failure(step.stderr)) == (1, SubmitFailure.REFUSED)


def test_a_queue_that_is_full_is_no_refusal() -> None:
    step = load("full").step("submit, too many")
    assert (step.status, failure(step.stderr)) == (None, SubmitFailure.LATER)


@pytest.mark.parametrize("case", ["controller_away", "controller_frozen", "munge_away"])
def test_without_a_controller_nothing_is_said(case: str) -> None:
    steps = [s for s in load(case).steps if s.about.endswith((", away", ", frozen"))]
    assert len(steps) >= 2
    for step in steps:
        if step.argv[0] in ("squeue", "sbatch"):
            assert step.status != 0
            assert failure(step.stderr) is SubmitFailure.LOST
        assert parse_queue(step.stdout) == []
        assert parse_show_job(step.stdout) == []


def test_the_queue_after_the_controller_came_back() -> None:
    assert queue(load("controller_away"), "back") == [("1", "RUNNING", "")]
    # Job 2 is the submission that was answered with "timed out".
    thawed = parse_queue(load("controller_frozen").out("queue, thawed"))
    assert [(entry.id, entry.comment) for entry in thawed] == [
        ("1", "motoko:0123456789abcdef"),
        ("2", "motoko:0123456789abcdef"),
    ]


def test_the_site() -> None:
    site = parse_config(load("empty").out("config"))
    assert site.version == "22.05.8"
    # An array of this many was accepted, one task more was not.
    assert site.max_array_size == 10001
    assert load("refused").step("array, just small enough").status == 0
    assert load("refused").step("array, too large").status != 0
    assert (site.max_job_count, site.min_job_age) == (20000, 300)
    assert site.accounting == "accounting_storage/none"
    assert not site.accounts


def test_other_sites() -> None:
    site = parse_config(
        "Configuration data as of x\nMaxArraySize            = 1001\n"
        "SchedulerParameters     = bf_continue,max_array_tasks=500,defer\n"
        "AccountingStorageType   = accounting_storage/slurmdbd\nSLURM_VERSION           = 24.11.1\n"
    )
    assert (site.max_array_size, site.accounts, site.version) == (500, True, "24.11.1")
    assert (site.max_job_count, site.min_job_age) == (None, None)
    # Slurm 23.11 and later print this where there is no accounting.
    assert not parse_config("AccountingStorageType = (null)\n").accounts
    assert parse_config("") == parse_config("slurm_load_ctl_conf error: gone\n")


def test_accounting() -> None:
    # The forms of sacct(1): no site with accounting was there to be recorded.
    text = (
        "7|COMPLETED|0:0|None\n8|CANCELLED by 1000|0:15|None\n9_0|FAILED|3:0|NonZeroExitCode|2\n"
        "9_[1-2]|PENDING|0:0|Resources|0\n10|OUT_OF_ME+|0:125|None\n11|NODE_FAIL||\n"
        "12.batch|FAILED|1:0|None\nsacct: a word\n\n"
    )
    assert parse_accounting(text) == [
        AccountingEntry("7", None, "COMPLETED", 0, 0, "", None),
        AccountingEntry("8", None, "CANCELLED", 0, 15, "", None),
        AccountingEntry("9", 0, "FAILED", 3, 0, "NonZeroExitCode", 2),
        AccountingEntry("9", 1, "PENDING", 0, 0, "Resources", 0),
        AccountingEntry("9", 2, "PENDING", 0, 0, "Resources", 0),
        AccountingEntry("10", None, "OUT_OF_ME", 0, 125, "", None),
        AccountingEntry("11", None, "NODE_FAIL", None, None, "", None),
    ]
    assert condition("OUT_OF_ME+") is JobPhase.UNKNOWN  # cut short: not guessed at
    disabled = load("empty").step("accounting")
    assert disabled.argv == accounting_command(["1"])
    assert (disabled.status, parse_accounting(disabled.stdout)) == (1, [])
    assert load("empty").step("accounting, restarts").argv == accounting_command(
        ["1"], restarts=True
    )


def test_cancelling_what_has_ended_is_no_error() -> None:
    assert load("single").step("cancel, ended").argv == cancel_command(["1"])
    for case, about in (
        ("single", "cancel, ended"),
        ("single", "cancel, ended and missing"),
        ("forgotten", "cancel"),
        ("missing", "cancel"),
    ):
        assert load(case).step(about).status == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("N/A", (None,)),
        ("", (None,)),
        ("0", (0,)),
        ("[0-4,7,9-11%3]", (0, 1, 2, 3, 4, 7, 9, 10, 11)),
        ("[0-10:5]", (0, 5, 10)),
        ("0-10:4%1", (0, 4, 8)),
        ("1,3-4,...", (1, 3, 4, None)),
        ("[1,3-4,...", (1, 3, 4, None)),
        ("...", (None,)),
        ("0x1F", (None,)),
    ],
)
def test_lists_of_tasks(text: str, expected: tuple[int | None, ...]) -> None:
    assert tasks_of(text) == expected


@pytest.mark.parametrize("text", ["", "\n", "CLUSTER: x\n", "1|2|3\n", "|||||\n", "slurm: error\n"])
def test_lines_that_are_no_entries(text: str) -> None:
    assert parse_queue(text) == []


def test_the_corpus_is_small_and_nobodys() -> None:
    found = names()
    assert len(found) >= 25
    for name in found:
        for step in load(name).steps:
            printed = f"{shlex.join(step.argv)} {step.stdout} {step.stderr}"
            assert len(printed) < 20_000
            assert "root" not in printed
            assert "/tmp" not in printed or step.about == "config"
