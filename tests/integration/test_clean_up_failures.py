"""A failure during clean-up does not hide the preceding error."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from motoko.cli import run as command
from motoko.errors import RunFailed, ServerError, StorageError
from motoko.launcher.services import Services
from motoko.operations import execute as execute_operation
from motoko.operations.signals import SignalHandler
from motoko.storage.database import Database
from motoko.storage.orchestrator_leases import Lease
from motoko.storage.schema import create_tables
from motoko.storage.session import run_transaction
from motoko.testing.fake_launcher import FakeLauncher, failing
from motoko.workflow import Workflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration


class UsersError(Exception):
    """The error that the user must see."""


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


raise_server_error = raising(ServerError("the database server has gone"))


@pytest.fixture
def workflow(tmp_path: Path) -> Iterator[Workflow]:
    (tmp_path / "motoko.yaml").write_text("task_managers: {mult: }\norchestrator: steps.main\n")
    (tmp_path / "mult").mkdir()
    (tmp_path / "mult" / "bd.yaml").write_text("job: {x: float}\n")
    (tmp_path / "mult" / "launch.sh").write_text("true\n")
    database = Database.in_memory()
    run_transaction(database, lambda root: create_tables(root, ["mult"]), initialising=True)
    workflow = Workflow(tmp_path, database=database)
    workflow.run_name = "a"
    yield workflow
    workflow.close()
    database.close()


def execute(workflow: Workflow, main: Any) -> None:
    workflow.orchestrator_function = main

    async def limited() -> None:
        async with asyncio.timeout(120):
            await workflow.execute_async()

    with FakeLauncher(workflow.store, {"mult": lambda job: failing()}):
        asyncio.run(limited())


async def users_error(workflow: Workflow) -> None:
    raise UsersError


async def nothing(workflow: Workflow) -> None:
    pass


@pytest.mark.parametrize(
    ("event", "handler"),
    [
        ("state = FAILED", raise_server_error),
        ("state = FAILED", raising(SystemExit(3))),
        (lambda run, job: raise_server_error(), lambda runs: None),
    ],
    ids=["the handler", "the handler exits", "its condition"],
)
def test_a_failing_error_handler(workflow: Workflow, event: Any, handler: Any) -> None:
    called: list[Any] = []

    async def main(workflow: Workflow) -> None:
        workflow.add_error_handler(event, handler)
        workflow.add_error_handler(f=lambda runs: called.append(len(runs)))
        await workflow.mult.create_task(x=1)

    with pytest.raises(RunFailed, match=r"run mult\.1 ended FAILED") as caught:
        execute(workflow, main)
    assert any("error handler failed too" in note for note in caught.value.__notes__)
    assert called == [1]


def test_a_lease_that_cannot_be_released(
    workflow: Workflow, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Lease, "release", raise_server_error)
    with pytest.raises(UsersError):
        execute(workflow, users_error)
    assert "could not release the lease on 'a'" in caplog.text
    workflow.run_name = "b"
    execute(workflow, nothing)  # a successful execution does not become a failure


def test_a_lease_is_not_released_after_the_server_exited(
    workflow: Workflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main(workflow: Workflow) -> None:
        raise_server_error()

    monkeypatch.setattr(Lease, "release", raising(AssertionError("waited for once more")))
    with pytest.raises(ServerError, match="has gone"):
        execute(workflow, main)


def test_progress_that_cannot_be_printed(
    workflow: Workflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow.orchestrator_function = users_error
    monkeypatch.setattr(execute_operation, "Session", raise_server_error)
    with pytest.raises(UsersError):
        execute_operation.execute(workflow, {}, SignalHandler(), show=lambda counts: None)


def test_services_that_cannot_be_stopped(
    workflow: Workflow, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    services = Services(workflow, temporary=True)
    monkeypatch.setattr(Services, "__enter__", lambda self: self)
    monkeypatch.setattr(Services, "_release", raising(StorageError("the lock is held")))
    with pytest.raises(UsersError), services:
        raise UsersError
    assert "the lock is held" in caplog.text
    with pytest.raises(StorageError, match="the lock is held"), services:
        pass


@pytest.mark.parametrize("error", [UsersError(), KeyboardInterrupt(2), ServerError("gone")])
@pytest.mark.parametrize("failing", ["counts", "_print_results", "suspend"])
def test_a_summary_that_cannot_be_printed(
    workflow: Workflow,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    failing: str,
) -> None:
    class NoServices:
        def suspend(self, run_name: str) -> None:
            if failing == "suspend":
                raise_server_error()

        def stop_launcher(self) -> bool:
            return False

    monkeypatch.setattr(command, "_execute", raising(error))
    monkeypatch.setattr(command, "_print_results", lambda _: None)
    if failing == "counts":
        unreadable = raising(OSError("no room"))

        def execute_and_lose(*_: Any) -> None:
            monkeypatch.setattr(workflow.store.autocommit_scope, "read", unreadable)
            raise error

        monkeypatch.setattr(command, "_execute", execute_and_lose)
    elif failing == "_print_results":
        monkeypatch.setattr(command, "_print_results", raise_server_error)
    workflow.store.state.path.mkdir(exist_ok=True)
    args = argparse.Namespace(
        stop_runs=True, run_name="a", motoko_own=frozenset({"stop_runs", "run_name"})
    )
    with contextlib.closing(workflow), pytest.raises(type(error)) as caught:
        command._run(args, workflow, NoServices(), SignalHandler())  # type: ignore[arg-type]
    assert caught.value is error
    output = capsys.readouterr().err
    queried = failing == "suspend" or not isinstance(error, ServerError)
    assert ("warning: " in output) == queried
