"""The import path ``motoko.task_manager`` of workflow scripts."""

from __future__ import annotations

from motoko.api.task_manager import RunList, TaskManager, TaskSelection

__all__ = ["RunList", "TaskManager", "TaskSelection"]
