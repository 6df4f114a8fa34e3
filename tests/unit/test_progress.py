"""Rates, forecasts and the limits of what is printed: pure functions of samples."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from motoko.cli import progress as shown
from motoko.core.pacing import FailureLimiter, LinePacer
from motoko.core.progress import (
    MAX_POINTS,
    EndedRun,
    History,
    Point,
    ProgressModel,
    StudyProgress,
    TimeLeft,
    rate_of,
    time_left,
)
from motoko.core.reasons import Code, reason
from motoko.core.records import RunKey
from motoko.core.states import Lifecycle
from motoko.operations.progress import Failure, Progress, Wait, grouped

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.unit

FINISHED = EndedRun("s", Lifecycle.FINISHED, 2.0)


def steady(rate: float, seconds: int, *, known: int = 10_000, start: float = 0.0) -> list[Point]:
    numbers = [int(rate * second) for second in range(seconds + 1)]
    return [Point(start + at, known, known - n, n) for at, n in enumerate(numbers)]


def follow(ends: Sequence[tuple[float, int]], *, known: int = 1000) -> StudyProgress:
    """Return the progress after these numbers of ends at these times."""
    history, left = History(), known
    for at, number in ends:
        left -= number
        history.add(at, known, left, [FINISHED] * number)
    return history.progress({}, 0)


# -- rates ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.1, 1.0, 20.0])
def test_a_steady_rate_is_found(rate: float) -> None:
    found = rate_of(steady(rate, 1000), 1000.0)

    assert found is not None
    assert found.per_second == pytest.approx(rate, rel=0.02)
    assert found.created == 0


@pytest.mark.parametrize(
    "points", [[], [Point(0, 9, 9, 0)], [Point(0, 9, 9, 0), Point(9, 9, 5, 4)], steady(100, 2)]
)
def test_no_rate_is_shown_before_enough_data(points: list[Point]) -> None:
    assert rate_of(points, points[-1].at if points else 0.0) is None


def test_a_rate_follows_a_change() -> None:
    slow = steady(1.0, 1000)
    fast = [Point(1000 + s, 10_000, 9000 - 10 * s, 1000 + 10 * s) for s in range(1, 41)]
    found = rate_of(slow + fast, 1040.0)

    assert found is not None
    assert found.per_second == pytest.approx(10.0, rel=0.1)


def test_the_window_spans_several_runs_because_they_end_in_waves() -> None:
    # 100 slots, runs of 60 s: 100 ends at once, every minute.
    waves = [Point(60.0 * n, 10_000, 10_000 - 100 * n, 100 * n) for n in range(20)]
    found = rate_of(waves, 19 * 60 + 1, mean=60.0)

    assert found is not None
    assert found.per_second == pytest.approx(100 / 60, rel=0.3)
    left = time_left(8100, found)
    assert left is not None
    assert left.low is None or left.low < 8100 / (100 / 60) < (left.high or 0)


def test_the_rate_leaves_out_the_time_without_runs() -> None:
    history = History()
    history.add(0.0, 0, 0, [])
    history.add(1000.0, 100, 100, [])
    history.add(1010.0, 100, 50, [FINISHED] * 50)
    history.add(1020.0, 100, 0, [FINISHED] * 50)
    history.add(5000.0, 200, 100, [])
    found = history.progress({}, 0)

    assert found.rate == pytest.approx(5.0)
    assert found.left is None  # a new generation of runs was created: more may follow
    assert found.grows


# -- forecasts --------------------------------------------------------------------------------


def test_the_interval_of_a_forecast_holds_the_true_time_in_most_cases() -> None:
    draw, held, given = random.Random(7), 0, 0
    for _ in range(200):
        history, at, known = History(), 0.0, 600
        history.add(0.0, known, known, [])
        for left in range(known - 1, known - 201, -1):
            at += draw.expovariate(2.0)
            history.add(at, known, left, [FINISHED])
        left_then = history.progress({}, 0).left
        true = sum(draw.expovariate(2.0) for _ in range(400))
        assert left_then is not None
        if left_then.low is not None and left_then.high is not None:
            given += 1
            held += left_then.low <= true <= left_then.high

    assert given > 150
    assert held / given > 0.8


def test_a_forecast_without_much_data_has_no_interval() -> None:
    found = follow([(0.0, 0), (5.0, 3), (10.0, 3)], known=20)

    assert found.left == TimeLeft(14 / 0.6)


def test_no_end_is_forecast_while_as_many_runs_are_created_as_end() -> None:
    history, known, left = History(), 100, 100
    for second in range(100):
        history.add(float(second), known, left, [FINISHED] * (second > 0))
        known += 1
    found = history.progress({}, 0)

    assert found.left is None
    assert found.grows
    assert found.rate == pytest.approx(1.0, rel=0.05)


def test_runs_created_before_the_first_end_are_no_growth() -> None:
    history = History()
    history.add(0.0, 0, 0, [])
    for second in range(1, 50):
        history.add(float(second), 1000, 1000 - second, [FINISHED])
    found = history.progress({}, 0)

    assert not found.grows
    assert found.left is not None
    assert found.left.seconds == pytest.approx(951, rel=0.1)


def test_silence_replaces_the_forecast() -> None:
    ends = [(float(second), 1) for second in range(60)]
    silent = follow([*ends, (600.0, 0)])

    assert follow(ends).left is not None
    assert (silent.left, silent.rate) == (None, None)
    assert silent.silent == pytest.approx(541.0)
    assert follow([*ends, (600.0, 0)], known=60).silent is None  # nothing is left


def test_cancelled_runs_do_not_count_as_work() -> None:
    history = History()
    history.add(0.0, 1000, 1000, [])
    history.add(10.0, 1000, 500, [EndedRun("s", Lifecycle.CANCELLED)] * 500)

    assert history.progress({}, 500).rate is None


def test_ends_before_the_first_sample_and_retries_do_not_disturb_the_rate() -> None:
    history = History()
    history.add(0.0, 1000, 100, [])  # resumed: 900 ended before
    history.add(10.0, 1000, 90, [FINISHED] * 10)
    history.add(20.0, 1000, 300, [FINISHED] * 10)  # failed runs were sent back to CREATED
    found = history.progress({}, 0)

    assert (found.done, found.percent) == (700, 70)
    assert found.rate == pytest.approx(1.0)


@pytest.mark.parametrize(("done", "known", "percent"), [(0, 0, 0), (999, 1000, 99), (7, 7, 100)])
def test_only_all_runs_are_100_percent(done: int, known: int, percent: int) -> None:
    assert StudyProgress(known=known, done=done).percent == percent


def test_the_number_of_points_is_bounded() -> None:
    history = History()
    for second in range(20 * MAX_POINTS):
        history.add(float(second), 10**6, 10**6 - second, [FINISHED])

    assert len(history.points) <= MAX_POINTS
    assert history.progress({}, 0).rate == pytest.approx(1.0, rel=0.05)


def test_studies_have_their_own_means_and_a_sum() -> None:
    model = ProgressModel()
    counts: dict[str, dict[str, int]] = {"s": {"CREATED": 4}, "t": {"CREATED": 2}}
    model.add(0.0, counts, counts)
    after = {"s": {"CREATED": 1, "FINISHED": 2, "FAILED": 1}, "t": {"CREATED": 2}}
    labelled = {"s": {"CREATED": 1, "GOOD": 2, "FAILED": 1}, "t": {"CREATED": 2}}
    ends = [EndedRun("s", Lifecycle.FINISHED, 1.0), EndedRun("s", Lifecycle.FINISHED, 3.0),
            EndedRun("s", Lifecycle.FAILED)]  # fmt: skip
    found = model.add(1.0, labelled, after, ends)
    again = model.add(2.0, labelled, after, [EndedRun("s", Lifecycle.FINISHED, 5.0)])

    assert found["s"].mean == 2.0
    assert again["s"].mean == 3.0
    assert found["t"].mean is None
    assert found["s"].counts == labelled["s"]
    assert (found[""].known, found[""].done, found[""].failed) == (6, 3, 1)
    assert found[""].counts == {"CREATED": 3, "GOOD": 2, "FAILED": 1}


# -- what is printed --------------------------------------------------------------------------


def test_lines_become_rare_but_a_failure_is_printed_soon() -> None:
    pacer = LinePacer()
    due = [second for second in range(1000) if pacer.is_due(float(second))]

    assert due[:6] == [0, 1, 3, 7, 15, 31]
    assert {b - a for a, b in pairwise(due[7:])} == {60}
    assert pacer.is_due(due[-1] + 2.0, urgent=True)
    assert not pacer.is_due(due[-1] + 2.5, urgent=True)


def test_few_failures_are_printed_and_the_others_counted() -> None:
    limiter = FailureLimiter()

    assert limiter.admit(0.0, 0) == (0, 0)
    assert limiter.admit(1.0, 2) == (2, 0)
    assert limiter.admit(2.0, 98) == (1, 0)
    assert limiter.admit(30.0, 1) == (0, 0)
    assert limiter.admit(61.0, 0) == (0, 98)
    assert limiter.admit(62.0, 5) == (3, 0)
    assert limiter.flush() == 2
    assert limiter.flush() == 0


def test_waiting_runs_are_grouped_by_what_they_wait_for() -> None:
    slots = reason(Code.SLOTS_IN_USE, used=20, limit=4, needed=1)
    retries = [reason(Code.RETRY_DELAYED, seconds=s, at=1000.0 + s, after="") for s in (9.0, 5.0)]
    ignored = [reason(Code.NO_LAUNCHER), reason(Code.CLAIM_DUE), reason(Code.RETRY_DUE, after="")]
    found = grouped([(slots, 10.0), *((r, 1.0) for r in [*retries, *ignored])], 1000.0)

    assert [(wait.runs, wait.about) for wait in found] == [(10, True), (2, False)]
    assert found[0].text == "4 of 4 slots are in use (max_concurrent)"
    assert found[1].text.startswith("the next retry is at ")
    assert found[1].text.endswith(":45")


def test_texts_are_honest() -> None:
    total = StudyProgress(known=40_000, done=24_310, failed=12, rate=2.1, grows=True)
    assert shown.total_text(total) == "60 % of 40,000 known runs, 12 failed, 2.1/s"
    assert shown.total_text(StudyProgress()) == "no runs yet"
    assert shown.total_text(StudyProgress(known=1)) == "0 % of 1 run"
    silent = StudyProgress(known=5, done=1, silent=720.0)
    assert shown.total_text(silent) == "20 % of 5 runs, no run has ended for 12 min 0 s"
    assert shown.left_text(TimeLeft(4560, 3900, 5400)) == (
        "about 1 h 16 min left (1 h 5 min to 1 h 30 min)"
    )
    assert shown.left_text(TimeLeft(0.2, 0.1, 0.3)) == "about 1 s left"
    rates = {20.4: "20/s", 2.06: "2.1/s", 0.5: "30/min", 0.002: "7.2/h", 1e-5: "0.9/d"}
    assert {rate: shown.rate_text(rate) for rate in rates} == rates


@pytest.mark.parametrize(
    ("failure", "text"),
    [
        (Failure(RunKey("s", 1), Lifecycle.FAILED, 7, "bad"),
         "s.1 ended FAILED with exit code 7: bad"),
        (Failure(RunKey("s", 1), Lifecycle.LOST, None, ""), "s.1 ended LOST"),
    ],
)  # fmt: skip
def test_a_failure_is_one_line(failure: Failure, text: str) -> None:
    assert shown.failure_text(failure) == text


def test_many_reasons_are_shortened() -> None:
    waits = [Wait(number, f"reason {number}") for number in range(1, 6)]
    found = shown.notes(Progress(StudyProgress(), {}, waits=waits))

    assert found[0] == "1 run waits: reason 1"
    assert found[1:] == [
        "2 runs wait: reason 2", "3 runs wait: reason 3", "2 more reasons (motoko why)"
    ]  # fmt: skip


@pytest.mark.parametrize("width", [80, 60, 40])
def test_the_table_fits_into_the_terminal(width: int) -> None:
    states = {state.value: 10_000 for state in Lifecycle if state is not Lifecycle.LOST}
    full = StudyProgress(states, 40_000, 20_000, 5, 17.0, 2.1, TimeLeft(4560))
    out: Any = Console(width=width, record=True)
    few = StudyProgress({"CREATED": 9, "FINISHED": 20}, 29, 20, 0, 17.0, 2.1, TimeLeft(4560))
    for studies in ({"solve": full}, {"solve": few}):
        out.print(shown.studies_table(studies, out))
    text = out.export_text()

    assert max(map(len, text.splitlines())) <= width
    assert ("1 h 16 min" in text) == (width >= 60)
