"""Docstrings, comments, messages and documentation use plain technical English."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.docs

ROOT = Path(__file__).parents[2]
DOCUMENTS = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs")
LIMIT = 3.0  # occurrences per 10,000 words
# A question ("What is a run?") is fine; the same words as a noun clause are not.
PATTERNS: Final = {
    "'what is' as a noun": re.compile(
        r"\bwhat (?:is|was|has|had|are|were|comes?|came|goes|went|may|can|cannot|it|they|he)\b"
        r"(?![^.]*\?)"
    ),
    "somebody, nobody": re.compile(r"\b(?:some|no)body(?:'s)?\b"),
    "tell for report": re.compile(r"\b(?:tells?|told|telling)\b"),
    "have X done": re.compile(
        r"\b(?:[Hh]ave|[Hh]as|[Hh]ad|having) (?:it|them|its?|the|an?|all|no|one|this|that|those)"
        r"(?: \w+){0,4} \w+(?:ed|en|de|ught|ne|wn)\b(?! by\b)"
    ),
    "go on": re.compile(r"\b(?:go|goes|going|went|gone) on\b(?! to\b)"),
    "end badly": re.compile(r"\b(?:end(?:s|ed)? badly|badly ended|bad ends?)\b"),
    "who as a subject": re.compile(r"(?:(?<=\. )|(?<=: )|^)[Ww]ho(?:ever)?\b(?![^.]*\?)"),
}


def python_texts(source: str) -> Iterator[str]:
    """Yield docstrings, messages (all strings with a space) and comments."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.value
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string.lstrip("# ")


def shell_texts(source: str) -> Iterator[str]:
    """Yield the comments."""
    yield from re.findall(r"(?m)(?:^|\s)#[# ]*(?!!)(.*)", source)


def markdown_texts(source: str) -> Iterator[str]:
    """Yield the lines outside code blocks."""
    code = False
    for line in source.splitlines():
        if line.lstrip().startswith("```"):
            code = not code
        elif not code:
            yield re.sub(r"`[^`]*`", "X", line)


def found_in(texts: Iterator[str]) -> tuple[int, Counter[str]]:
    """Return the number of words and the number of matches of each pattern."""
    words, counts = 0, Counter[str]()
    for text in texts:
        words += len(text.split())
        counts.update({name: len(p.findall(text)) for name, p in PATTERNS.items()})
    return words, counts


def source_texts() -> Iterator[str]:
    for path in sorted((ROOT / "src").rglob("*.py")):
        yield from python_texts(path.read_text())
    for path in sorted((ROOT / "src").rglob("*.sh")):
        yield from shell_texts(path.read_text())


def document_texts() -> Iterator[str]:
    for name in DOCUMENTS:
        path = ROOT / name
        for file in sorted(path.glob("*.md")) if path.is_dir() else [path]:
            yield from markdown_texts(file.read_text())


@pytest.mark.parametrize("texts", [source_texts, document_texts])
def test_odd_phrases_are_rare(texts: type[Iterator[str]]) -> None:
    words, counts = found_in(texts())

    assert words > 5_000
    assert {n: c for n, c in counts.items() if 10_000 * c / words > LIMIT} == {}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("'what is' as a noun", "Return what was found."),
        ("somebody, nobody", "Nobody reads it, for somebody has it."),
        ("tell for report", "It tells the caller."),
        ("have X done", "Have the run started."),
        ("go on", "The others go on."),
        ("end badly", "Runs that ended badly."),
        ("who as a subject", "Whoever waits is woken."),
    ],
)
def test_each_pattern_matches_its_phrase(name: str, text: str) -> None:
    assert found_in(python_texts(f'"""{text}"""'))[1][name] == 1
    assert found_in(python_texts(f"x = 1  # {text}"))[1][name] == 1
    assert found_in(python_texts(f"x = f'{{y}}: {text}'"))[1][name] == 1
    assert found_in(shell_texts(f"#!/bin/sh\ny=${{x#*.}} # {text}"))[1][name] == 1
    assert found_in(markdown_texts(text))[1][name] == 1
    assert found_in(markdown_texts(f"```\n{text}\n```"))[1][name] == 0
