"""Commands escape control characters in values reported by scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.command_line import Shell, small_workflow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

ESCAPES = r"\u001b[2J\u001b]0;pwned\u0007\u009b31m\u202eRED"
SCRIPT = rf"""
exec python3 - <<'END'
import os, sys
from pathlib import Path
outbox = Path(os.environ["MOTOKO_OUTBOX"])
with outbox.open("a") as file:
    file.write(r'{{"t":0,"op":"set","field":"note","value":"{ESCAPES}"}}' + "\n")
    file.write(r'{{"t":0,"op":"fail","reason":"{ESCAPES}\nFORGED LINE"}}' + "\n")
sys.stderr.buffer.write(b"z" * 3_000_000 + "\n{ESCAPES}\n".encode() + b"\x00\xff")
sys.exit(1)
END
"""
MAIN = """
async def main(workflow, **params):
    await workflow.s.create_task(x=1)
"""
ALLOWED = set("\n\t")
COMMANDS = (
    ("info",),
    ("info", "--verbose"),
    ("info", "--json", "--verbose"),
    ("history", "s.1"),
    ("history",),
    ("clean",),
    ("orchestrator", "status"),
)


@pytest.fixture
def hostile(tmp_path: Path) -> Iterator[Shell]:
    """A workflow whose only run reports escape sequences in every possible value."""
    made = small_workflow(tmp_path / "w", script=SCRIPT, main=MAIN)
    yield made
    made.close()


def controls(text: str) -> set[str]:
    return {c for c in text if (ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or c == "\u202e")} - ALLOWED


def test_no_control_character_of_a_run_is_printed_or_logged(hostile: Shell) -> None:
    done = hostile.run("run", "--run_name", "a")
    assert done.returncode == 3
    assert r"\x1b[2J" in done.stderr
    assert len(done.stderr) < 10_000
    outputs = {"run": done.stdout + done.stderr}
    for command in COMMANDS:
        outputs[" ".join(command)] = hostile.ok(*command)
    for log in (hostile.directory / ".wf" / "logs").iterdir():
        outputs[log.name] = log.read_text()
    for name, text in outputs.items():
        assert controls(text) == set(), name
        assert len(text) < 100_000, name
        assert not any(line.startswith("FORGED") for line in text.splitlines()), name
    assert "RED" in outputs["info --verbose"]


@pytest.mark.parametrize("name", ["a\x1b[31mb", "a\nb", "x\u202ey"])
def test_a_run_name_with_controls_is_refused_without_printing_them(
    hostile: Shell, name: str
) -> None:
    done = hostile.run("run", "--run_name", name)
    assert done.returncode == 2
    assert controls(done.stdout + done.stderr) == set()
