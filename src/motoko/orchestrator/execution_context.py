"""The objects that all parts of one execution share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from motoko.core.firing import FiringEngine
    from motoko.orchestrator.actions import Action
    from motoko.orchestrator.status_file import StatusPublisher
    from motoko.orchestrator.task_supervisor import TaskSupervisor
    from motoko.runtime.ports import Clock
    from motoko.storage.orchestrator_leases import Lease
    from motoko.storage.store import WorkflowStore


class ExecutionHost(Protocol):
    """The workflow that is executed."""

    def task_manager(self, study: str) -> Any:
        """Return a study's task manager."""


@dataclass(frozen=True, slots=True)
class ExecutionContext:
    """One execution's workflow, store, engine, lease and tasks.

    ``single``: it evaluates conditions once, then ends.
    """

    host: ExecutionHost
    store: WorkflowStore
    run_name: str
    params: Mapping[str, Any]
    lease: Lease
    engine: FiringEngine
    tasks: TaskSupervisor
    status: StatusPublisher
    single: bool = False
    actions: dict[str, Action] = field(default_factory=dict)

    @property
    def clock(self) -> Clock:
        """Return the clock of the process."""
        return self.store.runtime.clock
