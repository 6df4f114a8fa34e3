"""The parts of workflows and task managers that their run lists, selections and nodes use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from motoko.config import StudyConfig
    from motoko.core.constraints import Columns
    from motoko.orchestrator.awaiting import AwaitContext
    from motoko.storage.store import WorkflowStore


class WorkflowView(Protocol):
    """The part of a workflow that its task managers use."""

    store: WorkflowStore
    context: AwaitContext

    @property
    def run_name(self) -> str | None:
        """Return the run name that scopes every selection."""


class Study(Protocol):
    """The part of a task manager that its run lists, selections and nodes use."""

    name: str
    workflow: WorkflowView
    bd_config: StudyConfig
    columns: Columns

    @property
    def bd_dir(self) -> Path:
        """Return the directory of the study's run directories."""

    @property
    def store(self) -> WorkflowStore:
        """Return the workflow's store."""

    @property
    def study_dir(self) -> Path:
        """Return the study's directory."""
