"""Process identities, and termination of processes with their children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from motoko.errors import MotokoError
from motoko.runtime import processes
from motoko.runtime.descendants import adopted_children
from motoko.runtime.processes import (
    Liveness,
    ProcessIdentity,
    current,
    group_members,
    identify,
    is_alive,
    keeps_lease,
    liveness,
    signal_group,
    suspension,
    terminate,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

Child = subprocess.Popen[str]
SLEEP = "import time; print('up', flush=True); time.sleep(60)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEP
# Exits on TERM and leaves a child in its group that ignores it.
PARENT = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {STUBBORN!r}], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""
# On TERM, terminates a child in its group and reports the child's exit status.
GENTLE = """
import signal, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
def end(*_):
    child.communicate(b"end")
    print(child.returncode, flush=True)
    sys.exit()
signal.signal(signal.SIGTERM, end)
print("up", flush=True)
signal.pause()
"""


def start(script: str) -> Child:
    return subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.fixture
def children() -> Iterator[list[Child]]:
    started: list[Child] = []
    yield started
    for child in started:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


def up(child: Child) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def test_the_identity_of_this_process() -> None:
    assert current() == identify(os.getpid())
    assert current().pid == os.getpid()
    assert is_alive(current())


def test_a_reused_pid_is_another_process() -> None:
    assert not is_alive(replace(current(), started=current().started - 1))
    assert not is_alive(replace(current(), boot="another boot"))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Liveness.ALIVE),
        ({"namespace": 0, "host": ""}, Liveness.ALIVE),  # as recorded by older versions
        ({"host": "container"}, Liveness.ALIVE),  # another name of this machine
        ({"started": 1}, Liveness.DEAD),
        ({"boot": "before"}, Liveness.DEAD),
        ({"boot": "other", "host": "other"}, Liveness.UNKNOWN),
        ({"boot": "other", "host": ""}, Liveness.UNKNOWN),
        ({"namespace": 1}, Liveness.UNKNOWN),
        ({"namespace": 1, "pid": 2**22 + 1}, Liveness.UNKNOWN),
    ],
)
def test_an_invisible_process_is_not_considered_dead(
    changes: dict[str, Any], expected: Liveness
) -> None:
    process = replace(current(), **changes)
    assert liveness(process) is expected
    assert ProcessIdentity(*process.plain()) == process


@pytest.mark.parametrize(
    "changes", [{"boot": "before"}, {"namespace": 1}, {"started": 1}, {"boot": "", "host": "other"}]
)
async def test_no_process_is_signalled_unless_all_fields_match(
    children: list[Child], changes: dict[str, Any]
) -> None:
    child = start(SLEEP)
    children.append(child)
    up(child)
    process = identify(child.pid)
    assert process is not None
    assert not signal_group(replace(process, **changes), signal.SIGKILL)
    assert await terminate(replace(process, **changes), grace=0)
    assert is_alive(process)


def test_a_lease_is_kept_while_its_holder_is_alive_or_unknown() -> None:
    for renewed in (True, False):
        assert keeps_lease(current(), renewed=renewed)
        assert not keeps_lease(replace(current(), started=1), renewed=renewed)
        assert keeps_lease(replace(current(), namespace=1), renewed=renewed) is renewed


def test_a_stopped_process_keeps_its_lease_only_while_it_is_renewed(children: list[Child]) -> None:
    child = start(SLEEP)
    children.append(child)
    up(child)
    process = identify(child.pid)
    assert process is not None
    assert suspension(process) == ""
    os.kill(child.pid, signal.SIGSTOP)
    deadline = time.monotonic() + 60
    while keeps_lease(process, renewed=False):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert keeps_lease(process, renewed=True)
    assert f"`kill -CONT {child.pid}`" in suspension(process)
    assert suspension(replace(process, started=1)) == ""


def test_a_zombie_is_not_alive(children: list[Child]) -> None:
    child = start("print('up')")
    children.append(child)
    process = identify(child.pid)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # exited, not reaped
    assert identify(child.pid) is None
    assert process is None or not is_alive(process)


def test_no_process_is_alive_with_an_unused_pid() -> None:
    assert identify(2**22 + 1) is None  # beyond the largest pid


def test_a_signal_reaches_only_the_identified_process(children: list[Child]) -> None:
    child = start(SLEEP)
    children.append(child)
    assert up(child) == "up"
    process = identify(child.pid)
    assert process is not None
    assert not signal_group(replace(process, started=process.started - 1), signal.SIGKILL)
    assert is_alive(process)
    assert signal_group(process, signal.SIGTERM)
    assert child.wait(120) == -signal.SIGTERM
    assert not signal_group(process, signal.SIGTERM)


async def test_terminate_sends_term_first(children: list[Child]) -> None:
    child = start(SLEEP)
    children.append(child)
    up(child)
    process = identify(child.pid)
    assert process is not None
    assert await terminate(process, grace=30)
    assert child.wait(120) == -signal.SIGTERM
    assert await terminate(process, grace=30)


async def test_terminate_kills_processes_that_ignore_term(children: list[Child]) -> None:
    child = start(STUBBORN)
    children.append(child)
    up(child)
    process = identify(child.pid)
    assert process is not None
    assert await terminate(process, grace=0.1)
    assert child.wait(120) == -signal.SIGKILL


async def test_terminate_ends_children_that_outlive_their_leader(children: list[Child]) -> None:
    child = start(PARENT)
    children.append(child)
    grandchild = identify(int(up(child)))
    process = identify(child.pid)
    assert process is not None
    assert grandchild is not None
    assert sorted(group_members(child.pid)) == sorted([child.pid, grandchild.pid])
    assert await terminate(process, grace=0.2)
    assert child.wait(120) == -signal.SIGTERM
    assert not is_alive(grandchild)


async def test_terminate_lets_a_leader_end_its_children(children: list[Child]) -> None:
    child = start(GENTLE)
    children.append(child)
    up(child)
    process = identify(child.pid)
    assert process is not None
    assert await terminate(process, grace=60)
    assert (child.wait(120), up(child)) == (0, "0")


@pytest.fixture
def without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_has_proc", lambda: False)


@pytest.fixture
def fake_ps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ps command that prints the content of a file beside it."""
    command = tmp_path / "ps"
    command.write_text('#!/bin/sh\ncat "$(dirname "$0")/answer"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path / "answer"


@pytest.mark.usefixtures("without_proc")
def test_ps_is_used_without_proc(fake_ps: Path) -> None:
    fake_ps.write_text("Ss   41 Tue Nov 14 22:13:20 2023\n")
    process = identify(42)
    assert process is not None
    assert (process.pid, process.started) == (42, 1_700_000_000)
    fake_ps.write_text("Z    41 Tue Nov 14 22:13:20 2023\n")
    assert identify(42) is None
    fake_ps.write_text("")
    assert identify(42) is None
    fake_ps.write_text("  41 41 Ss\n  42 41 Z\n  43 41 R+\n  44 44 R\n")
    assert group_members(41) == [41, 43]


@pytest.mark.usefixtures("without_proc")
def test_the_error_without_proc_and_ps_suggests_a_solution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MotokoError, match="cannot find processes"):
        identify(os.getpid())


def test_a_helper_is_no_orphan_after_the_thread_that_started_it_has_ended() -> None:
    """It then is a child of the main thread, as orphans are."""
    own: list[Child] = []

    def start() -> None:
        own.append(subprocess.Popen(["sleep", "60"], text=True))

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    foreign = subprocess.Popen(["sleep", "60"], text=True, start_new_session=True)
    try:
        assert foreign.pid in adopted_children(())
        assert foreign.pid not in adopted_children({foreign.pid})
        assert own[0].pid not in adopted_children(())
    finally:
        for child in (*own, foreign):
            child.kill()
            child.wait()
