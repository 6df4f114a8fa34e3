"""The launcher: claims CREATED runs, executes them and records their results."""

from __future__ import annotations
