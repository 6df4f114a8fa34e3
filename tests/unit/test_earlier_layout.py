"""Attempts that an earlier version prepared, with a directory of files each, are read and finished.

A run may be in progress while Motoko is upgraded, and a batch job may start long after that.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from motoko.launcher import attempt_files, attempt_records
from motoko.launcher.attempt_outcome import Evidence
from motoko.launcher.attempt_paths import (
    AttemptPaths,
    attempt_paths_in,
    marked_token,
    read_marker,
    run_directory_of,
    token_of,
)
from motoko.launcher.executors.batch.orphan_jobs import find_orphans
from motoko.launcher.executors.batch.submission_files import memberships
from motoko.launcher.executors.process_spawner import WRAPPER
from motoko.launcher.harvest import read_updates
from motoko.launcher.run_directory import create_run_directory, is_intact, reclaim
from motoko.runtime.processes import ProcessIdentity
from motoko.worker import AttemptContext, Run, WorkerError, encode, write_record
from motoko.worker.earlier_layout import HEADER

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.unit

TOKEN = uuid4().hex[:16]
STAT = "7 (sh) S" + " 1" * 18 + " 33" + " 1" * 10
START = f"process 999999999\nboot\n{STAT}\n5\nnode-4\n"


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[AttemptPaths]:
    """An attempt as version 1.9 prepared it, number 2 of its run."""
    made = AttemptPaths(str(tmp_path / "runs"), 1, 2, TOKEN, "5.0")
    directory = Path(made.run_directory, ".motoko", TOKEN)
    directory.mkdir(parents=True)
    (directory.parent / "attempt").write_text("2 5.0\n")
    inputs = {"v": 1, "id": 1, "token": TOKEN, "job": {"x": 2}, "fields": {}, "resources": {}}
    (directory / "inputs.json").write_text(json.dumps(encode(inputs)))
    (directory / "outbox").write_bytes(HEADER)
    assert made.is_earlier
    yield made
    # Motoko did not mix the layouts.
    assert not list(Path(made.run_directory).glob(".motoko-*"))


def write(paths: AttemptPaths, name: str, text: str) -> None:
    Path(paths.run_directory, ".motoko", TOKEN, name).write_text(text)


def test_the_paths_of_an_attempt(paths: AttemptPaths) -> None:
    path = paths.attempt_path
    assert path == f"{paths.run_directory}/.motoko/{TOKEN}"
    assert (token_of(path), run_directory_of(path)) == (TOKEN, paths.run_directory)
    assert paths.outbox == f"{path}/outbox"
    assert read_marker(paths.run_directory) == (2, "5.0")
    assert path in list(attempt_paths_in(paths.run_directory))
    assert is_intact(paths)


def test_the_files_of_an_attempt_are_its_evidence(paths: AttemptPaths) -> None:
    assert attempt_files.read_evidence(paths) == (Evidence(), None)
    assert not attempt_files.has_started(paths)
    write(paths, "start", START)
    os.utime(paths.file("start"), (7.0, 8.0))
    expected = ProcessIdentity(999999999, 33, "boot", 5, "node-4")
    assert attempt_files.read_evidence(paths) == (Evidence(True, process_known=True), expected)
    assert attempt_records.start_time(paths) == 8.0
    assert attempt_records.start_host(paths) == "node-4"
    assert attempt_records.exit_record(paths) == (None, None)
    write(paths, "exit", "")
    assert attempt_files.waits_for_space(paths)
    assert attempt_records.describe_missing_exit(paths) is None
    write(paths, "exit", "exit 3")
    damaged = f"{paths.attempt_path}/exit is damaged"
    assert attempt_records.exit_record(paths) == (None, damaged)
    write(paths, "exit", "exit 3\n")
    assert attempt_records.exit_record(paths) == (3, None)
    write(paths, "stop", "TIMEOUT\n")
    assert attempt_files.read_stop_reason(paths) == "TIMEOUT"


def test_its_script_reads_inputs_and_writes_results(paths: AttemptPaths) -> None:
    run = Run(AttemptContext(paths.attempt_path))
    assert (run.id, run.job.x, run.directory) == (1, 2, paths.run_directory)
    run.y = 3
    assert run.y == 3
    assert read_updates(paths.outbox, 0).fields == {"y": 3}
    assert attempt_records.outbox_loss(paths, 30) is None
    write(paths, "exit", "exit 0\n")
    with pytest.raises(WorkerError, match="the run has ended"):
        run.y = 4
    assert read_updates(paths.outbox, 0).fields == {"y": 3}


def test_a_lost_outbox_is_reported(paths: AttemptPaths) -> None:
    Path(paths.outbox).unlink()
    assert attempt_records.outbox_loss(paths, 0) == f"{paths.outbox} was removed"
    write_record(paths.outbox, {"op": "finish"}, create=True)
    assert attempt_records.outbox_loss(paths, 0) == f"{paths.outbox} was replaced"


def test_an_attempt_is_claimed_once(paths: AttemptPaths) -> None:
    assert reclaim(paths, attempt_files.reclaim_text("me"))
    assert paths.file("start").read_text() == "launcher me\n"
    assert not reclaim(paths, b"")
    assert attempt_files.was_reclaimed(paths)


def test_an_attempt_that_started_is_not_reclaimed(paths: AttemptPaths) -> None:
    write(paths, "start", START)
    assert not reclaim(paths, attempt_files.reclaim_text("me"))
    assert paths.file("start").read_text() == START


def test_an_attempt_without_exit_record_is_marked_as_ended(paths: AttemptPaths) -> None:
    attempt_files.mark_ended(paths)
    assert paths.file("over").exists()
    with pytest.raises(WorkerError, match="the run has ended"):
        Run(AttemptContext(paths.attempt_path)).finish()


def test_a_later_attempt_moves_its_directory_aside(paths: AttemptPaths, tmp_path: Path) -> None:
    later = AttemptPaths(paths.runs_root, 1, 3, "later", "5.0")
    create_run_directory(later, b"{}\n", [])
    assert not later.is_earlier
    assert read_marker(later.run_directory) == (3, "5.0")
    assert marked_token(later.run_directory) == "later"
    assert read_marker(f"{later.run_directory}.attempt-2") == (2, "5.0")


def test_a_launcher_from_before_the_upgrade_starts_attempts(paths: AttemptPaths) -> None:
    wrapper = Path(WRAPPER).with_name("wrapper.sh")
    command = ["/bin/sh", str(wrapper), paths.attempt_path, "sh", "-c", "echo said; exit 3"]
    assert subprocess.run(command, check=False).returncode == 3
    assert attempt_records.exit_record(paths) == (3, None)
    evidence, process = attempt_files.read_evidence(paths)
    assert (evidence.started, evidence.alive, process is not None) == (True, False, True)
    assert Path(paths.run_directory, "stdout").read_text() == "said\n"


def test_its_submission_is_found_by_its_token(paths: AttemptPaths, tmp_path: Path) -> None:
    tasks = tmp_path / "slurm" / "batch" / "tasks"
    tasks.mkdir(parents=True)
    (tasks / "0").symlink_to(paths.attempt_path)
    assert memberships(tmp_path / "slurm") == {TOKEN: ("batch", 0)}
    assert find_orphans(tmp_path / "slurm", ["batch"], "me") == []
    write(paths, "start", "launcher its\n")
    assert find_orphans(tmp_path / "slurm", ["batch"], "me") == ["batch"]
    create_run_directory(AttemptPaths(paths.runs_root, 1, 3, "later", "5.0"), b"{}\n", [])
    assert find_orphans(tmp_path / "slurm", ["batch"], "me") == ["batch"]
