"""``motoko.yaml`` and ``bd.yaml`` as frozen, validated models.

Every error is a ConfigError that names the file, the line and the nearest valid key.
"""

from __future__ import annotations

from motoko.config.option_models import GivenOptions
from motoko.config.study_file import STUDY_FILE, StudyConfig, load_study
from motoko.config.workflow_file import (
    KEEP_ALL,
    KEEP_FAILED,
    KEEP_PACKED,
    RESERVED_TASK_NAMES,
    WORKFLOW_FILE,
    QueueLimits,
    TaskManagerSettings,
    WorkflowSettings,
    find_workflow,
    load_workflow,
    misnamed_hint,
)

__all__ = [
    "KEEP_ALL",
    "KEEP_FAILED",
    "KEEP_PACKED",
    "RESERVED_TASK_NAMES",
    "STUDY_FILE",
    "WORKFLOW_FILE",
    "GivenOptions",
    "QueueLimits",
    "StudyConfig",
    "TaskManagerSettings",
    "WorkflowSettings",
    "find_workflow",
    "load_study",
    "load_workflow",
    "misnamed_hint",
]
