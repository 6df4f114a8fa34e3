"""Sending one notification: to commands and to webhooks, well-behaved or not."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from motoko.config.notify_targets import NotifyTarget
from motoko.notifier.sending import Message, Outcome, send
from motoko.runtime.limited_command import KEPT, LimitedResult, run_limited
from motoko.runtime.processes import identify
from tests.support.command_line import wait_until
from tests.support.notifying import web_server

pytestmark = pytest.mark.integration

LONG = 60.0


def message(directory: Path) -> Message:
    return Message("failed", "a b", "run name a b ended: $(touch hit) `touch hit`; oops", directory)


def command(directory: Path, *words: str, timeout: float = LONG) -> Outcome:
    return send(NotifyTarget(command=words, timeout=timeout), message(directory))


def webhook(url: str, directory: Path, timeout: float = LONG) -> Outcome:
    return send(NotifyTarget(webhook=url, timeout=timeout), message(directory))


def limited(directory: Path, code: str, *, seconds: float = LONG, stdin: bytes = b"") -> Any:
    words = [sys.executable, "-c", code]
    return run_limited(
        words, stdin=stdin, environment=os.environ, directory=directory, seconds=seconds
    )


# -- commands --------------------------------------------------------------------------------------


def test_a_command_gets_the_message_in_its_environment_and_on_standard_input(
    tmp_path: Path,
) -> None:
    shown = "env -0 > environment; cat > input; pwd > directory; printf '%s' \"$1\" > argument"
    assert command(tmp_path, "sh", "-c", shown, "sh", "$MOTOKO_NOTIFY_MESSAGE") == Outcome(True)

    pairs = (tmp_path / "environment").read_text().split("\0")
    found = dict(pair.partition("=")[::2] for pair in pairs)
    sent = message(tmp_path)
    values = {name: found[f"MOTOKO_NOTIFY_{name.upper()}"] for name in sent.values}
    assert values == {
        "event": "failed",
        "run_name": "a b",
        "message": sent.message,
        "workflow": str(tmp_path),
        "host": os.uname().nodename,
    }
    assert (tmp_path / "input").read_text().splitlines()[0] == sent.message
    assert (tmp_path / "directory").read_text().strip() == str(tmp_path)
    assert (tmp_path / "argument").read_text() == "$MOTOKO_NOTIFY_MESSAGE"  # nothing replaces it
    assert not (tmp_path / "hit").exists()


def test_the_exit_status_and_the_last_words_of_a_failed_command_are_reported(
    tmp_path: Path,
) -> None:
    found = command(tmp_path, "sh", "-c", "echo no; printf 'mail \\033[2J down' >&2; exit 75")
    assert found == Outcome(False, r"exit status 75: no mail \x1b[2J down", again=True)


def test_a_missing_program_is_reported(tmp_path: Path) -> None:
    found = command(tmp_path, "no-such-program")
    assert found == Outcome(False, "cannot be run: No such file or directory", again=True)


def test_a_command_need_not_read_its_input(tmp_path: Path) -> None:
    assert limited(tmp_path, "pass", stdin=b"x" * 10_000_000) == LimitedResult(0, "")


def test_of_megabytes_of_output_the_end_is_kept(tmp_path: Path) -> None:
    code = "import sys; sys.stdout.write('x' * 20_000_000); sys.stdout.write('the end')"
    found = limited(tmp_path, code)
    assert found.status == 0
    assert found.output.endswith("xthe end")
    assert len(found.output) == KEPT


def test_a_hanging_command_is_killed_with_its_children(tmp_path: Path) -> None:
    script = "sleep 1000 & echo $! > child; trap '' TERM; wait"
    found = command(tmp_path, "sh", "-c", script, timeout=1.0)
    assert found == Outcome(False, "did not end within 1 s and was killed")
    child = int((tmp_path / "child").read_text())
    wait_until(lambda: identify(child) is None, "the child is dead")


def test_a_command_that_closes_its_output_is_awaited(tmp_path: Path) -> None:
    code = "import os, sys, time; os.close(1); os.close(2); time.sleep(0.3); os._exit(3)"
    assert limited(tmp_path, code) == LimitedResult(3, "")


def test_processes_that_a_command_leaves_behind_delay_nothing_and_continue(
    tmp_path: Path,
) -> None:
    script = "(while ! [ -e go ]; do sleep 0.02; done; : > done) & exit 0"
    assert command(tmp_path, "sh", "-c", script) == Outcome(True)
    assert not (tmp_path / "done").exists()
    (tmp_path / "go").touch()
    wait_until((tmp_path / "done").exists, "it has continued")


# -- webhooks --------------------------------------------------------------------------------------


def test_a_webhook_gets_the_message_as_json(tmp_path: Path) -> None:
    with web_server() as server:
        assert webhook(server.url, tmp_path) == Outcome(True)
    (content,) = server.requests
    sent = message(tmp_path)
    assert content.pop("text").splitlines()[0] == sent.message
    assert content == sent.values


@pytest.mark.parametrize(
    ("status", "problem"),
    [(404, "HTTP 404 Not Found"), (500, "HTTP 500 Internal Server Error"), (599, "HTTP 599")],
)
def test_an_error_of_the_server_is_reported_and_may_be_repeated(
    tmp_path: Path, status: int, problem: str
) -> None:
    with web_server(status) as server:
        assert webhook(server.url, tmp_path) == Outcome(False, problem, again=True)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirection_is_an_error_and_not_followed(tmp_path: Path, status: int) -> None:
    with web_server() as other, web_server(status, location=other.url) as server:
        found = webhook(server.url, tmp_path)
    assert found.problem.startswith(f"HTTP {status}")
    assert not found.sent
    assert (server.methods, other.methods) == (["POST"], [])


def test_a_redirection_to_a_file_is_not_followed(tmp_path: Path) -> None:
    with web_server(302, location=f"file://{tmp_path}/x") as server:
        assert webhook(server.url, tmp_path).problem.startswith("HTTP 302")


def test_a_refused_connection_may_be_repeated(tmp_path: Path) -> None:
    with web_server() as server:
        url = server.url
    found = webhook(url, tmp_path)
    assert found.problem.startswith("cannot connect: ")
    assert found.again


def test_an_unknown_host_may_be_repeated_and_no_problem_shows_the_url(tmp_path: Path) -> None:
    found = webhook("http://no-such-host.invalid/hook/SECRET?token=SECRET", tmp_path)
    assert found.again
    assert "SECRET" not in found.problem


def test_a_connection_that_is_closed_without_an_answer_is_not_repeated(tmp_path: Path) -> None:
    with web_server(0) as server:
        found = webhook(server.url, tmp_path)
    assert found.problem.startswith("no valid answer: ")
    assert (found.sent, found.again) == (False, False)


@pytest.mark.parametrize("trickles", [False, True])
def test_a_server_that_does_not_answer_in_time_is_not_asked_again(
    tmp_path: Path, trickles: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        done = threading.Event()

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                while not done.wait(0.02):
                    if trickles:
                        connection.sendall(b"H")

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            found = webhook(f"http://127.0.0.1:{port}/SECRET", tmp_path, timeout=2.0)
        finally:
            done.set()
            thread.join()
    assert (found.sent, found.again) == (False, False)
    assert found.problem


def command_lines() -> list[bytes]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                found.append((entry / "cmdline").read_bytes())
    return found


def test_the_command_line_of_a_request_shows_no_url(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/SECRET"
        results: list[Outcome] = []
        thread = threading.Thread(target=lambda: results.append(webhook(url, tmp_path, 5.0)))
        thread.start()
        connection, _ = listener.accept()
        with connection:
            lines = command_lines()
        thread.join()
    assert any(b"motoko.runtime.webhook" in line for line in lines)
    assert not any(b"/SECRET" in line for line in lines)
