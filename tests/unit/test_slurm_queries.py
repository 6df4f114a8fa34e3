"""The parsers read the recorded output of Slurm."""

from __future__ import annotations

import shlex

import pytest

from motoko.launcher.schedulers.base import JobEntry, JobPhase, SubmitFailure
from motoko.launcher.schedulers.slurm.queries import (
    accounting_command,
    cancel_command,
    expand_tasks,
    lookup_command,
    parse_accounting,
    parse_limits,
    parse_lookup,
    parse_poll,
    poll_command,
)
from motoko.launcher.schedulers.slurm.states import explain_hold, job_status
from motoko.launcher.schedulers.slurm.submit import (
    classify_failure,
    error_message,
    parse_submitted,
)
from tests.support.slurm_corpus import Case, load, names

pytestmark = pytest.mark.unit

COMMENT = "motoko:0123456789abcdef"  # of all recorded jobs

Listed = list[tuple[str, str, str]]


def queue(case: Case, moment: str) -> Listed:
    """Return id, state and reason of the listed jobs, sorted by id."""
    entries = parse_poll(case.out(f"queue, {moment}"))
    return sorted((name(e), e.status.state, e.status.reason) for e in entries)


def name(entry: JobEntry) -> str:
    """Return the id of a job or task in Slurm's format."""
    return cancel_command([entry.id])[1]


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
                # Slurm lists these although sbatch refused them.
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
def test_the_queue(name: str, moment: str, expected: Listed) -> None:
    case = load(name)
    assert queue(case, moment) == expected
    # The case was recorded with the command under test.
    assert case.step(f"queue, {moment}").argv == poll_command()


def test_arrays_in_the_queue() -> None:
    case = load("arrays")
    running = [(f"1_{task}", "RUNNING", "") for task in (0, 1)]
    waiting = [(f"1_{task}", "PENDING", "Resources") for task in (2, 3, 4)]
    holes = [(f"2_{task}", "PENDING", "JobHeldUser") for task in (0, 1, 2, 3, 4, 7, 9)]
    steps = [(f"3_{task}", "PENDING", "JobHeldUser") for task in (0, 2, 4, 6, 8, 10)]
    assert queue(case, "pending") == sorted(running + waiting + holes + steps)
    # Task 4 was cancelled before it started, the other tasks with their array.
    ended = {name(entry): entry.status.state for entry in parse_poll(case.out("queue, ended"))}
    assert set(ended.values()) == {"CANCELLED"}
    assert [task for task in ended if task.startswith("1_")] == ["1_2", "1_3", "1_0", "1_1"]


def test_a_task_cancelled_before_its_start_is_not_listed() -> None:
    case = load("arrays")
    assert "2_5" not in [name(entry) for entry in parse_poll(case.out("queue, pending"))]
    step = case.step("job, a cancelled task")
    assert (step.status, parse_lookup(step.stdout)) == (1, [])


def test_a_long_list_of_tasks() -> None:
    case = load("long_array")
    left = [task for task in range(100) if task % 3 != 0]
    assert [entry.task for entry in parse_poll(case.out("queue, whole"))] == left
    cut = [entry.task for entry in parse_poll(case.out("queue, cut"))]
    assert cut[-1] is None
    assert cut[:-1] == left[: len(cut) - 1]


def test_a_throttled_array() -> None:
    waiting = [(f"1_{task}", "PENDING", "JobArrayTaskLimit") for task in range(2, 10)]
    running = [(f"1_{task}", "RUNNING", "") for task in range(2)]
    assert queue(load("throttled"), "pending") == running + waiting


def test_names_and_comments() -> None:
    (entry,) = parse_poll(load("single").out("queue, running"))
    assert entry == JobEntry("1", None, job_status("RUNNING"), "motoko:0123456789abcdef")
    strange = parse_poll(load("strange_names").out("queue, held"))
    assert {name(entry): entry.comment for entry in strange} == {
        **dict.fromkeys(("1", "2", "3"), ""),
        **{f"4_{task}": "x y" for task in range(4)},
    }
    assert {entry.status.state for entry in strange} == {"PENDING"}


def described(job: str, task: int | None, state: str, reason: str, code: int) -> JobEntry:
    return JobEntry(job, task, job_status(state, reason, code), COMMENT)


def shown(case: Case, about: str) -> list[JobEntry]:
    step = case.step(about)
    assert step.argv == lookup_command(step.argv[-1])
    return sorted(parse_lookup(step.stdout), key=lambda entry: (entry.job, entry.task or 0))


@pytest.mark.parametrize(
    ("name", "about", "expected"),
    [
        ("single", "running", described("1", None, "RUNNING", "", 0)),
        ("single", "ended", described("1", None, "COMPLETED", "", 0)),
        ("failing", "ended", described("1", None, "FAILED", "NonZeroExitCode", 3)),
        ("killed", "ended", described("1", None, "FAILED", "JobLaunchFailure", 0)),
        ("cancelled_running", "ended", described("1", None, "CANCELLED", "", 0)),
        ("cancelled_pending", "ended", described("1", None, "CANCELLED", "BeginTime", 0)),
        ("time_limit", "ended", described("1", None, "TIMEOUT", "TimeLimit", 0)),
        ("node_down", "ended", described("1", None, "NODE_FAIL", "NodeDown", 0)),
        ("requeued", "requeued", described("1", None, "PENDING", "BeginTime", 0)),
        ("preempted", "ended", described("1", None, "PREEMPTED", "", 0)),
        ("suspended", "suspended", described("1", None, "SUSPENDED", "", 0)),
        (
            "dependency",
            "for ever",
            described("2", None, "PENDING", "DependencyNeverSatisfied", 0),
        ),
    ],
)
def test_descriptions_of_jobs(name: str, about: str, expected: JobEntry) -> None:
    assert shown(load(name), f"job, {about}") == [expected]


def test_descriptions_of_arrays() -> None:
    assert shown(load("array_outcomes"), "job, ended") == [
        described("1", 0, "COMPLETED", "", 0),
        described("1", 1, "FAILED", "NonZeroExitCode", 1),
        described("1", 2, "FAILED", "NonZeroExitCode", 2),
    ]
    pending = shown(load("throttled"), "job, pending")
    assert [(entry.task, entry.status.state) for entry in pending] == [
        *((task, "RUNNING") for task in range(2)),
        *((task, "PENDING") for task in range(2, 10)),
    ]
    (one,) = shown(load("arrays"), "job, a task")
    assert (one.id, one.status) == (("1", 0), job_status("RUNNING", "", 0))


def test_a_job_name_is_not_mistaken_for_a_state() -> None:
    case = load("strange_names")
    for about, job in (("job, held", "1"), ("job 2", "2"), ("job 3", "3")):
        (entry,) = parse_lookup(case.out(about))
        assert (entry.job, entry.status) == (job, job_status("PENDING", "JobHeldUser", 0))


def test_a_requeued_job_is_pending() -> None:
    for case in ("requeued", "node_down_requeue"):
        (entry,) = parse_poll(load(case).out("queue, requeued"))
        assert entry.status.phase is JobPhase.PENDING
        assert len(shown(load(case), "job, requeued")) == 1
    (held,) = shown(load("requeued"), "job, held")
    entries = parse_poll(load("requeued").out("queue, held"))
    listed = {entry.job: entry.status for entry in entries}
    for status in (held.status, listed["3"]):
        assert status.phase is JobPhase.PENDING
        assert explain_hold(status.reason) is not None
    assert explain_hold(listed["1"].reason) is None
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
    assert classify_failure(step.stderr) is SubmitFailure.REFUSED
    assert word in error_message(step.stderr)


@pytest.mark.parametrize("about", ["tasks on one node", "feature", "memory"])
def test_more_refusals(about: str) -> None:
    step = load("impossible").step(f"submit, {about}")
    assert (step.status, classify_failure(step.stderr)) == (1, SubmitFailure.REFUSED)


def test_a_full_queue_is_not_a_refusal() -> None:
    step = load("full").step("submit, too many")
    assert (step.status, classify_failure(step.stderr)) == (None, SubmitFailure.RETRY_LATER)


@pytest.mark.parametrize("case", ["controller_away", "controller_frozen", "munge_away"])
def test_without_a_controller_no_job_is_listed(case: str) -> None:
    steps = [s for s in load(case).steps if s.about.endswith((", away", ", frozen"))]
    assert len(steps) >= 2
    for step in steps:
        if step.argv[0] in ("squeue", "sbatch"):
            assert step.status != 0
            assert classify_failure(step.stderr) is SubmitFailure.UNCONFIRMED
        assert parse_poll(step.stdout) == []
        assert parse_lookup(step.stdout) == []


def test_the_queue_after_the_controller_recovered() -> None:
    assert queue(load("controller_away"), "back") == [("1", "RUNNING", "")]
    # Job 2 is the submission that was answered with "timed out".
    thawed = parse_poll(load("controller_frozen").out("queue, thawed"))
    assert [(name(entry), entry.comment) for entry in thawed] == [
        ("1", "motoko:0123456789abcdef"),
        ("2", "motoko:0123456789abcdef"),
    ]


def test_limits_of_the_recorded_site() -> None:
    site = parse_limits(load("empty").out("config"))
    # An array of this many was accepted, one task more was not.
    assert site.max_array_size == 10001
    assert load("refused").step("array, just small enough").status == 0
    assert load("refused").step("array, too large").status != 0
    assert not site.has_accounting


def test_limits_of_other_sites() -> None:
    site = parse_limits(
        "Configuration data as of x\nMaxArraySize            = 1001\n"
        "SchedulerParameters     = bf_continue,max_array_tasks=500,defer\n"
        "AccountingStorageType   = accounting_storage/slurmdbd\nSLURM_VERSION           = 24.11.1\n"
    )
    assert (site.max_array_size, site.has_accounting) == (500, True)
    # Slurm 23.11 and later print this without accounting.
    assert not parse_limits("AccountingStorageType = (null)\n").has_accounting
    assert parse_limits("") == parse_limits("slurm_load_ctl_conf error: gone\n")


def test_accounting() -> None:
    # Formats from sacct(1): no site with accounting was recorded.
    text = (
        "7|COMPLETED|0:0|None\n8|CANCELLED by 1000|0:15|None\n9_0|FAILED|3:0|NonZeroExitCode\n"
        "9_[1-2]|PENDING|0:0|Resources\n10|OUT_OF_ME+|0:125|None\n11|NODE_FAIL||\n"
        "12.batch|FAILED|1:0|None\nsacct: a word\n\n"
    )
    assert parse_accounting(text) == [
        JobEntry("7", None, job_status("COMPLETED", "", 0)),
        JobEntry("8", None, job_status("CANCELLED", "", 0)),
        JobEntry("9", 0, job_status("FAILED", "NonZeroExitCode", 3)),
        JobEntry("9", 1, job_status("PENDING", "Resources", 0)),
        JobEntry("9", 2, job_status("PENDING", "Resources", 0)),
        JobEntry("10", None, job_status("OUT_OF_ME", "", 0)),
        JobEntry("11", None, job_status("NODE_FAIL", "", None)),
    ]
    assert job_status("OUT_OF_ME+").phase is JobPhase.UNKNOWN  # truncated: ignored
    disabled = load("empty").step("accounting")
    assert disabled.argv == accounting_command(["1"])
    assert (disabled.status, parse_accounting(disabled.stdout)) == (1, [])


def test_cancelling_an_ended_job_is_not_an_error() -> None:
    assert load("single").step("cancel, ended").argv == cancel_command([("1", None)])
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
    assert expand_tasks(text) == expected


@pytest.mark.parametrize("text", ["", "\n", "CLUSTER: x\n", "1|2|3\n", "|||||\n", "slurm: error\n"])
def test_other_lines_are_ignored(text: str) -> None:
    assert parse_poll(text) == []


def test_the_corpus_is_small_and_anonymous() -> None:
    found = names()
    assert len(found) >= 25
    for name in found:
        for step in load(name).steps:
            printed = f"{shlex.join(step.argv)} {step.stdout} {step.stderr}"
            assert len(printed) < 20_000
            assert "root" not in printed
            assert "/tmp" not in printed or step.about == "config"
