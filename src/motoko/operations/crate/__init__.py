"""Export a workflow as an RO-Crate: its files, its results, and how they were made."""

from __future__ import annotations
