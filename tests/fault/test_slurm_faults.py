"""Kill the launcher at each of its fault points while a real Slurm executes its runs."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from motoko.runtime import fault_points
from tests.support.launching import wait_until, wait_until_replaceable
from tests.support.slurm_harness import LIVING, SlurmHarness

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from motoko.core.records import RunKey
    from tests.support.slurm_testbed import Testbed

pytestmark = pytest.mark.fault

SCRIPT = "echo start-$MOTOKO_RUN_ID >>{0}; sleep $MOTOKO_JOB_DO; echo end-$MOTOKO_RUN_ID >>{0}\n"
# Fault points of launchers with Slurm; the launcher has jobs in the queue.
PASSAGES = {
    "launcher.claimed": (1, 4),
    "launcher.prepared": (1, 6),
    "launcher.submission_written": (1, 2),
    "launcher.submitted": (1, 2),
    "launcher.job_recorded": (1, 2),
    "launcher.before_commit": (1, 2, 3),
    "launcher.after_commit": (1, 2, 3),
}
ELSEWHERE = {
    "launcher.start_recorded", "launcher.started", "launcher.withdrawn", "launcher.adopting",
    "launcher.reclaimed",
}  # fmt: skip


@pytest.fixture
def executed(tmp_path: Path) -> Path:
    return tmp_path / "executed"


@pytest.fixture
def place(slurm: Testbed, tmp_path: Path, executed: Path) -> Iterator[SlurmHarness]:
    script = SCRIPT.format(executed)
    made = SlurmHarness.make(tmp_path / "wf", slurm, script, array_size=3)
    try:
        yield made
    finally:
        made.close()


def check(place: SlurmHarness, keys: list[RunKey], executed: Path) -> None:
    """Every run finished, was executed once and counted once; Slurm reports the same."""
    assert set(place.wait(keys)) == {"FINISHED"}
    for record in place.place.records(keys):
        assert record.attempt - record.uncounted == 1
    lines = executed.read_text().split()
    assert sorted(lines) == sorted(f"{what}-{k.id}" for k in keys for what in ("start", "end"))
    assert place.no_jobs_left()
    wait_until(lambda: place.completed() >= len(keys))
    assert place.completed() == len(keys)
    assert place.place.recount() == []


def test_every_fault_point_is_used() -> None:
    points = {name for name in fault_points.POINTS if name.startswith("launcher.")}
    assert points - ELSEWHERE == PASSAGES.keys()


@pytest.mark.parametrize(
    ("point", "passage"), [(point, n) for point, ns in PASSAGES.items() for n in ns]
)
def test_a_kill_at_any_point_neither_loses_nor_repeats_runs(
    place: SlurmHarness, executed: Path, tmp_path: Path, point: str, passage: int
) -> None:
    # The first launcher leaves jobs in the queue, the next is killed, the third recovers.
    first = place.start(lease=1.0)
    keys = place.create("1.5", "2", "2.5")
    wait_until(lambda: len(place.jobs(*LIVING)) == 3)
    first.kill()
    first.wait()
    log = tmp_path / "log"
    fault = {"MOTOKO_FAULT": f"{point}:kill:{passage}", "MOTOKO_FAULT_LOG": str(log)}
    second = place.start(lease=1.0, environment=fault, ready=False)
    keys += place.create(*["0.1"] * 7)
    second.wait(timeout=120)
    assert f"{point} {passage} {second.pid} " in log.read_text()
    place.start(lease=1.0)
    check(place, keys, executed)


def test_a_launcher_killed_during_a_reclaim(
    place: SlurmHarness, executed: Path, tmp_path: Path
) -> None:
    keys = place.create("1", "0.1", "0.1", "0.1")
    log = tmp_path / "log"
    # The first submission is in the queue, the second is only claimed.
    for fault in ("launcher.submitted:kill", "launcher.reclaimed:kill"):
        environment = {"MOTOKO_FAULT": fault, "MOTOKO_FAULT_LOG": str(log)}
        place.start(lease=1.0, environment=environment, ready=False).wait(timeout=120)
    place.start(lease=1.0)
    check(place, keys, executed)


@pytest.mark.parametrize("point", ["launcher.submitted", "launcher.before_commit"])
def test_a_launcher_resumed_after_its_lease_starts_and_records_nothing(
    place: SlurmHarness, executed: Path, tmp_path: Path, point: str
) -> None:
    log = tmp_path / "log"
    fault = {"MOTOKO_FAULT": f"{point}:stop:2", "MOTOKO_FAULT_LOG": str(log)}
    keys = place.create(*["0.5"] * 7)
    first = place.start(lease=1.0, environment=fault, ready=False)
    wait_until(lambda: log.exists() and f"{point} 2 {first.pid}" in log.read_text())
    wait_until_replaceable(place.place.store)
    place.start(lease=1.0)
    first.send_signal(signal.SIGCONT)
    assert first.wait(timeout=120) != 0
    check(place, keys, executed)
