"""Times at which Python conditions are evaluated."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from motoko.core.firing import ConditionKind, EventSpec, WriteSet
from motoko.core.records import RunKey
from motoko.orchestrator.change_listener import ChangeSet
from motoko.orchestrator.condition_poller import ConditionPoller
from motoko.runtime.ports import SYSTEM

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = pytest.mark.unit

KEY = RunKey("mult", 1)


@dataclass
class CountingTasks:
    """A task supervisor that records coroutines and does not run them."""

    ending: bool = False
    works: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    def start(self, work: Callable[[], Awaitable[None]], _description: str) -> None:
        self.works.append(work)


@pytest.fixture
def tasks() -> CountingTasks:
    return CountingTasks()


@pytest.fixture
def poller(tasks: CountingTasks) -> ConditionPoller:
    store = SimpleNamespace(database=None)
    context: Any = SimpleNamespace(store=store, tasks=tasks, clock=SYSTEM.clock)
    return ConditionPoller(
        context, poll_interval=5.0, on_result=lambda _: None, on_evaluated=lambda: None
    )


def settle(poller: ConditionPoller, tasks: CountingTasks) -> None:
    """Mark all started evaluations as done."""
    for evaluation in poller._evaluations.values():
        evaluation.running = evaluation.full = False
        evaluation.keys.clear()
    tasks.works.clear()


def test_conditions_enabled_by_a_change_are_pending_until_evaluated(
    poller: ConditionPoller, tasks: CountingTasks
) -> None:
    """Every firing resets the timer, so the timer does not start them before the firing."""
    poller.register(EventSpec("e", ("mult",), ConditionKind.RUN_FILTER, once=False))
    poller.register(EventSpec("w", ("mult",), ConditionKind.TASK_MANAGER_FILTER, once=False))
    assert len(tasks.works) == 2
    settle(poller, tasks)
    change = WriteSet(frozenset({KEY}), variables=False, everything=False, source=None, number=1)
    poller.on_change(ChangeSet((change,), {KEY: cast("Any", None)}))
    assert not poller.is_idle
    poller.evaluate_due(0.0)
    assert not tasks.works
    poller.evaluate_open()
    assert len(tasks.works) == 2


def test_conditions_due_by_time_are_evaluated(
    poller: ConditionPoller, tasks: CountingTasks
) -> None:
    poller.register(EventSpec("e", ("mult",), ConditionKind.RUN_FILTER, once=False))
    settle(poller, tasks)
    (evaluation,) = poller._evaluations.values()
    evaluation.full_at = 10.0
    poller.evaluate_due(9.9)
    assert not tasks.works
    assert poller.next_time() == 10.0
    poller.evaluate_due(10.0)
    assert len(tasks.works) == 1
    assert evaluation.full


def test_a_condition_has_one_evaluation_at_a_time(
    poller: ConditionPoller, tasks: CountingTasks
) -> None:
    poller.register(EventSpec("e", ("mult",), ConditionKind.RUN_FILTER, once=False))
    poller.evaluate_open()
    assert len(tasks.works) == 1
    settle(poller, tasks)
    tasks.ending = True
    poller.reevaluate({"e"})
    assert not tasks.works
