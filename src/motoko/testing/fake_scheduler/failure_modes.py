"""The ways in which one call of a scheduler's command goes wrong."""

from __future__ import annotations

from enum import Enum, auto


class FailureMode(Enum):
    """What happens to one call. Unless it says so, the command is carried out nevertheless."""

    SILENT = auto()  # it succeeds and prints nothing
    TIMED_OUT = auto()  # "Socket timed out", after the controller has got it
    AWAY = auto()  # "Unable to contact slurm controller": it is not carried out
    HANGS = auto()  # it gives no answer
    HANGS_UNHEARD = auto()  # it gives no answer and is not carried out
    HEARD_LATE = auto()  # sbatch gives no answer, and is carried out some time later
    FAILS = auto()  # exit status 1 without a word
    CUT_SHORT = auto()  # the output ends too early, with exit status 1
    NO_LONG_LISTS = auto()  # squeue cuts lists of tasks at 64 characters
    STRANGE_STATES = auto()  # squeue gives states that nobody knows
    LEAVES_OUT = auto()  # squeue lists nothing, this once
    REPEATS = auto()  # squeue lists everything twice; sbatch makes two jobs of one submission
    REFUSED = auto()  # sbatch: not as it is
    REFUSED_YET_LISTED = auto()  # the same, and squeue lists a job that FAILED
    NOT_NOW = auto()  # sbatch: a limit of the site; later it may be taken
    SLEEPS_AND_RETRIES = auto()  # sbatch finds the queue full, and does not end
