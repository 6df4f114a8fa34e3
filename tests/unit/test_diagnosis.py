"""The clause that excludes all runs, and the nearest run."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from motoko.core.constraints import Columns, Constraint, parse
from motoko.core.constraints.diagnosis import clauses_of, diagnose
from motoko.core.event_reasons import Population, allowed_states, diagnose_study
from motoko.core.records import RunRecord
from motoko.core.states import Lifecycle
from motoko.core.values import MISSING
from motoko.operations.reason_text import nearest_text

pytestmark = pytest.mark.unit

COLUMNS = Columns("s", {"x": "float", "mesh": "str", "when": "datetime"}, {"y": "float"})
OPEN = Columns("s", {"x": "float"}, {})
MARCH, APRIL = (datetime(2024, month, 1, tzinfo=UTC) for month in (3, 4))


def run(run_id: int, state: str = "FINISHED", x: float = 1.0, **values: Any) -> RunRecord:
    labelled = state not in set(Lifecycle)
    lifecycle = Lifecycle.FINISHED if labelled else Lifecycle(state)
    job: dict[str, Any] = {"x": x}
    job |= {name: values.pop(name) for name in ("mesh", "when") if name in values}
    label = state if labelled else None
    return RunRecord("s", run_id, 1, "a", b"", job, lifecycle, label, fields=values)


def constraint(text: str, columns: Columns = COLUMNS) -> Constraint:
    return parse(text, columns)


def broken(text: str, *runs: RunRecord, columns: Columns = COLUMNS) -> tuple[str, str]:
    """Return the broken clause and the description of the nearest run."""
    clauses = clauses_of(constraint(text, columns))
    found = diagnose(clauses, runs)
    assert found.broken is not None
    assert found.nearest is not None
    named = diagnose_study("s", constraint(text, columns), everything(*runs))
    assert named.nearest is not None
    assert named.broken == clauses[found.broken].text
    return named.broken, nearest_text(named.nearest)


def everything(*runs: RunRecord) -> Population:
    counts = {state: sum(r.state == state for r in runs) for state in {r.state for r in runs}}
    return Population(counts, examined=runs, complete=True)


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("state = FINISHED, y > 0.5", ["state = FINISHED", "y > 0.5"]),
        ("(y > 1 and x = 2) and x < 9", ["y > 1.0", "x = 2.0", "x < 9.0"]),
        ("y > 1 or x = 2", ["y > 1 or x = 2"]),
        ("(y > 1 or x = 2) and x < 9", ["(y > 1 or x = 2)", "x < 9"]),
        ("not (y > 1 or x = 2)", ["not y > 1", "x != 2"]),
        ("not (y > 1 and x = 2)", ["not y > 1 or x != 2"]),
        ("not not y > 1", ["y > 1"]),
        ("not mesh in (a, b)", ["mesh not in (a, b)"]),
        ("", []),
    ],
)
def test_a_constraint_is_a_conjunction_of_clauses(text: str, clauses: list[str]) -> None:
    found = [clause.text for clause in clauses_of(constraint(text))]
    assert [text.replace(".0", "") for text in found] == [c.replace(".0", "") for c in clauses]


@pytest.mark.parametrize(
    ("text", "runs", "clause", "nearest"),
    [
        ("y > 0.5", [run(1, y=0.1), run(2, y=0.48), run(3, y=-9.0)], "y > 0.5",
         "s.2: y = 0.48, needs > 0.5"),
        ("y < 0.5", [run(1, y=7.0), run(2, y=0.6)], "y < 0.5", "s.2: y = 0.6, needs < 0.5"),
        ("y >= 1 and x = 1", [run(1, y=0.9), run(2, y=0.99, x=2.0)], "y >= 1",
         "s.1: y = 0.9, needs >= 1"),
        ("not y < 1", [run(1, y=0.5), run(2, y=0.7)], "not y < 1", "s.2: y = 0.7, needs >= 1"),
        ("x in (3, 10)", [run(1, x=4.5), run(2, x=9.0)], "x in (3, 10)",
         "s.2: x = 9, needs in (3, 10)"),
        ("x = 5", [run(1, x=3.0), run(2, x=4.0)], "x = 5", "s.2: x = 4, needs 5"),
        ("y > 0.5", [run(1, "START"), run(2, "CREATED")], "y > 0.5",
         "s.2: it has no y yet, needs > 0.5"),
        ("y > 0.5", [run(1, "FINISHED")], "y > 0.5", "s.1: it did not set y, needs > 0.5"),
        ("y > 0.5", [run(1, y=-1e9), run(2)], "y > 0.5", "s.1: y = -1000000000, needs > 0.5"),
        ("state = FINISHED", [run(1, "CREATED"), run(2, "START"), run(3, "SUBMITTED")],
         "state = FINISHED", "s.2: state = START, needs FINISHED"),
        ("mesh = fine", [run(1, mesh="Fine"), run(2, mesh="coarse")], "mesh = fine",
         "s.2: mesh = coarse, needs fine"),
        ("mesh ~ '^f'", [run(1, mesh="coarse")], "mesh ~ \"^f\"",
         's.1: mesh = coarse, needs ~ "^f"'),
        ("mesh != fine", [run(1, mesh="fine")], "mesh != fine", "s.1: mesh = fine, needs != fine"),
        ("y > 5 or x > 1.5", [run(1, y=4.0), run(2, y=0.0, x=1.4)], "y > 5 or x > 1.5",
         "s.2: x = 1.4, needs > 1.5"),
        ("(y > 5 and x > 5) or x > 9", [run(1, y=6.0, x=4.0)], "y > 5 and x > 5 or x > 9",
         "s.1: x = 4, needs > 5"),
        ("when > '2024-05-01'",
         [run(1, when=APRIL), run(2, when=MARCH)],
         'when > "2024-05-01T00:00:00+00:00"',
         's.1: when = 2024-04-01T00:00:00+00:00, needs > "2024-05-01T00:00:00+00:00"'),
        ("state = FINISHED and y > 1", [run(1, "START", y=2.0), run(2, y=0.5)],
         "y > 1", "s.2: y = 0.5, needs > 1"),
        ("id > 5 and y > 1", [run(1, y=2.0), run(2, y=2.0)], "id > 5", "s.2: id = 2, needs > 5"),
    ],
)  # fmt: skip
def test_the_nearest_run(text: str, runs: list[RunRecord], clause: str, nearest: str) -> None:
    found = broken(text, *runs)
    assert tuple(part.replace(".0", "") for part in found) == (clause, nearest)


def test_values_of_another_type_are_farther_than_numbers() -> None:
    runs = run(1, y="text"), run(2, y=-5), run(3), run(4, y=float("nan"))
    clause, nearest = broken("y > 1", *runs, columns=OPEN)
    assert (clause, nearest) == ("y > 1", "s.2: y = -5, needs > 1")
    assert broken("y > 1", runs[0], runs[2], columns=OPEN)[1] == "s.1: y = text, needs > 1"
    (miss,) = clauses_of(constraint("y > 1", OPEN))[0].misses(runs[2])
    assert (miss.value, miss.distance) == (MISSING, None)


def test_a_clause_that_nothing_satisfies_comes_before_one_that_some_run_satisfies() -> None:
    runs = run(1, "START", y=0.9), run(2, y=0.9)
    assert broken("state = START and y > 1", *runs)[0].startswith("y > 1")
    # Each clause excludes the other's runs: the nearer one is named.
    runs = run(1, x=5.0, y=0.0), run(2, x=1.9, y=9.0)
    assert broken("x > 2 and y > 1", *runs)[0].startswith("x > 2")


def test_matching_runs_and_no_runs_have_no_broken_clause() -> None:
    clauses = clauses_of(constraint("y > 1"))
    found = diagnose(clauses, [run(1, y=2.0), run(2)])
    assert ([str(key) for key in found.matching], found.broken) == (["s.1"], None)
    assert diagnose(clauses, []).broken is None


# -- studies with more runs than are examined --------------------------------------------------


def partial(counts: dict[str, int], *examined: RunRecord) -> Population:
    return Population(counts, examined=examined, complete=False)


def test_states_are_counted_from_the_index() -> None:
    large = constraint("y > 1 and state = FINISHED and x > 0")
    counts = {"FINISHED": 89_000, "CREATED": 11_000}
    assert allowed_states(large, counts) == {"FINISHED"}
    found = diagnose_study("s", large, partial(counts, run(8, y=0.5), run(9, y=0.25)))
    assert (found.total, found.examined, found.complete) == (100_000, 2, False)
    rows = [(row.clause.partition(" ")[0], row.survivors, row.examined) for row in found.clauses]
    assert rows == [("state", 89_000, False), ("y", 0, True), ("x", 0, True)]
    assert (found.broken or "").startswith("y > 1")
    assert (found.nearest or {})["run"] == "s.8"


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("state in (FINISHED, FAILED) and y > 1", {"FINISHED", "FAILED"}),
        ("state != CREATED and y > 1", {"FINISHED", "FAILED"}),
        ("not (state = CREATED or state = FAILED)", {"FINISHED"}),
        ("state ~ '^F'", {"FINISHED", "FAILED"}),
        ("state = FINISHED or y > 1", {"FINISHED", "FAILED", "CREATED"}),
        ("lifecycle = FINISHED", {"FINISHED", "FAILED", "CREATED"}),
        ("state = LOST", set()),
    ],
)
def test_states_that_the_constraint_allows(text: str, allowed: set[str]) -> None:
    states = ["FINISHED", "FAILED", "CREATED"]
    assert allowed_states(constraint(text), states) == allowed


def test_a_state_that_no_run_has_is_named_with_the_states_that_exist() -> None:
    counts = {"CREATED": 60_000, "START": 40_000}
    text = constraint("y > 1 and state = FINISHED")
    found = diagnose_study("s", text, partial(counts, run(8, "CREATED"), run(9, "START")))
    assert found.broken == "state = FINISHED"
    assert found.values == counts
    assert (found.nearest or {})["run"] == "s.9"
    assert found.clauses[0].survivors == 0
