"""Constraints agree with an independent evaluation in three-valued logic."""

from __future__ import annotations

import itertools
import math
import warnings
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from motoko.core.constraints import parse
from motoko.core.constraints.column_scan import ABSENT
from motoko.core.constraints.row_filter import compile_filter
from motoko.core.records import RunRecord
from motoko.core.run_blocks import encode_runs
from motoko.core.run_rows import ColumnRows, StoredRows
from motoko.errors import ConstraintError
from tests.support.constraint_model import COLUMNS, STATES, Atom, Joined, as_stored, quote

pytestmark = pytest.mark.property

# The first parse imports the parser library, and the machine may be busy.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

numbers = st.integers(-3, 4) | st.sampled_from([-1.5, 0.0, 0.5, 2.0, 1e-7, 3.5])
texts = st.sampled_from(["", "a", "ab", "B", "true", "3", "it's", 'q"\\', "and", "2024-05-01"])
times = st.sampled_from([datetime(2024, 5, day, tzinfo=UTC) for day in (1, 2, 3)])
anything = (
    numbers | texts | st.booleans() | times | st.just(math.nan) | st.none() | st.lists(numbers)
)


def atoms(column: str, values: st.SearchStrategy[Any], ordered: bool = True) -> Any:
    signs = ["=", "!="] + (["<", "<=", ">", ">="] if ordered else [])
    single = st.builds(Atom, st.just(column), st.sampled_from(signs), st.tuples(values))
    several = st.builds(
        Atom,
        st.just(column),
        st.sampled_from(["in", "not in"]),
        st.lists(values, min_size=1, max_size=4).map(tuple),
    )
    return single | several


def searches(column: str) -> Any:
    patterns = st.sampled_from(["", "a", "^A", "b$", "[0-9]", r"\W", "(?i)B", "'|\""])
    signs = st.sampled_from(["~", "!~", "~*", "!~*"])
    return st.builds(Atom, st.just(column), signs, st.tuples(patterns))


comparisons = st.one_of(
    atoms("id", numbers),
    atoms("state", st.sampled_from(STATES)),
    atoms("exit_code", numbers),
    atoms("x", numbers),
    atoms("n", numbers),
    atoms("name", texts),
    searches("name"),
    atoms("ok", st.booleans(), ordered=False),
    atoms("when", times),
    atoms("y", numbers | texts),
    atoms("y", numbers | texts | st.booleans(), ordered=False),
    searches("y"),
)
indexed = st.one_of(atoms("id", numbers), atoms("state", st.sampled_from(STATES), ordered=False))


def trees(leaves: Any) -> Any:
    return st.recursive(
        leaves,
        lambda inner: (
            st.builds(
                Joined, st.sampled_from(["and", "or"]), st.lists(inner, min_size=2, max_size=3)
            )
            | st.builds(Joined, st.just("not"), st.tuples(inner))
        ),
        max_leaves=8,
    )


@st.composite
def records(draw: st.DrawFn) -> RunRecord:
    job = {"x": draw(numbers.map(float)), "n": draw(st.integers(-3, 4)), "name": draw(texts)}
    job |= draw(st.fixed_dictionaries({}, optional={"ok": st.booleans(), "when": times}))
    return RunRecord(
        study="s",
        id=draw(st.integers(1, 6)),
        job_id=1,
        run_name="a",
        identity=b"",
        job=job,
        **as_stored(draw(st.sampled_from(STATES))),
        fields=draw(st.fixed_dictionaries({}, optional={"y": anything})),
        exit_code=draw(st.none() | st.integers(0, 2)),
    )


def in_plan(constraint: Any, record: RunRecord) -> bool:
    plan = constraint.plan()
    low = -math.inf if plan.id_min is None else plan.id_min
    high = math.inf if plan.id_max is None else plan.id_max
    return (plan.states is None or record.state in plan.states) and low <= record.id <= high


@unhurried
@given(trees(comparisons), st.lists(records(), min_size=1, max_size=8))
def test_evaluation_agrees_with_three_valued_logic(tree: Any, runs: list[RunRecord]) -> None:
    constraint = parse(tree.text(), COLUMNS)
    for record in runs:
        assert constraint.matches(record) is (tree.truth(record) is True)


@unhurried
@given(trees(comparisons | indexed) | trees(indexed), records())
def test_plan_selects_all_matching_runs_and_only_those_if_exact(tree: Any, some: RunRecord) -> None:
    constraint = parse(tree.text(), COLUMNS)
    for number, state in itertools.product(range(1, 6), STATES):
        record = replace(some, id=number, **as_stored(state))
        if constraint.plan().exact:
            assert in_plan(constraint, record) == constraint.matches(record)
        else:
            assert in_plan(constraint, record) or not constraint.matches(record)


parameters = st.one_of(
    atoms("x", numbers | st.sampled_from([2**70, -0.0, 1e300])),
    atoms("n", numbers | st.sampled_from([2**63, 10**300])),
    atoms("name", texts),
    searches("name"),
    atoms("ok", st.booleans(), ordered=False),
)


@dataclass(frozen=True)
class Block:
    """A block of runs, of which those at the positions in ``edited`` have changed fields."""

    runs: list[RunRecord]
    edited: frozenset[int] = frozenset()

    @property
    def length(self) -> int:
        return len(self.runs)

    def member(self, part: str, name: str) -> Any:
        columns = encode_runs(self.runs)
        if columns[part][0] == "keys":
            return columns.get(f"{part}.{name}", ABSENT)
        return ABSENT if columns[part] == ("same", None) else None

    def changed(self, part: str) -> frozenset[int]:
        return self.edited if part == "fields" else frozenset()


def scanned(constraint: Any, block: Block, now: list[RunRecord]) -> list[RunRecord]:
    """Return the present runs of a block that the constraint's scan finds."""
    found = constraint.scan.positions(block) if constraint.scan else None
    return now if found is None else [now[position] for position in sorted(found)]


REPEATED = 4  # times, so that few values become a column of choices


def alike(runs: list[RunRecord]) -> list[RunRecord]:
    """Return the runs that have the same parameters as the first one."""
    return [run for run in runs if list(run.job) == list(runs[0].job)]


@unhurried
@given(
    trees(comparisons | parameters),
    st.lists(records(), min_size=1, max_size=8),
    st.dictionaries(st.integers(0, 7), st.fixed_dictionaries({}, optional={"y": anything})),
)
def test_a_scan_of_columns_finds_every_match(
    tree: Any, runs: list[RunRecord], edits: dict[int, dict[str, Any]]
) -> None:
    constraint = parse(tree.text(), COLUMNS)
    for block in (runs, alike(runs), alike(runs) * REPEATED):
        now = [replace(run, fields=edits.get(at, run.fields)) for at, run in enumerate(block)]
        edited = frozenset(at for at in edits if at < len(block))
        found = scanned(constraint, Block(block, edited), now)
        matching = [run for run in now if constraint.matches(run)]
        assert [run for run in found if constraint.matches(run)] == matching


@unhurried
@given(trees(parameters), st.lists(records(), min_size=1, max_size=8))
def test_a_scan_of_parameters_finds_only_matches(tree: Any, runs: list[RunRecord]) -> None:
    constraint = parse(tree.text(), COLUMNS)
    for block in (alike(runs), alike(runs) * REPEATED):
        matching = [run for run in block if constraint.matches(run)]
        assert scanned(constraint, Block(block), block) == matching


@unhurried
@given(trees(comparisons))
def test_normalised_text_means_the_same(tree: Any) -> None:
    constraint = parse(tree.text(), COLUMNS)
    again = parse(constraint.text, COLUMNS)
    assert again == constraint
    assert again.text == constraint.text
    assert again.plan() == constraint.plan()


@unhurried
@given(trees(comparisons), trees(comparisons), records())
def test_and_is_a_list(one: Any, other: Any, record: RunRecord) -> None:
    first, second = parse(one.text(), COLUMNS), parse(other.text(), COLUMNS)
    both = first & second
    assert both == parse([one.text(), other.text()], COLUMNS)
    assert both.matches(record) is (first.matches(record) and second.matches(record))


@unhurried
@given(st.text())
@example('y = "\\')
@example("y = '\\'")
def test_any_text_can_be_a_value(value: str) -> None:
    record = RunRecord("s", 1, 1, "a", b"", {"name": value})
    constraint = parse(f"name = {quote(value)}", COLUMNS)
    assert constraint.matches(record)
    assert parse(constraint.text, COLUMNS).matches(record)


@unhurried
@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_any_finite_number_can_be_a_value(value: float) -> None:
    record = RunRecord("s", 1, 1, "a", b"", {}, fields={"y": value})
    assert parse(f"y = {value!r}", COLUMNS).matches(record)


WORDS = """x state y jobs. runs. and or not in true FINISHED 3 -1e5 1e999 . , ( ) [ (?"""
SIGNS = """= ! ~ * < > ' " \\"""
pieces = st.sampled_from([*WORDS.split(), *SIGNS.split(), " "])


@unhurried
@given(st.text() | st.lists(pieces, max_size=20).map(" ".join) | st.lists(pieces).map("".join))
@example("y~'[[a]'")
@example("y = \ud800")
@example("\x00")
@example("y = 0001-01-01T00:00+23:00")
def test_any_text_parses_or_raises_a_constraint_error(text: str) -> None:
    record = RunRecord("s", 1, 1, "a", b"", {"x": 1.0}, fields={"y": "a"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python's own warnings about unusual regular expressions
        try:
            constraint = parse(text, COLUMNS)
        except ConstraintError:
            return
    assert constraint.matches(record) in (True, False)


@unhurried
@given(
    trees(comparisons | parameters | atoms("attempt", numbers) | searches("lifecycle")),
    st.lists(records(), min_size=1, max_size=8),
)
def test_the_rows_that_match_are_those_of_the_records_that_match(
    tree: Any, runs: list[RunRecord]
) -> None:
    constraint = parse(tree.text(), COLUMNS)
    take = compile_filter(constraint.tree)
    for block in (runs, alike(runs)):
        named = [replace(run, reason=str(at)) for at, run in enumerate(block)]
        columns = encode_runs(named)
        ids = [run.id for run in named]
        for rows in (StoredRows.of(named), ColumnRows(ids, range(len(ids)), columns.get)):
            found = [run.reason for run in named if constraint.matches(run)]
            assert list(take(rows).values("reason")) == found
