"""The rules of level-triggered events."""

from __future__ import annotations

import pytest

from motoko.core.firing import ConditionKind, EventSpec, Firing, FiringEngine, WriteSet
from motoko.core.records import RunKey

pytestmark = pytest.mark.unit

ONE, TWO, THREE = (RunKey("mult", number) for number in (1, 2, 3))
OTHER = RunKey("add", 1)
POLL = 2.0


def touched(*keys: RunKey, source: object = None, variables: bool = False) -> WriteSet:
    return WriteSet(frozenset(keys), variables=variables, source=source, number=10)


class OneEvent:
    """An engine with one event, and shortcuts to its methods."""

    def __init__(
        self, kind: ConditionKind, *studies: str, once: bool = False, poll: float = POLL
    ) -> None:
        self.engine = FiringEngine(poll)
        self.engine.register(EventSpec("e", studies or ("mult",), kind, once))

    def due(self, now: float = 0.0) -> list[tuple[RunKey, ...]]:
        return [firing.runs for firing in self.firings(now)]

    def firings(self, now: float = 0.0) -> list[Firing]:
        return self.engine.pop_due(now)

    def matches(self, *keys: RunKey, study: str = "mult") -> None:
        self.engine.update_matches("e", study, set(keys))

    def holds(self, study: str, holds: bool = True) -> None:
        self.engine.update_truth("e", study, holds)


@pytest.fixture
def constraint() -> OneEvent:
    return OneEvent(ConditionKind.CONSTRAINT)


@pytest.fixture
def workflow_filter() -> OneEvent:
    return OneEvent(ConditionKind.TASK_MANAGER_FILTER, "mult", "add")


# -- 1: no overlapping firings -----------------------------------------------------------------


def test_all_runs_that_match_fire_together_in_id_order(constraint: OneEvent) -> None:
    constraint.matches(THREE, ONE, TWO)
    assert constraint.due() == [(ONE, TWO, THREE)]


def test_a_run_in_an_unfinished_firing_is_not_selected_again(constraint: OneEvent) -> None:
    constraint.matches(ONE)
    assert constraint.due() == [(ONE,)]
    assert constraint.due(100.0) == []
    constraint.matches(ONE, TWO)
    assert constraint.due(100.0) == [(TWO,)]
    constraint.engine.on_commit(touched(ONE, TWO))
    assert constraint.due(200.0) == []


def test_another_event_may_select_the_same_run_meanwhile(constraint: OneEvent) -> None:
    constraint.engine.register(EventSpec("f", ("mult",), ConditionKind.CONSTRAINT))
    constraint.matches(ONE)
    constraint.engine.update_matches("f", "mult", {ONE})
    firings = constraint.firings()
    assert [(firing.event, firing.runs) for firing in firings] == [("e", (ONE,)), ("f", (ONE,))]
    assert len({firing.number for firing in firings}) == 2


def test_firings_without_runs_of_one_event_do_not_overlap(workflow_filter: OneEvent) -> None:
    workflow_filter.holds("mult")
    workflow_filter.holds("add")
    (first,) = workflow_filter.firings()
    assert workflow_filter.firings(100.0) == []
    workflow_filter.engine.on_finished(first, "first", 0.0)
    (second,) = workflow_filter.firings()
    assert {first.study, second.study} == {"mult", "add"}
    assert workflow_filter.firings(100.0) == []


def test_registering_again_does_not_release_busy_runs(constraint: OneEvent) -> None:
    constraint.matches(ONE)
    (firing,) = constraint.firings()
    constraint.engine.register(EventSpec("e", ("mult",), ConditionKind.CONSTRAINT))
    constraint.matches(ONE)
    assert constraint.due(100.0) == []
    constraint.engine.on_finished(firing, "first", 0.0)
    assert constraint.due(POLL) == [(ONE,)]


# -- 2: dropped firings --------------------------------------------------------------------------


def test_a_dropped_trigger_fires_when_it_matches_again(constraint: OneEvent) -> None:
    constraint.matches(ONE)
    (firing,) = constraint.firings()
    assert constraint.engine.fired("e") == 1
    constraint.engine.on_dropped(firing)
    assert constraint.engine.fired("e") == 0
    assert constraint.due(100.0) == []
    constraint.matches(ONE)
    assert constraint.due() == [(ONE,)]


def test_a_dropped_firing_without_runs(workflow_filter: OneEvent) -> None:
    workflow_filter.holds("mult")
    (firing,) = workflow_filter.firings()
    workflow_filter.engine.on_dropped(firing)
    assert workflow_filter.firings(100.0) == []
    workflow_filter.holds("mult")
    assert len(workflow_filter.firings()) == 1


def test_runs_that_no_longer_match_do_not_fire(constraint: OneEvent) -> None:
    constraint.matches(ONE, TWO)
    constraint.engine.update_matches("e", frozenset({ONE}), set())
    assert constraint.engine.matching("e") == {TWO}
    constraint.matches()
    assert constraint.due() == []


def test_a_condition_may_select_runs_of_another_study(workflow_filter: OneEvent) -> None:
    workflow_filter.matches(OTHER, study="mult")
    workflow_filter.matches(OTHER, ONE, study="add")
    workflow_filter.matches(study="mult")
    assert workflow_filter.engine.matching("e") == {OTHER, ONE}
    workflow_filter.matches(ONE, study="add")
    assert workflow_filter.engine.matching("e") == {ONE}
    workflow_filter.matches(study="add")
    assert workflow_filter.due() == []


# -- 3: cooldowns ---------------------------------------------------------------------------------


def fired(events: OneEvent, *keys: RunKey, now: float = 0.0) -> Firing:
    events.matches(*keys)
    (firing,) = events.firings(now)
    events.engine.on_finished(firing, "mine", now, 5)
    return firing


def test_a_cooldown_lasts_for_poll_interval(constraint: OneEvent) -> None:
    fired(constraint, ONE, now=10.0)
    assert constraint.engine.next_cooldown_end() == 10.0 + POLL
    assert constraint.due(10.0 + POLL - 0.001) == []
    assert constraint.due(10.0 + POLL) == [(ONE,)]
    assert constraint.engine.next_cooldown_end() is None


def test_the_commit_of_the_firing_does_not_end_its_cooldown(constraint: OneEvent) -> None:
    fired(constraint, ONE)
    constraint.engine.on_commit(touched(ONE, source="mine"))
    assert constraint.due() == []


@pytest.mark.parametrize(
    ("kind", "commit", "released"),
    [
        (ConditionKind.CONSTRAINT, touched(ONE), True),
        (ConditionKind.CONSTRAINT, touched(ONE, source="another firing"), True),
        (ConditionKind.CONSTRAINT, touched(TWO, OTHER, variables=True), False),
        (ConditionKind.CONSTRAINT, WriteSet(everything=True, number=10), True),
        (ConditionKind.RUN_FILTER, touched(TWO), True),
        (ConditionKind.RUN_FILTER, touched(OTHER), False),
        (ConditionKind.TASK_MANAGER_FILTER, touched(OTHER), True),
        (ConditionKind.TASK_MANAGER_FILTER, touched(variables=True), True),
    ],
)
def test_a_later_commit_of_data_it_reads_ends_a_cooldown(
    kind: ConditionKind, commit: WriteSet, released: bool
) -> None:
    events = OneEvent(kind)
    fired(events, ONE)
    events.engine.on_commit(commit)
    assert events.due() == ([(ONE,)] if released else [])


def test_a_commit_within_its_snapshot_does_not_end_a_cooldown(constraint: OneEvent) -> None:
    fired(constraint, ONE)
    constraint.engine.on_commit(WriteSet(frozenset({ONE}), number=5))
    assert constraint.due() == []
    constraint.engine.on_commit(WriteSet(frozenset({ONE}), number=6))
    assert constraint.due() == [(ONE,)]


def test_a_run_that_matches_anew_fires_immediately(constraint: OneEvent) -> None:
    fired(constraint, ONE)
    constraint.engine.update_matches("e", frozenset({ONE}), set())
    constraint.engine.update_matches("e", frozenset({ONE}), {ONE})
    assert constraint.due() == [(ONE,)]


def test_a_cooldown_applies_only_to_the_runs_of_the_firing(constraint: OneEvent) -> None:
    fired(constraint, ONE)
    constraint.matches(ONE, TWO)
    assert constraint.due() == [(TWO,)]


def test_a_study_has_a_cooldown(workflow_filter: OneEvent) -> None:
    workflow_filter.holds("mult")
    for now in (0.0, 10.0):
        (firing,) = workflow_filter.firings(now)
        workflow_filter.engine.on_finished(firing, "mine", now)
        workflow_filter.holds("mult")
        assert workflow_filter.firings(now) == []
        workflow_filter.engine.on_commit(touched(ONE, source="mine"))
        assert workflow_filter.firings(now) == []
    workflow_filter.engine.on_commit(touched(variables=True))
    (firing,) = workflow_filter.firings(10.0)
    assert firing.study == "mult"


def test_a_study_condition_that_was_false_meanwhile_fires_immediately(
    workflow_filter: OneEvent,
) -> None:
    workflow_filter.holds("mult")
    (firing,) = workflow_filter.firings()
    workflow_filter.engine.on_finished(firing, "mine", 0.0)
    workflow_filter.holds("mult", False)
    assert workflow_filter.firings() == []
    workflow_filter.holds("mult")
    assert len(workflow_filter.firings()) == 1


def test_a_condition_without_arguments_has_a_cooldown() -> None:
    events = OneEvent(ConditionKind.NO_ARGUMENTS)
    events.holds("")
    (firing,) = events.firings()
    events.engine.on_finished(firing, "mine", 0.0)
    events.holds("")
    events.engine.on_commit(touched(ONE, variables=True))
    assert events.firings(POLL - 0.001) == []
    assert len(events.firings(POLL)) == 1


# -- 4: `once` -----------------------------------------------------------------------------------


def test_once_fires_once_per_run() -> None:
    events = OneEvent(ConditionKind.CONSTRAINT, once=True)
    fired(events, ONE)
    events.matches()
    events.matches(ONE, TWO)
    events.engine.on_commit(touched(ONE, TWO))
    assert events.due(100.0) == [(TWO,)]


def test_once_fires_once_in_total_without_runs() -> None:
    events = OneEvent(ConditionKind.TASK_MANAGER_FILTER, "mult", "add", once=True)
    events.holds("mult")
    events.holds("add")
    (firing,) = events.firings()
    events.engine.on_finished(firing, "mine", 0.0)
    assert events.firings(100.0) == []


def test_once_respects_firings_of_an_earlier_start() -> None:
    events = OneEvent(ConditionKind.CONSTRAINT, once=True)
    events.engine.record_once_firings("e", [ONE])
    events.matches(ONE, TWO)
    assert events.due() == [(TWO,)]
    event = OneEvent(ConditionKind.NO_ARGUMENTS, once=True)
    event.engine.record_once_firings("e", [], without_runs=True)
    event.holds("")
    assert event.firings() == []


def test_once_ignores_dropped_firings() -> None:
    events = OneEvent(ConditionKind.CONSTRAINT, once=True)
    events.matches(ONE)
    (firing,) = events.firings()
    events.engine.on_dropped(firing)
    events.matches(ONE)
    assert events.due() == [(ONE,)]


# -- open firings --------------------------------------------------------------------------------


def test_an_open_firing_resumes_with_its_runs(constraint: OneEvent) -> None:
    firing = constraint.engine.resume("e", (ONE, TWO))
    assert firing.runs == (ONE, TWO)
    constraint.matches(ONE, THREE)
    assert constraint.due() == [(THREE,)]
    constraint.engine.on_finished(firing, "mine", 0.0)
    assert constraint.due(POLL) == [(ONE,)]


def test_an_open_firing_without_runs_resumes(workflow_filter: OneEvent) -> None:
    firing = workflow_filter.engine.resume("e", ())
    workflow_filter.holds("mult")
    assert workflow_filter.firings(100.0) == []
    workflow_filter.engine.on_finished(firing, "mine", 100.0)
    assert len(workflow_filter.firings(100.0 + POLL)) == 1


def test_selects_includes_matching_busy_and_done_runs(constraint: OneEvent) -> None:
    assert not constraint.engine.selects(ONE)
    constraint.matches(ONE)
    assert constraint.engine.selects(ONE)
    (firing,) = constraint.firings()
    constraint.matches()
    assert constraint.engine.selects(ONE)
    constraint.engine.on_finished(firing, "mine", 0.0)
    assert not constraint.engine.selects(ONE)
