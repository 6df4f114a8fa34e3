"""``bd.yaml``: the parameters, run fields and files of a study."""

from __future__ import annotations

import hashlib
import re
from difflib import get_close_matches
from os.path import exists, isdir, isfile  # Path.is_file raises if a name is too long
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo

from motoko.config.option_models import GivenOptions
from motoko.config.validation import (
    InvalidValue,
    check_name,
    mapping,
    mistakes,
    number_hint,
    text,
    validate,
    whole_number,
)
from motoko.config.yaml_document import Document, read_document
from motoko.core.records import RUN_COLUMNS
from motoko.core.run_options import STORED_OPTIONS
from motoko.core.values import TYPE_NAMES, coerce, to_plain
from motoko.errors import ConfigError, ParameterError, suggestion
from motoko.worker.regular_files import open_regular
from motoko.worker.validation import RESERVED_FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterable

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


def _run_types(value: Any, info: ValidationInfo) -> dict[str, str]:
    # Declared run options need no column: every run has them.
    types = _types(value, info)
    return {name: type_name for name, type_name in types.items() if name not in STORED_OPTIONS}


def _job_space(value: Any, info: ValidationInfo) -> dict[str, Any]:
    section = mapping(value, info)
    types: dict[str, str] | None = info.data.get("job")
    if types is None:  # `job` is invalid and reported first
        return section
    for name, given in section.items():
        if name not in types:
            raise InvalidValue(
                f"job_space names {name!r}, which is not a job parameter",
                (name,),
                suggestion(name, list(types)),
            )
        if types[name] != "list" and isinstance(given, list):
            for index, item in enumerate(given):
                _check_type(item, types[name], f"job_space.{name}[{index}]", (name, index))
        else:
            _check_type(given, types[name], f"job_space.{name}", (name,))
    return section


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
        _check_type(given, types[name], what, (name,))
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


def _check_type(value: Any, type_name: str, what: str, path: tuple[str | int, ...]) -> None:
    try:
        coerce(value, type_name, what)
    except ParameterError as error:
        hint = error.hint
        if type_name == "str" and value is not None:
            hint = "Put it in quotes if it is text."
        elif type_name in ("int", "float") and isinstance(value, str):
            hint = number_hint(value, type_name)
        raise InvalidValue(error.message, path, hint) from None


def _inner_path(value: str, what: str, path: tuple[str | int, ...] = ()) -> str:
    file = PurePath(value)
    if file.is_absolute() or ".." in file.parts or not file.parts:
        raise InvalidValue(
            f"{what} must name a file in the study's directory, not {value!r}",
            path,
            "Copy or link the file to the study's directory.",
        )
    return str(file)


def _study(value: Any, info: ValidationInfo) -> str:
    name = text(value, info)
    if not _SAFE_NAME.fullmatch(name) or len(name.encode()) > MAX_STUDY:
        raise InvalidValue(
            f"study must be a name that a directory can have, not {name!r}",
            hint=f"Use letters, digits, '_', '-' and '.', no '.' first; at most {MAX_STUDY}.",
        )
    return name


def _script(value: Any, info: ValidationInfo) -> str:
    return _inner_path(text(value, info), "exec_file")


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

    study: Annotated[str, BeforeValidator(_study)] = ""
    job: Annotated[dict[str, str], BeforeValidator(_types)] = Field(default_factory=dict)
    run: Annotated[dict[str, str], BeforeValidator(_run_types)] = Field(default_factory=dict)
    job_space: Annotated[dict[str, Any], BeforeValidator(_job_space)] = Field(default_factory=dict)
    run_params: Annotated[dict[str, Any], BeforeValidator(_run_params)] = Field(
        default_factory=dict
    )
    exec_file: Annotated[str, BeforeValidator(_script)] = DEFAULT_SCRIPT
    config_files: Annotated[tuple[str, ...], BeforeValidator(_files)] = ()
    require_fields: bool = False
    max_concurrent: Annotated[int | None, BeforeValidator(whole_number(1))] = None


class StudyConfig(StudyFile):
    """A study: the contents of its ``bd.yaml`` and its place.

    ``name`` is that of task manager and directory, ``study`` the label in ``bd.yaml`` (by default
    the name), ``path`` that of ``bd.yaml``. ``run`` holds declared fields without run options.
    ``exec_file`` and ``config_files`` exist, relative to ``directory``. Values in ``job_space``
    fit their types but are not converted.
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
        _check_files(written, resolved, document)
    copied = written.config_files
    if DEFAULT_CONFIG_FILE not in copied and isfile(resolved / DEFAULT_CONFIG_FILE):
        copied = (DEFAULT_CONFIG_FILE, *copied)
    return StudyConfig.of(written, directory.name, resolved, copied)


def _check_files(written: StudyFile, directory: Path, document: Document) -> None:
    if not isfile(directory / written.exec_file):
        raise document.error(
            f"the script {directory / written.exec_file} {_fault(directory / written.exec_file)}",
            ("exec_file",),
            hint="Write it, or name another one with exec_file.",
        )
    for index, name in enumerate(written.config_files):
        if not isfile(directory / name):
            hint = "Write it, or remove it from config_files."
            if isdir(directory / name):
                hint = f"Only files are copied: name each file in it, as {name}/FILE."
            raise document.error(
                f"the file {directory / name} {_fault(directory / name)}",
                ("config_files", index),
                hint=hint,
            )


def _fault(path: Path) -> str:
    if isdir(path):
        return "is a directory"
    return "is not a regular file" if exists(path) else "does not exist"
