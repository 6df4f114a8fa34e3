"""Notifications: which are due, and when a failed one is sent again; pure functions of facts.

The facts are about *executions*: an orchestrator of a run name, from its start to its end, named by
a token. Each event is notified at most once for each execution and target.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from itertools import starmap
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

MAX_ATTEMPTS: Final = 8  # to send one notification: within about 20 minutes
FIRST_PAUSE: Final = 1.0
GROWTH: Final = 3.0  # of the pauses between attempts
LONGEST_PAUSE: Final = 600.0
JITTER: Final = 0.25  # of a pause, both ways
ALL_RUN_NAMES: Final = ""
HEARTBEATS: Final = 3  # renewals of a launcher's lease in its duration


class NotifyEvent(StrEnum):
    """The kinds of events that are notified, as ``motoko.yaml`` spells them."""

    FINISHED = "finished"
    FAILED = "failed"
    STALLED = "stalled"
    INTERRUPTED = "interrupted"
    FIRST_FAILURE = "first_failure"
    FAILURES = "failures"
    LAUNCHER_SILENT = "launcher_silent"


# The kinds of end (motoko.orchestrator.run_ends) as events.
EVENT_OF_END: Final[Mapping[str, NotifyEvent]] = MappingProxyType({
    "finished": NotifyEvent.FINISHED,
    "failed": NotifyEvent.FAILED,
    "error": NotifyEvent.FAILED,
    "died": NotifyEvent.FAILED,
    "stalled": NotifyEvent.STALLED,
    "interrupted": NotifyEvent.INTERRUPTED,
})  # fmt: skip


class Occasion(NamedTuple):
    """An event that a target asks for; ``number``: of failed runs, for FAILURES."""

    event: NotifyEvent
    number: int = 0

    def __str__(self) -> str:
        return f"{self.event.value}: {self.number}" if self.number else self.event.value


DEFAULT_OCCASIONS: Final = tuple(
    map(
        Occasion,
        (
            NotifyEvent.FINISHED,
            NotifyEvent.FAILED,
            NotifyEvent.STALLED,
            NotifyEvent.FIRST_FAILURE,
            NotifyEvent.LAUNCHER_SILENT,
        ),
    )
)


class Key(NamedTuple):
    """The identity of a notification.

    ``execution``: a token. About a launcher, it is the token of its lease, and there is no run
    name.
    """

    run_name: str
    execution: str
    event: str
    target: str


class NotificationState(StrEnum):
    """The states of a notification. WAITING: sending it failed, and it will be sent again."""

    SENDING = "sending"
    SENT = "sent"
    WAITING = "waiting"
    FAILED = "failed"


class Notification(NamedTuple):
    """A notification that is due: its key and its message, one line."""

    key: Key
    message: str


@dataclass(frozen=True, slots=True)
class Subscription:
    """The occasions of the target with this id."""

    target: str
    occasions: Sequence[Occasion]


@dataclass(frozen=True, slots=True)
class ExecutionFacts:
    """One execution.

    ``end``: the event of its end, None while it is running; ``reason``: of the end. ``counts``: its
    runs by state, empty if unknown. ``waits``: what it waits for if it is stalled, else empty.
    ``failures``: the number of runs that failed in its time, cancelled ones left out.
    ``first_failure``: a description of the first one.
    """

    run_name: str
    token: str
    end: NotifyEvent | None = None
    reason: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    waits: Sequence[str] = ()
    failures: int = 0
    first_failure: str = ""


@dataclass(frozen=True, slots=True)
class LauncherFacts:
    """A launcher that was alive when an execution started that is still running, or later.

    ``token``: of its lease. ``run_name``: of the execution. Durations in seconds: the lease is
    renewed within ``lease``, ``age`` has passed since the last renewal. For ``unchanged`` the
    observer has seen none, without time in which the machine slept.
    """

    run_name: str
    token: str
    description: str
    lease: float
    age: float
    unchanged: float

    @property
    def is_silent(self) -> bool:
        """Whether the launcher missed the renewal of its lease, and may no longer run."""
        return self.age > self.lease and self.unchanged > self.lease / HEARTBEATS


def due(
    executions: Iterable[ExecutionFacts],
    launchers: Iterable[LauncherFacts],
    subscriptions: Sequence[Subscription],
) -> list[Notification]:
    """Return a notification for each event and each target that asks for it."""
    found = [
        (facts.run_name, facts.token, occasion, message)
        for facts in executions
        for occasion, message in _events(facts, subscriptions)
    ]
    silent = {facts.token: facts for facts in launchers if facts.is_silent}
    found += [
        (ALL_RUN_NAMES, token, Occasion(NotifyEvent.LAUNCHER_SILENT), _silence(facts))
        for token, facts in silent.items()
    ]
    messages = {
        Key(run_name, token, str(occasion), one.target): message
        for run_name, token, occasion, message in found
        for one in subscriptions  # several may be of the same target
        if occasion in one.occasions
    }
    return list(starmap(Notification, messages.items()))


def _events(
    facts: ExecutionFacts, subscriptions: Iterable[Subscription]
) -> Iterator[tuple[Occasion, str]]:
    name = f"run name {facts.run_name}"
    if facts.failures:
        yield (
            Occasion(NotifyEvent.FIRST_FAILURE),
            f"{name}: first failure: {facts.first_failure}",
        )
    occasions = {occasion for one in subscriptions for occasion in one.occasions}
    for occasion in sorted(occasions):
        if occasion.event is NotifyEvent.FAILURES and facts.failures >= occasion.number:
            yield occasion, f"{name}: {_runs(facts.failures)} failed"
    runs = ", ".join(f"{number} {state}" for state, number in facts.counts.items() if number)
    if facts.end is not None:
        yield Occasion(facts.end), f"{name} ended: {facts.reason}" + (f" ({runs})" if runs else "")
    elif facts.waits:
        yield Occasion(NotifyEvent.STALLED), f"{name} is stalled: {'; '.join(facts.waits)}"


def _silence(facts: LauncherFacts) -> str:
    return (
        f"not heard from the launcher {facts.description} for {facts.age:.0f} s, "
        f"while run name {facts.run_name} is executed"
    )


def _runs(number: int) -> str:
    return "1 run" if number == 1 else f"{number} runs"


def pause_after(attempts: int, draw: float) -> float | None:
    """Return the seconds until a failed notification is sent again, None if it is given up.

    ``draw``: a random number between -1 and 1, so that several targets are not tried at once.
    """
    if attempts >= MAX_ATTEMPTS:
        return None
    pause = min(FIRST_PAUSE * GROWTH ** (attempts - 1), LONGEST_PAUSE)
    return pause * (1 + JITTER * draw)
