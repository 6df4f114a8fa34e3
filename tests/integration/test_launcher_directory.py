"""Run directories under launchers that work on one run at the same time."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from motoko.launcher import directory
from motoko.launcher.directory import Place, Source, Superseded, marked, prepare, take_back

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.integration

INPUTS = ("inputs.json", b"{}")
SCRIPT = Source("launch.sh", b"true", executable=False)


@pytest.fixture
def attempt(tmp_path: Path) -> Callable[[int], Place]:
    return lambda number: Place(str(tmp_path / "runs"), 1, number, f"t{number}", "5.0")


def names(place: Place) -> set[str]:
    from pathlib import Path

    return {path.name for path in Path(place.root).iterdir()}


def test_each_attempt_has_a_clean_directory(attempt: Callable[[int], Place]) -> None:
    first, second = attempt(1), attempt(2)
    prepare(first, INPUTS, [SCRIPT])
    (first.file("outbox")).write_text("said")
    prepare(second, INPUTS, [SCRIPT])
    assert names(second) == {"run-1", "run-1.attempt-1"}
    assert marked(second.run) == (2, "5.0")
    assert not second.file("outbox").exists()


def test_what_was_there_is_moved_aside(attempt: Callable[[int], Place], tmp_path: Path) -> None:
    (tmp_path / "runs" / "run-1").mkdir(parents=True)
    (tmp_path / "runs" / "run-1" / "mine").touch()
    place = attempt(1)
    prepare(place, INPUTS, [SCRIPT])
    assert (tmp_path / "runs" / "run-1.before-t1" / "mine").exists()
    # A run of the same number in another database.
    other = Place(place.root, 1, 1, "u1", "6.0")
    prepare(other, INPUTS, [SCRIPT])
    assert names(place) == {"run-1", "run-1.before-t1", "run-1.before-u1"}


def test_an_attempt_taken_back_is_not_prepared_again(attempt: Callable[[int], Place]) -> None:
    place = attempt(1)
    assert take_back(place, "start", b"me")
    with pytest.raises(Superseded):
        prepare(place, INPUTS, [SCRIPT])
    assert place.file("start").read_bytes() == b"me"
    assert names(place) == {"run-1"}


def test_an_attempt_that_started_is_not_taken_back(attempt: Callable[[int], Place]) -> None:
    place = attempt(1)
    prepare(place, INPUTS, [SCRIPT])
    place.file("start").write_text("process 7")
    assert not take_back(place, "start", b"me")
    assert place.file("start").read_text() == "process 7"


def test_an_older_attempt_than_there_is_cannot_start(attempt: Callable[[int], Place]) -> None:
    prepare(attempt(2), INPUTS, [SCRIPT])
    assert take_back(attempt(1), "start", b"me")
    assert names(attempt(1)) == {"run-1"}
    assert marked(attempt(1).run) == (2, "5.0")
    assert not attempt(2).file("start").exists()  # which is not this launcher's to take


def test_what_an_earlier_attempt_of_that_number_left_stays(
    attempt: Callable[[int], Place], tmp_path: Path
) -> None:
    """As when a backup was restored, and a run directory was removed."""
    for number in (1, 2):
        kept = tmp_path / "runs" / ("run-1.attempt-1" if number == 1 else "run-1.attempt-1-2")
        kept.mkdir(parents=True)
        (kept / "mine").touch()
    prepare(attempt(1), INPUTS, [SCRIPT])
    prepare(attempt(2), INPUTS, [SCRIPT])
    assert marked(attempt(2).run) == (2, "5.0")
    assert marked(str(tmp_path / "runs" / "run-1.attempt-1-3")) == (1, "5.0")
    assert all((tmp_path / "runs" / f"run-1.attempt-{n}" / "mine").exists() for n in ("1", "1-2"))


def test_an_older_attempt_does_not_touch_a_newer_one(attempt: Callable[[int], Place]) -> None:
    prepare(attempt(2), INPUTS, [SCRIPT])
    with pytest.raises(Superseded):
        prepare(attempt(1), INPUTS, [SCRIPT])
    assert names(attempt(1)) == {"run-1"}
    assert marked(attempt(1).run) == (2, "5.0")


@pytest.mark.parametrize("step", ["_begin", "_write", "_make_room", "_publish"])
@pytest.mark.parametrize("earlier", [False, True])
def test_a_launcher_that_sleeps_at_any_step_starts_nothing(
    attempt: Callable[[int], Place], monkeypatch: pytest.MonkeyPatch, step: str, earlier: bool
) -> None:
    """It claims attempt 2, sleeps, attempt 2 is taken back, attempt 3 begins; then it wakes."""
    if earlier:
        prepare(attempt(1), INPUTS, [SCRIPT])
    second, third = attempt(2), attempt(3)
    original = getattr(directory, step)
    slept: list[bool] = []

    def sleep_first(*args: object) -> None:
        if not slept:
            slept.append(True)
            assert take_back(second, "start", b"me")
            prepare(third, INPUTS, [SCRIPT])
        original(*args)

    monkeypatch.setattr(directory, step, sleep_first)
    with pytest.raises(Superseded):
        prepare(second, INPUTS, [SCRIPT])
    assert slept
    assert marked(third.run) == (3, "5.0")
    assert names(third) == {"run-1", "run-1.attempt-2"} | (
        {"run-1.attempt-1"} if earlier else set()
    )


def test_a_launcher_that_sleeps_before_renaming_notices(
    attempt: Callable[[int], Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(attempt(1), INPUTS, [SCRIPT])
    second, third = attempt(2), attempt(3)
    original = os.rename
    slept: list[bool] = []

    def sleep_first(source: str, target: str) -> None:
        if not slept:
            slept.append(True)
            assert take_back(second, "start", b"me")
            prepare(third, INPUTS, [SCRIPT])
        original(source, target)

    monkeypatch.setattr(os, "rename", sleep_first)
    with pytest.raises(Superseded):
        prepare(second, INPUTS, [SCRIPT])
    assert marked(third.run) == (3, "5.0")
    assert names(third) == {"run-1", "run-1.attempt-1", "run-1.attempt-2"}
