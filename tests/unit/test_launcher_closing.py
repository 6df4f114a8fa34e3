"""What a launcher does at its beginning and its end: what was left, and being closed."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, cast

import pytest

from motoko.core.changes import EditRun
from motoko.core.edits import Cancel, Claim, MarkStarted
from motoko.core.run_options import BASH, SLURM
from motoko.core.states import Lifecycle
from motoko.launcher.claiming import Capacity, ServedQueue
from motoko.launcher.executors.local_process import ProcessSpawner
from motoko.launcher.launcher import Launcher, LauncherOptions
from motoko.launcher.schedulers.slurm.scheduler import SlurmScheduler
from motoko.runtime.commands import SystemCommandRunner
from motoko.storage import leases
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
    """Looks at the configuration for as long as it is kept."""

    error = ""

    def __init__(self) -> None:
        self.looking, self.go_on = threading.Event(), threading.Event()

    def check(self) -> bool:
        self.looking.set()
        assert self.go_on.wait(60)
        return False


@pytest.fixture
def store(tmp_path: Path) -> Iterator[WorkflowStore]:
    made = memory_store(
        {"s": study_config("s", {"x": "int"}, directory=tmp_path)}, directory=tmp_path
    )
    (tmp_path / ".wf").mkdir()
    yield made
    made.close()


def launcher_of(store: WorkflowStore) -> Launcher:
    options = LauncherOptions(
        studies=("s",),
        served=ServedQueue(frozenset({BASH, SLURM}), leases.machine_names(None)),
        capacities={BASH: Capacity(1), SLURM: Capacity(1)},
        defaults={"s": {"generator": BASH}},
        safety_poll=NEVER,
    )
    return Launcher(store, options, ProcessSpawner(), SlurmScheduler(), SystemCommandRunner())


async def test_one_that_is_closed_while_it_looks_at_its_configuration_ends(
    store: WorkflowStore,
) -> None:
    launcher, reloader = launcher_of(store), SlowReloader()
    launcher.set_reloader(cast("ConfigReloader", reloader))
    async with asyncio.timeout(60):
        serving = asyncio.create_task(launcher.serve())
        await asyncio.to_thread(reloader.looking.wait, 60)
        launcher.close()
        reloader.go_on.set()
        await serving


@pytest.mark.parametrize(
    ("cancelled", "outcome"), [(False, Lifecycle.LOST), (True, Lifecycle.CANCELLED)]
)
async def test_what_had_ended_before_it_was_taken_over_is_not_recalled(
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
    launcher = launcher_of(store)
    taken_over: list[Attempt] = []
    ready = asyncio.Event()

    def recall() -> None:
        taken_over.extend(launcher._executors.attempts())
        for active in taken_over:
            launcher._executors.executor_of(active).cancel(active, Lifecycle.CREATED)
        ready.set()

    async with asyncio.timeout(60):
        assert await launcher.is_busy()  # for it does not know yet what there is
        serving = asyncio.create_task(launcher.serve(recall))
        await ready.wait()
        await taken_over[0].finalized.wait()
        assert not await launcher.is_busy()
        launcher.close()
        await serving
    with store.autocommit_scope.read() as session:
        assert session.run(key).lifecycle is outcome
