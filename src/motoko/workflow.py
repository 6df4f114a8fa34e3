"""The import path ``motoko.workflow`` of workflow scripts."""

from __future__ import annotations

from motoko.api.run_list import RunList
from motoko.api.selection import TaskSelection as Selection
from motoko.api.task_manager import TaskManager
from motoko.api.variables import WorkflowVars
from motoko.api.workflow import Workflow
from motoko.handles.run import Job, Run, Runs
from motoko.orchestrator.actions import (
    ActionRegistry,
    EventCallback,
    EventCondition,
    event,
    no_action,
)

__all__ = [
    "ActionRegistry",
    "EventCallback",
    "EventCondition",
    "Job",
    "Run",
    "RunList",
    "Runs",
    "Selection",
    "TaskManager",
    "Workflow",
    "WorkflowVars",
    "event",
    "no_action",
]
