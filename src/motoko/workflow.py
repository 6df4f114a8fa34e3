"""The import path ``motoko.workflow`` of workflow scripts."""

from __future__ import annotations

from motoko.api.variables import WorkflowVars
from motoko.api.workflow import Workflow
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
    "Workflow",
    "WorkflowVars",
    "event",
    "no_action",
]
