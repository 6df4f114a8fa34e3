"""A launcher for a workflow's configuration."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from motoko.config import generator_name, load_workflow
from motoko.errors import ConfigError, LauncherError, suggestion
from motoko.launcher.engine import Capacity, Site
from motoko.launcher.generators.bash import BashGenerator
from motoko.launcher.launcher import Launcher, Options
from motoko.launcher.registry import machines
from motoko.storage.address import StateDirectory
from motoko.storage.store import Store

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from motoko.config import WorkflowConfig

AHEAD: Final = 16  # runs claimed ahead, at most, where they are short


def make_launcher(
    directory: Path,
    *,
    generator: str | None = None,
    studies: Sequence[str] = (),
    machine_name: str | None = None,
    lease: float,
) -> tuple[Launcher, Store]:
    """Return a launcher for the workflow in ``directory``, and the store it works on.

    ``studies``: only these; ``generator``: in place of what the configuration says.
    ``machine_name``: only runs meant for that machine, otherwise those for this one.
    """
    config = load_workflow(directory)
    served = _served(config, studies)
    chosen = _generator(config, served, generator)
    defaults = {name: config.options(name).given() for name in served}
    if generator is not None:
        defaults = {name: {**given, "generator": chosen} for name, given in defaults.items()}
    limits = {name: config.max_concurrent_of(name) for name in served}
    options = Options(
        studies=served,
        site=Site(chosen, machines(machine_name)),
        capacity=Capacity(
            slots=config.max_concurrent or cores(),
            most_ahead=AHEAD,
            per_study={name: limit for name, limit in limits.items() if limit is not None},
        ),
        defaults=defaults,
        lease=lease,
    )
    store = Store(StateDirectory.of(directory), config.studies)
    return Launcher(store, options, BashGenerator()), store


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _served(config: WorkflowConfig, studies: Sequence[str]) -> tuple[str, ...]:
    names = [config.aliases.get(study, study) for study in studies]
    for name in names:
        if name not in config.task_managers:
            raise LauncherError(
                f"{config.path} has no study {name!r}",
                hint=suggestion(name, [*config.task_managers, *config.aliases]),
            )
    return tuple(dict.fromkeys(names)) or tuple(config.task_managers)


def _generator(config: WorkflowConfig, served: tuple[str, ...], given: str | None) -> str:
    if given is not None:
        try:
            asked = [("the launcher", generator_name(given))]
        except ConfigError as error:
            raise LauncherError(error.message, hint=error.hint) from None
    else:
        asked = [(f"study {name!r}", config.options(name).generator or "bash") for name in served]
    for who, name in asked:
        if name != BashGenerator.name:
            raise LauncherError(
                f"{who} asks for the generator {name!r}, which is not there yet",
                hint="Say `generator: bash` in motoko.yaml or bd.yaml, or --generator bash.",
            )
    return BashGenerator.name
