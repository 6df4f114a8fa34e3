"""The commands below ``motoko orchestrator``."""

from __future__ import annotations
