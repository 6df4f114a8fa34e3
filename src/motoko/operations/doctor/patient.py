"""The workflow that the checks examine, and their declaration."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from motoko.config.diagnosis import Diagnosis, diagnose
from motoko.runtime.file_system import WriteProbe, probe_directory
from motoko.runtime.ports import SYSTEM
from motoko.server.state_dir import StateDir

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from motoko.operations.doctor.findings import Finding
    from motoko.runtime.ports import Runtime


class Patient:
    """The workflow under examination, whose ``motoko.yaml`` is ``file``.

    ``progress`` gets the numbers of objects read and of all objects of the database. If it is not
    None, every record is read.
    """

    def __init__(
        self,
        file: Path,
        *,
        runtime: Runtime = SYSTEM,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.file = file
        self.directory = file.parent
        self.runtime = runtime
        self.progress = progress
        self.state = StateDir(Path(os.path.realpath(file.parent)) / ".wf")
        self._probes: dict[Path, WriteProbe] = {}

    @property
    def writable_directory(self) -> Path:
        """The state directory, or the directory in which it is created."""
        return self.state.path if self.state.path.is_dir() else self.directory

    @property
    def has_database(self) -> bool:
        """Whether the database exists and is a regular file, which can be opened."""
        return self.state.database.is_file()

    def probe(self, directory: Path) -> WriteProbe:
        """Return the result of writing into a directory, which is tried once."""
        if directory not in self._probes:
            self._probes[directory] = probe_directory(directory)
        return self._probes[directory]

    @cached_property
    def diagnosis(self) -> Diagnosis:
        """The mistakes in the configuration files."""
        return diagnose(self.file)


@dataclass(frozen=True, slots=True)
class Check:
    """A named examination. ``seconds``: its time limit, None for no limit."""

    name: str
    examine: Callable[[Patient], Sequence[Finding]]
    seconds: float | None = 15.0
