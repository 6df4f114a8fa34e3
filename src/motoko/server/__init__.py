"""The ZEO server of a workflow: start, stop and watch it, and store its database file."""

from __future__ import annotations
