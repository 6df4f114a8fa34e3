"""The objects users work with: workflow, task managers, selections and variables."""

from __future__ import annotations
