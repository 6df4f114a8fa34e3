"""Lines, charts, times and the arrangement of the terminal screens: pure functions."""

from __future__ import annotations

import itertools
import sys
from datetime import datetime

import pytest
from rich.cells import cell_len

from motoko.core.progress import StudyProgress, TimeLeft
from motoko.core.states import Lifecycle
from motoko.errors import MotokoError
from motoko.tui.arrange import WIDE, Contents, arrange
from motoko.tui.charts import plot, shares, sparkline, state_bar
from motoko.tui.completion import completed, error_lines
from motoko.tui.draw_campaign import Look, needs, studies, title_line
from motoko.tui.draw_run import attempt_bar, marked, pieces
from motoko.tui.formats import about, ends_text, rate_text
from motoko.tui.run_app import require_textual
from motoko.tui.signs import ASCII, UNICODE, Signs, signs_for
from motoko.tui.text import Span, action_at, cut, fit, line, pad, safe, spread, width_of
from motoko.views.campaign import Activity, Campaign, Need, OrchestratorView, StudyView

pytestmark = pytest.mark.unit

NOW = datetime(2026, 3, 4, 12, 0).astimezone().timestamp()
BOTH = pytest.mark.parametrize("signs", [UNICODE, ASCII], ids=["unicode", "ascii"])


def text_of(found: tuple[Span, ...]) -> str:
    return "".join(span.text for span in found)


@pytest.mark.parametrize("text", ["abc", "日本語のテキスト", "e\u0301" * 5, "", "[bold]x[/bold]"])
@pytest.mark.parametrize("width", [0, 1, 2, 3, 5, 20])
def test_padded_text_fills_exactly_its_width(text: str, width: int) -> None:
    assert cell_len(pad(text, width)) == width
    assert cell_len(pad(text, width, right=True)) == width
    assert cell_len(cut(text, width)) <= width


def test_cut_text_shows_that_it_was_cut() -> None:
    assert cut("abcdef", 4) == "abc~"
    assert cut("abcd", 4) == "abcd"


def test_fitted_lines_keep_styles_and_actions() -> None:
    found = fit(line(("ab", "bold"), Span("cdef", "dim", "act")), 4)

    assert text_of(found) == "abc~"
    assert [span.style for span in found] == ["bold", "dim"]
    assert action_at(found, 1) == ""
    assert action_at(found, 3) == "act"


def test_spread_puts_the_right_part_at_the_end() -> None:
    found = text_of(spread(line("left part"), line("right"), 12))

    assert found.endswith("right")
    assert cell_len(found) == 12


def test_terminal_escapes_are_harmless_text() -> None:
    assert safe("\x1b[2Jred\nnext\x07") == "\\x1b[2Jred next\\x07"
    assert len(safe("x" * 10_000_000)) < 1_000


@pytest.mark.parametrize("numbers", [[1, 0, 99_999], [5, 5], [1] * 7, [10**6, 1, 1, 1]])
@pytest.mark.parametrize("width", [8, 40, 200])
def test_bars_are_full_and_show_every_part(numbers: list[int], width: int) -> None:
    found = shares(numbers, width)

    assert sum(found) == width
    assert all((cells > 0) == (number > 0) for cells, number in zip(found, numbers, strict=True))


def test_a_bar_of_nothing_is_empty() -> None:
    assert state_bar([("finished", 0)], 10, UNICODE) == ()


@BOTH
def test_sparklines_show_small_values_and_their_order(signs: Signs) -> None:
    found = sparkline([0, 1, 50, 100], 10, signs)

    heights = [signs.levels.index(sign) for sign in found]
    assert heights[0] == 0
    assert 0 < heights[1] < heights[2] < heights[3] == len(signs.levels) - 1


@BOTH
def test_plots_put_the_largest_value_at_the_top(signs: Signs) -> None:
    rows = plot([0, 1, 2], [0, 0, 9], 12, 4, signs)

    assert [len(row) for row in rows] == [12] * 4
    assert rows[0].strip()
    assert rows[0].rstrip() == rows[0]  # in the last column
    assert rows[-1][0] != " "


def test_constant_and_single_values_are_drawn() -> None:
    assert any(row.strip() for row in plot([1], [2], 5, 3, UNICODE))
    assert plot([], [], 5, 3, UNICODE) == []


def test_ascii_signs_are_ascii() -> None:
    texts = [*ASCII.states.values(), *ASCII.fill.values(), ASCII.levels, ASCII.more, ASCII.dot]
    texts += [ASCII.arrow, ASCII.mark, ASCII.rule, ASCII.side, ASCII.up, ASCII.down]
    assert all(text.isascii() for text in texts)


@BOTH
def test_states_differ_in_sign_also_without_colour(signs: Signs) -> None:
    told_apart = [state for state in Lifecycle if state is not Lifecycle.TIMEOUT]

    assert len({signs.state(state) for state in told_apart}) == len(told_apart)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"LANG": "de_CH.UTF-8"}, UNICODE),
        ({"LANG": "en_US.utf8"}, UNICODE),
        ({"LC_ALL": "C", "LANG": "en_US.UTF-8"}, ASCII),
        ({"LANG": "de_CH.ISO-8859-1"}, ASCII),
        ({"LC_CTYPE": "C.UTF-8"}, ASCII),  # what Python sets without any locale
        ({"LC_CTYPE": "C.UTF-8", "LANG": "C.UTF-8"}, UNICODE),
        ({}, ASCII),
    ],
)
def test_the_locale_chooses_the_signs(environment: dict[str, str], expected: Signs) -> None:
    assert signs_for(environment) is expected


def test_forecasts_have_an_interval_or_say_why_there_is_none() -> None:
    def text(**found: object) -> str:
        return ends_text(StudyProgress(known=9, done=3, **found), NOW)  # type: ignore[arg-type]

    assert text(left=TimeLeft(3600, 1800, 5400)) == "ends about 13:00 (12:30-13:30)"
    assert text(left=TimeLeft(3600)) == "ends about 13:00"
    assert text() == ""
    assert text(grows=True) == "new runs are still created: no end in sight"
    assert text(silent=300.0) == "no run has ended for 5 min 0 s"
    assert text(left=TimeLeft(86_400)).startswith("ends about Thu 12:00")


@pytest.mark.parametrize(
    ("rate", "text"),
    [(None, ""), (2.04, "2.0/s"), (250.0, "250/s"), (0.1, "6.0/min"), (0.001, "3.6/h")],
)
def test_rates_have_a_unit_with_digits(rate: float | None, text: str) -> None:
    assert rate_text(rate) == text


def test_durations_in_one_unit() -> None:
    assert [about(s) for s in (3, 240, 7300, 200_000)] == ["3 s", "4 min", "2 h", "2 d"]


@pytest.mark.parametrize(("width", "height"), [(80, 20), (80, 19), (200, 45), (60, 15), (129, 30)])
def test_panes_do_not_overlap_and_are_within_the_terminal(width: int, height: int) -> None:
    places = arrange(width, height, Contents(6, 4, 3, 12))

    cells = [
        {(x, y) for x in range(p.x, p.x + p.width) for y in range(p.y, p.y + p.height)}
        for p in places.values()
    ]
    assert all(not a & b for a, b in itertools.combinations(cells, 2))
    assert all(x < width and y < height for found in cells for x, y in found)


def test_six_studies_are_whole_on_a_small_terminal() -> None:
    # 24 rows: title, bar, command line and keys are not of the panes.
    places = arrange(80, 20, Contents(6, 9, 9, 9))

    assert places["studies"].height == 7
    assert all(places[name].height >= 2 for name in ("needs", "events", "happenings"))


def test_a_wide_terminal_has_two_columns() -> None:
    places = arrange(WIDE, 40, Contents(2, 3, 2, 5))

    assert places["needs"].x > places["studies"].width
    assert places["needs"].y == places["studies"].y == 0


def campaign(**changes: object) -> Campaign:
    progress = StudyProgress(known=3, done=1, failed=0)
    view = OrchestratorView(Activity.RUNNING, NOW - 60)
    values: dict[str, object] = {
        "studies": (StudyView("solve", progress, {"CREATED": 2, "FINISHED": 1}),),
        **changes,
    }
    return Campaign("w", "/w", "a", NOW, "", True, view, progress, **values)  # type: ignore[arg-type]


def test_old_data_shows_its_age() -> None:
    fresh, old = (text_of(title_line(campaign(), Look(UNICODE, NOW + s))) for s in (1, 30))

    assert "old" not in fresh
    assert "data 30 s old" in old


def test_needs_are_shown_as_they_are_written() -> None:
    need = Need(1, 4, "solve", "exit 7 [bold]\x1b[2J", "motoko why solve.1", "g")

    _, [row] = needs(campaign(needs=(need,)), 80, Look(UNICODE, NOW))

    assert "4x solve  exit 7 [bold]\\x1b[2J" in text_of(row.line)
    assert row.key == ("group", "g")


def test_rows_of_studies_stand_below_their_titles() -> None:
    head, [row] = studies(campaign(), Look(ASCII, NOW))

    assert text_of(head).index("created") + len("created") == text_of(row.line).index("2") + 1
    assert width_of(head) <= 80


@pytest.mark.parametrize(
    "times",
    [
        (0.0, 5.0, 10.0),
        (0.0, None, 10.0),
        (9.9, 9.95, 10.0),
        (None, None, 10.0),
        (10.0, 10.0, 10.0),
    ],
)
def test_bars_of_attempts_fill_their_room(
    times: tuple[float | None, float | None, float],
) -> None:
    found = attempt_bar(times, 0.0, 10.0, 30, Look(UNICODE, NOW))

    assert width_of(found) == 30


def test_an_attempt_shows_the_time_in_the_queue_and_the_time_running() -> None:
    found = attempt_bar((0.0, 5.0, 10.0), 0.0, 20.0, 20, Look(ASCII, NOW))

    assert text_of(found) == "-" * 5 + "=" * 5 + " " * 10


def test_searched_text_is_marked_wherever_it_occurs() -> None:
    found = marked("an Error, another error", "error")

    assert [span.text for span in found if span.style == "found"] == ["Error", "error"]
    assert text_of(found) == "an Error, another error"


def test_long_lines_wrap_by_cells() -> None:
    parts = pieces("漢字" * 10, 7)

    assert "".join(parts) == "漢字" * 10
    assert all(cell_len(part) <= 7 for part in parts)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("st", "state"),
        ("state = FAILED and er", "state = FAILED and error"),
        ("state = fi", "state = FINISHED"),
        ("state = ", None),
        ("state in (FAILED, ti", "state in (FAILED, TIMEOUT"),
        ("error", None),
        ("zzz", None),
    ],
)
def test_completion_of_columns_and_states(text: str, expected: str | None) -> None:
    assert completed(text, ["error", "state", "x"], [*Lifecycle]) == expected


def test_errors_point_below_the_filter() -> None:
    message = "study 's': bad constraint 'x >', column 4: expected a value\n    x >\n       ^"

    caret, texts = error_lines(message, "A value is a number.", "x >")

    assert caret.index("^") == 3
    assert texts == ["column 4: expected a value", "A value is a number."]


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "textual", None)

    with pytest.raises(MotokoError, match="watch needs textual") as raised:
        require_textual()

    assert raised.value.hint == "pip install 'motoko[tui]'"
