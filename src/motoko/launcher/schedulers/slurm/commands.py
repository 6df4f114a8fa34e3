"""Runs Slurm's programs: each with a limit of time and a known environment, a few at a time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final

import anyio

from motoko.errors import LauncherError
from motoko.launcher.schedulers.slurm.submit import SubmitFailure, failure, first_error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SECONDS: Final = 15.0
AT_A_TIME: Final = 4
KILL_SECONDS: Final = 5.0
MOST_OUTPUT: Final = 64 * 2**20  # bytes; no answer is longer
SUBMIT: Final = "sbatch"
# They ask for something; the others only ask, and without success they have said nothing.
REQUESTS: Final = frozenset({SUBMIT, "scancel"})
SLURM_PREFIXES: Final = (
    *("SLURM_", "SBATCH_", "SQUEUE_", "SCANCEL_", "SACCT_", "SCONTROL_", "SLURMD_"),
    *("SRUN_", "SALLOC_", "SINFO_"),
)
# Which cluster, who pays, where runs may go: the user's business, and no change to what is printed.
# All others are removed: they would change output, or come from a job that the launcher runs in.
KEPT: Final = frozenset(
    {
        *("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT", "SBATCH_ACCOUNT", "SBATCH_PARTITION"),
        *("SBATCH_QOS", "SBATCH_RESERVATION", "SBATCH_CONSTRAINT", "SBATCH_TIMELIMIT"),
        *("SBATCH_MEM_PER_CPU", "SBATCH_MEM_PER_NODE", "SBATCH_MEM_PER_GPU", "SBATCH_WCKEY"),
    }
)
# Lists of array tasks are not cut short, times look the same everywhere.
READABLE: Final = (
    ("LC_ALL", "C"),
    ("SLURM_BITSTR_LEN", "0"),
    ("SLURM_TIME_FORMAT", "standard"),
)


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What a command answered. ``status`` None: it could not be run, or did not end in time.

    ``unknown`` says why the answer says nothing about what was asked, None if it says something.
    A request (sbatch, scancel) that was refused is an answer: its status is not 0.
    """

    status: int | None
    stdout: str = ""
    stderr: str = ""
    unknown: str | None = None

    @property
    def good(self) -> bool:
        """Whether the command did what it was asked for."""
        return self.status == 0 and self.unknown is None

    @property
    def error(self) -> str:
        """What went wrong, in one line; "" if nothing did."""
        if self.good:
            return ""
        return self.unknown or first_error(self.stderr) or f"exit status {self.status}"


class CommandRunner:
    """Runs the scheduler's programs, at most ``at_a_time`` together, found on PATH."""

    def __init__(
        self, environment: Mapping[str, str] | None = None, *, at_a_time: int = AT_A_TIME
    ) -> None:
        base = os.environ if environment is None else environment
        self._environment = submission_environment(base)
        self._turns = asyncio.Semaphore(at_a_time)

    async def run(
        self, argv: Sequence[str], *, seconds: float = SECONDS, directory: str | None = None
    ) -> CommandResult:
        """Run a command in ``directory`` (default: this process's) and return its answer.

        It and what it started are killed if it takes longer than ``seconds``, counted from its
        start, or if this is cancelled. LauncherError if there is no sbatch.
        """
        environment = self._environment
        if argv[0] != SUBMIT:  # what sbatch is given, jobs get
            environment = {**environment, **dict(READABLE)}
        async with self._turns:
            try:
                status, stdout, stderr = await _ran(argv, environment, directory, seconds)
            except OSError as error:
                missing = isinstance(error, FileNotFoundError | PermissionError)
                if missing and argv[0] == SUBMIT and error.filename != directory:
                    raise _no_sbatch(error) from error
                where = "" if error.filename in (None, argv[0]) else f": {error.filename}"
                reason = f"{argv[0]} cannot be run: {error.strerror or error}{where}"
                return CommandResult(None, unknown=reason)
        if max(len(stdout), len(stderr)) > MOST_OUTPUT:
            return CommandResult(None, unknown=f"{argv[0]} printed more than {MOST_OUTPUT:,} bytes")
        return CommandResult(status, stdout, stderr, _unknown(argv[0], status, stderr, seconds))


async def _ran(
    argv: Sequence[str], environment: Mapping[str, str], directory: str | None, seconds: float
) -> tuple[int | None, str, str]:
    """Return exit status, None if it took too long, and what was printed.

    It prints to files, for a pipe that a child of it keeps open would have no end.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=environment,
            cwd=directory,
            start_new_session=True,
        )
        status = await _status(process, seconds)
        return status, _content(out), _content(err)


async def _status(process: asyncio.subprocess.Process, seconds: float) -> int | None:
    try:
        with anyio.move_on_after(seconds):
            return await process.wait()
    finally:
        if process.returncode is None:
            with anyio.CancelScope(shield=True):
                await _kill(process)
    return None


async def _kill(process: asyncio.subprocess.Process) -> None:
    # Not collected yet, so the number is still its own.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    # One in an uninterruptible wait, for a file server, ends when it can; nobody waits for that.
    with anyio.move_on_after(KILL_SECONDS):
        await process.wait()


def _content(file: IO[bytes]) -> str:
    file.seek(0)
    content = file.read(MOST_OUTPUT + 1)
    # One character a byte where there is too much, so that it is recognised.
    return content.decode("latin-1" if len(content) > MOST_OUTPUT else "utf-8", "replace")


def _unknown(program: str, status: int | None, stderr: str, seconds: float) -> str | None:
    if status is None:
        return f"{program} gave no answer within {seconds:g} s"
    if status == 0:
        return None
    if status > 0 and program in REQUESTS and failure(stderr) is not SubmitFailure.LOST:
        return None
    return f"{program}: {first_error(stderr) or f'exit status {status}'}"


def _no_sbatch(error: OSError) -> LauncherError:
    return LauncherError(
        f"sbatch cannot be run: {error.strerror or error}",
        hint="Start the launcher where Slurm's commands are on PATH (`module load slurm` on some "
        "sites), or use `generator: bash`.",
    )


def submission_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without what would change how Slurm's programs act or print."""
    return {
        name: value
        for name, value in environment.items()
        if name in KEPT or not name.startswith(SLURM_PREFIXES)
    }
