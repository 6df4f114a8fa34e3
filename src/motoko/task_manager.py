"""The import path ``motoko.task_manager`` of workflow scripts."""

from __future__ import annotations

from motoko.api.run_list import RunList
from motoko.api.selection import TaskSelection
from motoko.api.task_manager import TaskManager

__all__ = ["RunList", "TaskManager", "TaskSelection"]
