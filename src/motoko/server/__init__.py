"""The ZEO server of a workflow: its directory, its life and its database file."""

from __future__ import annotations
