"""Executors: processes of this machine, or jobs of a batch scheduler."""

from __future__ import annotations
