"""Motoko: an asyncio, event-driven orchestrator for adaptive parameter studies."""

from __future__ import annotations

from motoko.version import __version__

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from typing import Any

    from motoko.workflow import (
        Job,
        Run,
        RunList,
        Runs,
        Selection,
        TaskManager,
        Workflow,
        WorkflowVars,
        event,
        no_action,
    )

__all__ = [
    "Job",
    "Run",
    "RunList",
    "Runs",
    "Selection",
    "TaskManager",
    "Workflow",
    "WorkflowVars",
    "__version__",
    "event",
    "no_action",
]


if not TYPE_CHECKING:  # type checkers report unknown names

    def __getattr__(name: str) -> Any:
        if name in __all__:
            from motoko import workflow

            return getattr(workflow, name)
        raise AttributeError(f"module 'motoko' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
