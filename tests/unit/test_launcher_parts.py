"""Commands, environments, start files and registrations of a launcher."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest

from motoko.core.records import RunRecord
from motoko.core.run_options import RunOptions
from motoko.core.states import Lifecycle
from motoko.errors import Fenced
from motoko.launcher.attempt_files import reclaim_text
from motoko.launcher.attempt_paths import AttemptPaths
from motoko.launcher.attempt_records import parse_start
from motoko.launcher.attempts import Attempt, SlotPool
from motoko.launcher.executors.process_spawner import command, passable
from motoko.launcher.preparation import environment
from motoko.launcher.source_files import ScriptFile
from motoko.runtime import processes
from motoko.runtime.processes import ProcessIdentity, boot_id, identify, pid_namespace
from motoko.storage.commit import run_transaction
from motoko.storage.launcher_leases import (
    LauncherRegistration,
    LauncherReport,
    change_launcher,
    launcher_report,
    live_launchers,
    machine_names,
    register_launcher,
    registered_launchers,
    suspended_launchers,
)
from motoko.testing.memory import empty_database

if TYPE_CHECKING:
    from motoko.storage.tables import Tables

pytestmark = pytest.mark.unit

STAT = "77 (od)d ) name) S " + " ".join(str(n) for n in range(1, 50))
FIELDS = STAT.rpartition(") ")[2]


@pytest.mark.parametrize(
    ("content", "executable", "options", "expected"),
    [
        (b"true", False, (), ["bash", "./f"]),
        (b"true", True, (), ["bash", "./f"]),
        (b"true", False, ("-e", "-x"), ["bash", "-e", "-x", "./f"]),
        (b"#!/bin/sh\ntrue", False, (), ["/bin/sh", "./f"]),
        (b"#!/usr/bin/env python3\n", False, (), ["/usr/bin/env", "python3", "./f"]),
        (b"#!/usr/bin/env python3\n", False, ("-e",), ["/usr/bin/env", "python3", "./f"]),
        (b"\x7fELF\0\0", False, (), ["bash", "./f"]),
        (b"#!/bin/sh\ntrue", True, (), ["/bin/sh", "./f"]),
        (b"#! /usr/bin/env  python3 \nx", True, (), ["/usr/bin/env", "python3", "./f"]),
        (b"#!/usr/bin/env -S python3 -u\n", True, (), ["/usr/bin/env", "-S python3 -u", "./f"]),
        (b"#!/bin/bash -l\n", True, ("-e",), ["bash", "-e", "./f"]),
        (b"#!/usr/bin/env bash\n", True, ("-e",), ["bash", "-e", "./f"]),
        (b"#!/usr/bin/python3\n", True, ("-e",), ["/usr/bin/python3", "./f"]),
        (b"\x7fELF\0\0", True, (), ["./f"]),
        (b"", True, (), ["bash", "./f"]),
    ],
)
def test_command_of_a_script(
    content: bytes, executable: bool, options: tuple[str, ...], expected: list[str]
) -> None:
    assert command(ScriptFile("f", content, executable), options) == expected


def test_variables_that_do_not_fit_are_omitted() -> None:
    given = {"A": "é\n'", "B": "a\0b", "C": "\ud800", "D": "x" * 200_000, "E": ""}
    assert passable(given) == {"A": "é\n'", "E": ""}
    many = {f"V{n}": "x" * 90_000 for n in range(20)}
    assert sum(map(len, passable(many).values())) <= 1_000_000


def test_variables_of_a_run() -> None:
    record = RunRecord(
        "study", 7, 3, "a name", b"", {"x": 1.5, "X": True, "l": [1, 2], "é": 1},
        fields={"colour": "red", "name": "mine"}, attempt=2,
    )  # fmt: skip
    paths = AttemptPaths("/root", 7, 2, "token", "1.0")
    assert environment(record, paths, RunOptions(nproc=4), "/w/motoko.yaml") == {
        "MOTOKO_JOB_X": "true",
        "MOTOKO_JOB_L": "[1, 2]",
        "MOTOKO_RUN_COLOUR": "red",
        "MOTOKO_RUN_NAME": "a name",
        "MOTOKO_ATTEMPT": "2",
        "MOTOKO_JOB_ID": "3",
        "MOTOKO_NPROC": "4",
        "MOTOKO_OUTBOX": "/root/run-7/.motoko-token",
        "MOTOKO_RUN_DIR": "/root/run-7",
        "MOTOKO_RUN_ID": "7",
        "MOTOKO_STUDY": "study",
        "MOTOKO_WORKFLOW": "/w/motoko.yaml",
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Field 22 of the line, the 20th after the name, is the start time.
        (f"process 77\nboot\n{STAT}\n", ProcessIdentity(77, 19, "boot")),
        (f"process 77\nboot\n{STAT}\n5\nhost\n", ProcessIdentity(77, 19, "boot", 5, "host")),
        (f"process 77\nboot\n{STAT}\n\nhost\n", ProcessIdentity(77, 19, "boot", 0, "host")),
        ("", None),
        ("process 77\nboot\n77 (", None),
        (f"process 77 boot 5 host 8.5 {FIELDS}\n", ProcessIdentity(77, 19, "boot", 5, "host")),
        (f"process 77 boot - - - {FIELDS}\n\nexit 0\n", ProcessIdentity(77, 19, "boot")),
        (f"process 77 boot - - - {FIELDS}", None),  # torn
        (reclaim_text("me").decode(), None),
    ],
)
def test_start_records(text: str, expected: ProcessIdentity | None) -> None:
    found = parse_start(text)
    assert (None if found is None else found.process) == expected


def test_start_records_without_a_start_time() -> None:
    # A process of this machine with the same pid is not the wrapper of another one.
    pid = os.getpid()
    elsewhere = parse_start(f"process {pid} boot 5 host 8.5 -\n")
    assert elsewhere is not None
    assert elsewhere.process == ProcessIdentity(pid, 0, "boot", 5, "host")
    here = parse_start(f"process {pid} {boot_id()} {pid_namespace()} host 8.5 -\n")
    assert here is not None
    assert here.process == identify(pid)


@pytest.mark.parametrize(
    ("word", "expected"), [("-", None), ("8", 8.0), ("8.25", 8.25), ("8,25", 8.25)]
)
def test_the_time_of_a_start_record(word: str, expected: float | None) -> None:
    found = parse_start(f"process 77 boot 5 host {word} {FIELDS}\n")
    assert found is not None
    assert found.time == expected


def test_notes_stay_until_the_database_knows_the_start() -> None:
    pool = SlotPool(2)
    waiting, starting, failed, ended, recorded = (
        Attempt(
            RunRecord("study", number, 1, "a name", b"", {}, lifecycle=state),
            RunOptions(),
            AttemptPaths("/root", number, 1, f"token{number}", "1.0"),
        )
        for number, state in enumerate([*[Lifecycle.SUBMITTED] * 4, Lifecycle.START])
    )
    for attempt in (starting, ended):
        pool.add(attempt)
    assert pool.start_fitting() == [starting, ended]
    ended.started_at = 1.0
    pool.release(ended)  # its end waits for a commit
    pool.add_running(recorded)
    pool.add(failed)
    pool.add(waiting)
    pool.release(failed)
    # One that waits may start at any moment.
    assert set(pool.unrecorded_starts()) == {a.token for a in (starting, ended, failed, waiting)}
    pool.remove(ended)
    pool.remove(failed)
    assert set(pool.unrecorded_starts()) == {starting.token, waiting.token}


def test_machine_names() -> None:
    assert "localhost" in machine_names(None)
    assert machine_names("cluster") == {"cluster"}


def registration(
    *studies: str, machine: str = "localhost", since: float = 100.0
) -> LauncherRegistration:
    process = (0, 0, "no such boot", 0, "elsewhere")
    return LauncherRegistration(
        "name", "token", "elsewhere", process, since, "bash", studies, (machine,), 30.0
    )


def test_launchers_with_common_studies_and_machines_overlap() -> None:
    one = registration("a", "b")
    assert one.overlaps(registration("b", "c"))
    assert not one.overlaps(registration("c"))
    assert not one.overlaps(registration("a", machine="cluster"))


def test_a_remote_launcher_is_live_until_its_lease_expires() -> None:
    def live(tables: Tables, renewed: float, now: float) -> bool:
        tables.renew_lease(one.key, renewed)
        return live_launchers(tables, now) == [one]

    one, database = registration("a"), empty_database(["a"])
    run_transaction(database, partial(register_launcher, me=one, now=100.0))
    assert run_transaction(database, partial(live, renewed=100.0, now=129.0))
    assert not run_transaction(database, partial(live, renewed=100.0, now=131.0))
    assert run_transaction(database, partial(live, renewed=120.0, now=149.0))


def test_a_suspended_launcher_without_lease_is_listed_until_it_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, database = registration("a"), empty_database(["a"])
    other = replace(one, name="other", token="other")

    def suspended(now: float) -> list[LauncherRegistration]:
        return run_transaction(database, lambda tables: suspended_launchers(tables, now))

    run_transaction(database, partial(register_launcher, me=one, now=100.0))
    assert suspended(131.0) == []  # it may be dead
    monkeypatch.setattr(processes, "is_stopped", lambda _: True)
    assert suspended(129.0) == []  # it is live
    assert suspended(131.0) == [one]
    assert "`kill -CONT 0`" in str(one)
    run_transaction(database, partial(register_launcher, me=other, now=131.0))
    assert suspended(132.0) == []


def test_an_added_study_is_assigned_to_one_launcher() -> None:
    database = empty_database(["a", "b", "c"])
    one = replace(registration("a"), name="one", token="1")
    two = replace(registration("b"), name="two", token="2")
    far = replace(registration("c", machine="cluster"), name="far", token="3")
    for launcher in (one, two, far):
        run_transaction(database, partial(register_launcher, me=launcher, now=100.0))
    wanted = replace(one, studies=("a", "b", "c"))
    report = LauncherReport({"bash": 3}, directories="run a.1 stays")
    changed = run_transaction(
        database, lambda tables: change_launcher(tables, wanted, 110.0, report)
    )
    assert changed.studies == ("a", "c")
    found = run_transaction(
        database, lambda tables: {it.name: it for it in registered_launchers(tables)}
    )
    assert found == {"one": changed, "two": two, "far": far}
    assert run_transaction(database, lambda tables: launcher_report(tables, changed)) == report
    with pytest.raises(Fenced):
        run_transaction(
            database,
            lambda tables: change_launcher(tables, replace(wanted, token="4"), 111.0, report),
        )
