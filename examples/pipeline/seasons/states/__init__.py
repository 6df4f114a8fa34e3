"""States to run workflows on."""

from __future__ import annotations
