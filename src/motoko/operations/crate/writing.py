"""Write a crate into a new directory, with the library rocrate."""

from __future__ import annotations

import io
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from motoko.errors import MotokoError, StorageError
from motoko.operations.crate.content import CrateFile
from motoko.operations.crate.entities import (
    README,
    RO_CRATE,
    WORKFLOW_CRATE,
    contextual_entities,
    file_properties,
    readme,
    reference,
    root_properties,
)
from motoko.operations.crate.reading import MOST_ATTEMPTS, read_content

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from motoko.api.workflow import Workflow
    from motoko.operations.crate.content import Author, CrateContent

PIECE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class WrittenCrate:
    """A crate that was written, and notes about its content."""

    directory: Path
    notes: Sequence[str]


def export_crate(
    workflow: Workflow,
    directory: Path,
    *,
    run_name: str | None = None,
    license_url: str | None = None,
    authors: Sequence[Author] = (),
) -> WrittenCrate:
    """Write an RO-Crate into ``directory``, which must not exist or be empty.

    ``run_name``: only its runs. Raise MotokoError if rocrate is not installed, StorageError if the
    directory has content or cannot be written. On errors, the directory stays as it is.
    """
    crate_class = _crate_class()
    _check_is_new(directory)
    content = read_content(workflow, run_name, license_url, authors)
    files = list(_files(content))
    temporary = directory.parent / f".{directory.name}.{os.urandom(6).hex()}"
    try:
        _write(crate_class(version=RO_CRATE), content, files, temporary)
        os.replace(temporary, directory)
    except OSError as error:
        raise StorageError(f"{directory} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return WrittenCrate(directory, list(_notes(workflow, content, files, directory)))


def _check_is_new(directory: Path) -> None:
    try:
        if not directory.parent.is_dir():
            raise StorageError(f"{directory.parent} does not exist", hint="Create it first.")
        is_new = not directory.is_symlink() and not directory.exists()
        if not is_new and not (directory.is_dir() and not any(directory.iterdir())):
            raise StorageError(f"{directory} is not empty", hint="Give a new directory.")
    except OSError as error:
        raise StorageError(f"{directory} cannot be read: {error.strerror}") from error


def _crate_class() -> Any:
    try:
        from rocrate.rocrate import ROCrate
    except ImportError as error:
        raise MotokoError(
            "export --crate needs rocrate, which is not installed",
            hint="pip install 'motoko[crate]'",
        ) from error
    return ROCrate


def _files(content: CrateContent) -> Iterator[CrateFile]:
    yield CrateFile(README, "The description of this crate", readme(content).encode())
    yield from content.workflow
    for study in content.studies:
        yield from (*study.files, study.results, study.attempts)


def _write(crate: Any, content: CrateContent, files: Sequence[CrateFile], directory: Path) -> None:
    for name, value in root_properties(content).items():
        crate.root_dataset[name] = value
    profiles = [reference(f"https://w3id.org/ro/crate/{RO_CRATE}"), reference(WORKFLOW_CRATE)]
    crate.metadata["conformsTo"] = profiles
    for file in files:
        source = io.BytesIO(file.source) if isinstance(file.source, bytes) else file.source
        properties = file_properties(content, file)
        crate.add_file(source, file.path, properties=properties, record_size=True)
    for entity in contextual_entities(content):
        crate.add_jsonld(entity)
    crate.write(directory)


def _notes(
    workflow: Workflow, content: CrateContent, files: Sequence[CrateFile], directory: Path
) -> Iterator[str]:
    if content.license_url is None and content.license_file is None:
        yield "the workflow's directory has no LICENSE file; choose a license before you publish"
    if content.number_of_attempts > MOST_ATTEMPTS:
        yield (
            f"{content.number_of_attempts:,} attempts, more than {MOST_ATTEMPTS:,}, are listed in "
            "provenance/*.csv only"
        )
    private = {os.fsencode(workflow.directory), os.fsencode(Path.home())} - {b"/"}
    for file in files:
        if _contains(directory / file.path, private):
            yield f"{file.path} contains paths of this machine"


def _contains(file: Path, texts: set[bytes]) -> bool:
    longest = max(map(len, texts), default=0)
    before = b""
    with file.open("rb") as opened:
        while piece := opened.read(PIECE):
            if any(text in before + piece for text in texts):
                return True
            before = piece[-longest:]
    return False
