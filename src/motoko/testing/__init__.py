"""Doubles and contract suites for tests of workflows and of Motoko itself."""

from __future__ import annotations

from motoko.testing.memory import add_run, empty_database, memory_store, study_config

__all__ = ["add_run", "empty_database", "memory_store", "study_config"]
