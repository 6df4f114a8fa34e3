"""The status that an orchestrator publishes: its events, their last answers, its awaits.

Times of day are in seconds since the epoch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Answer:
    """The last answer of a Python condition, for one study ("" for ``f()``).

    ``asked``: when it was called; ``seconds``: how long it took. ``holds``: its truth, None if it
    selected runs. ``matching``: their number, with the first of them in ``runs``. ``evaluated``:
    the number of runs that a run filter was called for. ``reads``: the studies and variables that
    it read. ``error``: the exception that it raised, if any.
    """

    asked: float
    seconds: float
    holds: bool | None = None
    matching: int = 0
    runs: tuple[str, ...] = ()
    evaluated: int | None = None
    reads: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class EventStatus:
    """A registered event.

    ``kind``: the form of its condition. ``constraints``: the text for each study of a constraint.
    ``condition``, ``action``: the places of the functions. ``fired``: how often, since the start.
    ``matching``: the number of runs that its condition selected when it was last evaluated.
    ``in_flight``, ``cooling``: the number of its triggers in unfinished firings, and of those that
    fired, still hold and wait.
    """

    id: str
    studies: tuple[str, ...]
    kind: str
    once: bool
    action: str
    condition: str = ""
    constraints: Mapping[str, str] = field(default_factory=dict)
    fired: int = 0
    matching: int = 0
    in_flight: int = 0
    cooling: int = 0
    answers: Mapping[str, Answer] = field(default_factory=dict)

    def repeats(self, other: EventStatus) -> bool:
        """Return whether this equals another status but for the times of its answers."""
        return self._without_times() == other._without_times()

    def _without_times(self) -> EventStatus:
        answers = {s: replace(a, asked=0.0, seconds=0.0) for s, a in self.answers.items()}
        return replace(self, answers=answers)


@dataclass(frozen=True, slots=True)
class AwaitStatus:
    """A pending await of ``owner``. ``runs``: the first of the runs that it waits for."""

    owner: str
    waits_for: str
    number: int = 0
    runs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OrchestratorStatus:
    """The status of one orchestrator process when it was last ``written``.

    ``since``: when it acquired its lease. ``main_returned``: whether ``main`` has returned.
    """

    run_name: str
    host: str
    pid: int
    since: float
    written: float
    main_returned: bool = False
    events: tuple[EventStatus, ...] = ()
    awaits: tuple[AwaitStatus, ...] = ()
    awaits_left_out: int = 0

    def plain(self) -> dict[str, Any]:
        """Return the status as data that JSON has."""
        return {"version": VERSION, **asdict(self)}

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> OrchestratorStatus:
        """Return a stored status; LookupError, TypeError or ValueError if it is invalid."""
        values = {name: stored[name] for name in cls.__slots__ if name in stored}
        values["events"] = tuple(_event(event) for event in stored["events"])
        values["awaits"] = tuple(
            AwaitStatus(**{**_known(AwaitStatus, entry), "runs": tuple(entry["runs"])})
            for entry in stored["awaits"]
        )
        return cls(**values)


def _event(stored: Mapping[str, Any]) -> EventStatus:
    answers = {study: _answer(answer) for study, answer in stored["answers"].items()}
    own = {"studies": tuple(stored["studies"]), "answers": answers}
    return EventStatus(**{**_known(EventStatus, stored), **own})


def _answer(stored: Mapping[str, Any]) -> Answer:
    own = {"runs": tuple(stored["runs"]), "reads": tuple(stored["reads"])}
    return Answer(**{**_known(Answer, stored), **own})


def _known(kind: Any, stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that this version knows."""
    return {name: stored[name] for name in kind.__slots__ if name in stored}
