"""The import path ``motoko.task_manager`` of workflow scripts."""

from __future__ import annotations

from motoko.api.selection import RunList, TaskSelection
from motoko.api.task_manager import TaskManager

__all__ = ["RunList", "TaskManager", "TaskSelection"]
