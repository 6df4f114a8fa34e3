"""Untrusted text is made safe to print: bounded, without control characters."""

from __future__ import annotations

import logging
import unicodedata
from io import StringIO
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from motoko.cli import tables
from motoko.cli.log_printer import print_logs
from motoko.printable import LINE_LIMIT, TEXT_LIMIT, indented, one_line, printable
from motoko.runtime.file_tail import SHOWN_BYTES
from motoko.runtime.logs import SafeFormatter
from motoko.runtime.ports import SYSTEM

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit

BIDIRECTIONAL = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
ANY_TEXT = st.text(st.characters(), max_size=60)  # surrogates included
ATTACKS = [
    "\x1b[2J\x1b]0;pwned\x07",
    "\x1b]52;c;cm0gLXJmIH4=\x07",
    "\x9b31m",
    "\x7f\x00\x08\x0b\x0c",
    "a\u202etxt.exe",
    "\u2028\u2029\x85",
    "\ud800",
    "\U000e0041",
]


def is_unsafe(character: str) -> bool:
    """Classify by Unicode categories, independently of the implementation."""
    kind = unicodedata.category(character)
    return (
        (kind == "Cc" and character not in "\n\t")
        or kind in {"Cs", "Zl", "Zp"}
        or character in BIDIRECTIONAL
    )


@given(ANY_TEXT)
def test_unsafe_characters_are_removed(text: str) -> None:
    for safe in (printable(text), one_line(text), indented(text)):
        assert not any(map(is_unsafe, safe))
    assert "\n" not in one_line(text)


@given(
    st.text(st.characters(exclude_categories=["C", "Z"]) | st.sampled_from(" \n\t"), max_size=60)
)
def test_ordinary_text_is_not_changed(text: str) -> None:
    assert printable(text) == text


def test_a_control_character_is_shown_as_an_escape() -> None:
    assert printable("a\x1b[31mb\x9bc\u202ed\U000e0041") == r"a\x1b[31mb\x9bc\u202ed\U000e0041"
    assert printable("10 %\r20 %\r\nend\r\n") == "10 %\n20 %\nend\n"
    assert one_line(" a \n\tb\x1b ") == r"a b\x1b"


def test_a_single_long_line_is_bounded() -> None:
    huge = "x" * 10_000_000
    assert printable(huge).startswith("x" * LINE_LIMIT + "... (9,998,000 more characters)")
    assert len(printable(huge)) < LINE_LIMIT + 100
    assert len(printable("line\n" * 1_000_000)) < TEXT_LIMIT + 100
    assert len(one_line(huge)) < LINE_LIMIT + 100
    assert printable("é" * LINE_LIMIT) == "é" * LINE_LIMIT


def test_a_message_cannot_forge_another_line_of_a_log() -> None:
    record = logging.LogRecord("motoko", logging.INFO, "x", 1, "bad\n2026 INFO %s", ("fine",), None)
    assert SafeFormatter("%(levelname)s %(message)s").format(record) == (
        "INFO bad\n    2026 INFO fine"
    )


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_console_prints_no_control_characters(attack: str) -> None:
    console = tables.console()
    console.file = StringIO()
    console.print(Text(f"before{attack}after"))
    console.print(attack)
    table = tables.counts_table({f"n{attack}": {f"L{attack}": 1}}, "run name")
    console.print(table)
    shown = console.file.getvalue()
    assert "before" in shown
    assert not any(
        map(is_unsafe, shown.encode("utf-8", "surrogatepass").decode("utf-8", "replace"))
    )


def test_a_log_is_shown_in_parts_with_long_lines_cut(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"one\x1b[2J\n" + b"y" * 300_000 + b"\nlast \xff\n")
    print_logs([log], lambda _log: False, SYSTEM.clock)
    shown = capsys.readouterr().out.split("\n")
    assert shown[0] == r"one\x1b[2J"
    assert shown[1] == "y" * LINE_LIMIT + "... (the line is longer)"
    assert shown[2:] == ["last \ufffd", ""]


def test_the_end_of_a_large_log_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"early\n" * 400_000 + b"late\n")
    print_logs([log], lambda _log: False, SYSTEM.clock)
    shown, noted = capsys.readouterr()
    assert len(shown) < SHOWN_BYTES + 200
    assert shown.endswith("late\n")
    assert str(log) in noted
