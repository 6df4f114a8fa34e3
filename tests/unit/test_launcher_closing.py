"""Adoption of attempts at the start of a launcher, and its shutdown."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, cast

import pytest

from motoko.core.changes import EditRun
from motoko.core.edits import Cancel, Claim, MarkStarted
from motoko.core.run_options import BASH, SLURM
from motoko.core.states import Lifecycle
from motoko.launcher.claiming import Capacity, ServedQueue
from motoko.launcher.composition import assemble_launcher
from motoko.launcher.executors.process_spawner import ProcessSpawner
from motoko.launcher.launcher import Launcher, LauncherOptions
from motoko.launcher.schedulers.slurm.scheduler import SlurmScheduler
from motoko.runtime.commands import SystemCommandRunner
from motoko.storage.launcher_leases import machine_names
from motoko.storage.session import Session
from motoko.testing import add_run, memory_store, study_config

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from motoko.core.edits import RunEdit
    from motoko.launcher.attempts import Attempt
    from motoko.launcher.config_reload import ConfigReloader
    from motoko.storage.store import WorkflowStore

pytestmark = pytest.mark.unit

NEVER = 1e6  # seconds


class SlowReloader:
    """A reloader that blocks in `check` until released."""

    error = ""

    def __init__(self) -> None:
        self.reading, self.proceed = threading.Event(), threading.Event()

    def check(self) -> None:
        self.reading.set()
        assert self.proceed.wait(60)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[WorkflowStore]:
    made = memory_store(
        {"s": study_config("s", {"x": "int"}, directory=tmp_path)}, directory=tmp_path
    )
    (tmp_path / ".wf").mkdir()
    yield made
    made.close()


def make_launcher(store: WorkflowStore) -> Launcher:
    options = LauncherOptions(
        studies=("s",),
        served=ServedQueue(frozenset({BASH, SLURM}), machine_names(None)),
        capacities={BASH: Capacity(1), SLURM: Capacity(1)},
        defaults={"s": {"generator": BASH}},
        safety_poll=NEVER,
    )
    return assemble_launcher(
        store, options, ProcessSpawner(), SlurmScheduler(), SystemCommandRunner()
    )


async def test_closing_during_a_configuration_reload_ends_the_launcher(
    store: WorkflowStore,
) -> None:
    launcher, reloader = make_launcher(store), SlowReloader()
    launcher.set_reloader(cast("ConfigReloader[Any]", reloader))
    async with asyncio.timeout(60):
        serving = asyncio.create_task(launcher.serve())
        await asyncio.to_thread(reloader.reading.wait, 60)
        launcher.close()
        reloader.proceed.set()
        await serving


@pytest.mark.parametrize(
    ("cancelled", "outcome"), [(False, Lifecycle.LOST), (True, Lifecycle.CANCELLED)]
)
async def test_an_attempt_that_ended_before_adoption_is_not_requeued(
    store: WorkflowStore, *, cancelled: bool, outcome: Lifecycle
) -> None:
    session = Session(store.database)
    key = add_run(session, "s", {"x": 1})
    store.database.submit(session.commit).result()
    session.close()
    edits: list[RunEdit] = [Claim("former", "token", 0.0), MarkStarted("token", 0.0, "former")]
    if cancelled:
        edits.append(Cancel(0.0, "test"))
    store.autocommit_scope.write(*(EditRun(key, edit, blind=True) for edit in edits))
    launcher = make_launcher(store)
    adopted: list[Attempt] = []
    ready = asyncio.Event()

    def requeue() -> None:
        adopted.extend(launcher._executors.attempts())
        for attempt in adopted:
            launcher._executors.executor_of(attempt).cancel(attempt, Lifecycle.CREATED)
        ready.set()

    async with asyncio.timeout(60):
        assert await launcher.is_busy()  # before adoption
        serving = asyncio.create_task(launcher.serve(requeue))
        await ready.wait()
        await adopted[0].finalized.wait()
        assert not await launcher.is_busy()
        launcher.close()
        await serving
    with store.autocommit_scope.read() as session:
        assert session.run(key).lifecycle is outcome
