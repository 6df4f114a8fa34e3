"""The launcher reloads a changed configuration and reports an invalid one."""

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
class RecordingClock(SystemClock):
    """A clock of a reloader that counts its reads; its time is long after any file change."""

    at: float = time.time() + 1e6
    reads: int = 0
    applied: list[WorkflowSettings] = field(default_factory=list)

    def now(self) -> float:
        return self.at

    def uptime(self) -> float:
        return self.at


TIMES = itertools.count(
    1_700_000_000 * 10**9, 10**9
)  # writes within one clock tick have equal times


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


def reloader_of(directory: Path, clock: RecordingClock) -> ConfigReloader[WorkflowSettings]:
    def read() -> WorkflowSettings:
        clock.reads += 1
        return load_workflow(directory)

    def apply(config: WorkflowSettings) -> WorkflowSettings:
        clock.applied.append(config)
        return config

    return ConfigReloader(load_workflow(directory), read, apply, clock)


def scripts(clock: RecordingClock) -> list[str]:
    return [config.studies["s"].exec_file for config in clock.applied]


def test_unchanged_files_are_not_reread(workflow: Path) -> None:
    clock = RecordingClock()
    reloader = reloader_of(workflow, clock)
    assert [reloader.check() for _ in range(5)] == [None] * 5
    assert clock.reads == 1
    write_study(workflow, "b.sh")
    assert [bool(reloader.check()) for _ in range(3)] == [True, False, False]
    assert scripts(clock) == ["b.sh"]
    assert clock.reads == 2


def test_changes_with_equal_timestamps_are_detected(
    workflow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = RecordingClock()
    times = int(clock.at * 1e9)  # constant for all files and all changes
    monkeypatch.setattr("motoko.launcher.config_reload._file_stamp", lambda _: (times,))
    reloader = reloader_of(workflow, clock)
    assert not reloader.check()
    for name in SCRIPTS[1:]:
        write_study(workflow, name)
        assert reloader.check()
    assert scripts(clock) == ["b.sh", "c.sh"]


def test_a_replaced_file_is_reread(workflow: Path) -> None:
    clock = RecordingClock()
    reloader = reloader_of(workflow, clock)
    reloader.check()
    old = (workflow / "s" / "bd.yaml").stat()
    (workflow / "s" / "new").write_text("job: {x: int}\nexec_file: b.sh\n")
    os.utime(workflow / "s" / "new", ns=(old.st_atime_ns, old.st_mtime_ns))
    (workflow / "s" / "new").replace(workflow / "s" / "bd.yaml")
    assert reloader.check()
    assert scripts(clock) == ["b.sh"]


@pytest.mark.parametrize("wrong", ["job: [", "job: {x: int}\nexec_file: none.sh\n", ""])
def test_an_invalid_file_is_reported_until_corrected(workflow: Path, wrong: str) -> None:
    clock = RecordingClock()
    reloader = reloader_of(workflow, clock)
    (workflow / "s" / "bd.yaml").write_text(wrong + "\nnonsense: 1\n")
    assert not reloader.check()
    assert "bd.yaml" in reloader.error
    assert reloader.error
    write_study(workflow, "c.sh")
    assert reloader.check()
    assert (reloader.error, scripts(clock)) == ("", ["c.sh"])


def test_an_inapplicable_configuration_is_retried(workflow: Path) -> None:
    clock = RecordingClock()
    reloader = reloader_of(workflow, clock)
    reloader.check()
    fine = reloader.apply

    def refuse(_: WorkflowSettings) -> WorkflowSettings:
        raise LauncherError("there is no sbatch on PATH")

    reloader.apply = refuse
    write_study(workflow, "b.sh")
    assert not reloader.check()
    assert reloader.error == "there is no sbatch on PATH"
    reloader.apply = fine
    assert reloader.check()
    assert (reloader.error, scripts(clock)) == ("", ["b.sh"])


def test_a_missing_workflow_file_is_reported(workflow: Path) -> None:
    clock = RecordingClock()
    reloader = reloader_of(workflow, clock)
    reloader.check()
    (workflow / "motoko.yaml").rename(workflow / "away")
    with pytest.raises(ConfigError):
        load_workflow(workflow / "away" / "motoko.yaml")
    assert not reloader.check()
    assert "motoko.yaml" in reloader.error
