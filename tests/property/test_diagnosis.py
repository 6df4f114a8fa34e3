"""Mutation test of the diagnosis: the clause that was broken is the clause that is named."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from motoko.core.constraints import parse
from motoko.core.constraints.diagnosis import Diagnosis, clauses_of, diagnose
from motoko.core.records import RunRecord
from tests.support.constraint_model import COLUMNS, STATES, Atom, Joined, as_stored

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.property

CASES = 500
NUMBERS = (-3, -1.5, 0, 0.5, 1e-7, 2, 3, 3.5, 7.25, 1e9)
TEXTS = ("", "a", "ab", "B", "true", "3", "it's", 'q"\\', "and", "coarse", "very fine")
PATTERNS = ("a", "^A", "b$", "[0-9]", r"\W", "(?i)B", "o.*e", "zz")
TIMES = tuple(datetime(2024, 5, day, tzinfo=UTC) for day in (1, 2, 3, 4))
VALUES: dict[str, tuple[Any, ...]] = {
    "id": tuple(range(1, 30)), "state": (*STATES, "START", "LOST"), "exit_code": (0, 1, 2, 9),
    "x": NUMBERS, "n": (-3, -2, 0, 1, 2, 4), "name": TEXTS, "ok": (True, False), "when": TIMES,
    "y": (*NUMBERS, *TEXTS, True, False),
}  # fmt: skip
SEARCHED = ("name", "y", "state")


def random_run(rng: random.Random, run_id: int) -> RunRecord:
    job = {"x": float(rng.choice(NUMBERS)), "n": rng.choice(VALUES["n"]), "name": rng.choice(TEXTS)}
    optional = {name: rng.choice(VALUES[name]) for name in ("ok", "when") if rng.random() < 0.7}
    fields = {"y": rng.choice((*VALUES["y"], None))} if rng.random() < 0.7 else {}
    code = rng.choice((None, 0, 1, 2))
    state = as_stored(rng.choice(STATES))
    return RunRecord(
        "s", run_id, 1, "a", b"", {**job, **optional}, fields=fields, exit_code=code, **state
    )


def random_atom(rng: random.Random) -> Atom:
    column = rng.choice(list(VALUES))
    kind = rng.random()
    if column in SEARCHED and kind < 0.3:
        return Atom(column, rng.choice(("~", "!~", "~*", "!~*")), (rng.choice(PATTERNS),))
    if kind < 0.5:
        several = tuple(rng.choice(VALUES[column]) for _ in range(rng.randint(1, 3)))
        return Atom(column, rng.choice(("in", "not in")), several)
    value = rng.choice(VALUES[column])
    ordered = [] if isinstance(value, bool) else ["<", "<=", ">", ">="]
    return Atom(column, rng.choice(["=", "!=", *ordered]), (value,))


def random_clause(rng: random.Random, depth: int = 2) -> Any:
    kind = rng.random()
    if depth == 0 or kind < 0.6:
        return random_atom(rng)
    if kind < 0.75:
        return Joined("not", (random_clause(rng, depth - 1),))
    word = "or" if kind < 0.9 else "and"
    return Joined(word, tuple(random_clause(rng, depth - 1) for _ in range(rng.randint(2, 3))))


def width(clause: Any, *, negated: bool = False) -> int:
    """Return how many clauses of a conjunction a clause is."""
    if isinstance(clause, Atom):
        return 1
    if clause.word == "not":
        return width(clause.items[0], negated=not negated)
    if (clause.word == "and") == negated:
        return 1
    return sum(width(item, negated=negated) for item in clause.items)


def choose(rng: random.Random, accepts: Callable[[Any], bool]) -> Any:
    """Return a random clause that is accepted."""
    while not accepts(clause := random_clause(rng)):
        pass
    return clause


def holds(clause: Any, run: RunRecord) -> bool:
    return clause.truth(run) is True


def diagnosis_of(clauses: list[Any], runs: list[RunRecord]) -> Diagnosis:
    text = " and ".join(f"({clause.text()})" for clause in clauses)
    return diagnose(clauses_of(parse(text, COLUMNS)), runs)


def check(rng: random.Random) -> None:
    runs = [random_run(rng, number) for number in range(1, rng.randint(2, 20))]
    witness = rng.choice(runs)
    clauses = [choose(rng, lambda c: holds(c, witness)) for _ in range(rng.randint(1, 5))]
    intact = diagnosis_of(clauses, runs)
    assert witness.key in intact.matching
    assert intact.broken is None

    k = rng.randrange(len(clauses))
    clauses[k] = choose(rng, lambda c: not any(holds(c, run) for run in runs))
    found = diagnosis_of(clauses, runs)
    first = sum(width(clause) for clause in clauses[:k])
    assert found.broken in range(first, first + width(clauses[k]))
    assert found.nearest is not None
    assert found.broken in found.nearest.failed
    assert found.nearest.misses


def check_counts(rng: random.Random) -> None:
    """Compare with counts of the model, for any clauses of one comparison."""
    runs = [random_run(rng, number) for number in range(1, rng.randint(2, 20))]
    clauses = [random_atom(rng) for _ in range(rng.randint(1, 4))]
    found = diagnosis_of(clauses, runs)
    assert found.runs == len(runs)
    assert found.matching == tuple(r.key for r in runs if all(holds(c, r) for c in clauses))
    for n, (clause, result) in enumerate(zip(clauses, found.clauses, strict=True)):
        others = [c for c in clauses if c is not clause]
        assert result.satisfied == sum(holds(clause, run) for run in runs)
        assert result.survivors == sum(all(holds(c, r) for c in clauses[: n + 1]) for r in runs)
        assert result.without == sum(all(holds(c, run) for c in others) for run in runs)
    if found.broken is not None and any(result.without for result in found.clauses):
        assert found.clauses[found.broken].without, "no run matches without the named clause"


@pytest.mark.parametrize("part", range(5))
def test_the_broken_clause_is_named(part: int) -> None:
    for case in range(part * CASES // 5, (part + 1) * CASES // 5):
        try:
            check(random.Random(case))
        except AssertionError as error:
            error.add_note(f"case {case}")
            raise


def test_counts_agree_with_the_model() -> None:
    for case in range(200):
        check_counts(random.Random(case))
