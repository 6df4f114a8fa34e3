"""Reasons why runs wait: launchers, limits and delays."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from motoko.core.changes import CreateRun, EditRun
from motoko.core.edits import Cancel, Claim, EndAttempt, SetReason
from motoko.core.records import RunKey, RunRecord
from motoko.core.states import Lifecycle
from motoko.operations.explain import LauncherCoverage, ReasonFinder
from motoko.storage.launcher_leases import LauncherRegistration, LauncherReport, launcher_report
from motoko.storage.session import Session
from motoko.testing import memory_store, study_config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from motoko.core.edits import RunEdit

pytestmark = pytest.mark.unit

NOW = 1000.0
SLOTS = {"bash": 4, "slurm": 2}


@pytest.fixture
def session() -> Iterator[Session]:
    studies = {name: study_config(name, {"x": "int"}) for name in ("a", "b")}
    store = memory_store(studies)
    session = Session(store.database)
    yield session
    session.close()
    store.close()


def add(session: Session, study: str = "a", run_name: str = "n", **resources: Any) -> RunKey:
    run_id, job_id = session.reserve(study, 1, 1)
    identity = bytes([run_id]) * 16
    record = RunRecord(study, run_id, job_id, run_name, identity, {"x": run_id}, options=resources)
    session.add(CreateRun(record, identity))
    return record.key


def claim(session: Session, key: RunKey, launcher: str = "l-here") -> RunKey:
    session.add(EditRun(key, Claim(launcher, f"t{key}", NOW)))
    return key


def launcher(
    name: str = "l-here",
    machines: tuple[str, ...] = ("here", "localhost"),
    studies: tuple[str, ...] = ("a", "b"),
    **report: Any,
) -> tuple[LauncherRegistration, LauncherReport]:
    found = LauncherRegistration(
        name, "t", "here", (1, 2, "boot", 3, "here"), NOW, "", studies, machines, 30.0
    )
    return found, LauncherReport(**{"slots": SLOTS, **report})


def reason_of(
    session: Session,
    key: RunKey,
    *launchers: tuple[LauncherRegistration, LauncherReport],
    **defaults: Any,
) -> str:
    coverage = LauncherCoverage.of(launchers, {"a": defaults, "b": {}}, steady=NOW, now=NOW)
    return ReasonFinder(session.tables, coverage).reason(session.run(key))


def test_launchers_that_do_not_serve_a_run(session: Session) -> None:
    plain, large = add(session), add(session, machine_name="large")
    assert reason_of(session, plain) == "no launcher is running"
    assert reason_of(session, plain, launcher()) == ""
    assert reason_of(session, plain, launcher(studies=("b",))) == "no launcher serves study 'a'"
    assert reason_of(session, large, launcher()) == "no launcher serves machine 'large'"
    assert reason_of(session, large, launcher(), launcher("l-large", ("large",))) == ""
    assert reason_of(session, plain, launcher(), machine_name="large") == (
        "no launcher serves machine 'large'"
    )


def test_the_number_of_unserved_runs(session: Session) -> None:
    for machine in ("large", "large", "small"):
        add(session, machine_name=machine)
    add(session, "b")
    add(session, run_name="other", machine_name="large")
    coverage = LauncherCoverage.of([launcher()], {"a": {}, "b": {}}, steady=NOW, now=NOW)
    large, small = "no launcher serves machine 'large'", "no launcher serves machine 'small'"
    assert coverage.unserved_counts(session.tables, ["a", "b"], "n") == {large: 2, small: 1}
    assert coverage.unserved_counts(session.tables, ["a", "b"], None) == {large: 3, small: 1}
    assert coverage.unserved_counts(session.tables, ["b"], None) == {}


def test_the_number_of_active_runs_without_a_launcher(session: Session) -> None:
    for run_name in ("n", "n", "other"):
        claim(session, add(session, run_name=run_name), "l-gone")
    add(session)

    def counts(run_name: str | None, *launchers: Any) -> dict[str, int]:
        coverage = LauncherCoverage.of(launchers, {"a": {}, "b": {}}, steady=NOW, now=NOW)
        return coverage.unmanaged_counts(session.tables, "a", run_name)

    assert counts("n") == {"no launcher is running": 2}
    assert counts(None) == {"no launcher is running": 3}
    assert counts(None, launcher()) == {}  # it adopts them
    elsewhere = launcher(studies=("b",))
    assert counts(None, elsewhere) == {"no launcher serves study 'a'": 3}
    assert counts("absent") == {}


@pytest.mark.parametrize(
    ("active", "wanted", "reason"),
    [
        ([{}] * 3, {}, ""),
        ([{}] * 4, {}, "4 of 4 slots are in use (max_concurrent)"),
        ([{"nproc": 3}], {"nproc": 2}, "3 of 4 slots are in use (max_concurrent)"),
        ([], {"nproc": 9}, ""),  # larger than all slots: it runs alone
        ([{"generator": "slurm"}] * 4, {}, ""),
        ([{"generator": "slurm", "nproc": 9}], {"generator": "slurm"}, ""),
        ([{"generator": "slurm"}] * 2, {"generator": "slurm"},
         "2 runs are in the queue (max_queued)"),
    ],
)  # fmt: skip
def test_a_run_waits_for_slots(
    session: Session, active: list[dict[str, Any]], wanted: dict[str, Any], reason: str
) -> None:
    for resources in active:
        claim(session, add(session, "b", **resources))
    assert reason_of(session, add(session, **wanted), launcher()) == reason


def test_runs_of_another_launcher_use_no_slots(session: Session) -> None:
    for _ in range(4):
        claim(session, add(session), "l-other")
    assert reason_of(session, add(session), launcher()) == ""


def test_a_study_has_its_own_limit(session: Session) -> None:
    claim(session, add(session, "b"))
    key = add(session)
    assert reason_of(session, key, launcher(per_study={"a": 1})) == ""
    claim(session, add(session))
    words = "the limit of 1 active runs of a is reached (max_concurrent)"
    assert reason_of(session, key, launcher(per_study={"a": 1})) == words


def test_a_run_waits_for_its_suspended_run_name(session: Session) -> None:
    own, other = add(session), add(session, run_name="other")
    held = launcher(suspended=("n",))
    assert "`motoko run`" in reason_of(session, own, held)
    assert reason_of(session, other, held) == ""
    assert "about to stop" in reason_of(session, other, launcher(claims_paused=True))


def test_a_retried_run_waits_for_its_delay(session: Session) -> None:
    key = claim(session, add(session))
    end = EndAttempt(f"t{key}", Lifecycle.FAILED, NOW, "launcher", 3, "exit code 3", 1, 60.0)
    session.add(EditRun(key, end))
    assert session.run(key).lifecycle is Lifecycle.CREATED
    at = datetime.fromtimestamp(NOW + 60).astimezone()
    words = f"it is retried in 60 s, at {at:%H:%M:%S}, after: exit code 3"
    assert reason_of(session, key, launcher()) == words
    assert reason_of(session, key) == "no launcher is running"


@pytest.mark.parametrize(
    ("edits", "words"),
    [
        ([], ""),
        ([SetReason("ta.1", NOW, "it is held (PENDING JobHeldUser)", "c")],
         "it is held (PENDING JobHeldUser)"),
        ([Cancel(NOW, "motoko cancel")], "cancelled by motoko cancel"),
    ],
)  # fmt: skip
def test_a_claimed_run_without_a_launcher(
    session: Session, edits: list[RunEdit], words: str
) -> None:
    key = claim(session, add(session))
    for edit in edits:
        session.add(EditRun(key, edit))
    assert reason_of(session, key, launcher()) == words
    alone = "not managed: no launcher is running"
    assert reason_of(session, key) == (f"{words}; {alone}" if words else alone)


def test_a_failure_has_a_reason(session: Session) -> None:
    key = claim(session, add(session))
    session.add(
        EditRun(key, EndAttempt(f"t{key}", Lifecycle.LOST, NOW, "launcher", None, "it is gone"))
    )
    assert reason_of(session, key) == "it is gone"


def test_a_launcher_of_an_older_motoko_reports_nothing(session: Session) -> None:
    old, _ = launcher()
    session.tables.write_lease(old.key, old.token, asdict(old))
    session.tables.renew_lease(old.key, NOW)
    report = launcher_report(session.tables, old)
    assert report == LauncherReport()
    for _ in range(9):
        claim(session, add(session))
    assert reason_of(session, add(session), (old, report)) == ""
