"""A launcher for a workflow's configuration."""

from __future__ import annotations

import logging
import os
import resource
from functools import partial
from shutil import which
from typing import TYPE_CHECKING, Any, Final

from motoko.config import load_workflow
from motoko.core.run_options import BASH, GENERATORS, SLURM, generator_name
from motoko.errors import ConfigError, LauncherError, suggestion
from motoko.launcher.claiming import Capacity, ServedQueue
from motoko.launcher.config_reload import ConfigReloader
from motoko.launcher.executors.local_process import BashLauncher
from motoko.launcher.launcher import Launcher, LauncherOptions
from motoko.launcher.schedulers.slurm.commands import SUBMIT, CommandRunner
from motoko.server.state_dir import StateDir
from motoko.storage.leases import machine_names
from motoko.storage.ownership import claim
from motoko.storage.store import WorkflowStore, runs_directory

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from motoko.config import WorkflowSettings

MAX_AHEAD: Final = 16  # runs claimed ahead, at most, where they are short
RESERVED_FILES: Final = 40  # open files of a launcher beside one for each run

log = logging.getLogger(__name__)


def build_launcher(
    directory: Path,
    *,
    generator: str | None = None,
    studies: Sequence[str] = (),
    machine_name: str | None = None,
    lease: float,
    hold: bool = False,
) -> tuple[Launcher, WorkflowStore]:
    """Return a launcher for the workflow in ``directory``, and the store it works on.

    ``studies``: only these; ``generator``: in place of what the configuration says.
    ``machine_name``: only runs meant for that machine, otherwise those for this one. ``hold``: it
    claims nothing, and only attends to what former launchers left; what it does not serve may be
    wrong, and scripts may be missing.
    """

    def options_of(config: WorkflowSettings) -> LauncherOptions:
        options = build_options(
            config, generator=generator, studies=studies, machine_name=machine_name, lease=lease
        )
        if not hold:
            _check_scheduler(options.defaults)
        for name in options.studies:
            claim(store.state, runs_directory(config.studies[name]))
        return options

    config = load_workflow(directory, tolerant=hold)
    store = WorkflowStore(StateDir.of(directory), config.studies)
    launcher = Launcher(store, options_of(config), BashLauncher(), CommandRunner())
    launcher.reload_by(
        ConfigReloader(
            config,
            partial(load_workflow, directory),
            lambda found: launcher.prepare_change(found.studies, options_of(found)),
            store.clock,
        )
    )
    if hold:
        launcher.hold()
    return launcher, store


def build_options(
    config: WorkflowSettings,
    *,
    generator: str | None = None,
    studies: Sequence[str] = (),
    machine_name: str | None = None,
    lease: float,
) -> LauncherOptions:
    """Return what a launcher serves by a configuration."""
    served = _served_studies(config, studies)
    defaults = {name: config.options(name).given() for name in served}
    if generator is not None:
        chosen = _parse_generator(generator)
        defaults = {name: {**given, "generator": chosen} for name, given in defaults.items()}
    limits = {name: config.max_concurrent_of(name) for name in served}
    per_study = {name: limit for name, limit in limits.items() if limit is not None}
    local = Capacity(
        _limit_by_open_files(config.max_concurrent or available_cores()), MAX_AHEAD, per_study
    )
    return LauncherOptions(
        studies=served,
        site=ServedQueue(frozenset(GENERATORS), machine_names(machine_name)),
        capacities={BASH: local, SLURM: Capacity(config.queue.max_queued, 0, per_study)},
        limits=config.queue,
        defaults=defaults,
        lease=lease,
    )


def _limit_by_open_files(wanted: int) -> int:
    """Return how many of so many runs this process has files enough for."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    possible = max(1, limit - RESERVED_FILES)
    if limit != resource.RLIM_INFINITY and wanted > possible:
        log.warning(
            "max_concurrent is %d, but of %d files that may be open (ulimit -n) %d are left for "
            "runs: so many run at once", wanted, limit, possible,
        )  # fmt: skip
        return possible
    return wanted


def _check_scheduler(defaults: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise LauncherError where a study needs Slurm and there is none."""
    for name, given in defaults.items():
        if given.get("generator") == SLURM and which(SUBMIT) is None:
            raise LauncherError(
                f"study {name!r} asks for the generator 'slurm', but there is no sbatch on PATH",
                hint="Start the launcher where Slurm's commands are on PATH (`module load slurm` "
                "on some sites), or use `generator: bash`.",
            )


def available_cores() -> int:
    """Return how many cores this process may use."""
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


def _parse_generator(given: str) -> str:
    try:
        return generator_name(given)
    except ConfigError as error:
        raise LauncherError(error.message, hint=error.hint) from None
