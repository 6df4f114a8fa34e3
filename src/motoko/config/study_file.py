"""``bd.yaml``: the parameters, run fields and files of a study."""

from __future__ import annotations

import hashlib
import re
from difflib import get_close_matches
from os.path import exists, isdir, isfile  # Path.is_file raises if a name is too long
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo

from motoko.config.job_space import check_type, job_space_form, parse_job_space
from motoko.config.option_models import GivenOptions
from motoko.config.validation import (
    NAME,
    TEXT,
    TEXTS,
    InvalidValue,
    Mistake,
    check_name,
    mapping,
    mistakes,
    text,
    validate,
    whole_number,
    written_as,
    written_form,
)
from motoko.config.yaml_document import read_document
from motoko.core.records import RUN_COLUMNS
from motoko.core.run_options import STORED_OPTIONS
from motoko.core.values import TYPE_NAMES, to_plain
from motoko.errors import ConfigError, ParameterError, suggestion
from motoko.worker.regular_files import open_regular
from motoko.worker.validation import RESERVED_FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

STUDY_FILE: Final = "bd.yaml"
PIECE: Final = 1 << 20  # bytes read at once
MAX_STUDY: Final = 100  # bytes; run directories are BD-<study>-runs
_SAFE_NAME: Final = re.compile(r"[\w-][\w.-]*")
DEFAULT_SCRIPT: Final = "launch.sh"
DEFAULT_CONFIG_FILE: Final = "doIt.py"

# Attributes of a job (here and in its script) and other arguments of create_task; a test compares
# them. Then the columns of runs, which constraints name without `runs.`. Run options may be
# declared, as BlackDynamite's files do.
RESERVED_JOB_PARAMETERS: Final = frozenset({
    "id", "study", "keys", "values", "items", "get",
    "self", "run_params", "commit", "replicate", "fail_fast",
    *(RUN_COLUMNS.keys() - STORED_OPTIONS.keys()),
})  # fmt: skip


TYPES: Final = {
    "type": "object",
    "propertyNames": NAME,
    "additionalProperties": {"enum": sorted(TYPE_NAMES)},
}


@written_as(TYPES)
def _types(value: Any, info: ValidationInfo) -> dict[str, str]:
    """Validate a mapping from names to type names."""
    section = mapping(value, info)
    if info.field_name == "job":
        what, reserved = "job parameter", RESERVED_JOB_PARAMETERS
    else:
        what, reserved = "run field", RESERVED_FIELDS - set(STORED_OPTIONS)
    variables: dict[str, str] = {}
    for name, type_name in section.items():
        check_name(name, f"a {what}", reserved)
        other = variables.setdefault(name.upper(), name)
        if other != name:
            # Both would be the same environment variable of scripts, in capitals.
            raise InvalidValue(
                f"{what}s {other!r} and {name!r} differ only in capitals",
                (name,),
                "Give one of them another name.",
            )
        if not isinstance(type_name, str) or type_name not in TYPE_NAMES:
            spelling = type_name if isinstance(type_name, str) else ""
            raise InvalidValue(
                f"{what} {name!r} has the unknown type {type_name!r}",
                (name,),
                suggestion(spelling, TYPE_NAMES),
            )
    return section


@written_as(TYPES)
def _run_types(value: Any, info: ValidationInfo) -> dict[str, str]:
    # Declared run options need no column: every run has them.
    types = _types(value, info)
    return {name: type_name for name, type_name in types.items() if name not in STORED_OPTIONS}


@written_as(job_space_form())
def _job_space(value: Any, info: ValidationInfo) -> dict[str, Any]:
    section = mapping(value, info)
    types: dict[str, str] | None = info.data.get("job")
    # If `job` is invalid, that is reported first.
    return section if types is None else parse_job_space(section, types)


def _run_params_form() -> dict[str, Any]:
    """Return the form of run options; other names are run fields of any type."""
    fields = ((name, GivenOptions.model_fields[name]) for name in STORED_OPTIONS)
    forms = {
        name: {"description": field.description, **written_form(field.metadata[0].func)}
        for name, field in fields
    }
    return {"type": "object", "properties": forms}


@written_as(_run_params_form())
def _run_params(value: Any, info: ValidationInfo) -> dict[str, Any]:
    section = mapping(value, info)
    types: dict[str, str] | None = info.data.get("run")
    if types is None:
        return section
    return {name: _run_value(name, given, types) for name, given in section.items()}


def _run_value(name: str, given: Any, types: dict[str, str]) -> Any:
    what = f"run_params.{name}"
    if name in STORED_OPTIONS:
        return _run_option(name, given)
    if name in types:
        check_type(given, types[name], what, (name,))
        return given
    check_name(name, "a run field", RESERVED_FIELDS)
    # Without declarations any field is valid, except one that looks like a misspelt run option.
    if types or get_close_matches(name, STORED_OPTIONS, cutoff=0.85):
        raise InvalidValue(
            f"run_params names {name!r}, which is not a run field",
            (name,),
            suggestion(name, [*types, *STORED_OPTIONS]),
        )
    try:
        return to_plain(given, what)
    except ParameterError as error:
        raise InvalidValue(error.message, (name,), error.hint) from None


def _run_option(name: str, given: Any) -> Any:
    if given is None:
        raise InvalidValue(f"run_params.{name} has no value", (name,))
    try:
        value = getattr(GivenOptions.model_validate({name: given}), name)
    except ValidationError as error:
        message, path, hint = mistakes(error)[0]
        raise InvalidValue(f"run_params.{message}", path, hint) from None
    return list(value) if isinstance(value, tuple) else value


def _inner_path(value: str, what: str, path: tuple[str | int, ...] = ()) -> str:
    file = PurePath(value)
    if file.is_absolute() or ".." in file.parts or not file.parts:
        raise InvalidValue(
            f"{what} must name a file in the study's directory, not {value!r}",
            path,
            "Copy or link the file to the study's directory.",
        )
    return str(file)


@written_as({**TEXT, "maxLength": MAX_STUDY, "pattern": "^[^\\s./][^\\s/]*$"})
def _study(value: Any, info: ValidationInfo) -> str:
    name = text(value, info)
    if not _SAFE_NAME.fullmatch(name) or len(name.encode()) > MAX_STUDY:
        raise InvalidValue(
            f"study must be a name that a directory can have, not {name!r}",
            hint=f"Use letters, digits, '_', '-' and '.', no '.' first; at most {MAX_STUDY}.",
        )
    return name


@written_as(TEXT)
def _script(value: Any, info: ValidationInfo) -> str:
    return _inner_path(text(value, info), "exec_file")


@written_as({"anyOf": [TEXT, TEXTS]})
def _files(value: Any, info: ValidationInfo) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list | tuple):
        raise InvalidValue(f"config_files must be a list of file names, not {value!r}")
    names: dict[str, None] = {}
    for index, item in enumerate(value):
        if not isinstance(item, str):
            raise InvalidValue(f"config_files must hold file names, not {item!r}", (index,))
        names[_inner_path(item, "config_files", (index,))] = None
    return tuple(names)


class StudyFile(GivenOptions):
    """``bd.yaml`` as written."""

    study: Annotated[str, BeforeValidator(_study)] = Field(
        default="", description="name of the study; by default the name of the directory"
    )
    job: Annotated[dict[str, str], BeforeValidator(_types)] = Field(
        default_factory=dict, description="job parameters and their types"
    )
    run: Annotated[dict[str, str], BeforeValidator(_run_types)] = Field(
        default_factory=dict, description="run fields and their types"
    )
    job_space: Annotated[dict[str, Any], BeforeValidator(_job_space)] = Field(
        default_factory=dict, description="default values of job parameters; a list spans an axis"
    )
    run_params: Annotated[dict[str, Any], BeforeValidator(_run_params)] = Field(
        default_factory=dict, description="default run fields and run options"
    )
    exec_file: Annotated[str, BeforeValidator(_script)] = Field(
        default=DEFAULT_SCRIPT, description="the script that Motoko executes; by default launch.sh"
    )
    config_files: Annotated[tuple[str, ...], BeforeValidator(_files)] = Field(
        default=(), description="files that Motoko copies to each run directory, besides doIt.py"
    )
    require_fields: bool = Field(
        default=False, description="runs fail if their script does not set all fields of `run`"
    )
    max_concurrent: Annotated[int | None, BeforeValidator(whole_number(1))] = Field(
        default=None, description="concurrent runs of this study"
    )


class StudyConfig(StudyFile):
    """A study: the contents of its ``bd.yaml`` and its place.

    ``name`` is that of task manager and directory, ``study`` the label in ``bd.yaml`` (by default
    the name), ``path`` that of ``bd.yaml``. ``run`` holds declared fields without run options.
    ``exec_file`` and ``config_files`` exist, relative to ``directory``. ``job_space`` holds a
    value, a list of values or a Column for each parameter; values fit their types but are not
    converted.
    """

    name: str
    path: Path
    directory: Path

    @classmethod
    def of(
        cls, written: StudyFile, name: str, directory: Path, config_files: Iterable[str]
    ) -> StudyConfig:
        """Return the study of the ``bd.yaml`` in the absolute path ``directory``."""
        own = {"study": written.study or name, "config_files": tuple(config_files)}
        path = directory / STUDY_FILE
        return cls.model_construct(
            **{**dict(written), **own}, name=name, path=path, directory=directory
        )

    @classmethod
    def unread(cls, directory: Path) -> StudyConfig:
        """Return a stand-in, without declarations, for a study with an unreadable ``bd.yaml``."""
        return cls.of(StudyFile(), directory.name, directory, ())

    def scripts_digest(self) -> str:
        """Return a digest of the names and contents of the files copied into run directories."""
        digest = hashlib.blake2b(digest_size=8)
        for name in sorted({self.exec_file, *self.config_files}):
            path = self.directory / name
            digest.update(name.encode() + b"\0")
            try:
                if isfile(path):
                    with open_regular(path) as file:
                        while piece := file.read(PIECE):
                            digest.update(piece)
            except OSError as error:
                raise ConfigError(
                    f"{path} cannot be read: {error.strerror}", hint="Each run gets a copy of it."
                ) from error
            digest.update(b"\0")
        return digest.hexdigest()


def load_study(directory: Path, *, files: bool = True) -> StudyConfig:
    """Read the study in ``directory``. ``files``: raise ConfigError if its scripts do not exist."""
    file = directory / STUDY_FILE
    try:
        document = read_document(file)
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", file=str(file)) from None
    written = validate(StudyFile, document)
    resolved = directory.resolve()
    if files:
        for message, path, hint in missing_files(written, resolved):
            raise document.error(message, path, hint=hint)
    copied = written.config_files
    if DEFAULT_CONFIG_FILE not in copied and isfile(resolved / DEFAULT_CONFIG_FILE):
        copied = (DEFAULT_CONFIG_FILE, *copied)
    return StudyConfig.of(written, directory.name, resolved, copied)


def missing_files(written: StudyFile, directory: Path) -> Iterator[Mistake]:
    """Yield the script and the files named in ``bd.yaml`` that are not regular files."""
    script = directory / written.exec_file
    if not isfile(script):
        hint = "Write it, or name another one with exec_file."
        yield f"the script {script} {_fault(script)}", ("exec_file",), hint
    for index, name in enumerate(written.config_files):
        if not isfile(directory / name):
            hint = "Write it, or remove it from config_files."
            if isdir(directory / name):
                hint = f"Only files are copied: name each file in it, as {name}/FILE."
            problem = f"the file {directory / name} {_fault(directory / name)}"
            yield problem, ("config_files", index), hint


def _fault(path: Path) -> str:
    if isdir(path):
        return "is a directory"
    return "is not a regular file" if exists(path) else "does not exist"
