"""Build sbatch commands and interpret their answers."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final

from motoko.core.sbatch_options import user_arguments, with_suggestion
from motoko.launcher.schedulers.base import SubmitFailure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from motoko.launcher.schedulers.base import SubmitRequest

SUBMIT_PROGRAM: Final = "sbatch"
MAX_TEXT: Final = 300  # characters of a command's output that a message quotes
_SUBMITTED: Final = re.compile(r"([0-9]{1,18})(?:;\S+)?")
# Errors after which the controller may or may not have accepted a request.
_UNCONFIRMED: Final = re.compile(
    r"Unable to contact slurm controller|Socket timed out|Zero Bytes were transmitted"
    r"|Transport endpoint is not connected|Connection (refused|reset|timed out)"
    r"|Protocol authentication error|Munge encode failed|standby mode"
    r"|Unexpected message received|temporarily unavailable"
    r"|Communication (connection|shutdown|receive|send) |Message (receive|send) failure",
    re.IGNORECASE,
)
# Errors after which Slurm may accept the same submission later.
_RETRY_LATER: Final = re.compile(
    r"temporarily unable to accept job|Job violates accounting/QOS policy|MaxSubmitJob"
    r"|GrpSubmitJob|too many jobs|Rate limit|Job rate",
    re.IGNORECASE,
)
_PREFIXES: Final = (
    *("SLURM_", "SBATCH_", "SQUEUE_", "SCANCEL_", "SACCT_", "SCONTROL_", "SLURMD_"),
    *("SRUN_", "SALLOC_", "SINFO_"),
)
# The user's choice of cluster, account and limits. All other variables of Slurm would change the
# output, or come from a job that the launcher runs in.
_KEPT: Final = frozenset(
    {
        *("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT", "SBATCH_ACCOUNT", "SBATCH_PARTITION"),
        *("SBATCH_QOS", "SBATCH_RESERVATION", "SBATCH_CONSTRAINT", "SBATCH_TIMELIMIT"),
        *("SBATCH_MEM_PER_CPU", "SBATCH_MEM_PER_NODE", "SBATCH_MEM_PER_GPU", "SBATCH_WCKEY"),
    }
)
# Slurm then prints English, complete lists of array tasks, and standard times.
_READABLE: Final = (("LC_ALL", "C"), ("SLURM_BITSTR_LEN", "0"), ("SLURM_TIME_FORMAT", "standard"))


def environment(base: Mapping[str, str], *, submitting: bool) -> dict[str, str]:
    """Return ``base`` without variables that change how Slurm's programs act or print."""
    kept = {k: v for k, v in base.items() if k in _KEPT or not k.startswith(_PREFIXES)}
    return kept if submitting else {**kept, **dict(_READABLE)}


def submit_command(request: SubmitRequest) -> tuple[str, ...]:
    """Return the sbatch command; the user's options override the others.

    Several processes are ``--ntasks`` on one node: ``srun`` and ``mpirun`` start that many, and a
    threaded program finds as many CPUs on its node. Raise ConfigError for an invalid option.
    """
    command = [SUBMIT_PROGRAM, "--parsable", "--no-requeue"]
    if request.nproc > 1:
        command += ["--nodes=1", f"--ntasks={request.nproc}"]
    if request.timeout is not None:
        command.append(f"--time={time_limit(request.timeout)}")
    command += [f"--job-name={request.name}", f"--comment={request.comment}"]
    command += [f"--output={escape_pattern(request.log)}", f"--chdir={request.directory}"]
    command += user_arguments(("open-mode=append", *request.options))
    if request.tasks > 1:
        command.append(f"--array=0-{request.tasks - 1}")
    return (*command, request.script)


def time_limit(seconds: float) -> str:
    """Return a time limit as minutes:seconds. Slurm rounds it up to whole minutes."""
    minutes, rest = divmod(max(1, math.ceil(seconds)), 60)
    return f"{minutes}:{rest:02d}"


def escape_pattern(path: str) -> str:
    """Return a path in a form that Slurm does not expand."""
    return path.replace("%", "%%")


def parse_submitted(text: str) -> str:
    """Return the job id that sbatch printed. Raise ValueError if it printed none."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    found = _SUBMITTED.fullmatch(lines[-1]) if lines else None
    if found is None:
        raise ValueError(f"sbatch printed no job id but {text[:MAX_TEXT]!r}")
    return found[1]


def classify_failure(stderr: str) -> SubmitFailure:
    """Return the meaning of a failed request's stderr. An empty one confirms nothing.

    squeue may still list a refused submission, as FAILED with BadConstraints.
    """
    if not stderr.strip() or _UNCONFIRMED.search(stderr):
        return SubmitFailure.UNCONFIRMED
    return SubmitFailure.RETRY_LATER if _RETRY_LATER.search(stderr) else SubmitFailure.REFUSED


def error_message(stderr: str) -> str:
    """Return the line of stderr that explains an error, with a suggestion for a misspelt option."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    chosen = next((line for line in lines if "error" in line.lower()), lines[0] if lines else "")
    return with_suggestion(re.sub(r"^\w+: (error: |fatal: )?", "", chosen)[:MAX_TEXT])
