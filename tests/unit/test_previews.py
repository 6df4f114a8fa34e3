"""Previews of changes to runs, and the question before them."""

from __future__ import annotations

import argparse
import io
import os
import sys
from typing import TYPE_CHECKING

import pytest

from motoko.cli import confirmation
from motoko.cli.output import size_text
from motoko.core.records import RunKey, RunRecord
from motoko.core.states import Lifecycle
from motoko.errors import ConfirmationError
from motoko.launcher.directory_removal import measure
from motoko.operations.bulk_edit import is_cancellable, is_failed
from motoko.operations.preview import DirectoryUsage, Preview, preview

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit


def run(run_id: int, lifecycle: Lifecycle = Lifecycle.FAILED, study: str = "s") -> RunRecord:
    label = "odd" if lifecycle is Lifecycle.FINISHED else None
    return RunRecord(study, run_id, run_id, "n", b"", {}, lifecycle, label)


MIXED = [run(n, lifecycle) for n, lifecycle in enumerate(Lifecycle, 1)] + [run(1, study="t")]


def test_every_state_is_either_affected_or_counted_as_unaffected() -> None:
    for is_affected in (is_failed, is_cancellable):
        found = preview(MIXED, is_affected)
        assert len(found.runs) + sum(found.unaffected.values()) == len(MIXED)
        assert all(is_affected(record) for record in found.runs)
    cancelled = preview(MIXED, is_cancellable)
    assert {record.lifecycle.value for record in cancelled.active} == {"SUBMITTED", "START"}
    assert "odd" in cancelled.unaffected
    assert "FINISHED" not in cancelled.unaffected


def test_runs_are_counted_by_study_and_state() -> None:
    assert preview(MIXED, is_failed).counts["t"] == {"FAILED": 1}
    assert preview([], is_failed).counts == {}


def options(*, yes: bool = False) -> argparse.Namespace:
    return argparse.Namespace(yes=yes)


SEVERAL = Preview([run(1), run(2), run(3)])


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.BytesIO:
    """Standard input and output are a terminal, on which the user types what is written here."""
    typed = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(typed))
    monkeypatch.setattr(confirmation, "has_terminal", lambda: True)
    return typed


@pytest.mark.parametrize("found", [Preview([]), Preview([run(1)])])
def test_one_run_needs_no_consent(found: Preview) -> None:
    assert confirmation.confirm(options(), found, "go", lambda: SEVERAL) == found.runs
    assert confirmation.confirm(options(yes=True), SEVERAL, "go", lambda: found) == SEVERAL.runs


def test_runs_that_are_left_alone_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    confirmation.confirm(options(), Preview([], {"FINISHED": 1}), "go", lambda: SEVERAL)
    assert capsys.readouterr().err == "not affected: 1 run (1 FINISHED)\n"


def test_without_a_terminal_several_runs_need_a_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)  # as with `<&-`
    with pytest.raises(ConfirmationError, match="3 runs would go"):
        confirmation.confirm(options(), SEVERAL, "go", lambda: SEVERAL)


@pytest.mark.parametrize("answer", [b"y\n", b"YES\n", b" yes \r\n"])
def test_after_consent_only_runs_that_were_shown_and_still_match_change(
    terminal: io.BytesIO, answer: bytes
) -> None:
    terminal.write(answer)
    terminal.seek(0)
    now = Preview([run(2), run(3), run(4)])
    changed = confirmation.confirm(options(), SEVERAL, "go", lambda: now)
    assert [record.key for record in changed] == [RunKey("s", 2), RunKey("s", 3)]


@pytest.mark.parametrize("answer", [b"", b"\n", b"n\n", b"yep\n", b"\xff\xfe\n", b"y" * 10_000])
def test_every_other_answer_declines(
    terminal: io.BytesIO, answer: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal.write(answer)
    terminal.seek(0)
    with pytest.raises(SystemExit) as caught:
        confirmation.confirm(options(), SEVERAL, "go", lambda: SEVERAL)
    assert caught.value.code == 1
    assert capsys.readouterr().err.endswith("Continue? [y/N] nothing was changed\n")


def test_a_preview_shows_counts_names_directories_and_the_effect(
    capsys: pytest.CaptureFixture[str],
) -> None:
    runs = [run(n) for n in range(1, 9)] + [run(1, Lifecycle.LOST, "t\x1b[31m")]
    confirmation.show(Preview(runs, {"odd": 2}, DirectoryUsage(9, 1_234_567)), "be deleted")
    assert capsys.readouterr().out.splitlines() == [
        "s: 8 FAILED; t\\x1b[31m: 1 LOST",
        "runs: s.1, s.2, s.3, s.4, s.5, s.6, ... (9 runs)",
        "not affected: 2 runs (2 odd)",
        "9 directories would be removed (1.2 MB)",
        "9 runs would be deleted",
    ]


def test_directories_are_measured_without_following_links(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    for name in ("run-1", "run-1.attempt-1", "run-1.before-x", "run-10", "run-1x", "run-2/a/b"):
        (root / name).mkdir(parents=True)
        (root / name / "file").write_bytes(b"x" * 100)
    outside.mkdir()
    (outside / "large").write_bytes(b"x" * 5000)
    (root / "run-1" / "link").symlink_to(outside)
    (root / "run-1" / "file link").symlink_to(outside / "large")
    os.mkfifo(root / "run-1" / "fifo")
    (root / "run-3").symlink_to(outside)
    (root / "run-4").write_bytes(b"x" * 7)

    assert measure(root, {1}) == (3, 300)
    assert measure(root, {2, 10}) == (2, 200)
    assert measure(root, {3, 4}) == (2, 7)
    assert measure(tmp_path / "missing", {1}) == (0, 0)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (1000, "1.0 kB"), (2_500_000, "2.5 MB"),
     (1_200_000_000_000, "1,200.0 GB")],
)  # fmt: skip
def test_sizes_have_a_unit(size: int, text: str) -> None:
    assert size_text(size) == text
