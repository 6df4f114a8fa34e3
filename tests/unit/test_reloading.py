"""The launcher's look at its configuration: what has changed, and what is wrong."""

from __future__ import annotations

import itertools
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from motoko.config import WorkflowSettings, load_workflow
from motoko.errors import ConfigError, LauncherError
from motoko.launcher.config_reload import ConfigReloader
from motoko.runtime.ports import SystemClock

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit

SCRIPTS = ("a.sh", "b.sh", "c.sh")


@dataclass
class Watched(SystemClock):
    """Counts what a reloader reads, and is its clock: so late that no file is a new one."""

    at: float = time.time() + 1e6
    reads: int = 0
    applied: list[WorkflowSettings] = field(default_factory=list)

    def now(self) -> float:
        return self.at

    def uptime(self) -> float:
        return self.at


TIMES = itertools.count(1_700_000_000 * 10**9, 10**9)  # writes within one tick have one time


def write_study(directory: Path, script: str) -> None:
    file, at = directory / "s" / "bd.yaml", next(TIMES)
    file.write_text(f"job: {{x: int}}\nexec_file: {script}\n")
    os.utime(file, ns=(at, at))


@pytest.fixture
def workflow(tmp_path: Path) -> Path:
    (tmp_path / "s").mkdir()
    (tmp_path / "motoko.yaml").write_text("task_managers:\n  s:\norchestrator: steps.main\n")
    for name in SCRIPTS:
        (tmp_path / "s" / name).write_text("true\n")
    write_study(tmp_path, "a.sh")
    return tmp_path


def reloader_of(directory: Path, clock: Watched) -> ConfigReloader:
    def read() -> WorkflowSettings:
        clock.reads += 1
        return load_workflow(directory)

    return ConfigReloader(load_workflow(directory), read, clock.applied.append, clock)


def scripts(clock: Watched) -> list[str]:
    return [config.studies["s"].exec_file for config in clock.applied]


def test_files_that_have_not_changed_are_not_read_again(workflow: Path) -> None:
    clock = Watched()
    reloader = reloader_of(workflow, clock)
    assert [reloader.check() for _ in range(5)] == [False] * 5
    assert clock.reads == 1
    write_study(workflow, "b.sh")
    assert [reloader.check() for _ in range(3)] == [True, False, False]
    assert scripts(clock) == ["b.sh"]
    assert clock.reads == 2


def test_a_second_change_under_the_same_times_is_seen(
    workflow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Watched()
    times = int(clock.at * 1e9)  # of all files, however often they change
    monkeypatch.setattr("motoko.launcher.config_reload._file_stamp", lambda _: (times,))
    reloader = reloader_of(workflow, clock)
    assert not reloader.check()
    for name in SCRIPTS[1:]:
        write_study(workflow, name)
        assert reloader.check()
    assert scripts(clock) == ["b.sh", "c.sh"]


def test_a_file_that_was_put_in_place_of_another_is_read(workflow: Path) -> None:
    clock = Watched()
    reloader = reloader_of(workflow, clock)
    reloader.check()
    old = (workflow / "s" / "bd.yaml").stat()
    (workflow / "s" / "new").write_text("job: {x: int}\nexec_file: b.sh\n")
    os.utime(workflow / "s" / "new", ns=(old.st_atime_ns, old.st_mtime_ns))
    (workflow / "s" / "new").replace(workflow / "s" / "bd.yaml")
    assert reloader.check()
    assert scripts(clock) == ["b.sh"]


@pytest.mark.parametrize("wrong", ["job: [", "job: {x: int}\nexec_file: none.sh\n", ""])
def test_a_wrong_file_is_a_problem_until_it_is_corrected(workflow: Path, wrong: str) -> None:
    clock = Watched()
    reloader = reloader_of(workflow, clock)
    (workflow / "s" / "bd.yaml").write_text(wrong + "\nnonsense: 1\n")
    assert not reloader.check()
    assert "bd.yaml" in reloader.error
    assert reloader.error
    write_study(workflow, "c.sh")
    assert reloader.check()
    assert (reloader.error, scripts(clock)) == ("", ["c.sh"])


def test_what_cannot_be_applied_is_tried_again(workflow: Path) -> None:
    clock = Watched()
    reloader = reloader_of(workflow, clock)
    reloader.check()
    fine = reloader.apply

    def refuse(_: WorkflowSettings) -> None:
        raise LauncherError("there is no sbatch on PATH")

    reloader.apply = refuse
    write_study(workflow, "b.sh")
    assert not reloader.check()
    assert reloader.error == "there is no sbatch on PATH"
    reloader.apply = fine
    assert reloader.check()
    assert (reloader.error, scripts(clock)) == ("", ["b.sh"])


def test_a_missing_workflow_file_is_a_problem(workflow: Path) -> None:
    clock = Watched()
    reloader = reloader_of(workflow, clock)
    reloader.check()
    (workflow / "motoko.yaml").rename(workflow / "away")
    with pytest.raises(ConfigError):
        load_workflow(workflow / "away" / "motoko.yaml")
    assert not reloader.check()
    assert "motoko.yaml" in reloader.error
