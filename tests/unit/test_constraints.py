"""Parsing, evaluation, errors and plans of constraints."""

from __future__ import annotations

import math
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from motoko.core.constraints import ALL, Columns, Constraint, IndexPlan, parse, parse_each
from motoko.core.records import RunRecord
from motoko.core.states import Lifecycle
from motoko.errors import ConstraintError

pytestmark = pytest.mark.unit

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
JOB = {
    "x": "float", "n": "int", "name": "str", "ok": "bool", "when": "datetime",
    "axes": "list", "options": "dict",
}  # fmt: skip
OPEN = Columns("mult", JOB, {})
DECLARED = Columns("mult", {"x": "float", "seed": "int"}, {"x": "float", "energy": "float"})


def run(
    *,
    id: int = 7,  # noqa: A002 - the column's own name
    state: str = "FINISHED",
    job: dict[str, Any] | None = None,
    **fields: Any,
) -> RunRecord:
    lifecycle = Lifecycle(state) if state in list(Lifecycle) else Lifecycle.FINISHED
    values = {"x": 0.5, "n": 3, "name": "abc", "ok": True, "when": NOON}
    return RunRecord(
        study="mult",
        id=id,
        job_id=70,
        run_name="a",
        identity=b"",
        job=values if job is None else job,
        lifecycle=lifecycle,
        label=None if lifecycle == state else state,
        fields=fields,
    )


def matches(text: str | list[str], record: RunRecord, columns: Columns = OPEN) -> bool:
    return parse(text, columns).matches(record)


def refusal(constraints: Any, columns: Columns = OPEN) -> str:
    with pytest.raises(ConstraintError) as caught:
        parse(constraints, columns)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("state = FINISHED", True),
        ("state == FINISHED", True),
        ("state = 'FINISHED'", True),
        ("state = FAILED", False),
        ("state != FAILED", True),
        ("x > 0.4", True),
        ("x > .5", False),
        ("x >= 5e-1", True),
        ("x < 0.5", False),
        ("x <= +0.5", True),
        ("x > -1", True),
        ("n = 3.0", True),
        ("n != 3", False),
        ("name > abb", True),
        ("name = true", False),
        ("ok = true", True),
        ("ok = False", False),
        ("ok != false", True),
        ("when = 2024-05-01T12:00", True),
        ("when < '2024-05-01T12:00:01+00:00'", True),
        ("when > 2024-05-01T13:30+02:00", True),
        ("when > 2024-05-02", False),
        ("id in (6, 7)", True),
        ("id not in (6, 7)", False),
        ("name in (xyz, 'abc')", True),
        ("jobs.x = 0.5 and runs.id = 7 and jobs.id = 70 and job_id = 70", True),
        ("replicate = 0", True),
    ],
)
def test_comparison_of_a_present_value(text: str, expected: bool) -> None:
    assert matches(text, run()) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name ~ b", True),
        ("name ~ '^b'", False),
        ("name ~ B", False),
        ("name ~* B", True),
        ("name !~ b", False),
        ("name !~ B", True),
        ("name !~* B", False),
        (r"name ~ '^[a-c]{3}$'", True),
        (r"name ~ '\d'", False),
        (r"name ~ '\w+'", True),
    ],
)
def test_regular_expressions_are_searched_for(text: str, expected: bool) -> None:
    assert matches(text, run()) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("n = 3 or n = 4 and x = 9", True),  # and binds before or
        ("(n = 3 or n = 4) and x = 9", False),
        ("n = 3 or n = 4, x = 9", False),  # a comma binds last
        ("not n = 4 and x = 0.5", True),  # not binds before and
        ("not (n = 3 and x = 9)", True),
        ("not not n = 3", True),
        ("NOT n = 4 AND (x = 9 Or n In (3))", True),
        ("not(n=4)and(x=0.5)", True),
        ("n\n=\t3 ,\n x=0.5", True),
        (["n = 3 or n = 4", "x = 9"], False),
        (["n = 3", "", "x = 0.5"], True),
    ],
)
def test_precedence_of_connectives(text: str | list[str], expected: bool) -> None:
    assert matches(text, run()) is expected


@pytest.mark.parametrize(
    ("quoted", "value"),
    [
        ("'it''s'", "it's"),
        (r"'it\'s'", "it's"),
        ('"it\'s"', "it's"),
        ('"say ""hi"""', 'say "hi"'),
        (r'"say \"hi\""', 'say "hi"'),
        (r'"a\\"', "a\\"),
        (r'"a\n"', r"a\n"),
        ('"two\nlines"', "two\nlines"),
        ('""', ""),
        ('"state = FAILED, (not this)"', "state = FAILED, (not this)"),
        ("NEEDS-REVIEW", "NEEDS-REVIEW"),
        ("in-place", "in-place"),
        ("Größe", "Größe"),
    ],
)
def test_text_values(quoted: str, value: str) -> None:
    job = {"name": value}
    assert matches(f"name = {quoted}", run(job=job))
    assert not matches(f"name = {quoted}", run(job={"name": value + "."}))


@pytest.mark.parametrize(
    "text",
    [
        "y = 1", "y != 1", "y < 1", "y >= 1", "y ~ a", "y !~ a", "y in (1)", "y not in (1)",
        "not y = 1", "not y != 1", "not (y = 1 and n = 3)", "not (y = 1 or n = 4)",
        "label = A", "not label = A", "exit_code != 0", "nproc != 1",
    ],
)  # fmt: skip
def test_no_operator_matches_a_missing_field(text: str) -> None:
    assert not matches(text, run())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("y = 1 or n = 3", True),
        ("not (y = 1 and n = 4)", True),  # false for any y
        ("y = 1 and n = 3", False),
    ],
)
def test_unknown_is_the_result_only_if_the_rest_is_undecided(text: str, expected: bool) -> None:
    assert matches(text, run()) is expected


@pytest.mark.parametrize(
    ("value", "text", "expected"),
    [
        (2, "y = 2.0", True),
        (2.5, "y > 2", True),
        ("2", "y = 2", False),
        ("2", "y != 2", True),
        ("2", "y < 3", False),
        ("2", "not y < 3", True),
        (2, "y = '2'", False),
        (2, "y ~ '2'", False),
        (2, "y !~ '2'", True),
        (True, "y = 1", False),
        (True, "y != 1", True),
        (True, "y in (1, 2)", False),
        (True, "y = true", True),
        (1, "y = true", False),
        ("true", "y = true", False),
        ("true", "y = 'true'", True),
        (None, "y = 0", False),
        (None, "y != 0", True),
        ([1], "y = 1", False),
        ([1], "y not in (1, a)", True),
        (NOON, "y = 2024-05-01T12:00", True),
        (NOON, "y in (a, 2024-05-01T12:00)", True),
        (NOON, "y < soon", False),
        (math.nan, "y = 0", False),
        (math.nan, "y < 0", False),
        (math.nan, "y >= 0", False),
        (math.nan, "y in (0)", False),
        (math.nan, "y != 0", True),
        (math.inf, "y > 1e308", True),
        (10**400, "y > 1e308", True),
    ],
)
def test_undeclared_fields_compare_with_comparable_types(
    value: Any, text: str, expected: bool
) -> None:
    assert matches(text, run(y=value)) is expected


def test_a_declared_field_of_another_type_is_only_unequal() -> None:
    record = run(energy="broken")
    assert not matches("energy < 3", record, DECLARED)
    assert matches("energy != 3", record, DECLARED)


def test_state_is_the_label_and_lifecycle_is_not() -> None:
    record = run(state="FORWARDED")
    assert matches("state = FORWARDED, lifecycle = FINISHED, label ~ '^FOR'", record)
    assert not matches("state = FINISHED", record)


def test_job_and_run_fields_of_one_name_are_distinguished() -> None:
    record = run(job={"x": 1.0}, x=2.0)
    assert matches("jobs.x = 1, runs.x = 2", record, DECLARED)
    assert matches("x = 1 and runs.x = 2", record, OPEN)  # the bare name is the declared one


def test_run_options_are_columns() -> None:
    record = RunRecord("mult", 1, 1, "a", b"", {}, options={"nproc": 4})
    assert matches("nproc >= 4", record)


@pytest.mark.parametrize("nothing", [None, "", "  \n", [], (), ["", " "]])
def test_an_empty_constraint_matches_all_runs(nothing: Any) -> None:
    constraint = parse(nothing, OPEN)
    assert constraint == ALL
    assert constraint.matches(run(state="FAILED"))
    assert constraint.plan() == IndexPlan(None, None, None, exact=True)
    assert constraint.text == ""


# --- refused text ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "column", "phrases"),
    [
        ("x >> 3", 4, ["expected a value, found '>'"]),
        ("x =", 4, ["expected a value, found the end"]),
        ("x", 2, ["an operator"]),
        ("x 3", 3, ["an operator", "found '3'"]),
        ("state FINISHED", 7, ["an operator", "state = FINISHED"]),
        ("state: FINISHED", 6, ["Write '=', not ':'"]),
        ("x = 3 and", 10, ["expected a column name"]),
        ("x = 3,", 7, ["expected a column name"]),
        ("and x = 3", 1, ["expected a column name, found 'and'"]),
        ("x = not", 5, ["expected a value, found 'not'"]),
        ("3 < id", 1, ["column comes first"]),
        ("'a' = name", 1, ["column comes first"]),
        ("-3 < id", 1, ["column comes first"]),
        ("1 < x < 3", 1, ["column comes first"]),
        ("name = 'abc", 8, ["not closed"]),
        ("name = John Smith", 13, ["'and', 'or' or ','", "quotes"]),
        ("name = 3abc", 8, ["quotes"]),
        ("(x = 3", 7, ["')'"]),
        ("x = 3)", 6, ["closes nothing"]),
        ("(x = 3) )", 9, ["closes nothing"]),
        ("x = )", 5, ["a value"]),
        ("()", 2, ["a column name"]),
        ("id in 3", 7, ["'('", "in (a, b)"]),
        ("id in ()", 8, ["a value"]),
        ("id in (1 2)", 10, ["',' or ')'"]),
        ("id not (1)", 8, ["'in'"]),
        ("x <> 3", 4, ["Write '!=', not '<>'"]),
        ("x =< 3", 4, ["Write '<='"]),
        ("name =~ a", 7, ["Write '~'"]),
        ("x = 3 && n = 3", 7, ["Write 'and'"]),
        ("x = 3 || n = 3", 7, ["Write 'or'"]),
        ("!x = 3", 1, ["Write 'not'"]),
        ("x = 1e999", 5, ["too large"]),
        ("nam.x = 3", 1, ["unknown column 'nam.x'"]),
        ("job.x = 3", 1, ["Write jobs.x"]),
        ("jobs.nn = 3", 1, ["jobs have no field 'nn'", "Did you mean 'n'?"]),
        ("study = mult", 1, ["unknown column 'study'"]),
        ("x = 3 and x = abc", 15, ["'x' is a float", "the text 'abc'", "a number"]),
        ("n = '3'", 5, ["'n' is an int", "without quotes"]),
        ("x < n", 5, ["columns cannot be compared with each other"]),
        ("x in (1, a)", 10, ["'x' is a float"]),
        ("name = 3", 8, ["'name' is a str", 'Put it in quotes: "3"']),
        ("state = 3", 9, ["'state' is a str", "quotes"]),
        ("ok = 1", 6, ["'ok' is a bool", "Give true or false"]),
        ("ok = 'true'", 6, ["without quotes"]),
        ("ok < true", 6, ["neither less nor greater"]),
        ("y >= false", 6, ["neither less nor greater"]),
        ("when > 5", 8, ["'when' is a datetime", "ISO 8601"]),
        ("when > tomorrow", 8, ["ISO 8601"]),
        ("when > '0001-01-01T00:00+23:00'", 8, ["ISO 8601"]),  # before the first year in UTC
        ("axes = 3", 1, ["'axes' is a list", "run filter"]),
        ("options = a", 1, ["'options' is a dict"]),
        ("x ~ a", 1, ["'x' is a float"]),
        ("ok ~ a", 1, ["'ok' is a bool"]),
        ("name ~ 3", 8, ["quotes"]),
        ("y ~ 3", 5, ["quotes"]),
        ("name ~ '('", 8, ["bad regular expression"]),
        ("name !~* '*a'", 10, ["bad regular expression"]),
        ("name ~ 'a{99999999999}'", 8, ["bad regular expression"]),
        (
            "run_name = a",
            1,
            ["constraints cannot select run names", "`--run_name N`", "workflow.run_name"],
        ),
        ("runs.run_name = a", 1, ["constraints cannot select run names"]),
    ],
)
def test_invalid_constraints_are_refused(text: str, column: int, phrases: list[str]) -> None:
    message = refusal(text)
    first, shown, mark = message.splitlines()[:3]
    assert "study 'mult'" in first
    assert f"column {column}: " in first
    assert text in first
    assert shown == f"    {text}"
    assert mark == " " * (4 + column - 1) + "^"
    for phrase in phrases:
        assert phrase in message


def test_undeclared_names_are_refused_if_run_fields_are_declared() -> None:
    assert "Did you mean 'energy'?" in refusal("enery < 0", DECLARED)
    assert "Known: energy, id, seed, state, x." in refusal("zz = 0", DECLARED)
    assert "Did you mean" in refusal("runs.sed = 0", DECLARED)


def test_a_name_that_is_ambiguous_in_one_study_is_refused() -> None:
    studies = [Columns("s", {"nproc": "int"}, {"y": "int"}), Columns("t", {"x": "int"}, {})]
    assert list(parse_each("x = 1", studies)) == ["t"]
    with pytest.raises(ConstraintError, match="'nproc' is ambiguous"):
        parse_each("nproc = 1", studies)


def test_name_of_both_job_and_run_is_ambiguous() -> None:
    message = refusal("x = 1", DECLARED)
    assert "ambiguous" in message
    assert "jobs.x or runs.x" in message
    assert "jobs.id or runs.id" in refusal("id = 1", Columns("s", {"id": "int"}, {}))


def test_job_field_called_run_name_needs_its_prefix() -> None:
    columns = Columns("s", {"run_name": "str"}, {})
    assert matches("jobs.run_name = b", run(job={"run_name": "b"}), columns)
    assert "constraints cannot select run names" in refusal("run_name = b", columns)


@pytest.mark.parametrize(
    "constraints", [3, b"x = 3", {"x = 3"}, {"x": 3}, [["x = 3"]], ["x = 3", None], [3], object()]
)
def test_a_constraint_must_be_text(constraints: Any) -> None:
    assert "is not text" in refusal(constraints)


def test_deeply_nested_lists_are_refused() -> None:
    nested: list[Any] = ["x = 3"]
    for _ in range(10_000):
        nested = [nested]
    assert "is not text" in refusal(nested)


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("(" * 10_000 + "x = 1" + ")" * 10_000, "nested 10000 deep"),
        ("not " * 10_000 + "x = 1", "nested 10000 deep"),
        ("(" * 10_000, "found the end"),
        ("x = 1, " * 20_000 + "x = 1", "at most 100000"),
        ("n = " + "9" * 5000, "too large"),
        ("n = " + "9" * 400, "too large"),
        ("x = 1, " * 3000 + "x = q", "'x' is a float"),
    ],
)
def test_long_and_deep_text_is_refused_with_a_short_message(text: str, phrase: str) -> None:
    message = refusal(text)
    assert phrase in message
    assert max(map(len, message.splitlines())) < 300


def test_long_constraints_within_the_limits_are_accepted() -> None:
    assert matches("id in (" + ", ".join(map(str, range(10_000))) + ")", run(id=9_999))
    assert matches(["n = 3"] * 2_000, run())
    assert matches("(" * 30 + "n = 3" + ")" * 30, run())


# --- warnings --------------------------------------------------------------------------------


def test_an_undeclared_name_similar_to_a_declared_one_warns() -> None:
    (warning,) = parse("stat = FINISHED or stat = FAILED", OPEN).warnings
    assert "'stat'" in warning
    assert "did you mean 'state'" in warning
    assert parse("pressure > 3", OPEN).warnings == ()
    assert parse("runs.name = a", OPEN).warnings == ()


@pytest.mark.parametrize(
    "text", ["state = finished", "state in (A, Finished)", "lifecycle != finished"]
)
def test_state_in_lower_case_warns(text: str) -> None:
    (warning,) = parse(text, OPEN).warnings
    assert "did you mean FINISHED" in warning


@pytest.mark.parametrize(
    "text", ["state = FORWARDED", "state = START", "state ~ fin", "name = lost"]
)
def test_other_states_do_not_warn(text: str) -> None:
    assert parse(text, OPEN).warnings == ()


# --- text, equality, and ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        (["runs.id<3", "state='FINISHED'"], "id < 3 and state = FINISHED"),
        ("x==1e3", "x = 1000.0"),
        ("(n=3 or (n=4))", "n = 3 or n = 4"),
        ("NOT(n=3,x=1)", "not (n = 3 and x = 1)"),
        ("n=3 or n=4, x=1", "(n = 3 or n = 4) and x = 1"),
        ("n NOT IN(1,2)", "n not in (1, 2)"),
        ("name !~* 'a b'", 'name !~* "a b"'),
        (r"name ~ '\d\w'", r'name ~ "\d\w"'),
        (r"y = 'a\\'", r'y = "a\\"'),
        ("y = 'true' or y = True", 'y = "true" or y = true'),
        ("y = '3'", 'y = "3"'),
        ("jobs.id = 3", "job_id = 3"),
        ("runs.name = a", "runs.name = a"),
        ("when > 2024-05-01", 'when > "2024-05-01T00:00:00+00:00"'),
    ],
)
def test_normalised_text(text: Any, normal: str) -> None:
    constraint = parse(text, OPEN)
    assert constraint.text == str(constraint) == normal
    assert parse(normal, OPEN) == constraint


def test_equal_constraints_are_equal_and_hashable() -> None:
    one, other = parse("n=3, x=1", OPEN), parse("(n = 3) and x = 1", OPEN)
    assert one == other
    assert hash(one) == hash(other)
    assert one != parse("n = 3", OPEN)


def test_and_combines_predicates_texts_plans_and_warnings() -> None:
    left = parse("state = FINISHED or stat = 1", OPEN)
    right = parse("id > 6", OPEN)
    both = left & right
    assert both.text == "(state = FINISHED or stat = 1) and id > 6"
    assert both == parse(both.text, OPEN)
    assert both.warnings == left.warnings
    assert both.plan() == IndexPlan(None, 7, None, exact=False)
    assert both.matches(run(id=7))
    assert not both.matches(run(id=6))
    assert not both.matches(run(id=7, state="FAILED"))


def test_and_with_all_changes_nothing() -> None:
    constraint = parse("n = 3 and x = 1", OPEN)
    assert ALL & constraint == constraint & ALL == constraint
    assert isinstance(constraint & ALL, Constraint)


# --- plans -----------------------------------------------------------------------------------

NOTHING = IndexPlan(frozenset(), 0, 0, exact=True)


def states(*names: str, exact: bool = True) -> IndexPlan:
    return IndexPlan(frozenset(names), None, None, exact)


def ids(low: int | None, high: int | None, exact: bool = True) -> IndexPlan:
    return IndexPlan(None, low, high, exact)


@pytest.mark.parametrize(
    ("text", "plan"),
    [
        ("state = A", states("A")),
        ("state in (A, B)", states("A", "B")),
        ("state = A or state = B", states("A", "B")),
        ("state != A", ids(None, None, exact=False)),
        ("not state != A", states("A")),
        ("not (state != A and state != B)", states("A", "B")),
        ("state in (A, B) and state != A", states("B")),
        ("state in (A, B) and state not in (B, C)", states("A")),
        ("state = A or state != A", ids(None, None)),
        ("state = A and state = B", NOTHING),
        ("state ~ A", ids(None, None, exact=False)),
        ("lifecycle = FINISHED", ids(None, None, exact=False)),
        ("state = A and x > 3", states("A", exact=False)),
        ("state = A or x > 3", ids(None, None, exact=False)),
        ("not (state != A or x > 3)", states("A", exact=False)),
        ("id < 3", ids(None, 2)),
        ("id <= 3", ids(None, 3)),
        ("id > 3", ids(4, None)),
        ("id >= 3", ids(3, None)),
        ("id < 2.5", ids(None, 2)),
        ("id >= 2.5", ids(3, None)),
        ("id > 2.5", ids(3, None)),
        ("id <= -2.5", ids(None, -3)),
        ("not id < 3", ids(3, None)),
        ("id = 3", ids(3, 3)),
        ("id = 3.0", ids(3, 3)),
        ("id = 3.5", NOTHING),
        ("id != 3.5", ids(None, None)),
        ("id != 3", ids(None, None, exact=False)),
        ("id in (3, 5)", ids(3, 5, exact=False)),
        ("id in (4, 3, 5, 5)", ids(3, 5)),
        ("id > 3 and id < 6", ids(4, 5)),
        ("id > 3 and id < 4", NOTHING),
        ("id = 3 or id = 4", ids(3, 4)),
        ("id = 3 or id = 5", ids(3, 5, exact=False)),
        ("id < 5 or id > 2", ids(None, None)),
        ("id = 3.5 or id = 5", ids(5, 5)),
        ("state = A and id = 3", IndexPlan(frozenset("A"), 3, 3, exact=True)),
        ("state = A or id = 3", ids(None, None, exact=False)),
        ("state = A and id < 3 or state = B and id < 3", IndexPlan(frozenset("AB"), None, 2, True)),
        (
            "state = A and id < 3 or state = B and id < 5",
            IndexPlan(frozenset("AB"), None, 4, False),
        ),
        ("state = A or state = A and id < 5", states("A")),
        ("job_id = 3", ids(None, None, exact=False)),
        ("jobs.x = 3 and state = A and state = B", NOTHING),
    ],
)
def test_plan(text: str, plan: IndexPlan) -> None:
    assert parse(text, OPEN).plan() == plan


def test_plan_distinguishes_a_job_field_from_the_state() -> None:
    columns = Columns("s", {"state": "str"}, {})
    assert parse("jobs.state = A", columns).plan() == IndexPlan(None, None, None, exact=False)


def test_parser_library_is_imported_only_to_parse() -> None:
    program = "import sys, motoko.core.constraints; sys.exit('lark' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
