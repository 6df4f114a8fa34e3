"""The pure parts of the screens: causes of failures, throughput, forecasts, flow and plots."""

from __future__ import annotations

import math
import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motoko.core.progress import EndedRun, ProgressModel, StudyProgress, TimeLeft
from motoko.core.records import RunKey
from motoko.core.run_targets import RunTarget
from motoko.core.states import Lifecycle
from motoko.errors import UnknownRunError
from motoko.operations.bulk_edit import RunSelection
from motoko.operations.verbs import Verb, command_line
from motoko.views.campaign import EventView
from motoko.views.failures import FailedRun, group_failures, pattern
from motoko.views.flow import flow_layers, flow_of
from motoko.views.past import PastRun, replay
from motoko.views.plots import CATEGORIES, plot_column
from motoko.views.run import POINTS, thinned
from motoko.views.runs import ListedRuns
from motoko.views.text import end_text, ordered, rate_text, sign
from motoko.views.throughput import COLUMNS, Throughput

pytestmark = pytest.mark.unit


# -- failures -----------------------------------------------------------------------------------


def failed(run_id: int, text: str, *, code: int | None = 1, outcome: str = "FAILED") -> FailedRun:
    return FailedRun(RunKey("s", run_id), outcome, code, text, float(run_id))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("no convergence in 200 steps", "no convergence in 17 steps"),
        ("error 1.5e-7 too large", "error -.3 too large"),
        ("cannot open /scratch/a/x.dat", "cannot open ../run-7/y.dat"),
        ("at 0x7ffee1b2", "at 0x55d0"),
        ("a   b", "a b"),
    ],
)
def test_lines_of_one_cause_have_one_pattern(one: str, other: str) -> None:
    assert pattern(one) == pattern(other)


def test_words_are_no_details() -> None:
    lines = ["KeyError: mass", "KeyError: length", "ValueError: mass", "disk full", ""]
    assert len({pattern(line) for line in lines}) == len(lines)


def test_failures_are_grouped_by_study_outcome_code_and_pattern() -> None:
    runs = [
        failed(1, "step 1 failed"), failed(2, "step 2 failed"), failed(9, "step 9 failed"),
        failed(3, "step 3 failed", code=2), failed(4, "", outcome="TIMEOUT", code=None),
    ]  # fmt: skip
    groups = group_failures(runs)

    assert [group.number for group in groups] == [3, 1, 1]
    largest = groups[0]
    assert largest.text == "step 9 failed", "the newest"
    assert largest.target == RunTarget("s", ((1, 2), (9, 9)))
    assert (largest.first, largest.last) == (1.0, 9.0)
    assert sum(largest.counts) == 3
    assert largest.cause == "exit 1"
    assert {group.cause for group in groups[1:]} == {"exit 2", "TIMEOUT"}


@given(st.lists(st.tuples(st.integers(1, 500), st.sampled_from("abc"), st.integers(-9, 9))))
def test_every_failed_run_is_in_one_group(found: list[tuple[int, str, int]]) -> None:
    runs = [failed(run_id, text, code=code) for run_id, text, code in found]
    groups = group_failures(runs)

    assert sum(group.number for group in groups) == len(runs)
    assert all(sum(group.counts) == group.number for group in groups)
    assert len({group.id for group in groups}) == len(groups)


# -- throughput and forecasts --------------------------------------------------------------------


@given(st.lists(st.integers(0, 20_000)), st.integers(0, 20_000))
def test_no_recent_end_is_lost_in_the_columns(times: list[int], now: int) -> None:
    throughput = Throughput()
    past = [at for at in times if at <= now]
    throughput.add(map(float, past))
    counts, interval = throughput.columns(float(now))

    assert len(counts) == COLUMNS
    # Columns are aligned to units of time, so the first may lack a part of its interval.
    assert sum(counts) >= sum(now - at <= (COLUMNS - 1) * interval for at in past)
    assert sum(counts) <= sum(now - at <= (COLUMNS + 1) * interval for at in past)
    if past and now - min(past) < 10_000:
        assert sum(counts) == len(past), "a young campaign is shown whole"


def test_a_replayed_past_gives_the_rate_at_once() -> None:
    # Two runs a second for 200 s, in order; each took 5 s, and existed long before.
    past = [
        PastRun(0.0, 1000.0 + n / 2, EndedRun("s", Lifecycle.FINISHED, 5.0)) for n in range(400)
    ]
    now, model = 1200.0, ProgressModel()
    counts = {"s": {"FINISHED": 400, "CREATED": 600}}
    replay(model, past, counts, monotonic=50.0, now=now)
    found = model.add(50.0, counts, counts)["s"]

    assert found.rate == pytest.approx(2.0, rel=0.1)
    assert found.mean == 5.0
    assert found.left is not None
    assert found.left.seconds == pytest.approx(300.0, rel=0.1)


def test_a_past_that_is_long_ago_gives_no_rate() -> None:
    past = [PastRun(0.0, n / 2, EndedRun("s", Lifecycle.FINISHED, 5.0)) for n in range(400)]
    model = ProgressModel()
    counts = {"s": {"FINISHED": 400, "CREATED": 600}}
    replay(model, past, counts, monotonic=50.0, now=90_000.0)

    assert model.add(50.0, counts, counts)["s"].rate is None


def test_a_forecast_says_no_more_than_is_known() -> None:
    now = time.mktime((2026, 3, 4, 12, 0, 0, 0, 0, -1))
    known = StudyProgress(known=10, done=4)
    assert end_text(known, now) == ""
    assert end_text(StudyProgress(known=10, done=10), now) == ""
    assert "no run has ended" in end_text(StudyProgress(known=10, done=4, silent=600.0), now)
    about = StudyProgress(known=10, done=4, left=TimeLeft(3600.0))
    assert end_text(about, now) == "ends about 13:00"
    between = StudyProgress(known=10, done=4, left=TimeLeft(3600.0, 1800.0, 7200.0))
    assert end_text(between, now) == "ends about 13:00 (12:30 to 14:00)"
    later = StudyProgress(known=10, done=4, left=TimeLeft(86400.0))
    assert end_text(later, now) == "ends about Thu 05 Mar 12:00"


@pytest.mark.parametrize(
    ("rate", "text"),
    [(None, ""), (250.0, "250/s"), (2.14, "2.1/s"), (0.5, "30.0/min"), (0.01, "36.0/h")],
)
def test_rates_have_a_unit_that_suits(rate: float | None, text: str) -> None:
    assert rate_text(rate) == text


def test_each_state_has_a_sign_and_labels_share_one() -> None:
    signs = {state: sign(state)[0] for state in Lifecycle}
    assert len(set(signs.values())) == len(signs) - 1, "FAILED and TIMEOUT share a cross"
    assert sign("REFINED") == sign("BEST")
    assert [*ordered(["CREATED", "BEST", "FAILED", "FINISHED"])] == [
        "FINISHED", "BEST", "FAILED", "CREATED",
    ]  # fmt: skip


# -- flow ---------------------------------------------------------------------------------------


def event(name: str, studies: str) -> EventView:
    return EventView(f"{studies}.{name}", studies, "", f"{name} (steps.py:3)", False, 0, 0, 0, "")


def test_an_action_leads_from_the_studies_of_its_event() -> None:
    creators = {"a": Counter(main=5), "b": Counter(refine=3, odd=1)}
    flow = flow_of(creators, [event("refine", "a")])

    edges = {(edge.source, edge.cause, edge.target): edge.number for edge in flow.edges}
    assert edges == {
        ("main", "main", "a"): 5,
        ("a", "refine", "b"): 3,
        ("users and scripts", "odd", "b"): 1,
    }
    assert flow.nodes == {"a": 5, "b": 4}


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcd")), max_size=12))
def test_every_node_is_in_one_layer_even_in_cycles(pairs: list[tuple[str, str]]) -> None:
    creators: dict[str, Counter[str]] = {}
    for number, (_, target) in enumerate(pairs):
        creators.setdefault(target, Counter())[f"f{number}"] = 1
    flow = flow_of(creators, [event(f"f{n}", source) for n, (source, _) in enumerate(pairs)])

    names = [name for layer in flow_layers(flow) for name in layer]
    assert len(names) == len(set(names))
    assert set(names) == {name for pair in pairs for name in pair}


# -- plots --------------------------------------------------------------------------------------


def test_thinning_keeps_the_extremes() -> None:
    points = [(float(n), math.sin(n / 700)) for n in range(50_000)]
    points[31_234] = (31_234.0, 9.0)
    points[7] = (7.0, -9.0)
    shown = thinned(points)

    assert len(shown) <= POINTS + 2
    assert (31_234.0, 9.0) in shown
    assert (7.0, -9.0) in shown
    assert shown == sorted(shown)


def test_numbers_stay_numbers_and_texts_become_categories() -> None:
    assert plot_column("x", [1, 2.5, None, True]).values == [1.0, 2.5, None, 1.0]
    assert plot_column("x", [1.0, math.nan, math.inf, 10**400]).values == [1.0, None, None, None]
    found = plot_column("x", ["b", "a", None, "b"])
    assert found.categories == ["a", "b"]
    assert found.values == [1.0, 0.0, None, 1.0]
    unsafe = plot_column("x", ["\ud800", "\x1b[31m", "\ud800"])
    assert unsafe.values[0] == unsafe.values[2] != unsafe.values[1]
    assert all(text.isprintable() for text in unsafe.categories)
    mixed = plot_column("x", [1, "a"])
    assert set(mixed.categories) == {"1", "a"}


def test_rare_categories_are_joined() -> None:
    values = [f"c{n % 40}" for n in range(400)] + ["often"] * 50
    found = plot_column("x", values)

    assert len(found.categories) == CATEGORIES + 1
    assert "often" in found.categories
    assert all(value is not None and value < len(found.categories) for value in found.values)


# -- lists and commands --------------------------------------------------------------------------


def test_a_list_of_runs_is_a_sequence_of_keys() -> None:
    runs = ListedRuns(["a", "b"])
    runs.add("a", [1, 2])
    runs.add("b", [7])

    assert list(runs) == [RunKey("a", 1), RunKey("a", 2), RunKey("b", 7)]
    assert runs[1:] == [RunKey("a", 2), RunKey("b", 7)]
    assert list(runs.take([2, 0])) == [RunKey("b", 7), RunKey("a", 1)]
    with pytest.raises(IndexError):
        runs[3]


@pytest.mark.parametrize(
    ("verb", "selection", "command"),
    [
        (Verb.RETRY, RunSelection.parse_texts(["s.3-5,9"]), "motoko retry s.3-5,9"),
        (
            Verb.CANCEL,
            RunSelection.parse_texts(["s"], ["x > 1"], "a b"),
            "motoko cancel s --where 'x > 1' --run_name 'a b'",
        ),
        (Verb.CANCEL, RunSelection(run_name="n"), "motoko cancel --run_name n --all"),
        (Verb.HOLD, RunSelection(run_name="n"), "motoko hold --run_name n"),
        (Verb.RELEASE, RunSelection(), "motoko release --all"),
    ],
)
def test_a_verb_names_the_command_that_does_the_same(
    verb: Verb, selection: RunSelection, command: str
) -> None:
    assert command_line(verb, selection) == command


@pytest.mark.parametrize("digits", [19, 5000])
def test_a_number_too_long_for_a_run_names_none(digits: int) -> None:
    with pytest.raises(UnknownRunError):
        RunKey.parse("s." + "9" * digits)
