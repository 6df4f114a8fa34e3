"""The journal of a firing: the results of its creations and awaits, for a rerun of its action.

A rerun calls the action from its start. In a committed segment its assignments are discarded and
its calls return the recorded runs. Each concurrent asyncio task of an action is a *lane* with
calls of its own; lanes are numbered in the order in which the tasks start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from motoko.core.records import RunKey
from motoko.errors import ReplayError

CREATE: Final = "create_task"
AWAIT: Final = "await"
ROOT: Final = ""  # the lane of the action itself

# For each lane the number of its calls, and of its assignments since the last call.
Written: TypeAlias = Mapping[str, tuple[int, int]]
# Returns None if the creation was dropped.
RunSource: TypeAlias = Callable[[], Iterable[RunKey] | None]


@dataclass(frozen=True, slots=True)
class Call:
    """A creation or an await, and the runs that it returned; None if it has not returned yet.

    ``failed``: it raised RunFailed for these runs.
    """

    lane: str
    number: int
    kind: str
    study: str
    runs: tuple[RunKey, ...] | None = None
    failed: bool = False

    def __str__(self) -> str:
        kind = "create_task of" if self.kind == CREATE else "an await on runs of"
        return f"{kind} study {self.study!r}"


@dataclass(frozen=True, slots=True)
class Entries:
    """What one commit adds to the record of a firing."""

    calls: tuple[Call, ...] = ()
    written: Written | None = None


NO_ENTRIES: Final = Entries()


class Lane:
    """The position of one concurrent task of an action in its recorded calls."""

    def __init__(self, name: str, recorded: Sequence[Call], committed: int) -> None:
        self.name = name
        self._recorded = recorded
        self._committed = committed
        self._children = 0
        self.calls = 0
        self.assignments = 0

    def child_name(self) -> str:
        """Return the name of the next task that this one starts."""
        self._children += 1
        return f"{self.name}.{self._children}" if self.name else str(self._children)

    @property
    def next_recorded(self) -> Call | None:
        """The next recorded call, None after the last one."""
        return self._recorded[self.calls] if self.calls < len(self._recorded) else None

    @property
    def replays_assignment(self) -> bool:
        """Whether the assignment that was just counted is already committed."""
        if self.calls == len(self._recorded):
            return self.assignments <= self._committed
        return self.calls < len(self._recorded)


class Journal:
    """The calls and assignments of one execution of an action, and those on record."""

    def __init__(
        self, action: str, calls: Iterable[Call] = (), written: Written | None = None
    ) -> None:
        self._action = action
        self._recorded: dict[str, list[Call]] = {}
        for call in sorted(calls, key=lambda call: call.number):
            self._recorded.setdefault(call.lane, []).append(call)
        self._lanes: dict[str, Lane] = {}
        self._written = dict(written or {})
        self._new: dict[tuple[str, int], Call] = {}
        self._sources: dict[tuple[str, int], RunSource] = {}

    def lane(self, name: str) -> Lane:
        """Return the lane called ``name``."""
        if name not in self._lanes:
            recorded = self._recorded.get(name, [])
            calls, assignments = self._written.get(name, (0, 0))
            committed = assignments if calls == len(recorded) else 0
            self._lanes[name] = Lane(name, recorded, committed)
        return self._lanes[name]

    def record_call(self, lane: Lane, kind: str, study: str) -> Call:
        """Record a call, or return the recorded one for replay; ReplayError if they differ."""
        expected = lane.next_recorded
        call = Call(lane.name, lane.calls, kind, study)
        if expected is not None and (expected.kind, expected.study) != (kind, study):
            raise self._mismatch(lane, f"is {call}", expected)
        lane.calls += 1
        lane.assignments = 0
        if expected is not None:
            return expected
        self._written.pop(lane.name, None)
        self._new[call.lane, call.number] = call
        return call

    def record_assignment(self, lane: Lane) -> bool:
        """Record an assignment; return True if it is already committed and must be discarded."""
        lane.assignments += 1
        if lane.replays_assignment:
            return True
        self._written[lane.name] = (lane.calls, lane.assignments)
        return False

    def record_result(self, call: Call, runs: Iterable[RunKey], *, failed: bool = False) -> None:
        """Record the runs that a call returned or raised RunFailed for."""
        self._new[call.lane, call.number] = replace(call, runs=tuple(runs), failed=failed)

    def set_result_source(self, call: Call, runs: RunSource) -> None:
        """Set the function that returns, at the commit, the runs of a creation."""
        self._new.setdefault((call.lane, call.number), call)
        self._sources[call.lane, call.number] = runs

    def new_entries(self) -> Entries:
        """Return the entries that are not yet committed."""
        for position, source in self._sources.items():
            runs = source()
            found = None if runs is None else tuple(runs)
            self._new[position] = replace(self._new[position], runs=found)
        return Entries(tuple(self._new.values()), dict(self._written))

    def mark_committed(self, entries: Entries) -> None:
        """Drop entries that were committed."""
        for call in entries.calls:
            position = call.lane, call.number
            self._sources.pop(position, None)
            if self._new.get(position) == call:
                del self._new[position]

    def check_complete(self) -> None:
        """Raise ReplayError if the action returned before its last recorded call."""
        lane = self.lane(ROOT)
        if lane.next_recorded is not None:
            raise self._mismatch(lane, "is missing: it has returned", lane.next_recorded)

    def _mismatch(self, lane: Lane, found: str, expected: Call) -> ReplayError:
        where = "" if lane.name == ROOT else f" in its concurrent task {lane.name}"
        return ReplayError(
            f"{self._action} was rerun, and its call {lane.calls + 1}{where} {found}; "
            f"on record is {expected}",
            hint="A rerun must repeat the calls of its committed segments: restore the action's "
            "previous code, or register the new one under another event name.",
        )
