"""The campaign: the records of the first screen. Times are in seconds since the epoch."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from motoko.core.progress import StudyProgress
    from motoko.views.failures import FailureGroup


class Activity(StrEnum):
    """What the orchestrator of a run name does."""

    RUNNING = "running"
    STALLED = "stalled"
    SUSPENDED = "suspended"
    FINISHED = "finished"
    ENDED = "ended"  # any other end
    NONE = "no orchestrator"


@dataclass(frozen=True, slots=True)
class OrchestratorView:
    """The orchestrator of a run name. ``since``: its start or end; ``text``: why it ended."""

    activity: Activity = Activity.NONE
    since: float | None = None
    text: str = ""
    process: str = ""


@dataclass(frozen=True, slots=True)
class StudyView:
    """A study: its progress, and its runs by lifecycle state."""

    name: str
    progress: StudyProgress
    lifecycles: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Need:
    """Something that needs a person; ``rank`` 1 needs one most.

    ``command``: the command line that acts on it or explains it. ``group``: the key of a group of
    failures. ``number``: of runs, 0 if it is not about runs.
    """

    rank: int
    number: int
    subject: str
    text: str
    command: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happened. ``runs``: the runs that it made or ended, shortened."""

    at: float
    text: str
    runs: str = ""


@dataclass(frozen=True, slots=True)
class EventView:
    """A registered event. ``waits``: the unsatisfied part of its condition, with the nearest miss.

    ``fired``: how often since the orchestrator's start, ``in_flight``: unfinished firings.
    """

    id: str
    studies: str
    condition: str
    action: str
    once: bool
    fired: int
    matching: int
    in_flight: int
    waits: str

    @property
    def name(self) -> str:
        """The id without its study."""
        return self.id.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class LauncherView:
    """A launcher; ``state``: running, suspended, paused or not heard from, ``heard``: when last."""

    name: str
    host: str
    pid: int
    since: float
    generator: str
    studies: str
    state: str
    heard: float
    problem: str = ""

    @property
    def is_healthy(self) -> bool:
        """Whether it runs without a problem."""
        return self.state == "running" and not self.problem


@dataclass(frozen=True, slots=True)
class Campaign:
    """The state of one run name. ``at``: when it was read, ``commit``: the newest commit in it.

    ``throughput``: the number of runs that ended in each of the last intervals of ``interval``
    seconds, the newest last. ``others``: the other run names. ``served``: whether a server runs.
    ``waits``: what CREATED runs wait for.
    """

    workflow: str
    directory: str
    run_name: str
    at: float
    commit: str
    served: bool
    orchestrator: OrchestratorView
    total: StudyProgress
    studies: tuple[StudyView, ...] = ()
    throughput: tuple[int, ...] = ()
    interval: float = 60.0
    needs: tuple[Need, ...] = ()
    failures: tuple[FailureGroup, ...] = ()
    failures_left_out: int = 0
    events: tuple[EventView, ...] = ()
    launchers: tuple[LauncherView, ...] = ()
    happenings: tuple[Happening, ...] = ()
    others: tuple[str, ...] = ()
    waits: tuple[str, ...] = ()

    @property
    def lifecycles(self) -> dict[str, int]:
        """The runs of all studies by lifecycle state."""
        total = Counter[str]()
        for study in self.studies:
            total.update(study.lifecycles)
        return dict(total)

    @property
    def active(self) -> int:
        """The number of runs that are SUBMITTED or START."""
        return sum(s.lifecycles.get(k, 0) for s in self.studies for k in ("SUBMITTED", "START"))
