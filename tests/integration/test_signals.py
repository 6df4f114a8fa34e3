"""Ignored and blocked signals that daemons and scripts inherit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from motoko.runtime.daemons import PidFile
from tests.support.command_line import PATIENCE, small_workflow, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Set as AbstractSet

    from tests.support.command_line import Shell

pytestmark = pytest.mark.integration

# Runs a command with every signal ignored and blocked.
DEAF: Final = """\
import os, signal, sys
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
os.execv(sys.executable, [sys.executable, "-m", "motoko", *sys.argv[1:]])
"""
# A run that records its signals and then waits for a signal.
SCRIPT: Final = """\
trap 'echo TERM >asked; exit 3' TERM
cat /proc/self/status >status
while true; do sleep 0.1; done
"""
OF_PYTHON: Final = {signal.SIGPIPE, signal.SIGXFSZ}


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = small_workflow(tmp_path / "w", script=SCRIPT)
    yield shell
    shell.close()


def deaf(shell: Shell, *arguments: str) -> subprocess.Popen[str]:
    """Start a command with every signal ignored and blocked."""
    return subprocess.Popen(
        [sys.executable, "-c", DEAF, *arguments],
        cwd=shell.directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def settings(status: str) -> tuple[AbstractSet[int], AbstractSet[int]]:
    """Return the ignored and blocked signals of a process from its status."""
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    masks = [int(fields[name], 16) for name in ("SigIgn", "SigBlk")]
    known = signal.valid_signals()  # the C library uses the others
    ignored, blocked = ({n for n in known if mask >> (n - 1) & 1} for mask in masks)
    return ignored, blocked


def of_process(pid: int) -> tuple[AbstractSet[int], AbstractSet[int]]:
    return settings(Path(f"/proc/{pid}/status").read_text(encoding="utf-8"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="signals are shown in /proc")
def test_daemons_and_runs_have_default_signals(
    shell: Shell,
) -> None:
    command = deaf(shell, "run", "--run_name", "a")
    written = [shell.directory / f"s/BD-s-runs/run-{n}/status" for n in (1, 2)]
    try:
        wait_until(lambda: all(p.exists() and "SigBlk" in p.read_text() for p in written), "runs")

        assert [settings(path.read_text()) for path in written] == [(set(), set())] * 2
        for name in ("server.json", "launcher.json"):
            record = PidFile(shell.directory / ".wf" / name).read()
            assert record is not None
            ignored, _ = of_process(record.process.pid)
            assert ignored <= OF_PYTHON, name

        # Ctrl-C and SIGHUP stay ignored on purpose, SIGTERM does not.
        ignored, blocked = of_process(command.pid)
        assert {signal.SIGINT, signal.SIGHUP} <= ignored
        assert not {signal.SIGTERM, signal.SIGCHLD} & (ignored | blocked)
        os.kill(command.pid, signal.SIGINT)
        os.kill(command.pid, signal.SIGHUP)
        os.kill(command.pid, signal.SIGTERM)
        _, err = command.communicate(timeout=PATIENCE)
        assert command.returncode == 128 + signal.SIGTERM, err
    finally:
        command.kill()

    shell.ok("kill", "--stop-runs", "--yes")
    for path in written:
        assert path.with_name("asked").read_text() == "TERM\n"
