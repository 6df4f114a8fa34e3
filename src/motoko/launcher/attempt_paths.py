"""The paths of an attempt, and the marker that names the attempt to which a run directory belongs.

``run-<id>/`` is the script's directory. It contains two files of Motoko: the inputs file
``.motoko``, whose first line is the marker, and the attempt's outbox ``.motoko-<token>``. Rare
files of an attempt have the name of the outbox and a suffix.

Attempts that an earlier version prepared have a directory ``.motoko/<token>/`` with a file for each
purpose, and the marker in ``.motoko/attempt``. They are read and finished as they are.
"""

from __future__ import annotations

import itertools
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from motoko.runtime.packed_files import EARLIER_MARKER, MARKER_BYTES, packed_directories
from motoko.runtime.untrusted_files import read_file
from motoko.worker import INPUTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from motoko.core.records import RunRecord

START: Final = "start"
EXIT: Final = "exit"
OUTBOX: Final = "outbox"
IN_OUTBOX: Final = frozenset({START, EXIT, OUTBOX})  # separate files in the earlier layout only
# The length of numbers is bounded: Python refuses to convert thousands of digits.
_MARKER: Final = re.compile(r"([0-9]{1,9}) ([0-9.]{1,40})(?: ([^\n ]{0,100}))?(?:\n.*)?", re.DOTALL)
_ATTEMPT: Final = re.compile(re.escape(INPUTS) + r"[-/]([^/.]+)")


@dataclass(frozen=True, slots=True)
class AttemptPaths:
    """The paths of one attempt; ``stamp`` distinguishes runs of the same id."""

    runs_root: str
    run_id: int
    number: int
    token: str
    stamp: str
    is_present: bool = field(default=False, compare=False)  # the layout is known

    def in_present_layout(self) -> AttemptPaths:
        """Return the same paths, once this version prepares the run directory."""
        return replace(self, is_present=True)

    @classmethod
    def for_record(cls, root: Path, record: RunRecord) -> AttemptPaths:
        """Return the paths of a run's current attempt."""
        return cls(str(root), record.id, record.attempt, record.token or "", run_stamp(record))

    @property
    def run_directory(self) -> str:
        """The run directory, in which the script runs."""
        return f"{self.runs_root}/run-{self.run_id}"

    @property
    def inputs_file(self) -> str:
        """The file with the marker and the attempt's inputs."""
        return f"{self.run_directory}/{INPUTS}"

    @property
    def is_earlier(self) -> bool:
        """Whether an earlier version prepared the run directory."""
        if self.is_present:
            return False
        return os.path.isdir(self.inputs_file) and not os.path.islink(self.inputs_file)

    @property
    def attempt_path(self) -> str:
        """The attempt's outbox; in the earlier layout its directory. It names the attempt."""
        return f"{self.inputs_file}{'/' if self.is_earlier else '-'}{self.token}"

    @property
    def outbox_name(self) -> str:
        """The name of the outbox, in the present layout."""
        return f"{INPUTS}-{self.token}"

    @property
    def outbox(self) -> str:
        """The file of the attempt's records."""
        return f"{self.attempt_path}/{OUTBOX}" if self.is_earlier else self.attempt_path

    def file(self, name: str) -> Path:
        """Return the path of a file of the attempt."""
        path = self.attempt_path
        if self.is_earlier:
            return Path(path, name)
        return Path(path if name in IN_OUTBOX else f"{path}.{name}")

    @property
    def draft_directory(self) -> str:
        """The directory under which the run directory is filled before it is published."""
        return f"{self.runs_root}/.run-{self.run_id}.new-{self.token}"

    @property
    def marker(self) -> bytes:
        """The line that names this attempt as the owner of its run directory."""
        return f"{self.number} {self.stamp} {self.token}\n".encode()


def run_stamp(record: RunRecord) -> str:
    """Return the text that distinguishes a run from others of the same id."""
    created = record.history[0].time if record.history else 0.0
    return f"{created:.6f}"


def token_of(path: str) -> str:
    """Return the token in the path of an attempt, empty if it has none."""
    parent, name = os.path.split(path)
    found = _ATTEMPT.fullmatch(name) or _ATTEMPT.fullmatch(f"{os.path.basename(parent)}/{name}")
    return found[1] if found is not None else ""


def has_directory(path: str) -> bool:
    """Return whether the path of an attempt is a directory, as in the earlier layout."""
    return os.path.basename(os.path.dirname(path)) == INPUTS


def run_directory_of(path: str) -> str:
    """Return the run directory in the path of an attempt."""
    parent = os.path.dirname(path)
    return os.path.dirname(parent) if has_directory(path) else parent


def attempt_paths_in(run: str) -> Iterator[str]:
    """Yield the paths of the attempts in a run directory."""
    for prefix in ("", f"{INPUTS}/"):
        try:
            names = sorted(os.listdir(f"{run}/{prefix}"))
        except OSError:
            continue
        yield from attempts_among(run, (f"{prefix}{name}" for name in names))


def attempts_among(run: str, names: Iterable[str]) -> Iterator[str]:
    """Yield the paths of the attempts among paths relative to a run directory."""
    return (f"{run}/{name}" for name in names if _ATTEMPT.fullmatch(name))


def read_marker(run: str) -> tuple[int, str] | None:
    """Return attempt number and stamp of a run directory, None if they are unreadable."""
    return parse_marker(_marker(run))


def parse_marker(text: str) -> tuple[int, str] | None:
    """Return attempt number and stamp in the text of a marker, None if it is no marker."""
    found = _MARKER.fullmatch(text)
    return None if found is None else (int(found[1]), found[2])


def marked_token(run: str) -> str | None:
    """Return the token in the marker of a run directory, None without a readable marker."""
    found = _MARKER.fullmatch(_marker(run))
    return None if found is None else found[3] or ""


def _marker(run: str) -> str:
    name = EARLIER_MARKER if os.path.isdir(f"{run}/{INPUTS}") else INPUTS
    return read_file(f"{run}/{name}", limit=MARKER_BYTES).text


def attempt_directory(root: Path, record: RunRecord, number: int) -> Path | None:
    """Return the run directory of an attempt of a run, None if it does not exist.

    The last attempt to start has ``run-ID``. A later one moves it to ``run-ID.attempt-N``. It may
    be in a pack: then the path continues that of the pack.
    """
    wanted, run = (number, run_stamp(record)), root / f"run-{record.id}"
    if read_marker(str(run)) == wanted:
        return run
    aside = root / f"{run.name}.attempt-{number}"
    for suffix in itertools.count(1):
        path = aside if suffix == 1 else root / f"{aside.name}-{suffix}"
        if read_marker(str(path)) == wanted:
            return path
        if not path.is_dir():
            break
    packed = packed_attempts(root, record).get(number)
    if packed is not None:
        return packed
    # A script may have removed the marker.
    return run if number == record.attempt and run.is_dir() and not aside.is_dir() else None


def packed_attempts(root: Path, record: RunRecord) -> dict[int, Path]:
    """Return the directories of a run's attempts in packs, by the attempt's number."""
    found: dict[int, Path] = {}
    for path, text in packed_directories(root, record.id):
        marker = parse_marker(text)
        if marker is not None and marker[1] == run_stamp(record):
            found.setdefault(marker[0], path)  # the latest pack comes first
    return found
