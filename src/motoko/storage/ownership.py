"""Whose the run directories of a study are: two workflows never share them.

A study's directory may be part of several workflows, by a link or by a path that leads there. Run
directories are named after the ids of one database, so the first workflow that makes some owns
them, and says so in a file beside them.
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
    """A workflow: its directory, and the inode numbers of its state and of the study directory.

    A copied study directory has another inode, and so the copied note means nothing there.
    """

    workflow: str
    state: int | None
    study: int | None


def claim_run_directories(state: StateDir, runs: Path) -> None:
    """Make the run directories below ``runs`` those of this workflow.

    SharedStudyError, which names the other workflow, if they are another one's.
    """
    ours = _of(state, runs)
    content = json.dumps(asdict(ours)).encode()
    # Without permission no run directory can be made either; a directory is a script's doing.
    with contextlib.suppress(PermissionError, IsADirectoryError):
        if exclusive_create(_note(runs), content):
            return
        check_owner(state, runs)
        if _read(runs) != ours:
            write_atomic(_note(runs), content)


def check_owner(state: StateDir, runs: Path) -> None:
    """Raise SharedStudyError if the run directories below ``runs`` are another workflow's."""
    found, ours = _read(runs), _of(state, runs)
    if found is None or found.state == ours.state:
        return
    other = _whereabouts(found)
    if other is not None:
        raise SharedStudyError(
            f"{runs} holds the run directories of another workflow, {other}",
            hint="Give each workflow a study directory of its own: copy it, do not link to it.",
        )
    if found.workflow == ours.workflow:  # its state was removed and made anew
        return
    inside = Path(os.path.realpath(runs.parent)).is_relative_to(state.path.parent)
    if not inside and runs.is_dir() and any(runs.iterdir()):
        raise SharedStudyError(
            f"{runs} holds the run directories of another workflow, {found.workflow}, which is not "
            "there any more",
            hint=f"If nobody needs them, move {runs} away.",
        )


def _whereabouts(owner: StudyOwner) -> Path | None:
    """Return where a workflow is that owns a study, None if it is not known.

    It may have been renamed since. A directory beside it is it if both inode numbers are there:
    that of a state which was removed may be another workflow's now.
    """
    noted = Path(owner.workflow)
    if _inode(noted / ".wf") == owner.state:
        return noted
    with contextlib.suppress(OSError):
        for path in noted.parent.iterdir():
            if _inode(path / ".wf") == owner.state and owner.study in map(_inode, path.iterdir()):
                return path
    return None


def _of(state: StateDir, runs: Path) -> StudyOwner:
    return StudyOwner(str(state.path.parent), _inode(state.path), _inode(runs.parent))


def _note(runs: Path) -> Path:
    return runs.with_name(f".{runs.name}.workflow")


def _read(runs: Path) -> StudyOwner | None:
    """Return what the note says, None if there is none, it makes no sense or is a copy."""
    try:
        content = json.loads(read_file(_note(runs)).data or b"")
        found = StudyOwner(str(content["workflow"]), int(content["state"]), content["study"])
    except (OSError, ValueError, TypeError, LookupError):
        return None
    return found if found.study == _inode(runs.parent) else None


def _inode(path: Path) -> int | None:
    try:
        return file_identity(path)
    except OSError:  # it cannot be told now
        return None
