"""``motoko watch`` in a real terminal, with a real workflow."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from motoko.runtime.processes import signal_process
from motoko.server.lifecycle import ensure_server
from motoko.server.state_dir import StateDir
from tests.support.command_line import Shell, small_workflow, wait_until
from tests.support.screens import Terminal
from tests.support.serving import process_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

SCRIPT = """\
echo "value $MOTOKO_JOB_X"
if [ "$MOTOKO_JOB_X" = 2 ]; then
  printf 'Error: \\033[2Jno [bold]convergence\\n' >&2
  exit 7
fi
if [ "$MOTOKO_JOB_X" = 3 ]; then until [ -e ../../../go ]; do sleep 0.05; done; fi
"""
MAIN = """\
async def main(workflow, **params):
    await workflow.s.create_task(x=[1, 2, 3]).settled()
"""
SIZES = pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 50)])


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """Three runs: 1 finished, 2 failed, 3 is running."""
    shell = small_workflow(tmp_path_factory.mktemp("watched") / "w", script=SCRIPT, main=MAIN)
    shell.ok("run", "--run_name", "a", "--detach")
    wait_until(
        lambda: shell.counts("s", "a") == {"FINISHED": 1, "FAILED": 1, "START": 1}, "one is running"
    )
    yield shell
    (shell.directory / "go").touch()
    shell.close()


@SIZES
def test_every_screen_is_shown(shell: Shell, width: int, height: int) -> None:
    with Terminal(width, height) as terminal:
        terminal.start(shell.directory)
        text = terminal.until("$ motoko why s.2")
        assert "w / a" in text
        assert "exit 7 Error: \\x1b[2Jno [bold]convergence" in text
        assert "2 of 3" in text
        terminal.press("2")
        terminal.until(lambda text: "s.3" in text and "● START" in text and "✗ FAILED" in text)
        terminal.press("3")
        terminal.until("No event is registered")
        terminal.press("4")
        terminal.until("stderr of s.2")
        terminal.press("Enter")
        terminal.until(lambda text: "$ motoko info s.2" in text and "Attempts" in text)
        terminal.press("l")
        terminal.until(lambda text: "value 2" in text or "Error:" in text)
        terminal.press("Escape")
        terminal.until("$ motoko info s.2")
        terminal.press("?")
        terminal.until("Tab          the next pane")
        terminal.press("q")
        terminal.until("status=0")
        assert terminal.is_restored


def test_a_typed_filter_is_completed_and_applied(shell: Shell) -> None:
    with Terminal(80, 24) as terminal:
        terminal.start(shell.directory, "--run_name", "a")
        terminal.until("motoko why s.2")
        terminal.press("2")
        terminal.until("3 shown")
        terminal.press("/")
        terminal.type("state = FAI")
        terminal.until("state = FAILED")
        terminal.press("Right", "Enter")
        text = terminal.until("1 shown")
        assert "$ motoko info --where 'state = FAILED' --run_name a" in text
        terminal.press("/")
        terminal.type(" and")
        terminal.press("Enter")
        terminal.until(lambda text: "^" in text and "1 shown" in text)


@pytest.mark.parametrize(
    "environment",
    [{"NO_COLOR": "1", "LC_ALL": "C.UTF-8"}, {"LC_ALL": "C"}, {"TERM": "vt100", "LC_ALL": "C"}],
    ids=["no colour", "no utf-8", "vt100"],
)
def test_states_are_readable_without_colour_or_unicode(
    shell: Shell, environment: dict[str, str]
) -> None:
    with Terminal(80, 24) as terminal:
        terminal.start(shell.directory, environment=environment)
        terminal.until("motoko why s.2")
        terminal.press("2")
        text = terminal.until("3 shown")
        signs = "●✗✓" if "NO_COLOR" in environment else "*x+"
        for sign, state in zip(signs, ("START", "FAILED", "FINISHED"), strict=True):
            terminal.until(f"{sign} {state}")
        if "NO_COLOR" in environment:
            raw = terminal.show(raw=True)
            assert not [code for code in range(31, 38) if f"\x1b[{code}m" in raw]
        else:
            assert text.isascii()


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)],
)
def test_signals_leave_the_terminal_clean(shell: Shell, number: int, status: int) -> None:
    with Terminal(80, 24) as terminal:
        terminal.start(shell.directory)
        terminal.until("motoko why s.2")
        os.kill(terminal.pid(), number)
        terminal.until(f"status={status}")
        assert terminal.is_restored
        terminal.type("echo typed text is shown")
        terminal.until("echo typed text is shown")


def test_ctrl_c_leaves_the_terminal_clean(shell: Shell) -> None:
    with Terminal(80, 24) as terminal:
        terminal.start(shell.directory)
        terminal.until("motoko why s.2")
        terminal.press("C-c")
        terminal.until("status=0")
        assert terminal.is_restored


def test_it_quits_while_the_server_is_suspended(shell: Shell) -> None:
    server = process_of(StateDir.of(shell.directory))
    with Terminal(80, 24) as terminal:
        terminal.start(shell.directory)
        terminal.until("motoko why s.2")
        signal_process(server, signal.SIGSTOP)
        try:
            terminal.press("2")
            terminal.until("motoko info --run_name a")
            terminal.press("q")
            terminal.until("status=0")
            assert terminal.is_restored
        finally:
            signal_process(server, signal.SIGCONT)


def test_an_error_is_reported_before_the_screen(tmp_path: Path) -> None:
    shell = small_workflow(tmp_path / "w")
    with Terminal(80, 24) as terminal:
        terminal.start(shell.directory)
        terminal.until("this workflow has no runs yet")
        terminal.until("status=1")


def test_without_a_terminal_it_names_another_command(tmp_path: Path) -> None:
    done = small_workflow(tmp_path / "w").run("watch")

    assert done.returncode == 1
    assert "motoko watch needs a terminal" in done.stderr
    assert "motoko info" in done.stderr


def test_a_restarted_server_is_followed(tmp_path: Path) -> None:
    shell = small_workflow(tmp_path / "w")
    try:
        shell.ok("run", "--run_name", "a")
        state = StateDir.of(shell.directory)
        with Terminal(80, 24) as terminal:
            ensure_server(state)
            terminal.start(shell.directory)
            terminal.until(lambda text: "2 of 2" in text and "no server" not in text)
            signal_process(process_of(state), signal.SIGKILL)
            terminal.until("no server")
            shell.write({"steps.py": MAIN})
            shell.ok("run", "--run_name", "a")  # starts another server; x = 3 is new
            terminal.until("3 of 3")
    finally:
        shell.close()
