"""Plots of runs: specification, preparation of the data, rendering, and metadata of the files."""

from __future__ import annotations
