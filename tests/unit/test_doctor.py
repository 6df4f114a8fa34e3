"""The judgements of ``motoko doctor``: each fault has its code, and a healthy subject has none."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from motoko.config import KEEP_FAILED, KEEP_PACKED
from motoko.config.diagnosis import find_mistakes
from motoko.config.study_file import StudyFile
from motoko.config.workflow_file import WorkflowFile
from motoko.core.notifications import Key, NotificationState
from motoko.errors import StorageError
from motoko.launcher.schedulers.base import Limits
from motoko.launcher.source_files import ScriptFile
from motoko.operations.backup import BackupRecord
from motoko.operations.doctor import database as database_check
from motoko.operations.doctor import directories as directories_check
from motoko.operations.doctor import ends as ends_check
from motoko.operations.doctor import installation as installation_check
from motoko.operations.doctor import leases as leases_check
from motoko.operations.doctor import scheduler as scheduler_check
from motoko.operations.doctor.configuration import judge_schemas
from motoko.operations.doctor.database import DatabaseFacts
from motoko.operations.doctor.directories import DirectoryFacts
from motoko.operations.doctor.examination import examine
from motoko.operations.doctor.findings import Finding, Level, ok
from motoko.operations.doctor.installation import Installation, Requirement
from motoko.operations.doctor.leases import LeaseFacts, LeasesFacts
from motoko.operations.doctor.machine import (
    ClockFacts,
    FileSystemFacts,
    PermissionFacts,
    judge_clock,
    judge_file_system,
    judge_permissions,
)
from motoko.operations.doctor.notifications import judge as judge_sent
from motoko.operations.doctor.patient import Check, Patient
from motoko.operations.doctor.processes import ProcessFacts
from motoko.operations.doctor.scheduler import SchedulerFacts
from motoko.operations.doctor.scripts import Script, judge_script
from motoko.operations.doctor.server import ServerFacts, SocketFacts, judge_server, judge_socket
from motoko.operations.notifications import NotificationOverview
from motoko.operations.workflow_template import write_workflow
from motoko.orchestrator.run_ends import EndKind, RunEnd
from motoko.runtime.file_system import Space, WriteProbe
from motoko.runtime.packs import packs_lock
from motoko.runtime.processes import Liveness
from motoko.server.file_integrity import TornTail
from motoko.storage.launcher_leases import LauncherReport
from motoko.storage.notifications import StoredNotification
from motoko.storage.schema import SCHEMA_VERSION
from motoko.version import __version__
from tests.support.packed_runs import root_of, store_with_ended_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from motoko.storage.store import WorkflowStore

pytestmark = pytest.mark.unit

MB = 2**20
GB = 2**30
DAY = 86_400.0
NOW = 1_800_000_000.0

ALIVE = ProcessFacts(7, "here", Liveness.ALIVE, memory=40 * MB, version=__version__)
DEAD = replace(ALIVE, liveness=Liveness.DEAD)
UNKNOWN = replace(ALIVE, liveness=Liveness.UNKNOWN)
OLD = replace(ALIVE, version="0.0.1")
STALE = replace(ALIVE, started=1000.0)  # long before any file of Motoko
SUSPENDED = replace(ALIVE, suspended=True)

INSTALLATION = Installation(
    "1.2", "/site/motoko", "3.11.7", "1.2", ("/site",), requirements=(
        Requirement("ZODB", "6.0", "6.2.1"), Requirement("matplotlib", "3.9", None, "plot"),
    ),
)  # fmt: skip
DATABASE = DatabaseFacts(
    5 * MB, NOW, NOW, Space(100 * GB, 500 * GB, None), runs={"s": 9}, first_run=NOW - DAY,
    configured=frozenset({"s"}),
)  # fmt: skip
SERVER = ServerFacts(ALIVE, listens=True)
SOCKET = SocketFacts("/w/.wf/zeo.sock", "socket", 0o600, 5, 5, served=True)
LEASE = LeaseFacts("first", ALIVE, renewed=3.0)
LAUNCHER = LeaseFacts("l-1", ALIVE, renewed=3.0, report=LauncherReport())
SITE = SchedulerFacts(
    "slurm", ["s"], missing_hint="Load it.", limits=Limits(5000, True), array_size=1000
)
CLOCK = ClockFacts(NOW, jump=0.1, skew=-0.004, newest=NOW)
DISK = FileSystemFacts(
    [".wf", "s"], "ext4", Space(90 * GB, 500 * GB, 10**7), WriteProbe(sync_seconds=0.004)
)
RIGHTS = PermissionFacts(user=5, owner=5)
SCRIPT = ScriptFile("launch.sh", b"#!/bin/sh\ntrue\n", False)


def script(content: bytes, *, name: str = "launch.sh", generator: str = "bash") -> list[Finding]:
    """Judge a script, on a machine that has only ``/bin/sh``, bash and Python."""
    file = ScriptFile(name, content, False)
    programs = {"/bin/sh", "bash", "python3"}
    return judge_script(
        Script("s", name, file, generator), lambda program: program if program in programs else None
    )


def orchestrator(**changes: Any) -> list[Finding]:
    return leases_check.judge(LeasesFacts([replace(LEASE, **changes)], [LAUNCHER]))


def launcher(**changes: Any) -> list[Finding]:
    return leases_check.judge(LeasesFacts([LEASE], [replace(LAUNCHER, **changes)]))


def end(kind: EndKind) -> Callable[[], list[Finding]]:
    found = RunEnd("a b", kind, 3, "2 failed", NOW, NOW - DAY, ("motoko",), False, None)
    return lambda: ends_check.judge([found])


HEALTHY: dict[str, Callable[[], Sequence[Finding]]] = {
    "installation": lambda: installation_check.judge(INSTALLATION),
    "database": lambda: database_check.judge(DATABASE),
    "empty database": lambda: database_check.judge(replace(DATABASE, runs={}, first_run=None)),
    "backup": lambda: database_check.judge(
        replace(DATABASE, first_run=NOW - 90 * DAY, backup=BackupRecord("/b", NOW - DAY))
    ),
    "unchanged since the backup": lambda: database_check.judge(
        replace(DATABASE, modified=NOW - 90 * DAY, backup=BackupRecord("/b", NOW - 90 * DAY))
    ),
    "cut long ago": lambda: database_check.judge(
        replace(DATABASE, cut=TornTail(NOW - 30 * DAY, 9, NOW - 31 * DAY))
    ),
    "grown since the packing": lambda: database_check.judge(
        replace(DATABASE, size=190 * MB, packed=(100 * MB, NOW - DAY))
    ),
    "too young to be packed": lambda: database_check.judge(
        replace(DATABASE, size=400 * MB, packed=(10 * MB, NOW))
    ),
    "server": lambda: judge_server(SERVER),
    "no server": lambda: judge_server(ServerFacts(None, listens=False)),
    "server in a container": lambda: judge_server(ServerFacts(UNKNOWN, listens=True)),
    "socket": lambda: judge_socket(SOCKET),
    "no socket": lambda: judge_socket(replace(SOCKET, kind="")),
    "leases": lambda: leases_check.judge(LeasesFacts([LEASE], [LAUNCHER])),
    "no leases": lambda: leases_check.judge(LeasesFacts()),
    "lease on another host": lambda: orchestrator(process=UNKNOWN),
    "scheduler": lambda: scheduler_check.judge(SITE),
    "finished": end(EndKind.FINISHED),
    "interrupted": end(EndKind.INTERRUPTED),
    "clock": lambda: judge_clock(CLOCK),
    "unknown clock": lambda: judge_clock(ClockFacts(NOW)),
    "file system": lambda: judge_file_system(DISK),
    "file system without a table of inodes": lambda: judge_file_system(
        replace(DISK, space=Space(90 * GB, 500 * GB, None))
    ),
    "read-only file system": lambda: judge_file_system(
        replace(DISK, probe=WriteProbe("Read-only file system"))
    ),
    "permissions": lambda: judge_permissions(RIGHTS),
    "directories": lambda: directories_check.judge(DirectoryFacts("s", due=7)),
    "script": lambda: script(b"#!/bin/sh\n"),
    "script without #!": lambda: script(b"true\n"),
    "script with env": lambda: script(b"#!/usr/bin/env -S X=1 python3 -u\n"),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_subjects_have_no_problem(name: str) -> None:
    findings = HEALTHY[name]()

    assert findings
    assert [one for one in findings if one.level or one.next_step] == []


def _database(**changes: Any) -> Callable[[], list[Finding]]:
    return lambda: database_check.judge(replace(DATABASE, **changes))


def judge_notifications(found: NotificationOverview) -> Sequence[Finding]:
    return judge_sent(found, NOW)


def _installation(**changes: Any) -> Callable[[], list[Finding]]:
    return lambda: installation_check.judge(replace(INSTALLATION, **changes))


def _disk(**changes: Any) -> Callable[[], list[Finding]]:
    return lambda: judge_file_system(replace(DISK, **changes))


def _site(**changes: Any) -> Callable[[], list[Finding]]:
    return lambda: scheduler_check.judge(replace(SITE, **changes))


UNSENT = StoredNotification(
    Key("a", "t", "finished", "id"),
    "it ended",
    "command mail",
    NotificationState.FAILED,
    NOW - DAY,
    problem="exit status 1",
)
FULL = Space(20 * MB, 500 * GB, None)
F, W = Level.FAULT, Level.WARNING
PROBLEMS: list[tuple[str, Level, Callable[[], Sequence[Finding]]]] = [
    ("mixed-versions", F, _installation(installed="1.3")),
    ("several-installations", W, _installation(places=("/site", "/other"))),
    ("files-changed", F, _installation(changed=("motoko/errors.py",))),
    ("files-foreign", F, _installation(foreign=("motoko/old.py",))),
    ("package-missing", F, _installation(requirements=(Requirement("ZEO", "6.0", None),))),
    ("package-old", W, _installation(requirements=(Requirement("ZEO", "6.0", "5.9"),))),
    (
        "package-old",
        W,
        _installation(requirements=(Requirement("scipy", "1.13", "1.9", "sample"),)),
    ),
    ("database-damaged", F, _database(damage=("is damaged", "Restore it."))),
    ("database-version", W, _database(newer=("has format 99", "Use a newer Motoko."))),
    *(("database-version", W, _database(format=old)) for old in range(1, SCHEMA_VERSION)),
    ("database-inconsistent", F, _database(errors=("s: index states differs",) * 9)),
    ("study-unknown", W, _database(runs={"s": 9, "old": 2})),
    ("database-space", F, _database(space=FULL)),
    (
        "database-space",
        W,
        _database(size=40 * GB, packed=(30 * GB, NOW), space=Space(50 * GB, 1, 1)),
    ),
    ("database-unpacked", W, _database(size=400 * MB, packed=(100 * MB, NOW - DAY))),
    ("database-unpacked", W, _database(size=40 * MB)),
    ("database-torn", W, _database(torn=77)),
    ("database-cut", W, _database(cut=TornTail(NOW - DAY, 9, NOW - DAY))),
    ("database-leftovers", W, _database(leftovers=(("wf.db.damaged-1", 5 * MB),))),
    ("backup-missing", W, _database(first_run=NOW - 30 * DAY)),
    ("backup-missing", W, _database(backup=BackupRecord("/gone", NOW), backup_exists=False)),
    ("backup-old", W, _database(backup=BackupRecord("/b", NOW - 30 * DAY))),
    ("server-unrecorded", W, lambda: judge_server(ServerFacts(None, listens=True))),
    ("server-died", W, lambda: judge_server(ServerFacts(DEAD, listens=False))),
    ("server-suspended", F, lambda: judge_server(ServerFacts(SUSPENDED, listens=True, hangs=True))),
    ("server-hangs", F, lambda: judge_server(ServerFacts(ALIVE, listens=True, hangs=True))),
    ("server-hangs", F, lambda: judge_server(ServerFacts(ALIVE, listens=False))),
    ("server-elsewhere", W, lambda: judge_server(ServerFacts(UNKNOWN, listens=False))),
    (
        "server-memory",
        W,
        lambda: judge_server(replace(SERVER, process=replace(ALIVE, memory=9 * GB))),
    ),
    ("code-version", W, lambda: judge_server(replace(SERVER, process=OLD))),
    ("code-changed", W, lambda: judge_server(replace(SERVER, process=STALE))),
    ("socket-replaced", F, lambda: judge_socket(replace(SOCKET, kind="other"))),
    ("socket-replaced", F, lambda: judge_socket(replace(SOCKET, kind="link"))),
    ("socket-owner", F, lambda: judge_socket(replace(SOCKET, owner=6))),
    ("socket-mode", F, lambda: judge_socket(replace(SOCKET, mode=0o666))),
    ("socket-stale", W, lambda: judge_socket(replace(SOCKET, served=False))),
    ("orchestrator-died", W, lambda: orchestrator(process=DEAD)),
    ("orchestrator-died", W, lambda: orchestrator(process=DEAD, rebooted=True, waits=("s: x",))),
    ("orchestrator-suspended", W, lambda: orchestrator(process=SUSPENDED)),
    ("orchestrator-silent", W, lambda: orchestrator(process=UNKNOWN, renewed=500.0)),
    ("orchestrator-late", W, lambda: orchestrator(renewed=500.0)),
    ("orchestrator-stalled", W, lambda: orchestrator(waits=("s: x = 7",))),
    (
        "code-changed",
        W,
        lambda: orchestrator(process=replace(STALE, started=NOW), code_changed=NOW + 9),
    ),
    ("launcher-died", W, lambda: launcher(process=DEAD)),
    ("notification-failed", W, lambda: judge_notifications(NotificationOverview(entries=[UNSENT]))),
    ("notifier-missing", W, lambda: judge_notifications(NotificationOverview(watched=1))),
    ("launcher-suspended", W, lambda: launcher(process=SUSPENDED)),
    ("launcher-silent", W, lambda: launcher(process=UNKNOWN, renewed=500.0)),
    ("code-version", W, lambda: launcher(process=OLD)),
    ("launcher-environment", W, lambda: launcher(differs=("PATH",))),
    ("launcher-configuration", W, lambda: launcher(report=LauncherReport(problem="bad line"))),
    ("launcher-claims", W, lambda: launcher(report=LauncherReport(suspended=("first",)))),
    ("runs-unserved", W, lambda: leases_check.judge(LeasesFacts(unserved={"no launcher runs": 3}))),
    ("scheduler-missing", F, _site(missing=["sbatch"], limits=None)),
    ("scheduler-unresponsive", F, _site(poll="squeue did not answer within 5 s")),
    ("scheduler-configuration", W, _site(configuration="scontrol failed", limits=None)),
    ("scheduler-limit", W, _site(limits=Limits(500, True))),
    ("scheduler-accounting", W, _site(limits=Limits(5000, False))),
    ("end-failed", W, end(EndKind.FAILED)),
    ("end-error", W, end(EndKind.ERROR)),
    ("end-stalled", W, end(EndKind.STALLED)),
    ("orchestrator-died", W, end(EndKind.DIED)),
    ("clock-jump", W, lambda: judge_clock(replace(CLOCK, jump=-3600.0))),
    ("clock-skew", W, lambda: judge_clock(replace(CLOCK, skew=40.0))),
    ("clock-behind", W, lambda: judge_clock(replace(CLOCK, newest=NOW + DAY))),
    ("space", F, _disk(space=FULL)),
    ("space", W, _disk(space=Space(500 * MB, 500 * GB, None))),
    ("inodes", W, _disk(space=Space(90 * GB, 500 * GB, 5000))),
    ("inodes", F, _disk(space=Space(90 * GB, 500 * GB, 5))),
    ("locks-fail", F, _disk(probe=WriteProbe("", None, "No locks available", 0.004))),
    ("locks-ineffective", F, _disk(probe=WriteProbe("", False, "", 0.004))),
    ("sync-failed", F, _disk(probe=WriteProbe(sync_seconds=None))),
    ("sync-slow", W, _disk(probe=WriteProbe(sync_seconds=0.7))),
    ("network-file-system", W, _disk(kind="nfs4")),
    ("state-owner", W, lambda: judge_permissions(replace(RIGHTS, owner=6))),
    ("state-mode", F, lambda: judge_permissions(replace(RIGHTS, mode=0o755))),
    ("file-mode", W, lambda: judge_permissions(replace(RIGHTS, open_files=[(".wf/wf.db", 0o644)]))),
    ("unwritable", W, lambda: judge_permissions(replace(RIGHTS, unwritable=[("s", "denied")]))),
    ("directories-stay", W, lambda: directories_check.judge(DirectoryFacts("s", problem="full"))),
    ("directories-stay", W, lambda: directories_check.judge(DirectoryFacts("s", left={2: "pipe"}))),
    (
        "directories-stay",
        W,
        lambda: directories_check.judge(DirectoryFacts("s", KEEP_FAILED, left={2: "pipe"})),
    ),
    (
        "study-shared",
        F,
        lambda: judge_permissions(replace(RIGHTS, shared=[("in use", "Copy it.")])),
    ),
    ("script-unreadable", F, lambda: judge_script(Script("s", "x", None, error="denied"), str)),
    ("script-line-ends", F, lambda: script(b"#!/bin/sh\r\ntrue\r\n")),
    ("script-line-ends", W, lambda: script(b"#!/bin/sh\ntrue\r\n")),
    ("script-without-interpreter", F, lambda: script(b"print(1)\n", name="run.py")),
    ("interpreter-missing", F, lambda: script(b"#!/opt/none/python\n")),
    ("interpreter-missing", F, lambda: script(b"#!/usr/bin/env julia\n")),
    ("interpreter-missing", W, lambda: script(b"#!/usr/bin/env julia\n", generator="slurm")),
]


@pytest.mark.parametrize(
    ("code", "level", "judge"),
    PROBLEMS,
    ids=[f"{code}-{n}" for n, (code, _, _) in enumerate(PROBLEMS)],
)
def test_each_problem_has_its_code_and_a_next_step(
    code: str, level: Level, judge: Callable[[], Sequence[Finding]]
) -> None:
    problems = [one for one in judge() if one.level]

    assert [(one.code, one.level) for one in problems] == [(code, level)]
    assert problems[0].next_step
    assert problems[0].message
    assert problems[0].subject


@pytest.fixture
def ended(tmp_path: Path) -> Iterator[WorkflowStore]:
    yield from store_with_ended_runs(tmp_path)


@pytest.mark.parametrize(("keep", "due"), [(KEEP_PACKED, 3), (KEEP_FAILED, 2)])
def test_directories_that_cannot_be_packed_or_removed_are_found(
    ended: WorkflowStore, keep: str, due: int
) -> None:
    root = root_of(ended)
    (root / "run-5").mkdir()  # it has not ended
    assert directories_check.read(ended, "a", keep) == DirectoryFacts("a", keep, due + 1)
    os.mkfifo(root / "run-2" / "pipe")
    found = directories_check.read(ended, "a", keep)
    assert (found.due, list(found.left), found.problem) == (due, [2], "")
    for path in root.iterdir():
        path.rename(root.parent / path.name)
    assert directories_check.read(ended, "a", keep) == DirectoryFacts("a", keep)


def test_runs_that_wait_for_a_suspended_launcher_have_a_fitting_next_step() -> None:
    suspended = [replace(LAUNCHER, process=SUSPENDED)]
    found = leases_check.judge(LeasesFacts([LEASE], suspended, {"it is suspended": 3}))
    (waits,) = (one for one in found if one.code == "runs-unserved")
    assert waits.next_step.startswith("Continue the suspended launcher, or start another")


def test_a_long_lock_and_closed_directories_are_named(
    ended: WorkflowStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = root_of(ended)
    with packs_lock(root) as lock:
        assert directories_check.read(ended, "a", KEEP_PACKED).problem == ""
        os.utime(lock.path, (1.0, 1.0))
        found = directories_check.read(ended, "a", KEEP_PACKED)
        assert f"process {os.getpid()} on " in found.problem
        assert directories_check.read(ended, "a", KEEP_FAILED).problem == ""
    assert directories_check.read(ended, "a", KEEP_PACKED).problem == ""
    for keep, closed in ((KEEP_PACKED, root / "packed"), (KEEP_FAILED, root)):
        monkeypatch.setattr(os, "access", lambda path, _, closed=closed: path != closed)
        found = directories_check.read(ended, "a", keep)
        assert found == DirectoryFacts("a", keep, problem=f"{closed}: Permission denied")


# -- the checks as a whole --------------------------------------------------------------------


def test_a_failing_check_is_a_finding_and_hides_no_other(tmp_path: Path) -> None:
    def damaged(_: Patient) -> list[Finding]:
        raise StorageError("cannot be used", hint="Repair it.")

    def denied(_: Patient) -> list[Finding]:
        raise PermissionError(13, "Permission denied", "/w/file")

    def broken(_: Patient) -> list[Finding]:
        return [ok("x", "x", str(1 // 0))]

    checks = [Check("a", damaged), Check("b", denied), Check("c", broken)]
    checks.append(Check("d", lambda _: [ok("fine", "d", "works")]))

    findings = list(examine(Patient(tmp_path / "motoko.yaml"), checks))

    assert [(one.subject, one.code) for one in findings] == [
        ("a", "check-failed"), ("b", "check-failed"), ("c", "check-failed"), ("d", "fine"),
    ]  # fmt: skip
    assert findings[0].next_step == "Repair it."
    assert "/w/file: Permission denied" in findings[1].message
    assert "ZeroDivisionError" in findings[2].message


def test_a_forbidden_state_directory_is_reported_once(tmp_path: Path) -> None:
    def denied(patient: Patient) -> list[Finding]:
        raise PermissionError(13, "Permission denied", str(patient.state.database))

    checks = [Check(name, denied) for name in ("database", "server", "permissions")]
    findings = list(examine(Patient(tmp_path / "motoko.yaml"), checks))

    assert [(one.subject, one.code) for one in findings] == [("permissions", "check-failed")]


def test_a_check_that_hangs_is_a_finding(tmp_path: Path) -> None:
    release = threading.Event()

    def hang(_: Patient) -> list[Finding]:
        release.wait()
        return []

    checks = [Check("slow", hang, seconds=0.01), Check("b", lambda _: [ok("fine", "b", "works")])]
    try:
        findings = list(examine(Patient(tmp_path / "motoko.yaml"), checks))
    finally:
        release.set()

    assert [one.code for one in findings] == ["check-timeout", "fine"]


def test_an_old_schema_is_a_warning(tmp_path: Path) -> None:
    write_workflow(tmp_path)
    assert judge_schemas(tmp_path) == []

    (tmp_path / ".schema" / "bd.json").write_text("{}")

    assert [(one.code, one.subject) for one in judge_schemas(tmp_path)] == [
        ("schema-old", ".schema/bd.json")
    ]


# -- all mistakes -----------------------------------------------------------------------------


def paths(model: Any, value: dict[str, Any]) -> list[tuple[str | int, ...]]:
    return sorted((path for _, path, _ in find_mistakes(model, value).mistakes), key=repr)


def test_every_mistake_of_a_workflow_is_found() -> None:
    managers = {"a": {"nproc": "x", "nprok": 1, "timeout": []}, "b": None, "class": None, "c": 3}
    value = {
        "task_managers": managers, "aliases": {"p": "q", "a": "b", "r": "b"},
        "orchestratr": "x.y", "max_concurrent": 0, "slurm_options": ["--array=1", 5, "--time=1", 7],
    }  # fmt: skip

    assert paths(WorkflowFile, value) == sorted(
        [
            ("orchestrator",),
            ("orchestratr",),
            ("max_concurrent",),
            ("aliases", "p"),
            ("aliases", "a"),
            ("slurm_options", 0),
            ("slurm_options", 1),
            ("slurm_options", 3),
            ("task_managers", "a", "nproc"),
            ("task_managers", "a", "nprok"),
            ("task_managers", "a", "timeout"),
            ("task_managers", "c"),
            ("task_managers", "class"),
        ],
        key=repr,
    )


def test_every_mistake_of_a_study_is_found_but_not_its_consequences() -> None:
    value = {
        "job": {"x": "flot", "y": "int", "id": "int"},
        "job_space": {"x": 1, "y": [1, "a", 3, "b"], "w": 1},
        "config_files": ["a", 3, "/b", "c"],
        "run_params": {"nproc": 0},
    }

    assert paths(StudyFile, value) == sorted(
        [
            ("job", "x"),
            ("job", "id"),
            ("job_space", "y", 1),
            ("job_space", "y", 3),
            ("job_space", "w"),
            ("config_files", 1),
            ("config_files", 2),
            ("run_params", "nproc"),
        ],
        key=repr,
    )


def test_the_valid_part_is_returned() -> None:
    value = {"task_managers": {"a": {"nproc": 2, "x": 1}}, "orchestrator": "m.f", "retries": -1}

    found = find_mistakes(WorkflowFile, value).valid

    assert found is not None
    assert found.orchestrator == "m.f"
    assert found.given() == {}
    assert found.task_managers["a"].given() == {"nproc": 2}
