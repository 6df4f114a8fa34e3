"""The firing engine decides like a model that looks at every trigger in each call."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from motoko.core.firing import ConditionKind, EventSpec, Firing, FiringEngine, WriteSet
from motoko.core.records import RunKey
from tests.support.firing_model import FiringModel

pytestmark = pytest.mark.property

POLL = 2.0
STUDIES = ("mult", "add")
KEYS = [RunKey("mult", 1), RunKey("mult", 2), RunKey("mult", 64), RunKey("add", 1)]
EVENTS = ("a", "b")

events = st.sampled_from(EVENTS)
kinds = st.sampled_from(list(ConditionKind))
runs = st.sets(st.sampled_from(KEYS))
seconds = st.sampled_from([0.0, 0.0, 0.0, 1.0, 5.0])


class Engines(RuleBasedStateMachine):
    """Gives an engine and the model the same notices, and compares their decisions."""

    def __init__(self) -> None:
        super().__init__()
        self.engines: tuple[Any, Any] = (FiringEngine(POLL), FiringModel(POLL))
        self.now = 0.0
        self.commits = 0
        self.unfinished: list[Firing] = []
        self.resumed: set[int] = set()  # these are never dropped
        self.kinds: dict[str, ConditionKind] = {}

    def both(self, method: str, *args: Any, **kwargs: Any) -> Any:
        found, expected = [getattr(one, method)(*args, **kwargs) for one in self.engines]
        assert found == expected, method
        return found

    @initialize(kinds=st.lists(st.tuples(kinds, st.booleans()), min_size=2, max_size=2))
    def begin(self, kinds: list[tuple[ConditionKind, bool]]) -> None:
        for name, (kind, once) in zip(EVENTS, kinds, strict=True):
            self.register(name, kind, once)

    @rule(name=events, kind=kinds, once=st.booleans())
    def register(self, name: str, kind: ConditionKind, once: bool) -> None:
        self.kinds[name] = kind
        self.both("register", EventSpec(name, STUDIES, kind, once))

    @rule(name=events, study=st.sampled_from(STUDIES), matching=runs)
    def evaluate_study(self, name: str, study: str, matching: set[RunKey]) -> None:
        if self.kinds[name] in (ConditionKind.CONSTRAINT, ConditionKind.RUN_FILTER):
            matching = {key for key in matching if key.study == study}
        for one in self.engines:
            one.update_matches(name, study, set(matching))

    @rule(evaluated=runs, name=events, matching=runs)
    def evaluate_runs(self, evaluated: set[RunKey], name: str, matching: set[RunKey]) -> None:
        if self.kinds[name] in (ConditionKind.CONSTRAINT, ConditionKind.RUN_FILTER):
            self.both("update_matches", name, frozenset(evaluated), matching & evaluated)

    @rule(satisfied=st.dictionaries(st.sampled_from(KEYS), st.sets(events)))
    def evaluate_constraints(self, satisfied: dict[RunKey, set[str]]) -> None:
        of_constraints = {n for n, k in self.kinds.items() if k is ConditionKind.CONSTRAINT}
        engine, model = self.engines
        engine.update_runs({key: names & of_constraints for key, names in satisfied.items()})
        for name in of_constraints:
            matching = {key for key, names in satisfied.items() if name in names}
            model.update_matches(name, frozenset(satisfied), matching)

    @rule(name=events, study=st.sampled_from((*STUDIES, "")), holds=st.booleans())
    def evaluate_truth(self, name: str, study: str, holds: bool) -> None:
        self.both("update_truth", name, study, holds)

    @rule(
        written=runs,
        variables=st.booleans(),
        everything=st.booleans(),
        source=st.sampled_from([None, "x", "y"]),
    )
    def commit(
        self, written: set[RunKey], variables: bool, everything: bool, source: object
    ) -> None:
        self.commits += 1
        found = WriteSet(frozenset(written), variables, everything, source, self.commits)
        self.both("on_commit", found)

    @rule(after=seconds)
    def fire(self, after: float) -> None:
        self.now += after
        self.unfinished += self.both("pop_due", self.now)

    @rule(number=st.integers(0, 100), source=st.sampled_from(["x", "y"]), behind=st.integers(0, 2))
    def finish(self, number: int, source: object, behind: int) -> None:
        if self.unfinished:
            firing = self.unfinished.pop(number % len(self.unfinished))
            since = max(0, self.commits - behind)
            self.both("on_finished", firing, source, self.now, since)

    @rule(name=events, source=st.sampled_from(["x", "y"]))
    def fire_and_finish(self, name: str, source: object) -> None:
        """Let all that an event selects fire and cool down."""
        for study in STUDIES:
            self.evaluate_study(name, study, set(KEYS))
        self.evaluate_truth(name, "mult", True)
        self.fire(0.0)
        while self.unfinished:
            self.finish(0, source, 0)

    @rule(number=st.integers(0, 100))
    def drop(self, number: int) -> None:
        confirmed = [one for one in self.unfinished if one.number not in self.resumed]
        if confirmed:
            firing = confirmed[number % len(confirmed)]
            self.unfinished.remove(firing)
            self.both("on_dropped", firing)

    @rule(name=events, found=runs)
    def resume(self, name: str, found: set[RunKey]) -> None:
        self.unfinished.append(self.both("resume", name, tuple(sorted(found))))
        self.resumed.add(self.unfinished[-1].number)

    @rule(name=events, found=runs, alone=st.booleans())
    def record_once(self, name: str, found: set[RunKey], alone: bool) -> None:
        self.both("record_once_firings", name, found, without_runs=alone)

    @invariant()
    def agree(self) -> None:
        for name in self.kinds:
            self.both("matching", name)
            self.both("activity", name)
            self.both("fired", name)
        for key in KEYS:
            self.both("selects", key)
        self.both("next_cooldown_end")
        self.both("is_quiescent", self.commits)
        self.both("events")


TestEngines = Engines.TestCase
TestEngines.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
