"""Which workflow owns the run directories of a study: two workflows never share them.

A study directory may be part of several workflows, through links or paths. The names of run
directories contain the ids of one database. So the first workflow that creates some owns them, and
records that in a file beside them.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from motoko.errors import SharedStudyError
from motoko.runtime.files import exclusive_create, file_identity, write_atomic
from motoko.runtime.untrusted_files import read_file

if TYPE_CHECKING:
    from motoko.server.state_dir import StateDir


@dataclass(frozen=True, slots=True)
class StudyOwner:
    """A workflow, and the inode numbers of its state and study directories."""

    workflow: str
    state: int | None
    study: int | None


def claim_run_directories(state: StateDir, runs: Path) -> None:
    """Record this workflow as the owner of the directories below ``runs``; or SharedStudyError."""
    ours = _of(state, runs)
    content = json.dumps(asdict(ours)).encode()
    # Without permission no run directory can be created either; a script may create a directory.
    with contextlib.suppress(PermissionError, IsADirectoryError):
        if exclusive_create(_owner_file(runs), content):
            return
        check_owner(state, runs)
        if _read(runs) != ours:
            write_atomic(_owner_file(runs), content)


def check_owner(state: StateDir, runs: Path) -> None:
    """Raise SharedStudyError if another workflow owns the run directories below ``runs``."""
    found, ours = _read(runs), _of(state, runs)
    if found is None or found.state == ours.state:
        return
    other = _locate(found)
    if other is not None:
        raise SharedStudyError(
            f"{runs} holds the run directories of another workflow, {other}",
            hint="Give each workflow its own study directory: copy it, do not link to it.",
        )
    if found.workflow == ours.workflow:  # its state was removed and created again
        return
    inside = Path(os.path.realpath(runs.parent)).is_relative_to(state.path.parent)
    if not inside and runs.is_dir() and any(runs.iterdir()):
        raise SharedStudyError(
            f"{runs} holds the run directories of another workflow, {found.workflow}, "
            "which no longer exists",
            hint=f"If they are not needed, move {runs} away.",
        )


def _locate(owner: StudyOwner) -> Path | None:
    """Return the directory of an owner, perhaps renamed; it must match both inode numbers."""
    recorded = Path(owner.workflow)
    if _inode(recorded / ".wf") == owner.state:
        return recorded
    with contextlib.suppress(OSError):
        for path in recorded.parent.iterdir():
            if _inode(path / ".wf") == owner.state and owner.study in map(_inode, path.iterdir()):
                return path
    return None


def _of(state: StateDir, runs: Path) -> StudyOwner:
    return StudyOwner(str(state.path.parent), _inode(state.path), _inode(runs.parent))


def _owner_file(runs: Path) -> Path:
    return runs.with_name(f".{runs.name}.workflow")


def _read(runs: Path) -> StudyOwner | None:
    """Return the recorded owner, None if the record is missing, invalid or a copy."""
    try:
        content = json.loads(read_file(_owner_file(runs)).data or b"")
        found = StudyOwner(str(content["workflow"]), int(content["state"]), content["study"])
    except (OSError, ValueError, TypeError, LookupError):
        return None
    return found if found.study == _inode(runs.parent) else None


def _inode(path: Path) -> int | None:
    try:
        return file_identity(path)
    except OSError:  # temporarily unavailable
        return None
