"""All mistakes in ``motoko.yaml`` and its studies, not only the first one."""

from __future__ import annotations

import copy
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic

from pydantic import ValidationError

from motoko.config.study_file import STUDY_FILE, StudyConfig, StudyFile, missing_files
from motoko.config.validation import Mistake, Model, mistakes
from motoko.config.workflow_file import WorkflowFile, check_study_directory, read_workflow
from motoko.config.yaml_document import Document, read_document
from motoko.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from motoko.config.yaml_document import KeyPath

MOST: Final = 100  # mistakes reported for one file


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The mistakes of a workflow's files.

    ``faults``: by file, none for a valid one. ``written`` and ``studies``: the valid parts of
    ``motoko.yaml`` and of each readable ``bd.yaml``. ``unlisted``: study directories that
    ``motoko.yaml`` does not name.
    """

    faults: Mapping[Path, tuple[ConfigError, ...]]
    written: WorkflowFile | None = None
    studies: Mapping[str, StudyConfig] = field(default_factory=dict)
    unlisted: tuple[Path, ...] = ()


def diagnose(file: Path) -> Diagnosis:
    """Read the ``motoko.yaml`` at ``file`` and its studies, and return all mistakes."""
    try:
        document = read_workflow(file)
    except ConfigError as error:
        return Diagnosis({file: (error,)})
    own = find_mistakes(WorkflowFile, document.value)
    faults = {file: own.errors(document)}
    studies: dict[str, StudyConfig] = {}
    managers = document.value.get("task_managers")
    named = list(managers) if isinstance(managers, dict) else []
    invalid = {path for _, path, _ in own.mistakes}
    for name in named:
        if ("task_managers", name) in invalid:
            continue
        study, found = _diagnose_study(file.parent / name, document)
        faults[file.parent / name / STUDY_FILE] = found
        if study is not None:
            studies[name] = study
    on_disk = sorted(path.parent for path in file.parent.glob(f"*/{STUDY_FILE}"))
    unlisted = tuple(path for path in on_disk if path.name not in named)
    return Diagnosis(faults, own.valid, studies, unlisted)


def _diagnose_study(
    directory: Path, workflow: Document
) -> tuple[StudyConfig | None, tuple[ConfigError, ...]]:
    try:
        check_study_directory(directory, workflow)
        document = read_document(directory / STUDY_FILE)
    except ConfigError as error:
        return None, (error,)
    except OSError as error:
        file = str(directory / STUDY_FILE)
        return None, (ConfigError(f"cannot be read: {error.strerror}", file=file),)
    found = find_mistakes(StudyFile, document.value)
    written = found.valid
    if written is None:
        return None, found.errors(document)
    invalid = {path for _, path, _ in found.mistakes}
    resolved = directory.resolve()
    found.mistakes += [
        (message, found.original(path), hint)
        for message, path, hint in missing_files(written, resolved)
        if found.original(path) not in invalid
    ]
    study = StudyConfig.of(written, directory.name, resolved, written.config_files)
    return study, found.errors(document)


@dataclass(slots=True)
class Mistakes(Generic[Model]):
    """The mistakes of a document, and the model of its valid part, None without one.

    ``removed``: by list, the indexes of its invalid items.
    """

    mistakes: list[Mistake] = field(default_factory=list)
    valid: Model | None = None
    removed: dict[KeyPath, list[int]] = field(default_factory=lambda: defaultdict(list))

    def original(self, path: KeyPath) -> KeyPath:
        """Return a path in the valid part as a path in the document."""
        whole: KeyPath = ()
        for step in path:
            place = step
            if isinstance(place, int):
                for index in sorted(self.removed.get(whole, ())):
                    place += index <= place
            whole = (*whole, place)
        return whole

    def errors(self, document: Document) -> tuple[ConfigError, ...]:
        """Return the mistakes as errors, by line."""
        ordered = sorted(self.mistakes, key=lambda one: document.line(one[1]))
        return tuple(document.error(message, path, hint=hint) for message, path, hint in ordered)


def find_mistakes(model: type[Model], value: dict[str, Any]) -> Mistakes[Model]:
    """Return every mistake of ``value``.

    A validator stops at its first mistake. So remove the invalid parts, and validate again.
    """
    rest = copy.deepcopy(value)
    found: Mistakes[Model] = Mistakes()
    gone: set[str | int] = set()
    while len(found.mistakes) < MOST:
        try:
            found.valid = model.model_validate(rest)
        except ValidationError as error:
            new = mistakes(error)
            known = {path for _, path, _ in found.mistakes}
            found.mistakes += [
                one
                for one in (_in_document(found, *mistake) for mistake in new)
                # A mistake that names a removed part follows from an earlier one.
                if one[1] not in known and not any(repr(name) in one[0] for name in gone)
            ]
            paths = sorted({path for _, path, _ in new if path}, key=repr, reverse=True)
            removed = [_remove(rest, path, found) for path in paths]
            if not any(removed):
                break
            gone.update(path[-1] for path in paths if isinstance(path[-1], str))
        else:
            break
    return found


def _in_document(found: Mistakes[Any], message: str, path: KeyPath, hint: str | None) -> Mistake:
    """Return a mistake of the valid part with its place in the document."""
    whole = found.original(path)
    for old, new in zip(path, whole, strict=True):
        if old != new:
            message = message.replace(f"[{old}]", f"[{new}]", 1)
    return message, whole, hint


def _remove(value: Any, path: KeyPath, found: Mistakes[Any]) -> bool:
    """Remove the part at ``path`` or its nearest existing parent; return whether one exists."""
    parent: Any = None
    place: KeyPath = ()
    for depth, step in enumerate(path):
        if isinstance(value, list):
            exists = isinstance(step, int) and step < len(value)
        else:
            exists = isinstance(value, dict) and step in value
        if not exists:
            break
        parent, place, value = value, path[: depth + 1], value[step]
    if not place:
        return False
    index = found.original(place)[-1]
    if isinstance(parent, list) and isinstance(index, int):
        found.removed[found.original(place[:-1])].append(index)
    del parent[place[-1]]
    return True
