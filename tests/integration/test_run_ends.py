"""The last end of each run name is recorded, however the execution ends."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import shutil
import threading
from typing import TYPE_CHECKING, Any

import pytest

from motoko.cli.entry_point import run
from motoko.errors import LeaseHeld, MotokoError, ServerError
from motoko.operations.wait import executions_to_await, wait_for_ends
from motoko.orchestrator import end_recorder
from motoko.orchestrator.end_recorder import Origin
from motoko.orchestrator.run_ends import EndKind, RunEnd, end_file, executions, last_ends
from motoko.server.state_dir import StateDir
from motoko.testing.fake_launcher import failing
from tests.support.orchestrating import execute, memory_workflow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from motoko.workflow import Workflow

pytestmark = pytest.mark.integration

SCRIPTS = {"s": lambda job: failing("too small", 7) if job["x"] < 0 else None}


@pytest.fixture
def workflow(tmp_path: Path) -> Iterator[Workflow]:
    (tmp_path / ".wf").mkdir(mode=0o700)
    with memory_workflow(tmp_path, ["s"]) as made:
        yield made


def end_of(workflow: Workflow, run_name: str = "a") -> RunEnd:
    return last_ends(workflow.store.state)[run_name]


def end_after(workflow: Workflow, main: Any, error: type[BaseException] | None = None) -> RunEnd:
    if error is None:
        execute(workflow, main, SCRIPTS)
    else:
        with pytest.raises(error):
            execute(workflow, main, SCRIPTS)
    return end_of(workflow)


def described(end: RunEnd) -> tuple[str, int, str]:
    return end.kind.value, end.status, end.reason


async def finish(workflow: Workflow) -> None:
    await workflow.s.create_task(x=1)


async def fail(workflow: Workflow) -> None:
    await workflow.s.create_task(x=-1)


async def handle(workflow: Workflow) -> None:
    await workflow.s.create_task(x=[-1, 1]).settled()


async def wait_for_ever(workflow: Workflow) -> None:
    await workflow.s.select("x = 99")


async def raise_error(workflow: Workflow) -> None:
    await workflow.s.create_task(x=1)
    raise ValueError("first\nsecond\x1b[2J")


async def exit_program(workflow: Workflow) -> None:
    raise SystemExit(5)


async def cancel(workflow: Workflow) -> None:
    raise KeyboardInterrupt


def test_each_kind_of_end_is_recorded(workflow: Workflow) -> None:
    workflow.end_when_stalled = True
    found = {}
    for main in (finish, handle, fail, wait_for_ever, exit_program, cancel):
        workflow.run_name = main.__name__
        with contextlib.suppress(MotokoError, KeyboardInterrupt):
            execute(workflow, main, SCRIPTS)
        found[main.__name__] = described(end_of(workflow, main.__name__))
        assert wait(workflow, main.__name__) == found[main.__name__][1]

    assert found["finish"] == ("finished", 0, "finished")
    assert found["handle"] == ("finished", 0, "finished; 1 failed run was handled")
    assert found["fail"] == ("failed", 3, "run s.4 ended FAILED with exit code 7: too small")
    assert found["wait_for_ever"][:2] == ("stalled", 4)
    assert "main waits for a run of s with x = 99" in found["wait_for_ever"][2]
    assert found["exit_program"][:2] == ("error", 1)
    assert found["exit_program"][2].startswith("sys.exit(5) was called (at ")
    assert found["cancel"][:2] == ("interrupted", 1)


def test_the_reason_of_an_error_is_one_safe_line_with_its_place(workflow: Workflow) -> None:
    end = end_after(workflow, raise_error, ValueError)

    line = raise_error.__code__.co_firstlineno + 2
    assert end.reason == f"ValueError: first (at {__file__}:{line}, in raise_error)"
    assert (end.kind, end.status, end.detached, end.log) == (EndKind.ERROR, 1, False, None)
    assert end.started <= end.time


def test_ctrl_c_of_a_python_program_is_an_interruption(
    workflow: Workflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow.orchestrator_function = cancel
    with pytest.raises(KeyboardInterrupt):
        workflow.execute()

    assert described(end_of(workflow)) == ("interrupted", 130, "stopped by SIGINT")


def test_the_command_and_the_log_are_recorded(workflow: Workflow) -> None:
    workflow.context.origin = Origin(("motoko", "run", "x" * 5000), True, True, "o.log")
    end = end_after(workflow, finish)

    assert end.command[:2] == ("motoko", "run")
    assert sum(map(len, end.command)) < 2000
    assert end.log == workflow.store.state.logs / "o.log"
    assert end.detached


def test_the_end_before_is_shown_while_a_run_name_is_executed(workflow: Workflow) -> None:
    seen: list[Any] = []

    async def look(workflow: Workflow) -> None:
        seen.append(last_ends(workflow.store.state))
        found = executions(workflow.store.state)[str(workflow.run_name)]
        seen.append(found.is_running(workflow.store.now()))

    with pytest.raises(MotokoError):
        execute(workflow, fail, SCRIPTS)
    workflow.run_name = "b"
    execute(workflow, look, {})
    workflow.run_name = "a"
    with pytest.raises(MotokoError):
        execute(workflow, look, {})

    assert list(seen[0]) == ["a"]
    assert described(seen[2]["a"]) == described(seen[0]["a"])


def test_an_orchestrator_without_the_lease_records_nothing(workflow: Workflow) -> None:
    async def start_another(workflow: Workflow) -> None:
        from motoko.workflow import Workflow as Another

        other = Another(workflow.directory, database=workflow.store.database)
        other.run_name = "a"
        other.orchestrator_function = finish
        with pytest.raises(LeaseHeld):
            await other.execute_async()

    assert described(end_after(workflow, start_another)) == ("finished", 0, "finished")


def test_the_end_of_a_replaced_orchestrator_is_not_recorded(workflow: Workflow) -> None:
    file = end_file(workflow.store.state, "a")

    async def replaced(workflow: Workflow) -> None:
        content = {**json.loads(file.read_text()), "token": "of another"}
        file.write_text(json.dumps(content))

    execute(workflow, replaced, {})

    assert end_of_none(workflow)


def end_of_none(workflow: Workflow) -> bool:
    return not last_ends(workflow.store.state)


def full(*_args: Any, **_options: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_neither_prevents_the_record_nor_masks_the_error(
    workflow: Workflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fill_disk(workflow: Workflow) -> None:
        monkeypatch.setattr(end_recorder, "write_atomic", full)
        raise ValueError("the original")

    end = end_after(workflow, fill_disk, ValueError)

    assert end.reason.startswith("ValueError: the original")


def test_a_start_that_cannot_be_recorded_is_a_warning(
    workflow: Workflow, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(end_recorder, "write_atomic", full)
    with pytest.raises(MotokoError, match=r"run s\.1 ended FAILED"):
        execute(workflow, fail, SCRIPTS)

    assert "cannot record the start of run name 'a'" in caplog.text
    assert end_of_none(workflow)


def change(workflow: Workflow, **changes: Any) -> None:
    """Change the record of an execution that has no end."""
    file = end_file(workflow.store.state, "a")
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "end": None, **changes}))


def test_a_process_that_died_is_reported_with_the_time_it_was_last_seen(
    workflow: Workflow,
) -> None:
    end_after(workflow, finish)
    content = json.loads(end_file(workflow.store.state, "a").read_text())
    change(workflow, process={**content["process"], "started": 1})
    os.utime(end_file(workflow.store.state, "a"), (0, 3600))

    assert described(end_of(workflow)) == (
        "died", 1, "died without recording an end; last seen 1970-01-01T01:00:00+00:00",
    )  # fmt: skip


@pytest.mark.parametrize(("age", "running"), [(10.0, True), (-10.0, True), (1000.0, False)])
def test_an_orchestrator_on_another_machine_runs_while_it_renews(
    workflow: Workflow, age: float, running: bool
) -> None:
    end_after(workflow, finish)
    content = json.loads(end_file(workflow.store.state, "a").read_text())
    change(workflow, process={**content["process"], "boot": "another", "host": "elsewhere"})
    (found,) = executions(workflow.store.state).values()

    assert found.is_running(found.seen + age) is running


def test_records_make_sense_in_a_copy_of_the_directory(workflow: Workflow, tmp_path: Path) -> None:
    copies = tmp_path / "copies"

    async def copy(workflow: Workflow) -> None:
        shutil.copytree(tmp_path / ".wf", copies / "running" / ".wf")

    workflow.context.origin = Origin(("motoko",), True, True, "o.log")
    end_after(workflow, copy)
    shutil.copytree(tmp_path / ".wf", copies / "ended" / ".wf")

    running = last_ends(StateDir.of(copies / "running"))["a"]
    ended = last_ends(StateDir.of(copies / "ended"))["a"]
    assert described(running)[:2] == ("died", 1)
    assert "when this directory was copied" in running.reason
    assert described(ended) == ("finished", 0, "finished")
    assert ended.log == copies / "ended" / ".wf" / "logs" / "o.log"


@pytest.mark.parametrize("run_name", ["..", ".a", "é ü", "漢" * 100, "%2e"])
def test_every_run_name_has_a_record_of_its_own(workflow: Workflow, run_name: str) -> None:
    workflow.run_name = run_name
    execute(workflow, finish, SCRIPTS)
    workflow.run_name = "b"
    execute(workflow, finish, SCRIPTS)

    assert sorted(last_ends(workflow.store.state)) == sorted([run_name, "b"])


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"run_name": "b"}', "[" * 10_000, '{"end": 1}', "\0\0"]
)
def test_damaged_records_are_ignored(workflow: Workflow, content: str) -> None:
    end_after(workflow, finish)
    ends = workflow.store.state.ends
    (ends / "b.json").write_text(content)
    os.mkfifo(ends / "c.json")
    (ends / "d.json").mkdir()

    assert list(last_ends(workflow.store.state)) == ["a"]


def test_a_workflow_without_records_has_no_ends(tmp_path: Path) -> None:
    assert last_ends(StateDir.of(tmp_path)) == {}


def test_a_cancelled_execution_is_recorded(workflow: Workflow) -> None:
    workflow.orchestrator_function = wait_for_ever

    async def cancel_soon() -> None:
        task = asyncio.create_task(workflow.execute_async())
        while workflow.context.execution is None:  # noqa: ASYNC110 - the lease notifies no one
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel_soon())

    assert described(end_of(workflow)) == ("interrupted", 1, "cancelled by the program")


# -- waiting ----------------------------------------------------------------------------------


def wait(workflow: Workflow, *arguments: str) -> int:
    return run(["wait", "--workflow", workflow.directory, *arguments])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["secnd"], "Did you mean 'second'?"),
        (["-n", "x"], "run name 'x' has had no orchestrator"),
        (["--timeout", "soon"], "'soon' is not a time"),
        (["--timeout=-1"], "'-1' is not a time"),
    ],
)
def test_wait_reports_invalid_arguments(
    workflow: Workflow, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    workflow.run_name = "second"
    execute(workflow, finish, SCRIPTS)
    try:
        status = wait(workflow, *arguments)
    except SystemExit as error:
        status = int(str(error.code))

    assert status == 2
    assert message in capsys.readouterr().err


def test_wait_without_any_orchestrator_is_an_error(
    workflow: Workflow, capsys: pytest.CaptureFixture[str]
) -> None:
    assert wait(workflow) == 1
    assert "this workflow has had no orchestrator" in capsys.readouterr().err


def test_wait_returns_when_a_python_program_that_continues_has_recorded_the_end(
    workflow: Workflow,
) -> None:
    statuses: list[int] = []
    waiting = threading.Thread(target=lambda: statuses.append(wait(workflow, "a")))

    async def fail_while_awaited(workflow: Workflow) -> None:
        waiting.start()
        await fail(workflow)

    with pytest.raises(MotokoError):
        execute(workflow, fail_while_awaited, SCRIPTS)
    waiting.join()

    assert statuses == [3]


def test_wait_returns_the_end_of_the_awaited_execution_and_not_of_a_later_one(
    workflow: Workflow,
) -> None:
    state, clock = workflow.store.state, workflow.store.clock
    awaited = []

    async def look(workflow: Workflow) -> None:
        awaited.extend(executions_to_await(state, [], clock))
        await fail(workflow)

    with pytest.raises(MotokoError):
        execute(workflow, look, SCRIPTS)
    execute(workflow, handle, SCRIPTS)

    ends = wait_for_ends(awaited, state, clock)
    assert ends is not None
    assert [described(end)[:2] for end in ends] == [("failed", 3)]


def test_wait_reports_a_record_that_was_removed(workflow: Workflow) -> None:
    execute(workflow, finish, SCRIPTS)
    state, clock = workflow.store.state, workflow.store.clock
    awaited = executions_to_await(state, ["a"], clock)
    shutil.rmtree(state.ends)

    with pytest.raises(MotokoError, match="the record of run name 'a' was removed"):
        wait_for_ends(awaited, state, clock)


def test_a_failed_server_is_recorded(workflow: Workflow) -> None:
    async def lose_server(workflow: Workflow) -> None:
        raise ServerError("the server is gone")

    end = end_after(workflow, lose_server, ServerError)
    assert described(end)[:2] == ("error", 1)
    assert end.reason.startswith("the server is gone (at ")


@pytest.mark.parametrize("command", [["info"], ["orchestrator", "status"]])
def test_ends_are_shown_although_the_database_is_damaged(
    workflow: Workflow, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    end_after(workflow, finish)
    workflow.store.state.database.write_text("damaged")
    status = run([*command, "--workflow", workflow.directory])
    captured = capsys.readouterr()

    assert status == 1
    assert "run name a: ended 2" in captured.out
    assert "is not a Motoko database" in captured.err
