"""Runners: a workflow and a state."""

from __future__ import annotations
