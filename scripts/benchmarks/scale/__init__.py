"""The table of a million runs: ``scripts/bench scale [--runs 10000,100000] [ROW ...]``."""

from __future__ import annotations

from scale.command import main

__all__ = ["main"]
