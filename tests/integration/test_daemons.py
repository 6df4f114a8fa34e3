"""Daemons: start, readiness and discovery."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from motoko.errors import LauncherError, ServerError, StorageError
from motoko.runtime.daemons import (
    READY_FD,
    Daemon,
    PidFile,
    announce_failure,
    announce_ready,
    spawn_detached,
)
from motoko.runtime.file_lock import FileLock
from motoko.runtime.processes import current, identify, is_alive, signal_group, terminate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

READY = """
import os, sys, time
from motoko.runtime.daemons import announce_ready
print("said on stdout", flush=True)
print("said on stderr", file=sys.stderr)
announce_ready("on port 7")
open(sys.argv[1], "w").write(f"{os.getsid(0)} {os.getcwd()} {os.environ.get('MOTOKO_READY_FD')}")
time.sleep(60)
"""


@pytest.fixture
def started() -> Iterator[list[Daemon]]:
    daemons: list[Daemon] = []
    yield daemons
    for daemon in daemons:
        signal_group(daemon.process, signal.SIGKILL)


def script(text: str, *args: str) -> list[str]:
    return [sys.executable, "-c", text, *args]


def wait_for(path: Path) -> str:
    deadline = time.monotonic() + 30
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return path.read_text()


async def test_a_daemon_is_ready_detached_and_private(
    tmp_path: Path, started: list[Daemon]
) -> None:
    log, made = tmp_path / "log", tmp_path / "made"
    log.write_text("earlier\n")
    log.chmod(0o644)
    daemon = spawn_detached(script(READY, str(made)), log=log, cwd=tmp_path)
    started.append(daemon)
    assert daemon.announced == "on port 7"
    assert is_alive(daemon.process)
    assert wait_for(made) == f"{daemon.process.pid} {tmp_path} None"
    assert made.stat().st_mode & 0o777 == 0o600  # umask 077
    assert log.read_text() == "earlier\nsaid on stdout\nsaid on stderr\n"
    assert log.stat().st_mode & 0o777 == 0o600
    assert await terminate(daemon.process, grace=30)


def test_a_daemon_outlives_its_parent(tmp_path: Path, started: list[Daemon]) -> None:
    launcher = """
import pathlib, sys
from motoko.runtime.daemons import PidFile, spawn_detached
directory = pathlib.Path(sys.argv[1])
daemon = spawn_detached([sys.executable, "-c", sys.argv[2], str(directory / "made")],
                        log=directory / "log")
PidFile(directory / "pid").write(daemon.process)
"""
    done = subprocess.run(
        script(launcher, str(tmp_path), READY),
        check=True,
        capture_output=True,  # would wait forever if the daemon kept these open
        timeout=60,
    )
    assert done.stderr == b""
    record = PidFile(tmp_path / "pid").read()
    assert record is not None
    started.append(Daemon(record.process, tmp_path / "log", ""))
    assert is_alive(record.process)


def test_a_daemon_holds_its_parents_lock_until_it_is_ready(
    tmp_path: Path, started: list[Daemon]
) -> None:
    """If the parent is killed meanwhile, no other process starts a second daemon."""
    daemon = """
import os, sys, time
from motoko.runtime.daemons import PidFile, announce_ready
from pathlib import Path
place = Path(sys.argv[1])
PidFile(place / "pid").write()
while not (place / "go").exists():
    time.sleep(0.01)
announce_ready()
time.sleep(60)
"""
    starter = """
import pathlib, sys
from motoko.runtime.daemons import spawn_detached
from motoko.runtime.file_lock import FileLock
place = pathlib.Path(sys.argv[1])
with FileLock(place / "lock") as lock:
    command = [sys.executable, "-c", sys.argv[2], sys.argv[1]]
    spawn_detached(command, log=place / "log", holding=lock)
"""
    with subprocess.Popen(script(starter, str(tmp_path), daemon)) as starting:
        wait_for(tmp_path / "pid")
        starting.kill()
    record = PidFile(tmp_path / "pid").read()
    assert record is not None
    started.append(Daemon(record.process, tmp_path / "log", ""))
    with pytest.raises(StorageError, match="is held by"):
        FileLock(tmp_path / "lock", timeout=0).acquire()
    (tmp_path / "go").touch()
    with FileLock(tmp_path / "lock", timeout=60):
        assert is_alive(record.process)


def test_announcing_without_a_readiness_pipe_does_nothing(
    tmp_path: Path, started: list[Daemon]
) -> None:
    code = (
        "import os, sys, time; open(sys.argv[1], 'w').write(str(os.environ.get('MOTOKO_READY_FD')))"
        "; time.sleep(60)"
    )
    daemon = spawn_detached(
        script(code, str(tmp_path / "made")),
        log=tmp_path / "log",
        ready_fd=False,
        env={**os.environ, READY_FD: "9"},
    )
    started.append(daemon)
    assert wait_for(tmp_path / "made") == "None"


def test_a_daemon_that_exits_is_reported_with_its_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("of an earlier start\n")
    code = "import sys; [print('line', n) for n in range(20)]; sys.exit(3)"
    with pytest.raises(ServerError, match="ended with exit status 3 before it was ready") as caught:
        spawn_detached(script(code), log=log, error=ServerError)
    hint = [f"The last lines of {log}:", *(f"line {number}" for number in range(10, 20))]
    assert [line.strip() for line in str(caught.value.hint).splitlines()] == hint


def test_a_daemon_that_is_killed_is_reported(tmp_path: Path) -> None:
    environment = {**os.environ, "MOTOKO_FAULT": "daemons.before_ready:kill"}
    with pytest.raises(LauncherError, match="was killed by signal 9 before") as caught:
        spawn_detached(
            script("from motoko.runtime.daemons import announce_ready; announce_ready()"),
            log=tmp_path / "log",
            env=environment,
        )
    assert caught.value.hint == f"It logged nothing in {tmp_path / 'log'}."


def test_a_daemon_that_announces_a_failure_is_reported_and_terminated(tmp_path: Path) -> None:
    code = """
import os, pathlib, sys, time
from motoko.runtime.daemons import PidFile, announce_failure
PidFile(pathlib.Path(sys.argv[1])).write()
announce_failure("the port is taken\\n  Choose another.")
time.sleep(60)
"""
    pid_file = PidFile(tmp_path / "pid")
    with pytest.raises(LauncherError) as caught:
        spawn_detached(script(code, str(pid_file.path)), log=tmp_path / "log")
    assert caught.value.message == "the port is taken"
    assert caught.value.hint == f"Choose another.\n  The log is {tmp_path / 'log'}."
    assert pid_file.read() is not None
    assert not pid_file.owner_alive()


def test_a_daemon_that_is_never_ready_is_killed(tmp_path: Path) -> None:
    code = 'echo $$ >"$0"; exec sleep 60'
    with pytest.raises(LauncherError, match=r"was not ready within 3 s and was killed"):
        spawn_detached(["sh", "-c", code, str(tmp_path / "pid")], log=tmp_path / "log", timeout=3)
    assert identify(int((tmp_path / "pid").read_text())) is None


def test_a_missing_command_is_reported(tmp_path: Path) -> None:
    with pytest.raises(LauncherError, match=r"no-such-command cannot be started: .*No such file"):
        spawn_detached(["no-such-command"], log=tmp_path / "log")
    with pytest.raises(LauncherError, match=r"cannot be started: .*No such file"):
        spawn_detached(script("pass"), log=tmp_path / "missing" / "log")


def test_announcing_to_a_closed_pipe_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(READY_FD, raising=False)
    announce_ready()
    announce_failure("x")
    read_end, write_end = os.pipe()
    os.close(read_end)
    monkeypatch.setenv(READY_FD, str(write_end))
    announce_ready()
    assert READY_FD not in os.environ
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(write_end)


def test_a_pid_file_identifies_its_owner(tmp_path: Path) -> None:
    pid_file = PidFile(tmp_path / "pid")
    assert pid_file.read() is None
    assert not pid_file.owner_alive()
    pid_file.write(address="/tmp/socket")
    record = pid_file.read()
    assert record is not None
    assert record.process == current()
    assert record.info == {"address": "/tmp/socket"}
    assert pid_file.owner_alive()
    assert pid_file.path.stat().st_mode & 0o777 == 0o600


def test_a_pid_file_is_removed_by_its_owner_only(tmp_path: Path) -> None:
    pid_file = PidFile(tmp_path / "pid")
    pid_file.write(replace(current(), started=1))
    assert not pid_file.owner_alive()
    pid_file.remove()
    assert pid_file.path.exists()
    pid_file.write()
    pid_file.remove()
    assert not pid_file.path.exists()
    pid_file.remove()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"process": {"pid": 1}}', b"\xff"])
def test_a_damaged_pid_file_is_ignored(tmp_path: Path, content: bytes) -> None:
    pid_file = PidFile(tmp_path / "pid")
    pid_file.path.write_bytes(content)
    assert pid_file.read() is None
    assert not pid_file.owner_alive()


def test_a_process_of_another_container_is_alive_while_its_pid_file_is_locked(
    tmp_path: Path,
) -> None:
    pid_file = PidFile(tmp_path / "pid")
    pid_file.write()
    content = json.loads(pid_file.path.read_bytes())
    content["process"] |= {"namespace": 1, "pid": 2**22 + 1}
    with pid_file.path.open("r+") as file:  # the locked file
        file.write(json.dumps(content))
        file.truncate()
    assert PidFile(pid_file.path).owner_alive()
    pid_file.remove()  # the file belongs to another process: only the lock is released
    assert pid_file.path.exists()
    assert not PidFile(pid_file.path).owner_alive()


def test_pid_files_of_older_versions_are_read(tmp_path: Path) -> None:
    pid_file = PidFile(tmp_path / "pid")
    pid_file.write()
    content = json.loads(pid_file.path.read_bytes())
    del content["process"]["namespace"], content["process"]["host"]
    pid_file.path.write_text(json.dumps(content))
    assert pid_file.owner_alive()
    pid_file.remove()
    assert not pid_file.path.exists()
