"""Build a launcher from a workflow's configuration: the composition root of its process."""

from __future__ import annotations

import logging
import os
import resource
from functools import partial
from hashlib import blake2b
from shutil import which
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from motoko.config import load_workflow
from motoko.core.run_options import BASH, GENERATORS, SLURM, generator_name
from motoko.errors import LauncherError, suggestion
from motoko.launcher.attempts import PendingUpdates, SlotPool
from motoko.launcher.claiming import Capacity, ServedQueue
from motoko.launcher.config_reload import ConfigReloader
from motoko.launcher.executors.attempt_shells import RESERVED_FILES
from motoko.launcher.executors.base import ExecutorSet
from motoko.launcher.executors.batch.executor import BatchExecutor
from motoko.launcher.executors.batch.queue_client import QueueClient
from motoko.launcher.executors.local import LocalExecutor
from motoko.launcher.executors.process_spawner import ProcessSpawner
from motoko.launcher.launcher import Launcher, LauncherOptions
from motoko.launcher.schedulers.slurm.scheduler import SlurmScheduler
from motoko.launcher.start_notes import StartNotes
from motoko.runtime.commands import SystemCommandRunner
from motoko.runtime.ports import SYSTEM
from motoko.server.state_dir import StateDir
from motoko.storage.launcher_leases import LauncherRegistration, machine_names
from motoko.storage.run_directory_owner import claim_run_directories
from motoko.storage.store import WorkflowStore, runs_directory

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from motoko.config import WorkflowSettings
    from motoko.launcher.schedulers.base import Scheduler
    from motoko.runtime.ports import CommandRunner, Runtime

MAX_AHEAD: Final = 64  # short runs to claim ahead

SCHEDULERS: Final[Mapping[str, type[Scheduler]]] = MappingProxyType({SLURM: SlurmScheduler})

log = logging.getLogger(__name__)


def build_launcher(
    directory: Path,
    *,
    generator: str | None = None,
    studies: Sequence[str] = (),
    machine_name: str | None = None,
    lease: float,
    pause_claims: bool = False,
    runtime: Runtime = SYSTEM,
) -> tuple[Launcher, WorkflowStore]:
    """Return a launcher for the workflow in ``directory``, and its store.

    ``studies``: serve only these. ``generator`` overrides the configuration. ``machine_name``:
    serve runs for that machine instead of this one. ``pause_claims``: claim nothing, and manage
    only attempts of earlier launchers; then scripts may be missing and other studies invalid.
    """

    def options_of(config: WorkflowSettings) -> LauncherOptions:
        options = _build_options(config, generator, studies, machine_name, lease)
        if not pause_claims:
            _check_scheduler(options.defaults)
        for name in options.studies:
            claim_run_directories(store.state, runs_directory(config.studies[name]))
        return options

    config = load_workflow(directory, tolerant=pause_claims)
    store = WorkflowStore(StateDir.of(directory), config.studies, runtime=runtime)
    spawner, commands = ProcessSpawner(runtime=runtime), SystemCommandRunner()
    launcher = assemble_launcher(store, options_of(config), spawner, SCHEDULERS[SLURM](), commands)
    launcher.set_reloader(
        ConfigReloader(
            config,
            partial(load_workflow, directory),
            lambda found: (found.studies, options_of(found)),
            store.clock,
        )
    )
    if pause_claims:
        launcher.pause_claims()
    return launcher, store


def assemble_launcher(
    store: WorkflowStore,
    options: LauncherOptions,
    spawner: ProcessSpawner,
    scheduler: Scheduler,
    commands: CommandRunner,
) -> Launcher:
    """Return a launcher with a local executor and one for the scheduler."""
    me = LauncherRegistration.here(
        store.now(),
        rng=store.runtime.rng,
        generator=", ".join(sorted(options.served.generators)),
        studies=options.studies,
        machines=tuple(sorted(options.served.machines)),
        lease=options.lease,
    )
    updates, notes = PendingUpdates(), StartNotes(store.state.path, me.name)
    local, batch = (
        SlotPool(options.capacities[name].slots, store.clock) for name in (BASH, scheduler.name)
    )
    mark = blake2b(os.fsencode(str(store.state.path)), digest_size=6).hexdigest()
    client = QueueClient(scheduler, commands, mark, store.clock)
    submissions = store.state.path / scheduler.name
    executors = ExecutorSet(
        {
            BASH: LocalExecutor(
                store, local, updates, notes, spawner, owner=me.name, grace=options.stop_grace
            ),
            scheduler.name: BatchExecutor(
                store, batch, updates, notes, client, options.limits,
                owner=me.name, root=submissions, lag=options.files_lag,
            ),
        }
    )  # fmt: skip
    return Launcher(store, options, me, updates, notes, executors, submissions)


def _build_options(
    config: WorkflowSettings,
    generator: str | None,
    studies: Sequence[str],
    machine_name: str | None,
    lease: float,
) -> LauncherOptions:
    served = _served_studies(config, studies)
    defaults = {name: config.options(name).given() for name in served}
    if generator is not None:
        chosen = generator_name(generator)
        defaults = {name: {**given, "generator": chosen} for name, given in defaults.items()}
    limits = {name: config.max_concurrent_of(name) for name in served}
    per_study = {name: limit for name, limit in limits.items() if limit is not None}
    slots = _limit_by_open_files(config.max_concurrent or available_cores())
    return LauncherOptions(
        studies=served,
        served=ServedQueue(frozenset(GENERATORS), machine_names(machine_name)),
        capacities={
            BASH: Capacity(slots, MAX_AHEAD, per_study),
            SLURM: Capacity(config.queue.max_queued, 0, per_study),
        },
        limits=config.queue,
        defaults=defaults,
        lease=lease,
        keep=config.keep,
    )


def _limit_by_open_files(requested: int) -> int:
    """Return the number of runs, reduced if the process may not open enough files for them."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    possible = max(1, limit - RESERVED_FILES)
    if limit != resource.RLIM_INFINITY and requested > possible:
        log.warning(
            "max_concurrent is %d, but the limit of %d open files (ulimit -n) allows only %d runs "
            "at once", requested, limit, possible,
        )  # fmt: skip
        return possible
    return requested


def _check_scheduler(defaults: Mapping[str, Mapping[str, Any]]) -> None:
    for study, given in defaults.items():
        name = given.get("generator", BASH)
        scheduler = SCHEDULERS[name]() if name in SCHEDULERS else None
        if scheduler is not None and which(scheduler.submit_program) is None:
            program = scheduler.submit_program
            raise LauncherError(
                f"study {study!r} has the generator {name!r}, but {program} is not on PATH",
                hint=scheduler.missing_hint,
            )


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _served_studies(config: WorkflowSettings, studies: Sequence[str]) -> tuple[str, ...]:
    names = [config.aliases.get(study, study) for study in studies]
    for name in names:
        if name not in config.task_managers:
            raise LauncherError(
                f"{config.path} has no study {name!r}",
                hint=suggestion(name, [*config.task_managers, *config.aliases]),
            )
    return tuple(dict.fromkeys(names)) or tuple(config.task_managers)
