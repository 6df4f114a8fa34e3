"""A launcher's notes name the attempts that may have started, and no others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from motoko.launcher.start_notes import TRIM_BYTES, StartNotes

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit


@pytest.fixture
def notes(tmp_path: Path) -> StartNotes:
    notes = StartNotes(tmp_path, "me")
    notes.open()
    return notes


def test_a_revoked_note_does_not_count_until_it_is_made_again(notes: StartNotes) -> None:
    notes.record("one")
    notes.record("two")
    notes.revoke("one")
    assert not notes.contains("me", "one")
    assert notes.contains("me", "two")
    notes.record("one")
    assert notes.contains("me", "one")
    notes.fence(["me"])
    assert notes.contains("me", "one")
    assert not notes.contains("other", "one")


def test_what_was_not_noted_needs_no_space_to_be_revoked(notes: StartNotes, tmp_path: Path) -> None:
    (tmp_path / "starts" / "me" / "notes").mkdir()
    with pytest.raises(OSError, match="directory"):
        notes.record("one")
    notes.revoke("one")


def test_trimmed_notes_name_attempts_that_were_noted(notes: StartNotes) -> None:
    """One that waits for a slot is kept, but not noted: it does not start until then."""
    notes.record("first")
    notes.record("revoked")
    notes.revoke("revoked")
    number = 0
    while number * len("token-00000\n") <= TRIM_BYTES:
        notes.record(f"token-{number:05}")
        number += 1
    notes.trim(lambda: ["first", "revoked", "waiting"])
    notes.record("last")
    expected = {"first", "last"}
    tokens = {"first", "last", "revoked", "waiting", "token-00000", f"token-{number - 1:05}"}
    assert {token for token in tokens if notes.contains("me", token)} == expected
