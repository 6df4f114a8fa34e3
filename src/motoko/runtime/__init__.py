"""Ports to the operating system: clock, files, locks, processes, daemons and fault points."""

from __future__ import annotations
