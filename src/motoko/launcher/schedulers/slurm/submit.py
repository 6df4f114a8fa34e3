"""sbatch: its command built, its answers parsed."""

from __future__ import annotations

import math
import re
from enum import Enum
from typing import TYPE_CHECKING, Final

from motoko.core.sbatch_options import user_arguments

if TYPE_CHECKING:
    from collections.abc import Sequence

SHOWN: Final = 300  # characters of what a command printed
_SUBMITTED: Final = re.compile(r"([0-9]{1,18})(?:;\S+)?")
# What Slurm's programs say if they do not know what the controller made of a request.
_LOST: Final = re.compile(
    r"Unable to contact slurm controller|Socket timed out|Zero Bytes were transmitted"
    r"|Transport endpoint is not connected|Connection (refused|reset|timed out)"
    r"|Protocol authentication error|Munge encode failed|standby mode"
    r"|Unexpected message received|temporarily unavailable"
    r"|Communication (connection|shutdown|receive|send) |Message (receive|send) failure",
    re.IGNORECASE,
)
# What sbatch says if the same submission can be accepted later.
_LATER: Final = re.compile(
    r"temporarily unable to accept job|Job violates accounting/QOS policy|MaxSubmitJob"
    r"|GrpSubmitJob|too many jobs|Rate limit|Job rate",
    re.IGNORECASE,
)


class SubmitFailure(Enum):
    """What a failed sbatch, or another command that asks for something, means."""

    LOST = "nobody knows whether it was accepted"
    LATER = "not now, perhaps later"
    REFUSED = "not as it is"


def submit_command(
    script_path: str,
    *,
    name: str,
    comment: str,
    output: str,
    options: Sequence[str] = (),
    array: range | None = None,
    nproc: int = 1,
    timeout_seconds: float | None = None,
    chdir: str | None = None,
    arguments: Sequence[str] = (),
) -> tuple[str, ...]:
    """Return the sbatch command for a script; the user's ``options`` win over what is asked here.

    ``array``: one task for each index. ``nproc`` counts processes: ``--ntasks`` on one node, so
    that ``srun`` and ``mpirun`` start that many, and a program with threads finds as many CPUs
    beside each other. 1 asks for nothing, which is one CPU, so that options about tasks and nodes
    say it all. ``output`` and ``chdir`` are Slurm's: see `file_pattern`. ``arguments`` are the
    script's. ConfigError for an option that cannot be given, ValueError for an empty array.
    """
    command = ["sbatch", "--parsable", "--no-requeue"]
    if nproc > 1:
        command += ["--nodes=1", f"--ntasks={nproc}"]
    if timeout_seconds is not None:
        command.append(f"--time={time_limit(timeout_seconds)}")
    command += [f"--job-name={name}", f"--comment={comment}", f"--output={output}"]
    if chdir is not None:
        command.append(f"--chdir={chdir}")
    command += user_arguments(options)
    if array is not None:
        command.append(f"--array={array_indexes(array)}")
    return (*command, script_path, *arguments)


def time_limit(seconds: float) -> str:
    """Return a time limit as minutes:seconds; Slurm itself rounds it up to whole minutes."""
    minutes, rest = divmod(max(1, math.ceil(seconds)), 60)
    return f"{minutes}:{rest:02d}"


def array_indexes(indexes: range) -> str:
    """Return the indexes of an array as sbatch takes them."""
    if len(indexes) == 0 or min(indexes) < 0:
        raise ValueError(f"an array needs indexes from 0 up, not {indexes!r}")
    if indexes.step < 0:
        indexes = indexes[::-1]
    if len(indexes) == 1:
        return str(indexes[0])
    step = "" if indexes.step == 1 else f":{indexes.step}"
    return f"{indexes[0]}-{indexes[-1]}{step}"


def file_pattern(path: str) -> str:
    """Return a path so that Slurm takes it as it is, for a pattern such as ``--output``."""
    return path.replace("%", "%%")


def parse_submitted(text: str) -> str:
    """Return the job id that sbatch answered. ValueError if there is none."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    found = _SUBMITTED.fullmatch(lines[-1]) if lines else None
    if found is None:
        raise ValueError(f"sbatch gave no job id but {text[:SHOWN]!r}")
    return found[1]


def failure(stderr: str) -> SubmitFailure:
    """Return what the failure of a command with this stderr means; LOST if it said nothing.

    A submission that was REFUSED may still be listed by squeue, as a job that FAILED with
    BadConstraints.
    """
    if not stderr.strip() or _LOST.search(stderr):
        return SubmitFailure.LOST
    return SubmitFailure.LATER if _LATER.search(stderr) else SubmitFailure.REFUSED


def first_error(stderr: str) -> str:
    """Return the line for people from what a command wrote to stderr, without its own name."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    chosen = next((line for line in lines if "error" in line.lower()), lines[0] if lines else "")
    return re.sub(r"^\w+: (error: |fatal: )?", "", chosen)[:SHOWN]
