"""The journal of a firing: what its creations and awaits returned, so that a rerun gets it again.

A rerun calls the action from its start. Where a segment is committed, its assignments are discarded
and its calls return what is recorded. An action may run several asyncio tasks at once: each is a
*lane* with calls of its own, numbered in the order in which the tasks begin.
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

# For each lane: how many calls it had made, and how many assignments since the last of them.
Written: TypeAlias = Mapping[str, tuple[int, int]]
# Returns None where the creation came to nothing.
Source: TypeAlias = Callable[[], Iterable[RunKey] | None]


@dataclass(frozen=True, slots=True)
class Call:
    """A creation or an await, and the runs that it returned; None: it has not returned yet.

    ``failed``: it raised RunFailed for these runs.
    """

    lane: str
    number: int
    kind: str
    study: str
    runs: tuple[RunKey, ...] | None = None
    failed: bool = False

    def __str__(self) -> str:
        return f"create_task of study {self.study!r}" if self.kind == CREATE else (
            f"an await on runs of study {self.study!r}"
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entries:
    """What one commit adds to the record of a firing."""

    calls: tuple[Call, ...] = ()
    written: Written | None = None


NOTHING: Final = Entries()


class Lane:
    """One of an action's concurrent tasks: where it stands in its recorded calls."""

    def __init__(self, name: str, recorded: Sequence[Call], kept: int) -> None:
        self.name = name
        self._recorded = recorded
        self._kept = kept
        self._children = 0
        self.calls = 0
        self.assignments = 0

    def child_name(self) -> str:
        """Return the name of the next task that this one has started."""
        self._children += 1
        return f"{self.name}.{self._children}" if self.name else str(self._children)

    @property
    def ahead(self) -> Call | None:
        """Return the recorded call that the lane comes to next, None where it is past them."""
        return self._recorded[self.calls] if self.calls < len(self._recorded) else None

    @property
    def replays_assignment(self) -> bool:
        """Whether the assignment that was just counted is committed already."""
        at_the_end = self.calls == len(self._recorded) and self.assignments <= self._kept
        return self.ahead is not None or at_the_end


class Journal:
    """The calls and assignments of one execution of an action, beside those on record."""

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
        self._sources: dict[tuple[str, int], Source] = {}

    def lane(self, name: str) -> Lane:
        """Return a lane by its name."""
        if name not in self._lanes:
            recorded = self._recorded.get(name, [])
            calls, kept = self._written.get(name, (0, 0))
            self._lanes[name] = Lane(name, recorded, kept if calls == len(recorded) else 0)
        return self._lanes[name]

    def call(self, lane: Lane, kind: str, study: str) -> Call:
        """Note that a lane calls; ReplayError where something else is on record.

        With ``runs`` it is replayed: it returns these at once.
        """
        expected = lane.ahead
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

    def assigned(self, lane: Lane) -> bool:
        """Note an assignment; return whether it is to be discarded, as it is committed already."""
        lane.assignments += 1
        if lane.replays_assignment:
            return True
        self._written[lane.name] = (lane.calls, lane.assignments)
        return False

    def returned(self, call: Call, runs: Iterable[RunKey], *, failed: bool = False) -> None:
        """Note what a call returned, or for which runs it raised RunFailed."""
        self._new[call.lane, call.number] = replace(call, runs=tuple(runs), failed=failed)

    def returns(self, call: Call, runs: Source) -> None:
        """Note what tells, at the time of the commit, which runs a creation returned."""
        self._new.setdefault((call.lane, call.number), call)
        self._sources[call.lane, call.number] = runs

    def entries(self) -> Entries:
        """Return what is not on record yet."""
        for place, source in self._sources.items():
            runs = source()
            found = None if runs is None else tuple(runs)
            self._new[place] = replace(self._new[place], runs=found)
        return Entries(tuple(self._new.values()), dict(self._written))

    def recorded(self, entries: Entries) -> None:
        """Note that these entries are committed."""
        for call in entries.calls:
            place = call.lane, call.number
            self._sources.pop(place, None)
            if self._new.get(place) == call:
                del self._new[place]

    def check_done(self) -> None:
        """Raise ReplayError where the action has returned before all of its recorded calls."""
        lane = self.lane(ROOT)
        if lane.ahead is not None:
            raise self._mismatch(lane, "is missing: it has returned", lane.ahead)

    def _mismatch(self, lane: Lane, found: str, expected: Call) -> ReplayError:
        where = "" if lane.name == ROOT else f" in its concurrent task {lane.name}"
        return ReplayError(
            f"{self._action} was rerun, and its call {lane.calls + 1}{where} {found}; "
            f"on record is {expected}",
            hint="A rerun has to make the calls of its committed segments again: give the action "
            "its former code, or register the new one under another event name.",
        )
