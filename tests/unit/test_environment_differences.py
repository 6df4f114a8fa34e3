"""Differences between the environments of two processes."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from motoko.printable import join_names
from motoko.runtime.environment import environment_differences
from motoko.runtime.processes import ProcessIdentity, identify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [
    pytest.mark.unit,
    pytest.mark.skipif(not os.path.exists("/proc/self/environ"), reason="needs /proc"),
]


@pytest.fixture
def start() -> Iterator[Callable[..., ProcessIdentity]]:
    started: list[subprocess.Popen[bytes]] = []

    def begin(python: str = sys.executable, **options: Any) -> ProcessIdentity:
        command = [python, "-c", "print(flush=True); input()"]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        process: subprocess.Popen[bytes] = subprocess.Popen(command, **pipes, **options)
        started.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        found = identify(process.pid)
        assert found is not None
        return found

    yield begin
    for process in started:
        process.communicate()


def test_the_same_environment_does_not_differ(start: Callable[..., ProcessIdentity]) -> None:
    assert environment_differences(start()) == ()


def test_variables_are_named_except_session_variables(
    start: Callable[..., ProcessIdentity], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GONE", "1")
    monkeypatch.setenv("SAME", "1")
    monkeypatch.setenv("BASH_FUNC_module%%", "() { echo 1; }")
    changed = {
        "PATH": os.environ["PATH"] + ":/nowhere",
        "OTHER": "2",
        "BASH_FUNC_module%%": "() { echo 2; }",
        "PWD": "/",
        "SSH_CLIENT": "1.2.3.4",
        "MOTOKO_READY_FD": "7",
    }
    environment = {**os.environ, **changed}
    del environment["GONE"]
    found = environment_differences(start(env=environment))
    assert found == ("PATH", "BASH_FUNC_module%%", "GONE", "OTHER")


def test_undecodable_values_are_compared(
    start: Callable[..., ProcessIdentity], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environb, b"ODD", b"\xff\xfe\n")
    assert environment_differences(start()) == ()
    assert environment_differences(start(env={**os.environb, b"ODD": b"\xff"})) == ("ODD",)


def test_another_python_and_other_limits_are_named(
    start: Callable[..., ProcessIdentity], tmp_path: Any
) -> None:
    (tmp_path / "python").symlink_to(sys.executable)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def lower_limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (57, hard))

    process = start(python=str(tmp_path / "python"), preexec_fn=lower_limit)
    assert environment_differences(process) == ("python", "ulimit -n")


def test_an_unidentified_process_has_no_differences(
    start: Callable[..., ProcessIdentity],
) -> None:
    process = start(env={"OTHER": "1"})
    assert environment_differences(process) != ()
    assert environment_differences(replace(process, boot="another")) == ()


def test_long_lists_of_names_are_shortened() -> None:
    assert join_names(["PATH"]) == "PATH"
    assert join_names([f"V{n}" for n in range(10)]).endswith("V7 and 2 more")
