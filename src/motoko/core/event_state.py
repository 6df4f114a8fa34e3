"""Registered events, the writes of a commit, and the triggers of one event."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from motoko.core.run_sets import RunSet

if TYPE_CHECKING:
    from motoko.core.cooldowns import Cooldown
    from motoko.core.records import RunKey


class ConditionKind(Enum):
    """The form of a condition."""

    CONSTRAINT = "constraint"
    RUN_FILTER = "f(run, job)"
    TASK_MANAGER_FILTER = "f(workflow, task_manager)"
    NO_ARGUMENTS = "f()"


@dataclass(frozen=True, slots=True)
class EventSpec:
    """A registered event; ``name`` is unique."""

    name: str
    studies: tuple[str, ...]
    kind: ConditionKind
    once: bool = False


@dataclass(frozen=True, slots=True)
class WriteSet:
    """The objects that one commit wrote. ``source`` is its firing; ``number`` counts commits."""

    runs: frozenset[RunKey] = frozenset()
    variables: bool = False
    everything: bool = False
    source: object = None
    number: int = 0


@dataclass(slots=True)
class EventState:
    """The triggers of an event: runs, or studies where the condition selects no runs.

    ``selected``: by evaluated study, unless a study's condition selects its own runs only.
    ``unchecked``: runs that may have become ready since the last call of ``pop_due``.
    """

    event: EventSpec
    order: int
    matching: RunSet = field(default_factory=RunSet)
    selected: dict[str, set[RunKey]] = field(default_factory=dict)
    true_for: set[str] = field(default_factory=set)
    busy: set[RunKey] = field(default_factory=set)
    busy_without_runs: bool = False
    cooldowns: dict[RunKey | str, Cooldown] = field(default_factory=dict)
    done: RunSet = field(default_factory=RunSet)
    done_without_runs: bool = False
    fired: int = 0
    unchecked: set[RunKey] = field(default_factory=set)
    version: int = 0  # counts the changes

    @property
    def selects_own_runs(self) -> bool:
        """Whether the condition of a study selects runs of that study only."""
        return self.event.kind in (ConditionKind.CONSTRAINT, ConditionKind.RUN_FILTER)

    def holds(self, key: RunKey) -> bool:
        """Return whether a run matches, is in an unfinished firing, or is done."""
        return key in self.matching or key in self.busy or key in self.done

    def ready_runs(self) -> list[RunKey]:
        """Return the unchecked runs that may fire."""
        return [
            key
            for key in self.unchecked
            if key in self.matching
            and key not in self.busy
            and key not in self.cooldowns
            and key not in self.done
        ]

    def ready_studies(self) -> list[str]:
        """Return the studies that may fire."""
        if self.busy_without_runs or self.done_without_runs:
            return []
        return sorted(self.true_for - self.cooldowns.keys())

    def replace_selection(self, study: str, matching: set[RunKey]) -> set[RunKey]:
        """Replace the runs that a study's condition selects; return those that none selects."""
        if self.selects_own_runs:
            return {key for key in self.matching if key.study == study and key not in matching}
        dropped = self.selected.get(study, set()) - matching
        self.selected[study] = set(matching)
        # A study's condition may select runs of another study, and two the same run.
        dropped.difference_update(*self.selected.values())
        return dropped

    def reads(self, trigger: RunKey | str, written: WriteSet, studies: set[str]) -> bool:
        """Return whether a trigger's condition reads what a commit wrote, in these studies."""
        if self.event.kind is ConditionKind.TASK_MANAGER_FILTER:
            return True
        if isinstance(trigger, str):
            return False
        if self.event.kind is ConditionKind.CONSTRAINT:
            return written.everything or trigger in written.runs
        return written.everything or trigger.study in studies
