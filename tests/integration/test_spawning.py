"""Processes in sessions of their own, with default signals, and the errors of their start."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from motoko.runtime.signals import changeable_signals
from motoko.runtime.spawning import SessionSpawner

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

# The session's leader prints itself, its input, its signals and a variable.
SCRIPT = """
{ echo $$; cut -d' ' -f6 /proc/$$/stat; readlink /proc/$$/fd/0
  grep -E 'SigBlk|SigIgn' /proc/$$/status | cut -f2; echo "$WORD"; } >"$1"
exit 3
"""


def test_a_spawned_process(tmp_path: Path) -> None:
    former = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        spawner = SessionSpawner(changeable_signals())
        output = tmp_path / "output"
        variables = {"WORD": "größer", "PATH": os.environ["PATH"]}
        pid = spawner.spawn("/bin/sh", ["/bin/sh", "-c", SCRIPT, "sh", str(output)], variables)
        _, status = os.waitpid(pid, 0)
    finally:
        signal.signal(signal.SIGHUP, ignored)
        signal.pthread_sigmask(signal.SIG_SETMASK, former)
    assert os.waitstatus_to_exitcode(status) == 3
    leader, session, standard_input, blocked, ignored_signals, word = output.read_text().split()
    assert int(leader) == int(session) == pid
    assert standard_input == "/dev/null"
    assert int(blocked, 16) == 0
    assert not int(ignored_signals, 16) & 1 << signal.SIGHUP - 1
    assert word == "größer"


@pytest.mark.parametrize(
    ("path", "arguments", "variables", "expected"),
    [
        ("/no such program", ["x"], {}, FileNotFoundError),
        ("/bin/sh", ["sh", "a\0b"], {}, ValueError),
        ("/bin/sh", ["sh"], {"X": "a\0b"}, ValueError),
        ("/bin/sh", ["sh", "x" * 2**20], {}, OSError),
    ],
    ids=["missing", "null in an argument", "null in a variable", "too long"],
)
def test_a_process_that_cannot_be_spawned(
    path: str, arguments: list[str], variables: dict[str, str], expected: type[Exception]
) -> None:
    with pytest.raises(expected):
        SessionSpawner(changeable_signals()).spawn(path, arguments, variables)
