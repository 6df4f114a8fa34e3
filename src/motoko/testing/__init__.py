"""Doubles and contract suites for tests of workflows and of Motoko itself."""

from __future__ import annotations

from motoko.testing.fake_launcher import FakeLauncher, FakeOutcome, failing
from motoko.testing.memory import add_run, empty_database, memory_store, study_config
from motoko.testing.simulation import simulate

__all__ = [
    "FakeLauncher",
    "FakeOutcome",
    "add_run",
    "empty_database",
    "failing",
    "memory_store",
    "simulate",
    "study_config",
]
