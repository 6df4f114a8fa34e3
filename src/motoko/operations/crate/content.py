"""The content of a crate: files, executions of the workflow, and attempts of runs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from motoko.core.provenance import AttemptProvenance
_AUTHOR: Final = re.compile(r"(.*\S)\s*<(https?://[^<>\s]+)>")


@dataclass(frozen=True, slots=True)
class CrateFile:
    """A file: its path in the crate, its name for people, and its content or the path of that."""

    path: str
    name: str
    source: bytes | Path


@dataclass(frozen=True, slots=True)
class StudyContent:
    """A study: its script, the path of which is the first of ``files``, and its tables as CSV.

    ``digest``: that of the scripts as they are now.
    """

    name: str
    digest: str
    files: Sequence[CrateFile]
    results: CrateFile
    attempts: CrateFile


@dataclass(frozen=True, slots=True)
class Execution:
    """The execution of the workflow with a run name; times are in ISO format.

    ``ended`` is None while runs are not in a terminal state. ``succeeded``: None if unknown.
    """

    run_name: str
    started: str | None
    ended: str | None
    succeeded: bool | None
    reason: str
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class AttemptContent:
    """An attempt of a run, with the values of its job."""

    study: str
    run_id: int
    job_id: int
    run_name: str
    job: Mapping[str, Any]
    reason: str
    provenance: AttemptProvenance


@dataclass(frozen=True, slots=True)
class CrateContent:
    """Everything in a crate. ``workflow``: the orchestrator's module, then further files.

    ``version``: the digest of that module.
    ``transaction`` is the id of the newest commit that was read, ``committed`` its time,
    ``exported`` the time of the export. ``number_of_attempts`` counts all attempts; ``attempts`` is
    empty if there are too many to describe.
    """

    name: str
    workflow: Sequence[CrateFile]
    version: str
    studies: Sequence[StudyContent]
    executions: Sequence[Execution]
    attempts: Sequence[AttemptContent]
    transaction: str
    committed: str
    exported: str
    license_file: str | None = None
    license_url: str | None = None
    authors: Sequence[Author] = ()
    number_of_attempts: int = 0


@dataclass(frozen=True, slots=True)
class Author:
    """An author; ``uri`` identifies the person, such as an ORCID."""

    name: str
    uri: str | None = None

    @classmethod
    def parse(cls, text: str) -> Author:
        """Return the author that ``NAME <URI>`` or ``NAME`` describes."""
        found = _AUTHOR.fullmatch(text.strip())
        return cls(found[1], found[2]) if found else cls(text.strip())
