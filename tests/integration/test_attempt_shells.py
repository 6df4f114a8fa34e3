"""A shell runs several short attempts, each as if it had a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import shutil
import signal
import subprocess
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motoko.core.edits import Cancel
from motoko.launcher.attempt_processes import (
    SHELL_INPUT,
    find_process_in,
    is_wrapper_running,
    search_wrapper,
)
from motoko.launcher.control import suspend_runs
from motoko.launcher.executors.attempt_shells import (
    MAX_COMMAND,
    MAX_SHELLS,
    RESERVED_FILES,
    SETUP,
    AttemptShells,
    complete_line,
    shell_command,
    shell_limit,
)
from motoko.launcher.executors.process_spawner import WRAPPER
from motoko.runtime.processes import identify, is_alive, process_state
from motoko.runtime.spawning import SessionSpawner
from tests.support.attempt_shells import FACTS, SHELLS, ShellHarness, shells_in
from tests.support.launching import (
    WorkflowHarness,
    one_slot,
    wait_until,
    wait_until_replaceable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from motoko.core.records import RunKey

pytestmark = pytest.mark.integration

# Everything but a null byte, which no environment can hold.
texts = st.binary(max_size=40).map(lambda data: os.fsdecode(data.replace(b"\0", b"")))
names = st.from_regex(r"MOTOKO_(JOB|RUN)_[A-Z0-9_]{1,9}", fullmatch=True)


@settings(max_examples=25)
@given(st.lists(st.tuples(st.dictionaries(names, texts, max_size=4), st.lists(texts, max_size=3))))
@pytest.mark.parametrize("shell", SHELLS, ids=["sh", "bash"])
def test_variables_and_arguments_reach_commands_unchanged(
    tmp_path_factory: pytest.TempPathFactory,
    shell: Sequence[str],
    attempts: list[tuple[dict[str, str], list[str]]],
) -> None:
    root = tmp_path_factory.mktemp("runs 'of' a \"study\"\n$HOME")

    async def check() -> None:
        async with shells_in(root, shell) as harness:
            for variables, arguments in attempts:
                script = 'env -0 >e; printf "%s\\0" "$@" >a'
                words = ["bash", "-c", script, "bash", *arguments]
                status, run = await harness.run(words, variables)
                assert status == 0
                entries = (run / "e").read_bytes().split(b"\0")[:-1]
                found = dict(os.fsdecode(entry).split("=", 1) for entry in entries)
                own = {n: v for n, v in found.items() if n.startswith("MOTOKO")}
                assert own == variables
                assert found["OLDPWD"] == os.getcwd()
                assert found["PWD"] == str(run)
                assert not any(name.startswith("motoko") for name in found)
                text = "".join(f"{word}\0" for word in arguments) or "\0"
                assert (run / "a").read_bytes() == os.fsencode(text)

    asyncio.run(check())
    shutil.rmtree(root)


@pytest.mark.parametrize("shell", SHELLS, ids=["sh", "bash"])
def test_each_attempt_has_its_records_and_output(tmp_path: Path, shell: Sequence[str]) -> None:
    async def check() -> None:
        async with shells_in(tmp_path, shell) as harness:
            pids = set()
            for status in (0, 3, 128 + signal.SIGUSR1, 0):
                words = [
                    "bash",
                    "-c",
                    f"echo out; echo err >&2; read line; kill -{status - 128} $$",
                ]
                if status < 128:
                    words = ["bash", "-c", f"echo out; echo err >&2; exit {status}"]
                before = time.time()
                found, run = await harness.run(words)
                assert found == status
                assert (run / "stdout").read_text() == "out\n"
                assert (run / "stderr").read_text().startswith("err\n")
                (outbox,) = run.glob(".motoko-*")
                start, _, end = outbox.read_text().splitlines()
                pids.add(start.split()[1])
                *facts, since, last = start.split()[2:]
                assert (facts, last) == ([*FACTS[1:4]], "-")
                assert before - 1e-6 <= float(since) <= time.time()
                assert end == f"exit {status}"
            assert pids == set(map(str, harness.shells.pids()))

    asyncio.run(check())


@pytest.mark.parametrize("shell", SHELLS, ids=["sh", "bash"])
def test_commands_inherit_no_open_file_of_a_shell(tmp_path: Path, shell: Sequence[str]) -> None:
    words = ["/usr/bin/env", "sh", "-c", "echo /proc/$$/fd/*; readlink /proc/$$/fd/[012]"]

    def numbers(output: str) -> list[str]:
        return sorted(path.rpartition("/")[2] for path in output.splitlines()[0].split())

    # The test may have inherited files.
    plain = subprocess.run(words, close_fds=False, check=True, capture_output=True, text=True)

    async def check() -> None:
        async with shells_in(tmp_path, shell) as harness:
            for _ in range(2):
                _, run = await harness.run(words)
                output = (run / "stdout").read_text()
                assert numbers(output) == numbers(plain.stdout)
                streams = ["/dev/null", str(run / "stdout"), str(run / "stderr")]
                assert output.splitlines()[1:] == streams

    asyncio.run(check())


@pytest.mark.parametrize("shell", SHELLS, ids=["sh", "bash"])
def test_an_idle_shell_survives_signals(tmp_path: Path, shell: Sequence[str]) -> None:
    async def check() -> None:
        async with shells_in(tmp_path, shell) as harness:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                assert (await harness.run(["bash", "-c", "exit 3"]))[0] == 3
                (pid,) = harness.shells.pids()
                os.kill(pid, number)

    asyncio.run(check())


@pytest.mark.parametrize("shell", SHELLS, ids=["sh", "bash"])
@pytest.mark.parametrize("text", ["0", "\n0\n", "x" * 5000, "\n.motoko-other 0\n"])
def test_what_a_command_writes_to_the_pipe_of_its_shell_is_no_status(
    tmp_path: Path, shell: Sequence[str], text: str
) -> None:
    # The shell has moved its output, the first pipe that is open for writing.
    script = """
    for f in /proc/$PPID/fd/*; do
        if [ -p $f ] && grep -q '^flags:.*1$' /proc/$PPID/fdinfo/${f##*/}; then
            printf %s "$0" >$f && echo written
            break
        fi
    done
    exit 3
    """

    async def check() -> None:
        async with shells_in(tmp_path, shell) as harness:
            for _ in range(2):
                status, run = await harness.run(["bash", "-c", script, text])
                assert (status, (run / "stdout").read_text()) == (3, "written\n")
                assert (await harness.run(["bash", "-c", "exit 4"]))[0] == 4
            assert len(harness.shells.pids()) == 1

    asyncio.run(check())


def test_a_part_of_a_command_runs_nothing(tmp_path: Path) -> None:
    """A launcher may be killed while it writes."""
    harness = ShellHarness(tmp_path)
    attempt = harness.prepare()
    ran = tmp_path / "ran"
    words, variables = ["/usr/bin/touch", str(ran)], {"MOTOKO_JOB_X": "a 'b'\nc"}
    command = shell_command(str(attempt), FACTS, words, variables)
    assert command is not None
    line = complete_line(command, 5.0)

    def feed(text: bytes) -> None:
        command = ["/bin/sh", SHELL_INPUT, WRAPPER, str(tmp_path)]
        subprocess.run(command, input=SETUP + text, check=False, capture_output=True)

    for length in range(len(line) - 1):
        feed(line[:length])
        assert not ran.exists(), length
        assert not attempt.exists(), length
    feed(line)
    assert ran.exists()


@pytest.mark.parametrize(
    ("words", "variables"),
    [
        (["exit", "./launch.sh"], {}),
        (["x=/bin/sh", "./launch.sh"], {}),
        (["bash", "./launch.sh"], {"MOTOKO_JOB_A B": "1"}),
        (["bash", "./launch.sh"], {"MOTOKO_JOB_X": "1" * MAX_COMMAND}),
        (["bash", "./a\0b"], {}),
    ],
    ids=["builtin", "assignment", "odd name", "long", "null byte"],
)
def test_other_attempts_get_a_process_of_their_own(
    words: list[str], variables: dict[str, str]
) -> None:
    assert shell_command("/w/run-1/.motoko-t", FACTS, words, variables) is None


@pytest.mark.parametrize(
    "arguments",
    [["/bin/false"], ["/bin/sh", SHELL_INPUT, "/no such script"], ["/bin/sh", "/no such input"]],
    ids=["no shell", "no script", "no input"],
)
def test_a_shell_that_cannot_start_gets_no_attempt(tmp_path: Path, arguments: list[str]) -> None:
    async def check() -> None:
        async with shells_in(tmp_path) as harness:
            shells = AttemptShells(SessionSpawner(()), arguments, {"PATH": os.environ["PATH"]})
            harness.shells = shells
            shells.start(str(tmp_path))
            assert shells.run(str(tmp_path), "", b"true; }\n") is None
            await harness.wait_until_reaped()
            assert shells.run(str(tmp_path), "", b"true; }\n") is None
            shells.start(str(tmp_path))  # it does not try again
            assert shells.pids() == set()

    asyncio.run(check())


def test_an_attempt_that_another_launcher_reclaimed_does_not_start(tmp_path: Path) -> None:
    async def check() -> None:
        async with shells_in(tmp_path) as harness:
            for prevent in ("outbox", "directory", "marker"):
                attempt = harness.prepare()
                if prevent == "outbox":
                    attempt.write_text("launcher other\n")
                elif prevent == "directory":
                    shutil.rmtree(attempt.parent)
                else:
                    (attempt.parent / ".motoko").write_text("2 5.0 later\n{}\n")
                handle = await harness.begin(attempt, ["bash", "-c", "echo >../ran"], {})
                assert await handle.wait() == 111
                handle.reuse()
            assert not (tmp_path / "ran").exists()
            # None of that affects the next attempt.
            assert (await harness.run(["bash", "-c", "echo >x; echo >x"]))[0] == 0
            assert len(harness.shells.pids()) == 1

    asyncio.run(check())


def test_the_working_directory_tells_which_attempt_a_shell_runs(tmp_path: Path) -> None:
    async def check() -> None:
        async with shells_in(tmp_path / "a") as harness:
            attempt, other = harness.prepare(), harness.prepare()
            run = attempt.parent
            go = f"until [ -e {tmp_path}/go ]; do sleep .02; done"
            handle = await harness.begin(attempt, ["bash", "-c", go], {})
            process = identify(handle.pid)
            assert process is not None
            path = str(attempt)
            wait_until(lambda: attempt.exists() and attempt.read_text().endswith("\n"))
            assert is_wrapper_running(process, path)
            assert search_wrapper(path) == process
            assert find_process_in(str(run)) == process
            assert not is_wrapper_running(process, str(other))
            assert search_wrapper(str(other)) is None
            # A copy of the workflow names the same process and token.
            shutil.copytree(tmp_path / "a", tmp_path / "copy")
            assert not is_wrapper_running(process, str(tmp_path / "copy" / "run-1" / attempt.name))
            assert not is_wrapper_running(process, str(tmp_path / "none" / "run-1" / attempt.name))
            # A moved workflow, a directory that was moved aside, and one that was removed.
            (tmp_path / "a").rename(tmp_path / "b")
            assert is_wrapper_running(process, str(tmp_path / "b" / "run-1" / attempt.name))
            (tmp_path / "b").rename(tmp_path / "a")
            run.rename(run.with_name("run-1.attempt-1"))
            assert is_wrapper_running(process, path)
            run.with_name("run-1.attempt-1").rename(run)
            shutil.rmtree(run)
            assert is_wrapper_running(process, path)
            assert search_wrapper(path) == process
            assert search_wrapper(str(other)) is None
            assert search_wrapper(str(tmp_path / "copy" / "run-1" / attempt.name)) is None
            run.mkdir()
            assert is_wrapper_running(process, path)
            (tmp_path / "go").touch()
            assert await handle.wait() == 0
            assert not is_wrapper_running(process, path)
            assert is_alive(process)
            handle.reuse()

    (tmp_path / "a").mkdir()
    asyncio.run(check())


def test_shells_that_are_not_used_exit_although_others_are_used(tmp_path: Path) -> None:
    async def check() -> None:
        async with shells_in(tmp_path) as harness:
            idle = await harness.begin(harness.prepare(), ["bash", "-c", "true"], {})
            assert idle.pid in harness.shells.pids()
            used = await harness.begin(harness.prepare(), ["bash", "-c", "true"], {})
            assert await idle.wait() == await used.wait() == 0
            idle.reuse()
            used.reuse()  # the last to become idle is the first that runs another attempt
            await harness.shells.stop_idle(5.0, unused=True)
            assert harness.shells.pids() == {idle.pid, used.pid}
            await harness.run(["bash", "-c", "true"])
            await harness.shells.stop_idle(5.0, unused=True)
            assert harness.shells.pids() == {used.pid}
            await harness.shells.stop_idle(5.0, unused=True)
            assert harness.shells.pids() == set()

    asyncio.run(check())


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_shells_leave_the_files_that_other_runs_need(limit: int, slots: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resource, "getrlimit", lambda _: (limit, limit))
        shells = shell_limit(slots)
    assert 0 <= shells <= MAX_SHELLS
    assert shells == 0 or RESERVED_FILES + slots + 2 * shells <= limit
    assert shells > 0 or RESERVED_FILES + slots + 2 > limit


def test_without_a_file_for_a_pipe_an_attempt_gets_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> tuple[int, int]:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async def check() -> None:
        async with shells_in(tmp_path) as harness:
            with monkeypatch.context() as patch:
                patch.setattr(os, "pipe", fail)
                harness.shells.start(str(tmp_path))
            assert harness.shells.run(str(tmp_path), harness.prepare().name, b"true; }\n") is None
            assert harness.shells.pids() == set()

    asyncio.run(check())


# -- in a launcher ----------------------------------------------------------------------------

# Runs are quick until a shell of several attempts runs one: that does what the file ``do`` says.
SCRIPT = """
cd ../..
[ -e do ] && grep -q /dev/stdin /proc/$PPID/cmdline || exit 0
echo $PPID >begun.new && mv begun.new begun
mv do done
. ./done
"""
WAIT = "until [ -e go ]; do sleep .02; done\n"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[WorkflowHarness]:
    yield from one_slot(tmp_path / "w", SCRIPT)


def _began_or_ended(place: WorkflowHarness, begun: Path, key: RunKey) -> bool:
    return begun.exists() or place.record(key).lifecycle.is_terminal


def begin(place: WorkflowHarness, script: str) -> tuple[RunKey, int]:
    """Let a shell of several attempts run a script; return the run and the pid of the shell."""
    begun = place.directory / "a" / "begun"
    (place.directory / "a" / "do").write_text(script)
    while True:
        (key,) = place.create([{"x": 1}])
        wait_until(partial(_began_or_ended, place, begun, key))
        if begun.exists():
            shell = int(begun.read_text())
            begun.unlink()
            return key, shell


def test_a_shell_ends_with_what_a_run_leaves(place: WorkflowHarness) -> None:
    place.start()
    key, shell = begin(place, "sleep 1000 & echo $! >left\n")
    record = place.wait([key])[0]
    assert (record.state, record.attempt) == ("FINISHED", 1)
    assert process_state(int((place.directory / "a" / "left").read_text())) in ("", "Z")
    assert process_state(shell) == ""


@pytest.mark.parametrize("script", ["kill -KILL 0\n", "kill -KILL $PPID; exec sleep 1000\n"])
def test_a_killed_shell_loses_its_own_attempt_only(place: WorkflowHarness, script: str) -> None:
    place.start()
    key, _ = begin(place, script)
    later = place.create([{"x": 1}] * 3)
    record = place.wait([key])[0]
    assert (record.state, record.attempt) == ("LOST", 1)
    assert (record.reason or "").startswith("its process ended without an exit record")
    assert [r.state for r in place.wait(later)] == ["FINISHED"] * 3


def _is_zombie(pid: int) -> bool:
    return process_state(pid) == "Z"


def test_a_shell_that_is_killed_while_it_is_idle_loses_nothing(tmp_path: Path) -> None:
    async def check() -> None:
        async with shells_in(tmp_path) as harness:
            for noticed in (False, True):
                _, run = await harness.run(["bash", "-c", "echo $PPID"])
                shell = int((run / "stdout").read_text())
                os.kill(shell, signal.SIGKILL)
                wait_until(partial(_is_zombie, shell))
                if noticed:
                    await harness.wait_until_reaped()
                attempt = harness.prepare()
                command = shell_command(str(attempt), FACTS, ["bash", "-c", "true"], {})
                assert command is not None
                # Such an attempt gets a process of its own.
                assert harness.shells.run(str(tmp_path), attempt.name, command) is None
                await harness.wait_until_reaped()

    asyncio.run(check())


def test_a_shell_ends_with_a_stopped_attempt(place: WorkflowHarness) -> None:
    place.start()
    key, shell = begin(place, "sleep 1000\n")
    place.wait_for(key, "START")
    suspend_runs(place.state)
    assert place.record(key).state == "CREATED"
    assert process_state(shell) == ""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "suspended"])
def test_another_launcher_adopts_the_attempt_of_a_shell(
    place: WorkflowHarness, number: signal.Signals
) -> None:
    first = place.start(lease=1.0)
    key, shell = begin(place, WAIT)
    record = place.wait_for(key, "START")
    assert record.process is not None
    assert record.process[0] == shell
    os.kill(first.process.pid, number)
    try:
        wait_until_replaceable(place.store)
        assert place.start(lease=1.0).started_here
        wait_until(lambda: f"run {key}: is still running" in place.log())
        assert place.record(key).state == "START"
        (place.directory / "a" / "go").touch()
        assert place.wait([key])[0].state == "FINISHED"
        assert place.record(key).attempt == 1
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(first.process.pid, signal.SIGCONT)
    wait_until(lambda: not is_alive(first.process))
    wait_until(lambda: process_state(shell) == "")


def test_what_a_run_leaves_ends_although_its_launcher_is_suspended(place: WorkflowHarness) -> None:
    """The shell survives the attempt, so the group has a leader."""
    first = place.start(lease=1.0)
    # Only its group tells that this process belongs to the run.
    key, shell = begin(place, f"env -i sleep 1000 >/dev/null 2>&1 & echo $! >left\n{WAIT}")
    place.wait_for(key, "START")
    os.kill(first.process.pid, signal.SIGSTOP)
    try:
        wait_until_replaceable(place.store)
        place.start(lease=1.0)
        wait_until(lambda: f"run {key}: is still running" in place.log())
        (place.directory / "a" / "go").touch()
        assert place.wait([key])[0].state == "FINISHED"
        left = int((place.directory / "a" / "left").read_text())
        assert process_state(left) in ("", "Z")
    finally:
        os.kill(first.process.pid, signal.SIGCONT)
    wait_until(lambda: process_state(shell) == "")


def test_a_run_that_removed_its_directory_is_found_by_a_successor(place: WorkflowHarness) -> None:
    """Its launcher was killed before it recorded the start."""
    first = place.start(lease=1.0)
    launcher = first.process.pid
    script = f'rm -r "$MOTOKO_RUN_DIR"\nkill -KILL {launcher}\n{WAIT}'
    key, shell = begin(place, script)
    wait_until(lambda: not is_alive(first.process))
    wait_until_replaceable(place.store)
    place.start(lease=1.0)
    wait_until(lambda: f"run {key}: is still running" in place.log())
    (place.directory / "a" / "go").touch()
    assert place.wait([key])[0].attempt == 1
    wait_until(lambda: process_state(shell) == "")


def test_a_successor_stops_the_attempt_of_a_shell(place: WorkflowHarness) -> None:
    first = place.start(lease=1.0)
    key, shell = begin(place, "echo $BASHPID >script\nsleep 1000\n")
    place.wait_for(key, "START")
    os.kill(first.process.pid, signal.SIGKILL)
    wait_until_replaceable(place.store)
    place.start(lease=1.0)
    place.edit(key, Cancel(time.time(), "test"))
    assert place.wait([key])[0].state == "CANCELLED"
    assert process_state(int((place.directory / "a" / "script").read_text())) == ""
    wait_until(lambda: process_state(shell) == "")


def test_idle_shells_exit(place: WorkflowHarness) -> None:
    launcher = place.start()
    key, shell = begin(place, "")
    place.wait([key])
    wait_until(lambda: process_state(shell) == "")
    assert is_alive(launcher.process)
