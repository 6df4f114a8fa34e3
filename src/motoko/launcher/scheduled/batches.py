"""The files of a submission, ``.wf/slurm/<token>/``, by which a later launcher finds what it began.

``batch.sh``: what the scheduler runs. ``tasks/<n>``: a link to the attempt's own directory, which
holds ``task.sh``, what the script gets, and ``batch``, which names token and n. ``job``: the id
that the scheduler gave; ``owner``: the launcher; ``slurm.log``: what the scheduler itself prints.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from motoko.launcher.generators.bash import WRAPPER, command, passable
from motoko.launcher.generators.slurm.script import batch_script, task_script
from motoko.runtime.files import PRIVATE_FILE, private_directory, write_atomic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from motoko.launcher.directory import Place
    from motoko.launcher.engine import Terms
    from motoko.launcher.generators.base import Order

NAME: Final = "batch"
JOB: Final = "job"
OWNER: Final = "owner"
LOG: Final = "slurm.log"
SCRIPT: Final = "batch.sh"
AGAIN: Final = "again"


@dataclass(slots=True)
class Batch:
    """One submission. ``job`` is its id, None while that is not known.

    ``since``: when it was last tried to submit it, or the answer was lost, in seconds of a
    monotonic clock; ``submitting``: that goes on now; ``doubled``: it became two scheduler jobs.
    """

    token: str
    directory: Path
    size: int
    job: str | None = None
    since: float = 0.0
    submitting: bool = False
    doubled: bool = False


@dataclass(frozen=True, slots=True)
class Task:
    """What the scheduler has of an attempt: ``index`` is its place in the batch's array."""

    batch: Batch
    index: int

    @property
    def number(self) -> int | None:
        """The index by which the scheduler knows it, None where there is no array."""
        return self.index if self.batch.size > 1 else None

    @property
    def key(self) -> tuple[str, int | None]:
        """The scheduler's id of it, "" while that is not known, and its number."""
        return self.batch.job or "", self.number


def write_batch(root: Path, token: str, owner: str, orders: Sequence[Order], path: str) -> Batch:
    """Write the files of a submission; ``path`` comes first on the runs' PATH. Blocks."""
    directory = private_directory(private_directory(root) / token)
    tasks = private_directory(directory / "tasks")
    terms = orders[0].terms
    _write(directory / OWNER, f"{owner}\n{len(orders)}\n")
    _write(directory / "wrapper.sh", Path(WRAPPER).read_text(encoding="utf-8"))
    _write(directory / SCRIPT, batch_script(str(directory), terms.module, terms.prologue))
    for index, order in enumerate(orders):
        argv = command(order.script, terms.bash_options)
        private = Path(order.place.private)
        _write(private / "task.sh", task_script(passable(order.variables), argv, path))
        _write(private / NAME, f"{token} {index}\n")
        os.symlink(private, tasks / str(index))
    return Batch(token, directory, len(orders))


def note_job(batch: Batch, job: str) -> None:
    """Note the id that the scheduler gave. Blocks."""
    write_atomic(batch.directory / JOB, f"{job}\n".encode())


def read_batch(root: Path, token: str) -> Batch | None:
    """Return a submission that was written before, None if there is none."""
    directory = root / token
    owner = _read(directory / OWNER)
    if owner is None:
        return None
    job = _read(directory / JOB)
    return Batch(token, directory, int(owner.split("\n")[1]), None if job is None else job.strip())


def owner_of(root: Path, token: str) -> str | None:
    """Return the launcher that wrote a submission."""
    text = _read(root / token / OWNER)
    return None if text is None else text.split("\n")[0]


def batch_of(place: Place) -> tuple[str, int] | None:
    """Return token and index of the submission that an attempt belongs to, None if to none."""
    words = (_read(place.file(NAME)) or "").split()
    return (words[0], int(words[1])) if len(words) == 2 else None


def remove_batch(batch: Batch) -> None:
    """Remove the links of a submission of which nothing is left; what explains it stays."""
    for index in range(batch.size):
        (batch.directory / "tasks" / str(index)).unlink(missing_ok=True)


def alike(terms: Terms) -> tuple[object, ...]:
    """Return what must be equal for runs to go into one submission."""
    return (
        terms.nproc, terms.timeout, terms.slurm_options, terms.bash_options, terms.module,
        terms.prologue,
    )  # fmt: skip


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, PRIVATE_FILE)
    with open(descriptor, "wb", buffering=0) as file:
        file.write(os.fsencode(text))


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
