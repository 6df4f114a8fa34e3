"""When Python conditions are asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from motoko.core.firing import ConditionKind, EventSpec, WriteSet
from motoko.core.records import RunKey
from motoko.orchestrator.change_listener import ChangeSet
from motoko.orchestrator.condition_poller import ConditionPoller

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = pytest.mark.unit

KEY = RunKey("mult", 1)


@dataclass
class Started:
    """An execution that only counts what it is to run."""

    store: Any = field(default_factory=lambda: SimpleNamespace(database=None))
    ending: bool = False
    works: list[Callable[..., Awaitable[None]]] = field(default_factory=list)

    def start_soon(self, work: Callable[..., Awaitable[None]], *_args: object, about: str) -> None:
        self.works.append(work)


@pytest.fixture
def started() -> Started:
    return Started()


@pytest.fixture
def asker(started: Started) -> ConditionPoller:
    return ConditionPoller(cast("Any", started), poll_interval=5.0)


def idle(asker: ConditionPoller, started: Started) -> None:
    """Take all that was begun for answered."""
    for question in asker._questions.values():
        question.asking = question.fully = False
        question.keys.clear()
    started.works.clear()


def test_what_news_opens_waits_until_it_is_to_be_asked(
    asker: ConditionPoller, started: Started
) -> None:
    """Looking at the time, which goes with every firing, does not let it overtake the firing."""
    asker.registered(EventSpec("e", ("mult",), ConditionKind.RUN_FILTER, once=False))
    asker.registered(EventSpec("w", ("mult",), ConditionKind.WORKFLOW_FILTER, once=False))
    assert len(started.works) == 2
    idle(asker, started)
    touched = WriteSet(frozenset({KEY}), variables=False, everything=False, source=None, number=1)
    asker.news(ChangeSet((touched,), {KEY: cast("Any", None)}))
    assert not asker.idle
    asker.tick(0.0)
    assert not started.works
    asker.ask_open()
    assert len(started.works) == 2


def test_what_is_due_by_time_is_asked(asker: ConditionPoller, started: Started) -> None:
    asker.registered(EventSpec("e", ("mult",), ConditionKind.RUN_FILTER, once=False))
    idle(asker, started)
    (question,) = asker._questions.values()
    question.fully_at = 10.0
    asker.tick(9.9)
    assert not started.works
    assert asker.next_time() == 10.0
    asker.tick(10.0)
    assert len(started.works) == 1
    assert question.fully


def test_nothing_is_asked_twice_at_once_or_at_the_end(
    asker: ConditionPoller, started: Started
) -> None:
    asker.registered(EventSpec("e", ("mult",), ConditionKind.RUN_FILTER, once=False))
    asker.ask_open()
    assert len(started.works) == 1
    idle(asker, started)
    started.ending = True
    asker.ask_again({"e"})
    assert not started.works
