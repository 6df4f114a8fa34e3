"""Processes of two containers on one machine that share a workflow directory."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from motoko.core.states import Lifecycle
from motoko.launcher.control import running_launchers, stop_launcher, suspend_runs
from motoko.launcher.workflow_users import other_users
from motoko.runtime.daemons import PidFile
from motoko.runtime.processes import Liveness, ProcessIdentity, liveness
from motoko.server.lifecycle import is_responding, stop_server
from tests.support.launching import WorkflowHarness, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

# For a process, a container is a separate PID namespace.
CONTAINER = ["unshare", *(["-Ur"] if os.getuid() else []), "-pf", "--mount-proc", "--kill-child"]


def in_container(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*CONTAINER, sys.executable, "-m", *arguments])


@pytest.fixture
def place(tmp_path: Path) -> Iterator[WorkflowHarness]:
    try:
        possible = subprocess.run([*CONTAINER, "true"], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no unshare command")
    if possible.returncode:
        pytest.skip(f"no PID namespace can be made: {possible.stderr.decode()}")
    place = WorkflowHarness.make(tmp_path / "w", {"mult": "[ $MOTOKO_JOB_X = 1 ] || sleep 100\n"})
    yield place
    place.close()


def test_launcher_and_server_of_another_container_are_used_and_stopped(
    place: WorkflowHarness,
) -> None:
    state = place.state
    stop_server(state)
    server = in_container("motoko.server.main", str(state.path))
    wait_until(lambda: PidFile(state.server_record).read() is not None)
    launcher = in_container("motoko.launcher.daemon", str(place.directory))
    wait_until(lambda: bool(running_launchers(state)))
    (found,) = running_launchers(state)
    assert liveness(found.process) is Liveness.UNKNOWN
    assert place.start().process == found.process  # and starts no other server
    key, long = place.create([{"x": 1}, {"x": 2}])
    place.wait_for(key, Lifecycle.FINISHED)
    process = place.wait_for(long, Lifecycle.START).process
    assert process is not None
    assert liveness(ProcessIdentity(*process)) is Liveness.UNKNOWN
    suspend_runs(state)
    assert place.record(long).lifecycle is Lifecycle.CREATED
    assert other_users(state) == []
    assert stop_launcher(state)
    assert launcher.wait(90) == 0
    assert stop_server(state)
    assert server.wait(90) == 0
    assert not is_responding(state)
