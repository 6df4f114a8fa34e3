"""Hold and release runs: single ones, studies and run names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from motoko.core.changes import EditHolds
from motoko.core.holds import AddHolds, Hold, RemoveHolds
from motoko.core.states import ACTIVE, Lifecycle
from motoko.printable import count_runs, join_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from motoko.api.workflow import Workflow
    from motoko.core.holds import Scope
    from motoko.core.records import RunRecord
    from motoko.operations.bulk_edit import RunSelection
    from motoko.storage.tables import Tables


@dataclass(frozen=True, slots=True)
class HoldResult:
    """The numbers of selected runs that wait, are running, and have ended (named ones only).

    ``rules``: the rules that now hold the runs, and those created later.
    """

    rules: Sequence[Hold]
    waiting: int
    running: int
    ended: int

    @property
    def summary(self) -> str:
        """One line about the runs."""
        numbers = {
            "waiting": self.waiting, "still running": self.running, "ended": self.ended,
        }  # fmt: skip
        text = f"{count_runs(sum(numbers.values()))} held"
        parts = ", ".join(f"{number} {what}" for what, number in numbers.items() if number)
        return f"{text}: {parts}" if parts else text


@dataclass(frozen=True, slots=True)
class ReleaseResult:
    """The number of CREATED runs that are no longer held, and whether any hold was removed.

    ``remaining``: the holds that still hold selected runs.
    """

    released: int
    changed: bool
    remaining: Sequence[Hold]

    @property
    def summary(self) -> str:
        """One line about the runs, empty if others stay held and nothing changed."""
        if self.released:
            runs = count_runs(self.released)
            return f"{runs} released; `motoko run` or a launcher executes them"
        if self.changed:
            return "the holds are removed; no run waited for that"
        return "" if self.remaining else "none of the runs is held"

    @property
    def rest(self) -> str:
        """The command that releases what stays held, empty if nothing does."""
        return join_names(f"`motoko release {hold.arguments}`" for hold in self.remaining)


def hold(workflow: Workflow, selection: RunSelection, cause: str) -> HoldResult:
    """Hold runs: launchers claim none of them until they are released.

    A selection of whole studies or run names holds the runs created later as well; one with ids or
    constraints holds the runs that it selects now.
    """
    scopes, records = _resolve(workflow, selection)
    now = workflow.store.now()
    edit = AddHolds(now, cause, scopes, [record.key for record in records])
    workflow.store.autocommit_scope.write(EditHolds(edit))
    with workflow.store.autocommit_scope.read() as session:
        counts = _count(session.tables, scopes, records)
    return HoldResult([Hold(now, cause, *scope) for scope in scopes], *counts)


def release(workflow: Workflow, selection: RunSelection) -> ReleaseResult:
    """Release runs. Those that a wider hold covers stay held."""
    scopes, records = _resolve(workflow, selection)
    scope = workflow.store.autocommit_scope
    with scope.read() as session:
        before, held = session.tables.holds, _count_held(session.tables)
        keys = [record.key for record in records]
        keys += [key for one in scopes for key in session.tables.held_singly(one)]
    scope.write(EditHolds(RemoveHolds(scopes, keys)))
    with scope.read() as session:
        after, left = session.tables.holds, _count_held(session.tables)
    remaining = [found for one in scopes for found in after.overlapping(one)]
    remaining += filter(None, (after.find(record.key, record.run_name) for record in records))
    return ReleaseResult(max(0, held - left), before != after, list(dict.fromkeys(remaining)))


def _resolve(workflow: Workflow, selection: RunSelection) -> tuple[list[Scope], list[RunRecord]]:
    """Return the rules and the single runs that a selection means."""
    if selection.constraints:
        return [], selection.find(workflow)
    if not selection.targets:
        return [(None, selection.run_name)], []
    whole = [target for target in selection.targets if not target.ranges]
    named = [target for target in selection.targets if target.ranges]
    names = (workflow.task_manager(target.study).name for target in whole)
    scopes: list[Scope] = [(name, selection.run_name) for name in dict.fromkeys(names)]
    return scopes, replace(selection, targets=named).find(workflow) if named else []


def _count(
    tables: Tables, scopes: Iterable[Scope], records: Iterable[RunRecord]
) -> tuple[int, int, int]:
    """Return the number of runs that are CREATED, that are active, and of records in neither."""
    counts = dict.fromkeys(Lifecycle, 0)
    whole = set()
    for study, run_name in scopes:
        for name in tables.study_names() if study is None else [study]:
            whole.add(name)
            found = tables.study(name).counts(run_name, index="lifecycles")
            for state in (Lifecycle.CREATED, *ACTIVE):
                counts[state] += found.get(state.value, 0)
    for record in records:
        if record.study not in whole:
            counts[record.lifecycle] += 1
    running = sum(counts[state] for state in ACTIVE)
    waiting = counts[Lifecycle.CREATED]
    return waiting, running, sum(counts.values()) - waiting - running


def _count_held(tables: Tables) -> int:
    return sum(tables.created(name).count_held() for name in tables.study_names())
