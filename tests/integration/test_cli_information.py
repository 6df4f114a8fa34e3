"""The output of ``motoko info``, ``history`` and ``orchestrator status``."""

from __future__ import annotations

import os
import re
import signal
from dataclasses import asdict
from typing import TYPE_CHECKING

import pytest

from motoko.core.changes import RecordFiring
from motoko.core.records import RunKey
from motoko.operations.usage import running_orchestrators, stalled_orchestrators
from motoko.storage.orchestrator_leases import OrchestratorReport
from motoko.storage.session import run_transaction
from motoko.workflow import Workflow
from tests.support.command_line import Shell, small_workflow, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from motoko.storage.tables import Tables

pytestmark = pytest.mark.integration

STALLS = """\
async def main(workflow, **params):
    await workflow.s.select("x = 7")
    await workflow.s.select("x = 8")
"""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = small_workflow(tmp_path / "w")
    yield made
    made.close()


@pytest.fixture
def workflow(shell: Shell) -> Iterator[Workflow]:
    """The same workflow with a database, opened in this process."""
    workflow = Workflow(shell.directory)
    workflow.create()
    workflow.run_name = "a"
    yield workflow
    workflow.close()


# -- open firings -----------------------------------------------------------------------------


def leave_open(tables: Tables) -> None:
    """Simulate two orchestrators: one was killed, the other has no event ``old``."""
    for n, event in enumerate(("s.old", "s.kept")):
        runs = tuple(RunKey("s", number) for number in range(1, 9 if n == 0 else 2))
        tables.record_firing(RecordFiring(("a", event, f"{n}"), "open", "s", runs, 86_400.0 + n))
    tables.record_firing(RecordFiring(("a", "s.old", "9"), "done", "s", (), 1.0))
    tables.write_lease("orchestrator:a", None, {})
    tables.renew_lease(
        "orchestrator:a", 1.0, asdict(OrchestratorReport(events=("s.kept", "s.new")))
    )


def test_open_firings_of_events_that_are_no_longer_registered_are_named(
    shell: Shell, workflow: Workflow
) -> None:
    assert shell.info()["unregistered"] == []
    run_transaction(workflow.store.database, leave_open)
    (named,) = shell.info()["unregistered"]
    assert named == {
        "run_name": "a",
        "event": "s.old",
        "opened": "1970-01-02T00:00:00+00:00",
        "runs": [f"s.{number}" for number in range(1, 9)],
    }
    (line,) = [line for line in shell.ok("info").splitlines() if line.startswith("open firing")]
    assert "a: event s.old, runs s.1, s.2, s.3, s.4, s.5, s.6, ... (8 runs)" in line
    assert "since 1970-01-02T00:00:00+00:00" in line


# -- changed scripts --------------------------------------------------------------------------


def test_runs_whose_scripts_have_changed_are_counted(shell: Shell) -> None:
    shell.ok("run", "-n", "a")
    shell.write({"s/launch.sh": "exit 0\n"})
    shell.ok("run", "-n", "b")
    assert shell.info()["studies"][0]["outdated"] == {"a": 2}
    lines = [line for line in shell.ok("info").splitlines() if "scripts that" in line]
    assert lines == [
        "a: 2 runs were made with scripts that have changed since (motoko retry --changed)"
    ]
    shell.ok("retry", "--changed", "--constraints", "x = 1")
    assert shell.info()["studies"][0]["outdated"] == {"a": 1}
    shell.write({"s/launch.sh": "true\n"})
    assert shell.info()["studies"][0]["outdated"] == {"b": 2}


# -- reasons for states of runs ---------------------------------------------------------------


def reasons(shell: Shell) -> dict[int, str]:
    """Return the last column of ``info --verbose`` for each run, by parameter."""
    lines = [line.strip() for line in shell.ok("info", "--verbose").splitlines()]
    rows = [re.split(r"  +", line) for line in lines if re.match(r"s\.\d+ ", line)]
    return {int(row[2]): " ".join(row[4:]) for row in rows}


def waits(shell: Shell) -> dict[int, str]:
    """Return the same from JSON, for runs that have not ended."""
    runs = shell.info("--verbose")["studies"][0]["runs"]
    return {run["job"]["x"]: run["waits"] for run in runs if run["waits"] is not None}


def test_the_reason_why_a_run_is_unserved_is_shown(shell: Shell, workflow: Workflow) -> None:
    shell.write({"s/launch.sh": "sleep 1000\n"})
    for x, machine in enumerate((None, "large", "small", "large")):
        resources = {} if machine is None else {"machine_name": machine}
        workflow.s.create_task(run_params=resources, x=x)
    assert reasons(shell) == waits(shell) == dict.fromkeys(range(4), "no launcher is running")
    assert "4 runs wait: no launcher is running" in shell.ok("info")
    shell.ok("launcher", "--machine_name", "small")
    wait_until(lambda: shell.counts("s", "a")["CREATED"] == 3, "one of them is taken")
    large, here = "no launcher serves machine 'large'", "no launcher serves machine 'localhost'"
    assert waits(shell) == {0: here, 1: large, 3: large}
    assert reasons(shell) == {2: "", **waits(shell)}
    assert f"2 runs wait: {large}; 1 run waits: {here}" in shell.ok("info")


def test_the_reason_of_a_failure_is_shown(shell: Shell, workflow: Workflow) -> None:
    script = "case $MOTOKO_JOB_X in 0) exit 3 ;; 1) kill -9 $$ ;; 2) sleep 1000 ;; 3) true ;;\n"
    script += "4) motoko-worker fail 'no convergence' ;; 5) kill -9 $PPID ;; esac\n"
    shell.write({"s/launch.sh": script})
    workflow.s.create_task(x=[0, 1, 3, 4, 5])
    workflow.s.create_task(run_params={"timeout": 0.5}, x=2)
    shell.ok("launcher")
    wait_until(lambda: sum(shell.counts("s", "a").values()) == 6, "runs")
    wait_until(
        lambda: not {"CREATED", "SUBMITTED", "START"} & shell.counts("s", "a").keys(), "ends"
    )
    expected = {
        0: "exit code 3",
        1: "killed by SIGKILL",
        2: "it ran longer than its timeout of 0.5 s",
        3: "",
        4: "no convergence",
        5: "its process ended without an exit record",
    }
    found = reasons(shell)
    assert found == expected
    assert waits(shell) == {}
    for x, reason in expected.items():
        *_, end = shell.ok("history", run_of(shell, x)).splitlines()
        assert reason in end
        assert re.search(r"launcher \S+(, .+)?$", end.strip())


# -- history ----------------------------------------------------------------------------------

SCRIPT = """\
case $MOTOKO_JOB_X in
1) [ "$MOTOKO_ATTEMPT" -gt 1 ] || exit 3 ;;
2) [ -e ../../../mended ] || exit 4 ;;
3) sleep 100 ;;
4) motoko-worker state MINE ;;
5) python ../../../ask.py ;;
esac
"""
ASK = """\
from motoko import Workflow
from motoko.worker import run
workflow = Workflow(run.workflow)
workflow.run_name = run.run_name
workflow.s.create_task(x=6)
with workflow.transaction():
    workflow.s.create_task(x=7)
"""
EVENTS = """\
from motoko import event

@event
async def label(workflow, runs):
    for run, job in runs:
        run.state = "SEEN"

@event
async def stop(workflow, runs):
    for run, job in runs:
        run.cancel()

@event
async def ask(workflow, runs):
    await workflow.s.create_task(x=[100 + job.x for run, job in runs])
    for run, job in runs:
        run.state = "ASKED"

def ended(workflow, task_manager):
    return len(task_manager.select("state = SEEN")) == 5 and not workflow.run_vars.get("noted")

@event
async def note(workflow):
    workflow.run_vars.noted = True

async def main(workflow, **params):
    workflow.add_action("label", "s", ["state = FINISHED", "x in (1, 5, 6, 7, 104)"], f=label)
    workflow.add_action("stop", "s", ["lifecycle = START", "x = 3"], f=stop)
    workflow.add_action("ask", "s", "state = MINE", f=ask)
    workflow.add_action("note", "s", ended, f=note)
    workflow.s.create_task(x=[1, 2, 3, 4, 5])
    await workflow.s.select("x in (1, 5, 6, 7, 104)").all("state = SEEN")
    await workflow.s.select("x = 4").all("state in (ASKED, LAST)")
    await workflow.s.select("x = 3").all("state = CANCELLED")
    await workflow.s.select("x = 2").all("state in (FAILED, FINISHED)", "attempt >= 2")
    while not workflow.run_vars.get("noted"):
        await workflow.s.select("x = 1")
    workflow.s.select("x = 4").runs[0].state = "LAST"
    workflow.finished = True
"""


@pytest.fixture(scope="module")
def eventful(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A workflow whose history contains every cause of a state."""
    made = small_workflow(tmp_path_factory.mktemp("eventful") / "w", script=SCRIPT, main=EVENTS)
    config = "task_managers: {s: {retries: 1}}\norchestrator: steps.main\nmax_concurrent: 5\n"
    made.write({"motoko.yaml": config, "ask.py": ASK})
    done = made.run("run", "-n", "a")
    assert done.returncode == 3, done.stderr  # two runs fail on purpose
    made.ok("retry", "--constraints", "x = 2")
    made.write({"mended": ""})
    done = made.run("run", "-n", "a")
    assert "run s.3 ended CANCELLED" in done.stderr  # only that run remains
    yield made
    made.close()


LAUNCHER = r"launcher \S+"
CLAIMED = [("SUBMITTED", 1, LAUNCHER), ("START", 1, LAUNCHER)]
HISTORIES = {
    1: [
        ("CREATED", 0, "main"),
        *CLAIMED,
        ("FAILED", 1, f"{LAUNCHER}, exit code 3"),
        ("CREATED", 1, f"{LAUNCHER}, retry 1 of 1"),
        ("SUBMITTED", 2, LAUNCHER),
        ("START", 2, LAUNCHER),
        ("FINISHED", 2, LAUNCHER),
        ("SEEN", 2, r"event s\.label"),
    ],
    2: [
        ("CREATED", 0, "main"),
        *CLAIMED,
        ("FAILED", 1, f"{LAUNCHER}, exit code 4"),
        ("CREATED", 1, f"{LAUNCHER}, retry 1 of 1"),
        ("SUBMITTED", 2, LAUNCHER),
        ("START", 2, LAUNCHER),
        ("FAILED", 2, f"{LAUNCHER}, exit code 4"),
        ("CREATED", 2, "motoko retry"),
        ("SUBMITTED", 3, LAUNCHER),
        ("START", 3, LAUNCHER),
        ("FINISHED", 3, LAUNCHER),
    ],
    3: [
        ("CREATED", 0, "main"),
        *CLAIMED,
        ("CANCELLED", 1, rf"{LAUNCHER}, cancelled by event s\.stop"),
    ],
    4: [
        ("CREATED", 0, "main"),
        *CLAIMED,
        ("MINE", 1, "script"),
        ("FINISHED", 1, LAUNCHER),
        ("ASKED", 1, r"event s\.ask"),
        ("LAST", 1, "main"),
    ],
    6: [
        ("CREATED", 0, r"script of s\.5"),
        *CLAIMED,
        ("FINISHED", 1, LAUNCHER),
        ("SEEN", 1, r"event s\.label"),
    ],
    7: [
        ("CREATED", 0, r"script of s\.5"),
        *CLAIMED,
        ("FINISHED", 1, LAUNCHER),
        ("SEEN", 1, r"event s\.label"),
    ],
    104: [
        ("CREATED", 0, r"event s\.ask"),
        *CLAIMED,
        ("FINISHED", 1, LAUNCHER),
        ("SEEN", 1, r"event s\.label"),
    ],
}


def run_of(shell: Shell, x: int) -> str:
    (found,) = [
        run for run in shell.info("--verbose")["studies"][0]["runs"] if run["job"]["x"] == x
    ]
    return f"s.{found['id']}"


@pytest.mark.parametrize("x", HISTORIES)
def test_every_state_of_a_run_is_shown_with_attempt_and_cause(eventful: Shell, x: int) -> None:
    lines = eventful.ok("history", run_of(eventful, x)).splitlines()
    assert lines[0].split() == ["time", "state", "attempt", "cause"]
    rows = [line.split(maxsplit=4) for line in lines[1:]]
    times = [f"{day} {clock}" for day, clock, *_ in rows]
    assert times == sorted(times)
    told = [(state, int(attempt)) for _, _, state, attempt, _ in rows]
    assert told == [(state, attempt) for state, attempt, _ in HISTORIES[x]]
    for row, (_, _, cause) in zip(rows, HISTORIES[x], strict=True):
        assert re.fullmatch(cause, row[4].strip())


def firings(shell: Shell, *arguments: str) -> list[tuple[str, str, str]]:
    """Return event, status and trigger of the listed firings, in order."""
    text = shell.ok("history", *arguments)
    rows = [re.split(r"  +", line.strip()) for line in text.splitlines()[1:]]
    return [(event, status, " ".join(runs)) for _, _, event, status, *runs in rows]


def test_every_firing_is_shown(eventful: Shell) -> None:
    found = firings(eventful)
    labelled = [runs for event, _, runs in found if event == "s.label"]
    assert sorted(", ".join(labelled).split(", ")) == sorted(
        run_of(eventful, x) for x in (1, 5, 6, 7, 104)
    )
    assert [row for row in found if row[0] == "s.stop"] == [("s.stop", "done", "s.3")]
    assert [row for row in found if row[0] == "s.note"] == [("s.note", "done", "study s")]
    ((event, status, runs),) = firings(eventful, "--event", "ask")
    assert (event, runs) == ("s.ask", "s.4")
    assert re.fullmatch(r"done after \d+\.\d\d\d s", status)  # the firing waited for a run
    assert firings(eventful, "--event", "s.ask", "-n", "a") == [(event, status, runs)]


def test_unknown_runs_and_events_are_errors(eventful: Shell) -> None:
    done = eventful.run("history", "--event", "labell")
    assert (done.returncode, done.stderr.splitlines()) == (
        2, ["error: no firing of event 'labell'", "  Did you mean 's.label'?"],
    )  # fmt: skip
    assert eventful.run("history", "s.99").returncode == 2
    assert eventful.run("history", "s.1", "--event", "label").returncode == 2


# -- stalled ----------------------------------------------------------------------------------


def test_status_shows_the_awaits_of_a_stalled_orchestrator_until_it_resumes(
    shell: Shell, workflow: Workflow
) -> None:
    shell.write({"steps.py": STALLS})
    store = workflow.store
    shell.ok("orchestrator", "start", "--detach", "-n", "a")
    wait_until(lambda: stalled_orchestrators(store), "it is stalled")
    lines = shell.ok("orchestrator", "status", "--logs").splitlines()
    assert lines[0].startswith("run name a: process ")
    assert lines[1].startswith("  stalled since 20")
    assert lines[2] == "  main waits for a run of s with x = 7"
    assert "the workflow is stalled and waits: main waits for a run of s with x = 7" in lines[-1]
    (found,) = shell.info()["orchestrators"]
    assert found["stalled"]["waits"] == ["main waits for a run of s with x = 7"]
    assert ", stalled since 20" in shell.ok("info")
    workflow.s.create_task(x=7)  # without a launcher, the run stays CREATED
    wait_until(lambda: not stalled_orchestrators(store), "it is stalled no more")
    lines = shell.ok("orchestrator", "status").splitlines()
    assert lines[1:] == ["  1 run waits: no launcher is running"]
    assert shell.info()["orchestrators"][0]["stalled"] is None


def test_a_killed_stalled_orchestrator_is_not_reported(shell: Shell, workflow: Workflow) -> None:
    shell.write({"steps.py": STALLS})
    shell.ok("orchestrator", "start", "--detach", "-n", "a")
    wait_until(lambda: stalled_orchestrators(workflow.store), "it is stalled")
    os.kill(running_orchestrators(workflow.store)["a"].pid, signal.SIGKILL)
    wait_until(lambda: not running_orchestrators(workflow.store), "it is gone")
    first, ended, *_ = shell.ok("orchestrator", "status").splitlines()
    assert first == "no orchestrator is running"
    assert "exit status 1: died without recording an end; last seen 2" in ended
