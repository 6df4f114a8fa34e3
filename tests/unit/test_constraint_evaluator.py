"""Constraints of all events: evaluated for changed runs, or for all runs."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from motoko.core.constraints import Columns, parse
from motoko.core.firing import ConditionKind
from motoko.core.records import RunKey
from motoko.orchestrator.actions import ALL, Action, no_action
from motoko.orchestrator.change_listener import ChangeSet
from motoko.orchestrator.constraint_evaluator import ConstraintEvaluator
from motoko.storage.query import select_runs
from motoko.storage.session import Session
from motoko.testing import add_run
from motoko.testing.memory import commit, empty_database

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.unit

CONSTRAINTS = (
    "x > 1", "x > 3", "x < 2", "state = CREATED", "state = FAILED", "x > 2 and id < 4",
    "x = 3 or x = 4", "state = CREATED and x > 0", "state = CREATED and x > 2", "x != 3",
)  # fmt: skip


def action(name: str, text: str) -> Action:
    constraint = parse(text, Columns("mult", {"x": "float"}, {}))
    constraints = {"mult": constraint}
    kind = ConditionKind.CONSTRAINT
    return Action(name, ALL, ("mult",), kind, text, no_action, constraints=constraints)


@pytest.fixture
def session() -> Iterator[Session]:
    database = empty_database(["mult", "add"])
    with contextlib.closing(Session(database)) as session:
        for number in range(5):
            add_run(session, "mult", {"x": float(number)}, run_name="a")
        add_run(session, "mult", {"x": 2.0}, run_name="b")
        add_run(session, "add", {"x": 2.0}, run_name="a")
        commit(database, session)
        yield session
    database.close()


@pytest.fixture
def evaluator() -> ConstraintEvaluator:
    evaluator = ConstraintEvaluator("a")
    for text in CONSTRAINTS:
        evaluator.register(action(text, text))
    return evaluator


def test_all_constraints_are_evaluated_for_all_runs(
    session: Session, evaluator: ConstraintEvaluator
) -> None:
    results = evaluator.evaluate(session, ChangeSet(everything=True), ())
    assert not results.satisfied
    assert [(m.event, m.evaluated) for m in results.matches] == [(t, "mult") for t in CONSTRAINTS]
    for matches in results.matches:
        constraint = parse(matches.event, Columns("mult", {"x": "float"}, {}))
        assert matches.matching == set(select_runs(session, "mult", "a", constraint))


def test_only_changed_runs_of_the_run_name_are_evaluated(
    session: Session, evaluator: ConstraintEvaluator
) -> None:
    changed = [RunKey("mult", 4), RunKey("mult", 6), RunKey("add", 1)]
    removed = frozenset({RunKey("mult", 9)})
    records = {key: session.run(key) for key in changed}
    results = evaluator.evaluate(session, ChangeSet(records=records, removed=removed), ())
    assert results.matches == []
    assert {key: sorted(found) for key, found in results.satisfied.items()} == {
        RunKey("mult", 9): [],
        RunKey("mult", 4): sorted(
            ["x > 1", "state = CREATED", "x = 3 or x = 4", "state = CREATED and x > 0",
             "state = CREATED and x > 2"]
        ),
    }  # fmt: skip


def test_a_new_constraint_is_evaluated_for_all_runs_and_replaces_the_former(
    session: Session, evaluator: ConstraintEvaluator
) -> None:
    evaluator.register(action("x > 1", "id = 2"))
    results = evaluator.evaluate(session, ChangeSet(), {"x > 1", "no constraint"})
    (matches,) = results.matches
    assert matches.matching == {RunKey("mult", 2)}
    key = RunKey("mult", 4)
    changes = ChangeSet(records={key: session.run(key)})
    assert "x > 1" not in evaluator.evaluate(session, changes, ()).satisfied[key]
