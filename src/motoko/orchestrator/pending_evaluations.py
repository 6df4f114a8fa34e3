"""Python conditions that must be evaluated, their results, and the changes since then."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from motoko.core.firing import ConditionKind
    from motoko.core.records import RunKey
    from motoko.orchestrator.actions import Action
    from motoko.orchestrator.change_listener import ChangeSet
    from motoko.orchestrator.conditions import Matches, Truth

NO_RUNS: Final[frozenset[RunKey]] = frozenset()  # each call of frozenset makes a new one


@dataclass(slots=True)
class Evaluated:
    """The result of a condition for a study, or its exception.

    ``number``: of the runs for which a run filter was called. ``is_async``: it returned a
    coroutine, so it must be called in the event loop.
    """

    action: Action
    study: str
    asked: float = 0.0
    seconds: float = 0.0
    result: Matches | Truth | None = None
    number: int | None = None
    reads: set[str] = field(default_factory=set)
    error: BaseException | None = None
    is_async: bool = False

    def repeats(self, former: Evaluated | None) -> bool:
        """Return whether this differs from a former result in times only."""
        return (
            former is not None
            and self.result == former.result
            and self.number == former.number
            and self.reads == former.reads
            and self.error is former.error
        )

    def returned_coroutine(self, returned: Any) -> bool:
        """Return whether ``returned`` is a coroutine, which is then closed."""
        if inspect.iscoroutine(returned):
            returned.close()
            self.is_async = True
        return self.is_async


class Evaluation:
    """The condition of an event for a study, and the runs for which it must be evaluated.

    ``alone``: in a task of its own, because it is async. ``overrides``: newer results of single
    runs during an evaluation for all runs.
    """

    def __init__(self, event: str, study: str, kind: ConditionKind, *, alone: bool) -> None:
        self.event = event
        self.study = study
        self.kind = kind
        self.alone = alone
        self.keys = NO_RUNS
        self.full = True  # for all runs
        self.full_at: float | None = None
        self.seconds = 0.0  # that the last evaluation of sync conditions took
        self.running = False
        self.marked = False  # as open
        self.overrides: dict[RunKey, bool] | None = None
        self.last: Evaluated | None = None
        self.version = 0  # counts the results that differ from the last one
        self.engine_version = -1  # of the event's activity, after the last result

    @property
    def is_open(self) -> bool:
        """Whether it must be evaluated, for all runs or for some."""
        return self.full or bool(self.keys)

    @property
    def is_settled(self) -> bool:
        """Whether it was evaluated since the last change."""
        return not self.is_open and not self.running and self.overrides is None


@dataclass(slots=True)
class PendingChanges:
    """The changes that conditions have not been marked for yet."""

    everything: bool = False
    any: bool = False
    studies: set[str] = field(default_factory=set)
    keys: dict[str, set[RunKey]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether anything changed."""
        return self.everything or self.any

    def add(self, changes: ChangeSet) -> None:
        """Add the changes of some commits."""
        self.everything = self.everything or changes.everything
        for written in changes.write_sets:
            self.studies.update(key.study for key in written.runs)
            self.any = self.any or bool(written.runs) or written.variables
        for key in changes.records:
            self.keys.setdefault(key.study, set()).add(key)
