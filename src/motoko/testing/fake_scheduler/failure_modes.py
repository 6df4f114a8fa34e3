"""Failures of a scheduler's command."""

from __future__ import annotations

from enum import Enum, auto


class FailureMode(Enum):
    """A failure of one call. Unless stated otherwise, the scheduler executes the command."""

    PRINTS_NOTHING = auto()  # succeeds without output
    TIMED_OUT = auto()  # "Socket timed out" after the controller received it
    UNREACHABLE = auto()  # "Unable to contact slurm controller": not executed
    HANGS = auto()  # does not end
    HANGS_IGNORED = auto()  # does not end, and is not executed
    SUBMITTED_LATE = auto()  # sbatch does not end, and is executed later
    FAILS_SILENTLY = auto()  # exit status 1 without output
    TRUNCATED = auto()  # exit status 1 after half of the output
    CUTS_LISTS = auto()  # squeue cuts lists of tasks after 64 characters
    UNKNOWN_STATES = auto()  # squeue prints unknown states
    LISTS_NOTHING = auto()  # squeue lists no job
    DUPLICATES = auto()  # squeue lists each job twice; sbatch creates two jobs
    REFUSED = auto()  # sbatch: the request is invalid
    REFUSED_BUT_LISTED = auto()  # the same, but squeue lists a FAILED job
    RETRY_LATER = auto()  # sbatch: a limit of the site
    QUEUE_FULL = auto()  # sbatch finds a full queue and does not end
