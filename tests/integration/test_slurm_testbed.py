"""The script that starts and stops a Slurm for tests."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.slurm_testbed import SCRIPT, CannotRunError, Testbed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.integration

ALL_RUN = {"munged": "runs", "slurmctld": "runs"}


@pytest.fixture
def testbed() -> Iterator[Testbed]:
    # Not in pytest's directory: the sockets' paths must be short.
    with tempfile.TemporaryDirectory(prefix="motoko-") as place:
        slurm = Testbed(Path(place) / "slurm")
        try:
            slurm.start("MinJobAge=77")
        except CannotRunError as error:
            pytest.skip(str(error))
        try:
            yield slurm
        finally:
            slurm.stop()


def test_the_testbed_runs_jobs_and_leaves_no_files_or_processes(testbed: Testbed) -> None:
    names = ("munged", "slurmctld", "n1", "n2")
    first = {name: testbed.pid(name) for name in names}
    assert "MinJobAge               = 77 sec" in testbed.command("scontrol", "show", "config")
    assert testbed.command("sinfo", "-h", "-N", "-p", "debug", "-o", "%N %c").split("\n") == [
        "n1 16",
        "n2 16",
    ]
    mark = testbed.place / "mark"
    body = f"trap '' TERM; echo $$ > {mark}; while :; do sleep 0.2; done"
    testbed.command("sbatch", "--output=/dev/null", f"--wrap={body}", "--nodelist=n1")
    _until(lambda: mark.exists() and mark.read_text().endswith("\n"))
    job = int(mark.read_text())

    _kill(first["n1"])
    status, parts = testbed.status()
    assert (status, parts) == (3, {**ALL_RUN, "n1": "does not run", "n2": "runs"})
    testbed.start("MinJobAge=5")
    second = {name: testbed.pid(name) for name in names}
    assert {name for name in names if first[name] != second[name]} == {"n1"}
    assert "MinJobAge=77" in (testbed.place / "slurm.conf").read_text()
    assert testbed.status()[0] == 0

    _kill(second["n1"])
    testbed.stop()
    assert not testbed.place.exists()
    assert [pid for pid in (*first.values(), *second.values(), job) if _alive(pid)] == []


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 2, "usage"),
        (["go"], 2, "usage"),
        (["start", "--set", "MinJobAge"], 2, "usage"),
        (["start", "--purge"], 2, "usage"),
        (["stop", "a", "b"], 2, "usage"),
        (["stop", "/etc"], 1, "/etc is not a testbed's directory"),
        (["stop", "/no/such/directory"], 0, ""),
        (["status", "/no/such/directory"], 3, ""),
    ],
)
def test_invalid_arguments_are_refused(arguments: list[str], status: int, message: str) -> None:
    done = subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert message in done.stderr


def test_a_testbed_that_cannot_run_explains_why(tmp_path: Path) -> None:
    # A machine with only these programs, and a user other than root.
    for name in ("bash", "env"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    (tmp_path / "id").write_text("#!/usr/bin/env bash\necho 1000\n")
    (tmp_path / "id").chmod(0o755)

    done = subprocess.run(
        [SCRIPT, "start", tmp_path / "slurm"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (77, "")
    (line,) = done.stderr.splitlines()
    assert "root" in line
    assert not (tmp_path / "slurm").exists()


def _until(holds: Callable[[], bool]) -> None:
    limit = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.05)


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    _until(lambda: not _alive(pid))


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False
