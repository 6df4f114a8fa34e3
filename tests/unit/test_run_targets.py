"""Runs named as ``STUDY``, ``STUDY.7`` or ``STUDY.3-9,12``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from motoko.cli.parser import build_parser, parse
from motoko.core.changes import DeleteRun
from motoko.core.constraints import ALL
from motoko.core.records import RunKey
from motoko.core.run_targets import MAX_ID, RunTarget, id_ranges, missing_runs, range_text
from motoko.errors import RunNameError, UnknownRunError
from motoko.storage.query import check_run_name_exists, check_runs_exist, select_records
from motoko.storage.session import Session
from motoko.testing import add_run, memory_store, study_config

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "study", "ranges"),
    [
        ("solve", "solve", ()),
        ("a1", "a1", ()),
        ("a1.7", "a1", ((7, 7),)),
        ("solve.3-9", "solve", ((3, 9),)),
        ("solve.3-9,12", "solve", ((3, 9), (12, 12))),
        ("é_2.007", "é_2", ((7, 7),)),
        ("s." + "9" * 5000, "s", ((MAX_ID, MAX_ID),)),
    ],
)
def test_a_study_an_id_and_ranges(
    text: str, study: str, ranges: tuple[tuple[int, int], ...]
) -> None:
    assert RunTarget.parse(text) == RunTarget(study, ranges)


@pytest.mark.parametrize(
    "text",
    ["", ".", ".7", "s.", "s.x", "s.7x", "s.-7", "s.3-", "s.3--9", "s.3,,4", "s.1.5", "s. 7", "s.²",
     "s.+7", "s.9-3"],
)  # fmt: skip
def test_other_texts_are_errors_that_quote_them(text: str) -> None:
    with pytest.raises(UnknownRunError) as caught:
        RunTarget.parse(text)
    assert repr(text) in caught.value.message
    assert caught.value.hint


def test_ids_are_printed_as_ranges() -> None:
    assert range_text(id_ranges([1, 2, 3, 5, 8, 9])) == "1-3,5,8-9"
    assert id_ranges([]) == []


def test_a_missing_run_is_an_error_with_the_nearest_and_the_existing_ids() -> None:
    error = missing_runs("s", (12, 12), [1, 2, 3, 9])
    assert error.message == "study 's' has no run 12"
    assert error.hint == "The nearest is s.9. Ids are 1 to 9."
    error = missing_runs("s", (4, 6), [1, 8, 99])
    assert error.message == "study 's' has no runs 4 to 6"
    assert error.hint == "The nearest is s.8. Ids are 1 to 99."
    assert missing_runs("s", (4, 6), [3]).hint == "The nearest is s.3. Ids are 3."
    assert missing_runs("s", (1, 1), []).hint == "It has no runs yet."


@pytest.fixture
def session() -> Iterator[Session]:
    store = memory_store({"s": study_config("s", {"x": "int"})})
    session = Session(store.database)
    for x in range(10):
        add_run(session, "s", {"x": x}, run_name="first" if x < 5 else "second")
    yield session
    session.close()
    store.close()


def test_ranges_select_runs_of_the_run_name(session: Session) -> None:
    def ids(run_name: str | None, *ranges: tuple[int, int]) -> list[int]:
        return [record.id for record in select_records(session, "s", run_name, ALL, ranges=ranges)]

    assert ids(None, (4, 7)) == [4, 5, 6, 7]
    assert ids("second", (4, 7)) == [6, 7]
    assert ids(None, (9, MAX_ID), (1, 2), (2, 3)) == [1, 2, 3, 9, 10]


def test_each_range_must_contain_a_run(session: Session) -> None:
    check_runs_exist(session, "s", [(1, 100), (3, 3)])
    session.add(DeleteRun(RunKey("s", 4)))
    session.add(DeleteRun(RunKey("s", 5)))
    for missing, near in ((11, 10), (5, 6), (4, 3)):
        with pytest.raises(UnknownRunError, match=f"no run {missing}") as caught:
            check_runs_exist(session, "s", [(1, 2), (missing, missing)])
        assert caught.value.hint == f"The nearest is s.{near}. Ids are 1 to 10."
    with pytest.raises(UnknownRunError, match="no run 1"):
        check_runs_exist(session, "without_table", [(1, 1)])


def test_an_unknown_run_name_is_an_error_with_the_nearest(session: Session) -> None:
    check_run_name_exists(session, "first")
    with pytest.raises(RunNameError) as caught:
        check_run_name_exists(session, "secnd")
    assert caught.value.hint == "Did you mean 'second'?"
    for run_id in range(1, 6):
        session.tables.study("s").delete(run_id)
    check_run_name_exists(session, "first")  # so that a repeated clean succeeds


@pytest.mark.parametrize(
    "words",
    [
        ["s.1", "t", "--where", "x > 1"],
        ["--where", "x > 1", "s.1", "t"],
        ["s.1", "--where", "x > 1", "t"],
        ["s.1", "--constraints", "x > 1", "t"],
    ],
)
def test_runs_may_stand_before_between_and_after_options(words: list[str]) -> None:
    args = parse(build_parser(), ["retry", *words])
    assert args.runs == ["s.1", "t"]
    assert args.constraints == ["x > 1"]


def test_an_unknown_option_among_runs_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(build_parser(), ["retry", "s.1", "--wher", "t"])
    assert "Did you mean '--where'?" in capsys.readouterr().err
