"""The files of a submission, ``.wf/slurm/<token>/``, by which a later launcher finds what it began.

``batch.sh``: what the scheduler runs. ``tasks/<n>``: a link to the attempt's own directory, which
holds ``task.sh``, what the script gets. ``job``: the id that the scheduler gave; ``owner``: the
launcher, and how many tasks; ``again.<n>``: the scheduler has started or got the task twice;
``slurm.log``: what the scheduler itself prints.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from motoko.errors import LauncherError
from motoko.launcher.executors.local_process import WRAPPER, command, passable
from motoko.launcher.schedulers.slurm.script import batch_script, task_script
from motoko.runtime.files import PRIVATE_FILE, private_directory, write_atomic
from motoko.runtime.untrusted_files import read_file, write_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from motoko.core.run_options import RunOptions
    from motoko.launcher.executors.process_handle import LaunchSpec

JOB: Final = "job"
OWNER: Final = "owner"
LOG: Final = "slurm.log"
SCRIPT: Final = "batch.sh"
AGAIN: Final = "again"

# Numbers have a bounded length: Python refuses to read those of thousands of digits.
_INDEX: Final = re.compile(r"[0-9]{1,9}")
_OWNER: Final = re.compile(r"([^\n]{1,400})\n([0-9]{1,9})\n")
_JOB: Final = re.compile(r"([0-9]{1,18})\n?")

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Submission:
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
class ArrayTask:
    """What the scheduler has of an attempt: ``index`` is its place in the batch's array."""

    batch: Submission
    index: int

    @property
    def number(self) -> int | None:
        """The index by which the scheduler knows it, None where there is no array."""
        return self.index if self.batch.size > 1 else None

    @property
    def key(self) -> tuple[str, int | None]:
        """The scheduler's id of it, "" while that is not known, and its number."""
        return self.batch.job or "", self.number


def write_submission(
    root: Path, token: str, owner: str, orders: Sequence[LaunchSpec], path: str
) -> Submission:
    """Write the files of a submission; ``path`` comes first on the runs' PATH. Blocks."""
    directory = private_directory(private_directory(root) / token)
    tasks = private_directory(directory / "tasks")
    terms = orders[0].terms
    _write(directory / OWNER, f"{owner}\n{len(orders)}\n")
    _write(directory / "wrapper.sh", Path(WRAPPER).read_text(encoding="utf-8"))
    _write(directory / SCRIPT, batch_script(str(directory), terms.module, terms.prologue))
    for index, order in enumerate(orders):
        private = Path(order.place.private)
        os.symlink(private, tasks / str(index))
        try:
            argv = command(order.script, terms.bash_options)
            _write(private / "task.sh", task_script(passable(order.variables), argv, path))
        except (OSError, ValueError) as error:  # ValueError: no file can hold its options
            # This task finds no script, and fails; the others are not concerned.
            log.warning("%s cannot be written to: %s", private, error)
            if write_error(order.place.root) is not None:
                raise LauncherError(
                    f"{private} cannot be written: {error}",
                    hint="Is the disk full? Start the launcher again when this is put right.",
                ) from error
    return Submission(token, directory, len(orders))


def again_file(directory: Path, index: int) -> Path:
    """Return the file that tells that a task was started twice, out of its script's reach."""
    return directory / f"{AGAIN}.{index}"


def note_job(batch: Submission, job: str) -> None:
    """Note the id that the scheduler gave. Blocks."""
    write_atomic(batch.directory / JOB, f"{job}\n".encode())


def read_submission(root: Path, token: str) -> Submission | None:
    """Return a submission that was written before, None if there is none that can be read."""
    directory = root / token
    owner = _OWNER.fullmatch(read_file(directory / OWNER).text)
    try:
        size = int(owner[2]) if owner is not None else len(os.listdir(directory / "tasks"))
    except OSError:
        return None
    job = _JOB.fullmatch(read_file(directory / JOB).text)
    return Submission(token, directory, size, None if job is None else job[1])


def owner_of(root: Path, token: str) -> str | None:
    """Return the launcher that wrote a submission."""
    owner = _OWNER.fullmatch(read_file(root / token / OWNER).text)
    return None if owner is None else owner[1]


def memberships(root: Path) -> dict[str, tuple[str, int]]:
    """Return submission and index of every attempt, by its token.

    The links tell: what is in an attempt's directory, its script may have removed or changed.
    """
    found: dict[str, tuple[str, int]] = {}
    for tasks in root.glob("*/tasks"):
        with contextlib.suppress(OSError):
            for entry in os.scandir(tasks):
                if _INDEX.fullmatch(entry.name) and entry.is_symlink():
                    attempt = os.path.basename(os.readlink(entry.path))
                    found[attempt] = tasks.parent.name, int(entry.name)
    return found


def remove_batch(batch: Submission) -> None:
    """Remove the links of a submission of which nothing is left; what explains it stays."""
    for index in range(batch.size):
        (batch.directory / "tasks" / str(index)).unlink(missing_ok=True)
        again_file(batch.directory, index).unlink(missing_ok=True)


def group_key(terms: RunOptions) -> tuple[object, ...]:
    """Return what must be equal for runs to go into one submission."""
    return (
        terms.nproc, terms.timeout, terms.slurm_options, terms.bash_options, terms.module,
        terms.prologue,
    )  # fmt: skip


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, PRIVATE_FILE)
    with open(descriptor, "wb", buffering=0) as file:
        file.write(os.fsencode(text))
