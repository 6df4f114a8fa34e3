"""Slurm behind the interface `Scheduler`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from motoko.launcher.schedulers.slurm import queries, submit

if TYPE_CHECKING:
    from motoko.core.run_options import RunOptions


class SlurmScheduler:
    """Slurm 20.02 and later: submission with sbatch, one squeue for all jobs."""

    name = "slurm"
    submit_program = submit.SUBMIT_PROGRAM
    missing_hint = (
        "Start the launcher where Slurm's commands are on PATH (`module load slurm` on some "
        "sites), or use `generator: bash`."
    )
    task_index = "${SLURM_ARRAY_TASK_ID:-0}"
    restart_count = "${SLURM_RESTART_COUNT:-0}"

    environment = staticmethod(submit.environment)
    submit_command = staticmethod(submit.submit_command)
    parse_submitted = staticmethod(submit.parse_submitted)
    classify_failure = staticmethod(submit.classify_failure)
    error_message = staticmethod(submit.error_message)
    poll_command = staticmethod(queries.poll_command)
    parse_poll = staticmethod(queries.parse_poll)
    lookup_command = staticmethod(queries.lookup_command)
    parse_lookup = staticmethod(queries.parse_lookup)
    is_unknown_job = staticmethod(queries.is_unknown_job)
    accounting_command = staticmethod(queries.accounting_command)
    parse_accounting = staticmethod(queries.parse_accounting)
    cancel_command = staticmethod(queries.cancel_command)
    limits_command = staticmethod(queries.limits_command)
    parse_limits = staticmethod(queries.parse_limits)

    @staticmethod
    def options_of(options: RunOptions) -> tuple[str, ...]:
        """Return the sbatch options that the user gave for a run."""
        return options.slurm_options
