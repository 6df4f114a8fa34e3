"""``motoko.yaml``: the studies of a workflow, its orchestrator and its options."""

from __future__ import annotations

import math
from collections.abc import Mapping  # noqa: TC003 - pydantic resolves annotations
from contextlib import suppress
from dataclasses import dataclass
from os.path import exists, isdir, isfile  # Path.is_dir raises if a name is too long
from pathlib import Path  # noqa: TC003 - pydantic resolves annotations
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import BeforeValidator, ConfigDict, Field, ValidationInfo

from motoko.config.notify_targets import NotifyTarget, notify_targets
from motoko.config.option_models import GivenOptions, duration, duration_or_off
from motoko.config.study_file import STUDY_FILE, StudyConfig, load_study
from motoko.config.validation import (
    LONG_NUMBER,
    NAME,
    TEXT,
    InvalidValue,
    check_name,
    mapping,
    text,
    validate,
    whole_number,
    written_as,
)
from motoko.config.yaml_document import Document, read_document
from motoko.errors import ConfigError, NotAWorkflowError, suggestion

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

WORKFLOW_FILE: Final = "motoko.yaml"
KEEP_ALL: Final = "all"
KEEP_FAILED: Final = "failed"
KEEP_PACKED: Final = "packed"
KEEP: Final = (KEEP_ALL, KEEP_FAILED, KEEP_PACKED)
# Attributes of Workflow, which would hide a task manager of the same name.
RESERVED_TASK_NAMES: Final = frozenset({
    "finished", "task_managers", "aliases", "orchestrator_script", "orchestrator_function",
    "actions", "run_name", "vars", "run_vars", "create", "start_launcher_daemons",
    "get_orchestrator_function", "add_action", "add_error_handler", "is_run_filter",
    "is_workflow_filter", "is_no_param_func", "fire_event", "check_events", "check_event",
    "execute", "loop_check_events", "get_runs", "is_empty", "config", "config_path", "directory",
    "close", "end_when_stalled", "store", "context", "task_manager", "transaction",
    "execute_async", "load_orchestrator_module",
})  # fmt: skip


@written_as({"type": "object", "minProperties": 1, "propertyNames": NAME})
def _task_managers(value: Any, info: ValidationInfo) -> dict[str, Any]:
    section = mapping(value, info)
    if not section:
        raise InvalidValue("task_managers is empty", hint="Name at least one study directory.")
    for name, options in section.items():
        check_name(name, "a task manager", RESERVED_TASK_NAMES)
        if options is not None and not isinstance(options, dict | TaskManagerSettings):
            raise InvalidValue(
                f"task manager {name!r} must hold options (`key: value`) or nothing, "
                f"not {options!r}",
                (name,),
                "Known: " + ", ".join(sorted(TaskManagerSettings.model_fields)) + ".",
            )
    return {name: {} if options is None else options for name, options in section.items()}


@written_as({"type": "object", "propertyNames": NAME, "additionalProperties": TEXT})
def _aliases(value: Any, info: ValidationInfo) -> dict[str, str]:
    section = mapping(value, info)
    managers: dict[str, Any] | None = info.data.get("task_managers")
    if managers is None:  # `task_managers` is invalid and reported first
        return section
    for name, target in section.items():
        check_name(name, "an alias", RESERVED_TASK_NAMES)
        if name in managers:
            raise InvalidValue(
                f"alias {name!r} has the name of a task manager", (name,), "Choose another name."
            )
        if not isinstance(target, str) or target not in managers:
            raise InvalidValue(
                f"alias {name!r} stands for {target!r}, which is not a task manager",
                (name,),
                suggestion(target if isinstance(target, str) else "", list(managers)),
            )
    return section


@written_as({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, LONG_NUMBER]})
def _rate(value: Any, info: ValidationInfo) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise InvalidValue(
            f"{info.field_name} must be a number of submissions a minute, not {value!r}"
        )
    return float(value)


@written_as({"type": "string", "pattern": "^[^\\s.]+\\.[^\\s.]+$"})
def _orchestrator(value: Any, info: ValidationInfo) -> str:
    name = text(value, info)
    parts = name.split(".")
    if len(parts) != 2 or not all(part.isidentifier() for part in parts):
        raise InvalidValue(
            f"orchestrator must be written module.function, not {name!r}",
            hint="`orchestrator: steps.main` is the function main in steps.py beside this file.",
        )
    return name


@written_as({"type": "null"})
def _no_host(value: Any, info: ValidationInfo) -> None:
    raise InvalidValue(
        f"remote studies are not supported yet: host cannot be {value!r}",
        hint="Remove `host:` to run the study on this machine.",
    )


@written_as({"enum": list(KEEP)})
def _keep(value: Any, info: ValidationInfo) -> str:
    if value not in KEEP:
        raise InvalidValue(
            f"keep must be one of {', '.join(KEEP)}, not {value!r}",
            hint=suggestion(value, KEEP) if isinstance(value, str) else None,
        )
    return str(value)


class TaskManagerSettings(GivenOptions):
    """A task manager's entry in ``motoko.yaml``; its options override the workflow's."""

    host: Annotated[str | None, BeforeValidator(_no_host)] = Field(
        default=None, description="remote studies are not supported yet"
    )
    max_concurrent: Annotated[int | None, BeforeValidator(whole_number(1))] = Field(
        default=None, description="concurrent runs of this study"
    )


class WorkflowFile(GivenOptions):
    """``motoko.yaml`` as written. Times are in seconds."""

    task_managers: Annotated[dict[str, TaskManagerSettings], BeforeValidator(_task_managers)] = (
        Field(description="study directories, each with or without options")
    )
    aliases: Annotated[dict[str, str], BeforeValidator(_aliases)] = Field(
        default_factory=dict, description="additional names for task managers"
    )
    orchestrator: Annotated[str, BeforeValidator(_orchestrator)] = Field(
        description="module.function: an async function in module.py beside this file"
    )
    max_concurrent: Annotated[int | None, BeforeValidator(whole_number(1))] = Field(
        default=None, description="concurrent runs on this machine; by default the number of cores"
    )
    keep: Annotated[str, BeforeValidator(_keep)] = Field(
        default=KEEP_ALL,
        description="directories of ended runs: `all` keeps them, `failed` removes those of"
        " FINISHED runs, `packed` moves them into zip files",
    )
    max_queued: Annotated[int, BeforeValidator(whole_number(1))] = Field(
        default=1000, description="runs in the queue of a scheduler"
    )
    array_size: Annotated[int, BeforeValidator(whole_number(1))] = Field(
        default=1000, description="runs in one submission, at most the limit of the site"
    )
    submit_rate: Annotated[float, BeforeValidator(_rate)] = Field(
        default=60.0, description="submissions per minute"
    )
    queue_poll: Annotated[float, BeforeValidator(duration)] = Field(
        default=10.0, description="poll interval of the queue while nothing changes"
    )
    poll_interval: Annotated[float, BeforeValidator(duration)] = Field(
        default=2.0, description="evaluation interval of conditions f()"
    )
    safety_poll: Annotated[float, BeforeValidator(duration_or_off)] = Field(
        default=30.0, description="evaluation interval of all conditions; `off` disables it"
    )
    notify: Annotated[tuple[NotifyTarget, ...], BeforeValidator(notify_targets)] = Field(
        default=(), description="commands and webhooks that are notified of events"
    )


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """Limits for the use of a batch scheduler.

    ``max_queued`` runs are pending or running there, a submission has ``array_size`` runs,
    ``submit_rate`` is per minute, and ``poll`` is the longest time between polls of the queue.
    """

    max_queued: int = 1000
    array_size: int = 1000
    submit_rate: float = 60.0
    poll: float = 10.0


class WorkflowSettings(WorkflowFile):
    """A workflow's configuration. Times are in seconds.

    ``path`` is the absolute path of the file, ``orchestrator_line`` the line that names the
    orchestrator. ``max_concurrent`` None stands for the machine's cores; ``safety_poll`` is
    infinite if off. ``studies`` and tolerated ``faults`` are by task manager; a study with an
    invalid ``bd.yaml`` is missing from ``studies``.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    path: Path
    directory: Path
    orchestrator_line: int
    studies: Mapping[str, StudyConfig]
    faults: Mapping[str, ConfigError]

    @property
    def queue(self) -> QueueLimits:
        """The limits for the use of a batch scheduler."""
        return QueueLimits(self.max_queued, self.array_size, self.submit_rate, self.queue_poll)

    @property
    def unread(self) -> Mapping[str, ConfigError]:
        """The errors of studies whose ``bd.yaml`` is unreadable, by task manager."""
        return {name: fault for name, fault in self.faults.items() if name not in self.studies}

    @property
    def orchestrator_module(self) -> str:
        """The module that holds the orchestrator, a file beside ``motoko.yaml``."""
        return self.orchestrator.partition(".")[0]

    @property
    def orchestrator_function(self) -> str:
        """The name of the orchestrator function."""
        return self.orchestrator.partition(".")[2]

    def options(self, name: str) -> GivenOptions:
        """Return the options of a study's runs: the workflow's, the task manager's, the study's."""
        merged = self.merged(self.task_managers[name])
        return merged.merged(self.studies[name]) if name in self.studies else merged

    def max_concurrent_of(self, name: str) -> int | None:
        """Return the limit of a study's concurrent runs, None without one."""
        study = self.studies.get(name)
        if study is not None and study.max_concurrent is not None:
            return study.max_concurrent
        return self.task_managers[name].max_concurrent


def load_workflow(file: Path, *, studies: bool = True, tolerant: bool = False) -> WorkflowSettings:
    """Read the ``motoko.yaml`` at ``file`` (or in the directory ``file``) and its studies.

    ``tolerant`` collects the errors of studies in ``faults``. Raises ConfigError with file and line
    for the first mistake, NotAWorkflowError without a file. Messages show paths as given.
    """
    if isdir(file):
        file = file / WORKFLOW_FILE
    document = read_workflow(file)
    written = validate(WorkflowFile, document)
    names = written.task_managers if studies else ()
    faults: dict[str, ConfigError] | None = {} if tolerant else None
    found = dict(_studies(file.parent, names, document, faults))
    directory = file.parent.resolve()
    return WorkflowSettings.model_construct(
        **dict(written),
        path=directory / file.name,
        directory=directory,
        orchestrator_line=document.line(("orchestrator",)),
        studies=found,
        faults=faults or {},
    )


def read_workflow(file: Path) -> Document:
    """Read the YAML of a ``motoko.yaml``; NotAWorkflowError if it does not exist."""
    try:
        return read_document(file)
    except (FileNotFoundError, NotADirectoryError):
        raise NotAWorkflowError(
            "the file does not exist",
            file=str(file),
            hint=misnamed_hint(file.parent, WORKFLOW_FILE)
            or "Name a workflow's directory, or make one with `motoko init`.",
        ) from None
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", file=str(file)) from None


def _studies(
    parent: Path, names: Iterable[str], document: Document, faults: dict[str, ConfigError] | None
) -> Iterator[tuple[str, StudyConfig]]:
    """Read the studies; collect their errors in ``faults``, or raise the first if it is None."""
    for name in names:
        try:
            yield name, _study(parent / name, document)
        except ConfigError as error:
            if faults is None:
                raise
            faults[name] = error
            with suppress(ConfigError):
                yield name, load_study(parent / name, files=False)


def _study(directory: Path, document: Document) -> StudyConfig:
    check_study_directory(directory, document)
    return load_study(directory)


def check_study_directory(directory: Path, document: Document) -> None:
    """Raise ConfigError unless the directory of a study, and its ``bd.yaml``, exist."""
    name = directory.name
    if not isdir(directory):
        studies = [file.parent.name for file in directory.parent.glob(f"*/{STUDY_FILE}")]
        raise document.error(
            f"task manager {name!r} has no study directory {directory}",
            ("task_managers", name),
            hint=suggestion(name, studies) if studies else "Make the directory.",
        )
    if not exists(directory / STUDY_FILE):
        raise document.error(
            f"the study {name!r} has no {directory / STUDY_FILE}",
            ("task_managers", name),
            hint=misnamed_hint(directory, STUDY_FILE)
            or f"Write a {STUDY_FILE} with the study's parameters.",
        )


def find_workflow(start: Path) -> Path:
    """Return the ``motoko.yaml`` in ``start`` or the nearest directory above it."""
    first = start.resolve()
    for directory in (first, *first.parents):
        file = directory / WORKFLOW_FILE
        if isfile(file):
            return file
    misnamed = (misnamed_hint(directory, WORKFLOW_FILE) for directory in (first, *first.parents))
    raise NotAWorkflowError(
        f"no {WORKFLOW_FILE} in {first} or any directory above it",
        hint=next(filter(None, misnamed), None)
        or "Go to a workflow's directory, name one with --workflow DIR, or make one with "
        "`motoko init`.",
    )


def misnamed_hint(directory: Path, name: str) -> str | None:
    """Return a hint about a misnamed file that was probably meant to be ``name``."""
    stem = name.removesuffix(".yaml")
    capital = stem.capitalize()
    for spelling in (f"{stem}.yml", f"{name}.txt", f"{capital}.yaml", f"{capital}.yml"):
        if isfile(directory / spelling):
            return f"Rename {directory / spelling} to {name}."
    return None
