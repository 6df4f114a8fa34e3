"""A batch scheduler for tests: Slurm's commands without Slurm, and what can go wrong with them.

``cluster`` holds jobs and what happens to them, ``printing`` the formats of Slurm's output,
``programs`` answers the commands, ``mishaps`` are the ways in which an answer goes wrong.
``service`` puts the commands as programs into a directory for PATH, and executes what is submitted.
"""

from __future__ import annotations

from motoko.testing.fake_scheduler.cluster import Cluster, FakeJob, FakeTask, JobRunner
from motoko.testing.fake_scheduler.commands import Programs
from motoko.testing.fake_scheduler.failure_modes import FailureMode
from motoko.testing.fake_scheduler.service import FakeScheduler

__all__ = [
    "Cluster",
    "FailureMode",
    "FakeJob",
    "FakeScheduler",
    "FakeTask",
    "JobRunner",
    "Programs",
]
