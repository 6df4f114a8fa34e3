"""The files of a submission, ``.wf/<scheduler>/<token>/``. A later launcher finds its jobs by them.

``batch.sh``: the script that the scheduler runs. ``tasks/<n>``: a link to an attempt's outbox,
before that exists. ``tasks/<n>.sh``: environment and command of the run's script. ``job``: the
scheduler's id; ``owner``: the launcher and the number of tasks; ``again.<n>``: the scheduler
started the task twice, or has it twice; ``<scheduler>.log``: the scheduler's own output. All
functions block.
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
from motoko.launcher import attempt_files
from motoko.launcher.attempt_paths import token_of
from motoko.launcher.executors.batch.job_script import RESTART_MARKER, batch_script, task_script
from motoko.launcher.executors.process_spawner import WRAPPER, command, passable
from motoko.launcher.run_directory import reclaim
from motoko.launcher.schedulers.base import NotSeen
from motoko.runtime.files import PRIVATE_FILE, private_directory, write_atomic
from motoko.runtime.untrusted_files import read_file, write_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from motoko.core.run_options import RunOptions
    from motoko.launcher.attempt_paths import AttemptPaths
    from motoko.launcher.attempts import Attempt
    from motoko.launcher.preparation import LaunchSpec
    from motoko.launcher.schedulers.base import JobId, JobStatus, Scheduler, Seen

JOB: Final = "job"
OWNER: Final = "owner"
SCRIPT: Final = "batch.sh"
DISK_HINT: Final = "Is the disk full? Correct this, then start the launcher again."

# The patterns limit the length of numbers: Python refuses to convert thousands of digits.
_INDEX: Final = re.compile(r"[0-9]{1,9}")
_OWNER: Final = re.compile(r"([^\n]{1,400})\n([0-9]{1,9})\n")
_JOB: Final = re.compile(r"([0-9]{1,18})\n?")

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Submission:
    """One submission. ``job`` is the scheduler's id, None while unknown.

    ``since``: the monotonic time of the last attempt to submit it. ``duplicated``: the scheduler
    has it more than once.
    """

    token: str
    directory: Path
    size: int
    job: str | None = None
    since: float = 0.0
    submitting: bool = False
    duplicated: bool = False

    @property
    def is_unconfirmed(self) -> bool:
        """Whether the scheduler may or may not have it."""
        return self.job is None and not self.submitting

    def restart_marker(self, index: int) -> Path:
        """Return the file that marks a task as started twice. The run's script cannot reach it."""
        return self.directory / f"{RESTART_MARKER}.{index}"


@dataclass(slots=True)
class ArrayTask:
    """The task of an attempt: the submission, and its index there.

    ``cancel_sent``: the launcher cancels it. ``final_status``: the scheduler reported its end.
    """

    submission: Submission
    index: int
    cancel_sent: bool = False
    final_status: Seen | None = None

    @property
    def id(self) -> JobId:
        """The scheduler's id, ("", ...) while it is unknown. Single jobs have no index."""
        return self.submission.job or "", self.index if self.submission.size > 1 else None

    def update_status(self, status: JobStatus) -> JobStatus:
        """Return a polled status. A reported end stays valid when the job is no longer listed."""
        if isinstance(status, NotSeen):
            return self.final_status or status
        if status.phase.has_ended:
            self.final_status = status
        return status


def write_submission(
    root: Path, token: str, owner: str, specs: Sequence[LaunchSpec], scheduler: Scheduler, path: str
) -> Submission:
    """Write the files of a submission; ``path`` comes first on the runs' PATH."""
    directory = private_directory(private_directory(root) / token)
    tasks = private_directory(directory / "tasks")
    _write(directory / OWNER, f"{owner}\n{len(specs)}\n")
    _write(directory / "wrapper.sh", Path(WRAPPER).read_text(encoding="utf-8"))
    options, here = specs[0].options, str(directory)
    _write(directory / SCRIPT, batch_script(here, options.module, options.prologue, scheduler))
    for index, spec in enumerate(specs):
        os.symlink(spec.paths.attempt_path, tasks / str(index))
        argv = command(spec.script, spec.options.bash_options)
        try:
            _write(tasks / f"{index}.sh", task_script(passable(spec.variables), argv, path))
        except ValueError as error:  # no file can contain its options
            # This task fails because it finds no script. The others are unaffected.
            log.warning("%s: its script cannot be written: %s", spec.paths.run_directory, error)
    return Submission(token, directory, len(specs))


def write_job_id(submission: Submission, job: str) -> None:
    """Store the scheduler's id."""
    write_atomic(submission.directory / JOB, f"{job}\n".encode())


def read_submission(root: Path, token: str) -> Submission | None:
    """Return an earlier submission, None if its files cannot be read."""
    directory = root / token
    owner = _OWNER.fullmatch(read_file(directory / OWNER).text)
    try:
        names = os.listdir(directory / "tasks")
        size = int(owner[2]) if owner is not None else sum(map(_is_index, names))
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

    The links have the truth: a script may change or remove its attempt's directory.
    """
    found: dict[str, tuple[str, int]] = {}
    for tasks in root.glob("*/tasks"):
        with contextlib.suppress(OSError):
            for entry in os.scandir(tasks):
                if _is_index(entry.name) and entry.is_symlink():
                    token = token_of(os.readlink(entry.path))
                    found[token] = tasks.parent.name, int(entry.name)
    return found


def _is_index(name: str) -> bool:
    return _INDEX.fullmatch(name) is not None


def group_key(options: RunOptions, scheduler: Scheduler) -> tuple[object, ...]:
    """Return the values that all runs of a submission share."""
    return (
        *(options.nproc, options.timeout, scheduler.options_of(options)),
        *(options.bash_options, options.module, options.prologue),
    )


def block_start(paths: AttemptPaths) -> bool:
    """Ensure that an attempt never starts. Return False if it has started."""
    try:
        if reclaim(paths, attempt_files.reclaim_text("that saw it end")):
            return True
    except LauncherError:
        log.debug("%s belongs to a later attempt", paths.run_directory)
    except OSError as error:
        if write_error(paths.runs_root) is not None:
            text = f"{paths.attempt_path} cannot be written: {error.strerror or error}"
            raise LauncherError(text, hint=DISK_HINT) from error
        log.warning("%s cannot be used: %s", paths.attempt_path, error)
        # No job can create a start record that no launcher can create.
        return not attempt_files.has_started(paths)
    return attempt_files.was_reclaimed(paths)


def write_stop_reasons(attempts: Iterable[Attempt]) -> None:
    """Record why the launcher is about to end attempts."""
    for attempt in attempts:
        if attempt.stop_reason is not None:
            attempt_files.write_stop_reason(attempt.paths, attempt.stop_reason)


def write_restart_markers(submission: Submission) -> None:
    """Mark all tasks of a submission that the scheduler has more than once."""
    for index in range(submission.size):
        with contextlib.suppress(OSError):  # its directory was removed
            submission.restart_marker(index).touch()


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, PRIVATE_FILE)
    with open(descriptor, "wb", buffering=0) as file:
        file.write(os.fsencode(text))
