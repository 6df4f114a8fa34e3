"""Why runs exist, wait and fail, and why events do not fire."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from motoko.cli.json_schemas import OUTPUTS
from motoko.cli.why_json import answers_text
from motoko.core.changes import DeleteRun
from motoko.core.records import RunKey, RunRecord
from motoko.errors import MotokoError, RunFailed, RunNameError, UnknownNameError, UnknownRunError
from motoko.operations.why import Explainer
from motoko.operations.why_text import answer_lines
from motoko.orchestrator.run_ends import EndKind, RunEnd
from motoko.orchestrator.status_file import read_status, status_file
from motoko.testing.fake_launcher import failing
from motoko.testing.memory import eventually
from tests.support.command_line import Shell, small_workflow, wait_until
from tests.support.orchestrating import execute, memory_workflow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from motoko.core.orchestrator_status import OrchestratorStatus
    from motoko.workflow import Workflow

pytestmark = pytest.mark.integration


@pytest.fixture
def workflow(tmp_path: Path) -> Iterator[Workflow]:
    with memory_workflow(tmp_path, ("solve", "add")) as workflow:
        yield workflow


def record(workflow: Workflow, text: str) -> RunRecord:
    with workflow.store.autocommit_scope.read() as session:
        return session.run(RunKey.parse(text))


def firing_of(workflow: Workflow, created: RunRecord, event: str) -> Any:
    with workflow.store.autocommit_scope.read() as session:
        return session.tables.firing((created.run_name, event, created.firing))


def test_a_run_names_the_firing_that_created_it(workflow: Workflow) -> None:
    async def add(workflow: Workflow, runs: Any) -> None:
        first = workflow.add.create_task(x=1.0)
        await first
        workflow.add.create_task(x=2.0)
        workflow.finished = True

    async def main(workflow: Workflow) -> None:
        workflow.add_action("sum", "solve", "state = FINISHED", f=add)
        workflow.solve.create_task(x=1.0)

    execute(workflow, main, {"solve": lambda job: None, "add": lambda job: None})
    digest = hashlib.blake2b(Path(__file__).read_bytes(), digest_size=8).hexdigest()
    assert record(workflow, "solve.1").firing == ""
    created = [record(workflow, "add.1"), record(workflow, "add.2")]
    for run in created:
        firing = firing_of(workflow, run, "solve.sum")
        assert firing["status"] == "done"
        assert firing["runs"] == [("solve", 1)]
        assert firing["code"] == digest


# -- the published status ---------------------------------------------------------------------


def published(workflow: Workflow) -> OrchestratorStatus:
    found = read_status(workflow.store.state, "a")
    assert found is not None
    return found


def test_events_and_answers_are_published(workflow: Workflow) -> None:
    workflow.store.state.path.mkdir()
    waiting: list[OrchestratorStatus] = []

    def solve(job: Any) -> None:
        found = eventually(lambda: (s := read_status(workflow.store.state, "a")) and s.awaits and s)
        waiting.append(found)

    def enough(workflow: Workflow, task_manager: Any) -> bool:
        if workflow.vars.get("limit", 3) > 5 or len(workflow.add.select()):
            raise AssertionError
        return bool(task_manager.select("state = FINISHED"))

    async def finish(workflow: Workflow) -> None:
        workflow.finished = True

    async def never(workflow: Workflow, runs: Any) -> None:
        raise AssertionError

    async def main(workflow: Workflow) -> None:
        workflow.add_action("far", "solve", "state = FINISHED, x > 5", f=never, once=True)
        workflow.add_action("large", "solve", lambda run, job: job.x > 5, f=never)
        workflow.add_action("enough", "solve", enough, f=finish)
        await workflow.solve.create_task(x=1.0)

    execute(workflow, main, {"solve": solve})
    status = published(workflow)
    events = {event.id: event for event in status.events}
    far, large, condition = (events[f"solve.{name}"] for name in ("far", "large", "enough"))
    assert far.constraints == {"solve": "state = FINISHED and x > 5"}
    assert (far.kind, far.once, far.fired, far.answers) == ("constraint", True, 0, {})
    assert "never" in far.action
    assert large.answers["solve"].matching == 0
    assert large.answers["solve"].reads == ("solve",)
    assert "test_why.py" in large.condition
    answer = condition.answers["solve"]
    assert (answer.holds, answer.error, condition.fired) == (True, "", 1)
    assert answer.reads == ("add", "solve", "vars.limit")
    assert answer.asked >= status.since
    (awaited,) = waiting[0].awaits
    assert (awaited.owner, awaited.number, awaited.runs) == ("main", 1, ("solve.1",))
    assert not waiting[0].main_returned


def test_a_condition_that_raised_is_published(workflow: Workflow) -> None:
    workflow.store.state.path.mkdir()

    def broken(run: Any, job: Any) -> bool:
        raise ValueError("no such column\x1b[2J" + "x" * 10_000)

    async def main(workflow: Workflow) -> None:
        workflow.add_action("broken", "solve", broken)
        await workflow.solve.create_task(x=1.0)

    with pytest.raises(ValueError, match="no such column"):
        execute(workflow, main, {"solve": lambda job: None})
    (event,) = published(workflow).events
    assert event.answers["solve"].error.startswith("ValueError: no such column")
    assert len(event.answers["solve"].error) <= 500


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version": 1}', b"null", b"\xff" * 9])
def test_an_invalid_status_counts_as_none(workflow: Workflow, content: bytes) -> None:
    file = status_file(workflow.store.state, "a")
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    assert read_status(workflow.store.state, "a") is None
    file.unlink()
    file.mkdir()
    assert read_status(workflow.store.state, "a") is None


# -- explanations -----------------------------------------------------------------------------


def explain(workflow: Workflow, word: str, run_name: str | None = None) -> tuple[list[Any], str]:
    """Return the answers about a word, and their text; their JSON agrees with its schema."""
    with workflow.store.autocommit_scope.read() as session:
        explainer = Explainer(workflow, session)
        answers: list[Any] = (
            explainer.word(word, run_name) if word else [explainer.workflow_answer(run_name)]
        )
    now = workflow.store.now()
    jsonschema.validate(json.loads(answers_text(answers, now)), OUTPUTS["why"])
    return answers, "\n".join(line for answer in answers for line in answer_lines(answer, now))


def codes(reasons: Any) -> list[str]:
    return [found.code.value for found in reasons]


async def add_all(workflow: Workflow, runs: Any) -> None:
    for _, job in runs:
        workflow.add.create_task(x=job.x)


async def nothing(workflow: Workflow, runs: Any = None) -> None:
    pass


async def main_of_two_studies(workflow: Workflow) -> None:
    workflow.add_action("sum", "solve", "state = FINISHED and x > 1", f=add_all, once=True)
    workflow.add_action("far", "solve", "state = FINISHED and y > 0.5", f=nothing)
    workflow.add_action("same", "add", "state = FINISHED and x = 9", f=nothing)
    workflow.add_action("same", "solve", "state = LOST", f=nothing)
    await workflow.solve.create_task(x=[1.0, 2.0, 3.0])
    for x in (2, 3):
        await workflow.add.select(f"state = FINISHED and x = {x}")
    workflow.finished = True


@pytest.fixture
def executed(workflow: Workflow) -> Workflow:
    """A workflow that was executed: solve.1 to 3 have y = 0.1 to 0.3."""
    workflow.store.state.path.mkdir()
    workflow.add_error_handler()
    scripts = {"solve": lambda job: {"y": job["x"] / 10}, "add": lambda job: None}
    execute(workflow, main_of_two_studies, scripts)
    return workflow


def test_a_run_is_explained_back_to_main(executed: Workflow) -> None:
    ((answer,), text) = explain(executed, "add.1")
    first, second = answer.origins
    assert (str(first.run), first.reason.code) == ("add.1", "by_event")
    assert first.reason.fields["event"] == "solve.sum"
    assert second.reason.code == "by_main"
    assert str(second.run) == first.reason.fields["runs"][0]
    assert answer.complete
    assert codes(answer.because) == ["ended"]
    assert codes(answer.next)[0] == "terminal"
    assert "created by event solve.sum (action add_all)" in text
    assert f"{second.run} created by main" in text


def test_events_that_select_a_run_are_named(executed: Workflow) -> None:
    ((answer,), text) = explain(executed, "solve.3")
    assert codes(answer.next) == ["terminal", "selected"]
    assert answer.next[1].fields == {
        "event": "solve.sum",
        "firing": False,
        "once_done": True,
        "running": False,
    }
    assert "fires once only" in text
    ((answer,), _) = explain(executed, "solve.1")
    assert codes(answer.next) == ["terminal", "not_selected"]


def test_an_event_names_the_clause_that_fails(executed: Workflow) -> None:
    ((answer,), text) = explain(executed, "far")
    (diagnosis,) = answer.diagnoses
    assert [row.survivors for row in diagnosis.clauses] == [3, 0]
    assert diagnosis.broken == "y > 0.5"
    assert "nearest solve.3: y = 0.3, needs > 0.5" in text
    assert "no orchestrator is running" in text
    assert explain(executed, "solve.far")[0][0].event.id == "solve.far"


def test_an_event_that_fired_once_says_so(executed: Workflow) -> None:
    ((answer,), _) = explain(executed, "sum")
    (found,) = answer.reasons
    assert (found.code, sorted(found.fields["runs"])) == ("fired_once", ["solve.2", "solve.3"])


def test_an_ambiguous_name_explains_every_event(executed: Workflow) -> None:
    answers, _ = explain(executed, "same")
    assert sorted(answer.event.id for answer in answers) == ["add.same", "solve.same"]


def test_a_study_groups_the_reasons_of_its_runs(executed: Workflow) -> None:
    executed.run_name = "b"
    executed.solve.create_task(x=[1.0, 2.0, 3.0])
    ((answer,), text) = explain(executed, "solve")
    (group,) = answer.groups
    assert (group.number, group.lifecycle, group.reason.code) == (3, "CREATED", "no_launcher")
    assert "3 of solve CREATED: no launcher is running: solve.4, solve.5, solve.6" in text
    ((answer,), text) = explain(executed, "solve.1-3")
    assert (answer.groups, answer.number) == ((), 3)
    assert explain(executed, "solve", "a")[0][0].groups == ()


def test_the_workflow_names_what_it_waits_for(executed: Workflow) -> None:
    executed.run_name = "b"
    executed.solve.create_task(x=[1.0])
    ((answer,), text) = explain(executed, "")
    assert [one.facts.run_name for one in answer.run_names] == ["b"]
    assert answer.quiet == ("a",)
    assert "1 of solve CREATED: no launcher is running" in text
    assert "nothing waits: run names a" in text
    ((answer,), text) = explain(executed, "", "a")
    assert len(answer.run_names[0].events) == 4
    assert "event solve.far" in text


@pytest.mark.parametrize("kind", list(EndKind))
def test_a_run_name_that_did_not_finish_is_explained_although_nothing_runs(
    executed: Workflow, monkeypatch: pytest.MonkeyPatch, kind: EndKind
) -> None:
    end = RunEnd("a", kind, 1, "its reason", 2.0, 1.0, (), detached=False, log=None)
    monkeypatch.setattr("motoko.operations.why.last_ends", lambda *_: {"a": end})
    ((answer,), text) = explain(executed, "")
    assert answer.quiet == (("a",) if kind == "finished" else ())
    assert ("exit status 1: its reason" in text) == (kind != "finished")


@pytest.mark.parametrize(("name", "hint"), [("aa", "'a'"), ("", "Known: a."), ("zzz", "Known: a.")])
def test_an_unknown_run_name_is_an_error(executed: Workflow, name: str, hint: str) -> None:
    with (
        executed.store.autocommit_scope.read() as session,
        pytest.raises(RunNameError, match=f"no run has the run name '{name}'") as caught,
    ):
        Explainer(executed, session).check_run_name(name)
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("word", "error", "hint"),
    [
        ("slove.3", UnknownNameError, "Did you mean 'solve.3'?"),
        ("slove", UnknownNameError, "Did you mean 'solve'?"),
        ("solve.fra", UnknownRunError, "Write STUDY"),
        ("fra", UnknownNameError, "Did you mean 'far'?"),
        ("zzz", UnknownNameError, "Known: "),
        (".", UnknownNameError, "Known: "),
        ("solve.99", UnknownRunError, "The nearest is solve.3"),
        ("solve.3-1", UnknownRunError, "Write 1-3"),
        ("solve.\x1b[2J", UnknownRunError, "Write STUDY"),
    ],
)
def test_a_word_that_names_nothing(
    executed: Workflow, word: str, error: type[MotokoError], hint: str
) -> None:
    with (
        pytest.raises(error) as caught,
        executed.store.autocommit_scope.read() as session,
    ):
        Explainer(executed, session).word(word, None)
    assert hint in (caught.value.hint or "")


def test_a_run_name_that_does_not_exist(executed: Workflow) -> None:
    for word in ("", "far", "solve", "solve.1"):
        with pytest.raises(RunNameError):
            explain(executed, word, "aa")
    executed.run_name = "b"
    executed.solve.create_task(x=1.0)
    with pytest.raises(UnknownRunError, match="belongs to run name 'a'"):
        explain(executed, "solve.1", "b")


def test_a_deleted_trigger_ends_the_chain(executed: Workflow) -> None:
    created = record(executed, "add.1")
    ((answer,), _) = explain(executed, "add.1")
    executed.store.autocommit_scope.write(DeleteRun(answer.origins[1].run))
    ((answer,), text) = explain(executed, str(created.key))
    assert codes([origin.reason for origin in answer.origins]) == ["by_event", "deleted"]
    assert "deleted since" in text


def test_the_status_of_another_database_is_ignored(executed: Workflow) -> None:
    """It was recreated, or its orchestrator was one of an older Motoko."""
    file = status_file(executed.store.state, "a")
    status = json.loads(file.read_bytes())
    file.write_text(json.dumps({**status, "since": 1.0}))
    with pytest.raises(UnknownNameError):
        explain(executed, "far")
    ((answer,), _) = explain(executed, "solve.1")
    assert codes(answer.next) == ["terminal"]


def test_a_constraint_that_the_study_no_longer_has(executed: Workflow) -> None:
    file = status_file(executed.store.state, "a")
    text = file.read_text().replace("y > 0.5", "jobs.gone > 0.5")
    file.write_text(text)
    ((answer,), shown) = explain(executed, "far")
    assert answer.invalid[0][0] == "solve"
    assert "no longer valid" in shown


def test_a_failed_run_shows_the_end_of_its_stderr(workflow: Workflow, tmp_path: Path) -> None:
    async def main(workflow: Workflow) -> None:
        with contextlib.suppress(RunFailed):
            await workflow.solve.create_task(x=1.0)

    execute(workflow, main, {"solve": lambda job: failing("no luck", 7)})
    directory = workflow.store.run_directory("solve", 1)
    directory.mkdir(parents=True)
    lines = [f"line {n}" for n in range(100)]
    (directory / "stderr").write_bytes("\n".join(lines).encode() + b"\n\x1b[2J\xff end\n\n")
    ((answer,), text) = explain(workflow, "solve.1")
    assert answer.stderr[-1] == "\x1b[2J\ufffd end"
    assert len(answer.stderr) == 10
    assert "\x1b" not in text
    assert "exit code 7" in text
    assert "no luck" in text
    (directory / "stderr").unlink()
    os.mkfifo(directory / "stderr")
    assert explain(workflow, "solve.1")[0][0].stderr == ()


# -- the command ------------------------------------------------------------------------------

WAITS = """\
async def act(workflow, runs):
    pass

async def main(workflow, **params):
    workflow.add_action("large", "s", "state = FINISHED and x > 5", f=act)
    await workflow.s.create_task(x=[1, 2])
    await workflow.s.select("x = 8")
"""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = small_workflow(tmp_path / "w", main=WAITS)
    yield made
    made.close()


def test_the_command_reads_beside_a_server_and_without_one(shell: Shell) -> None:
    assert "with `motoko run`" in shell.run("why").stderr
    shell.ok("create")
    orchestrator = shell.start("orchestrator", "start", "--run_name", "a")
    shell.ok("launcher")
    nearest = "nearest s.2: x = 2, needs > 5"
    wait_until(lambda: nearest in shell.run("why", "large").stdout, "the event waits for x > 5")
    wait_until(lambda: "main waits for" in shell.run("why").stdout, "the await of main is shown")
    assert json.loads(shell.ok("why", "large", "--json"))["answers"][0]["orchestrator"]
    orchestrator.kill()
    orchestrator.wait()
    assert "no orchestrator is running; it last reported" in shell.ok("why", "large")
    shell.close()
    assert nearest in shell.ok("why", "large")
    assert not list(shell.directory.glob(".wf/*.sock")), "no server was started"
    done = shell.run("why", "lrge")
    assert done.returncode != 0
    assert "Did you mean 'large'?" in done.stderr
