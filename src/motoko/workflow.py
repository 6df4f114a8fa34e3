"""The import path ``motoko.workflow`` of workflow scripts."""

from __future__ import annotations

from motoko.api.workflow import Workflow, WorkflowVars, event, no_action

__all__ = ["Workflow", "WorkflowVars", "event", "no_action"]
