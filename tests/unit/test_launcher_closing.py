"""A launcher ends as soon as it is closed, whatever it does at that moment."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, cast

import pytest

from motoko.launcher import registry
from motoko.launcher.engine import LOCAL, SLURM, Capacity, Site
from motoko.launcher.generators.bash import BashGenerator
from motoko.launcher.generators.slurm.commands import Scheduler
from motoko.launcher.launcher import Launcher, Options
from motoko.testing import memory_store, study_config

if TYPE_CHECKING:
    from pathlib import Path

    from motoko.launcher.reloading import Reloader

pytestmark = pytest.mark.unit

NEVER = 1e6  # seconds


class SlowReloader:
    """Looks at the configuration for as long as it is kept."""

    problem = ""

    def __init__(self) -> None:
        self.looking, self.go_on = threading.Event(), threading.Event()

    def check(self) -> bool:
        self.looking.set()
        assert self.go_on.wait(60)
        return False


async def test_one_that_is_closed_while_it_looks_at_its_configuration_ends(tmp_path: Path) -> None:
    store = memory_store({"s": study_config("s", {"x": "int"})}, directory=tmp_path)
    options = Options(
        studies=("s",),
        site=Site(frozenset({LOCAL, SLURM}), registry.machines(None)),
        capacities={LOCAL: Capacity(1), SLURM: Capacity(1)},
        defaults={"s": {"generator": LOCAL}},
        safety_poll=NEVER,
    )
    launcher, reloader = Launcher(store, options, BashGenerator(), Scheduler()), SlowReloader()
    launcher.reload_by(cast("Reloader", reloader))
    async with asyncio.timeout(60):
        serving = asyncio.create_task(launcher.serve())
        await asyncio.to_thread(reloader.looking.wait, 60)
        launcher.close()
        reloader.go_on.set()
        await serving
    store.close()
