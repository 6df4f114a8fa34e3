"""A batch scheduler for tests: Slurm's commands without Slurm, and their failures.

``cluster`` holds the jobs, ``commands`` answers calls, ``output`` formats the answers and
``failure_modes`` lists the failures. ``service`` provides the commands as programs in a directory
for PATH, and runs the submitted scripts.
"""

from __future__ import annotations

from motoko.testing.fake_scheduler.cluster import Cluster, FakeJob, FakeTask, JobRunner
from motoko.testing.fake_scheduler.commands import FakeCommands
from motoko.testing.fake_scheduler.failure_modes import FailureMode
from motoko.testing.fake_scheduler.service import FakeScheduler

__all__ = [
    "Cluster", "FailureMode", "FakeCommands", "FakeJob", "FakeScheduler", "FakeTask", "JobRunner",
]  # fmt: skip
