"""Why runs wait, as far as launchers, limits and clocks tell."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest

from motoko.core.changes import CreateRun, EditRun
from motoko.core.edits import Cancel, Claim, EndAttempt, SetReason
from motoko.core.records import RunKey, RunRecord
from motoko.core.states import Lifecycle
from motoko.operations.explain import LauncherCoverage, ReasonFinder
from motoko.storage.leases import LauncherRegistration, LauncherReport, launcher_report
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


def why(
    session: Session,
    key: RunKey,
    *launchers: tuple[LauncherRegistration, LauncherReport],
    **defaults: Any,
) -> str:
    serving = LauncherCoverage(launchers, {"a": defaults, "b": {}}, NOW)
    return ReasonFinder(session.tables, serving).why(session.run(key))


def test_who_would_have_to_take_it(session: Session) -> None:
    plain, large = add(session), add(session, machine_name="large")
    assert why(session, plain) == "no launcher works"
    assert why(session, plain, launcher()) == ""
    assert why(session, plain, launcher(studies=("b",))) == "no launcher for study 'a'"
    assert why(session, large, launcher()) == "no launcher for machine 'large'"
    assert why(session, large, launcher(), launcher("l-large", ("large",))) == ""
    assert why(session, plain, launcher(), machine_name="large") == (
        "no launcher for machine 'large'"
    )


def test_how_many_nobody_takes(session: Session) -> None:
    for machine in ("large", "large", "small"):
        add(session, machine_name=machine)
    add(session, "b")
    add(session, run_name="other", machine_name="large")
    serving = LauncherCoverage([launcher()], {"a": {}, "b": {}}, NOW)
    large, small = "no launcher for machine 'large'", "no launcher for machine 'small'"
    assert serving.unserved(session.tables, ["a", "b"], "n") == {large: 2, small: 1}
    assert serving.unserved(session.tables, ["a", "b"], None) == {large: 3, small: 1}
    assert serving.unserved(session.tables, ["b"], None) == {}


@pytest.mark.parametrize(
    ("taken", "wanted", "words"),
    [
        ([{}] * 3, {}, ""),
        ([{}] * 4, {}, "4 of 4 places are taken (max_concurrent)"),
        ([{"nproc": 3}], {"nproc": 2}, "3 of 4 places are taken (max_concurrent)"),
        ([], {"nproc": 9}, ""),  # it runs alone
        ([{"generator": "slurm"}] * 4, {}, ""),
        ([{"generator": "slurm", "nproc": 9}], {"generator": "slurm"}, ""),
        ([{"generator": "slurm"}] * 2, {"generator": "slurm"},
         "2 runs are in the queue (max_queued)"),
    ],
)  # fmt: skip
def test_there_is_no_room(
    session: Session, taken: list[dict[str, Any]], wanted: dict[str, Any], words: str
) -> None:
    for resources in taken:
        claim(session, add(session, "b", **resources))
    assert why(session, add(session, **wanted), launcher()) == words


def test_what_another_launcher_has_taken_takes_no_room(session: Session) -> None:
    for _ in range(4):
        claim(session, add(session), "l-other")
    assert why(session, add(session), launcher()) == ""


def test_a_study_has_a_limit_of_its_own(session: Session) -> None:
    claim(session, add(session, "b"))
    key = add(session)
    assert why(session, key, launcher(per_study={"a": 1})) == ""
    claim(session, add(session))
    words = "1 runs of a are under way (max_concurrent)"
    assert why(session, key, launcher(per_study={"a": 1})) == words


def test_it_was_stopped(session: Session) -> None:
    own, other = add(session), add(session, run_name="other")
    held = launcher(held=("n",))
    assert "`motoko run`" in why(session, own, held)
    assert why(session, other, held) == ""
    assert "about to stop" in why(session, other, launcher(held_all=True))


def test_it_is_tried_again_later(session: Session) -> None:
    key = claim(session, add(session))
    end = EndAttempt(f"t{key}", Lifecycle.FAILED, NOW, "launcher", 3, "exit code 3", 1, 60.0)
    session.add(EditRun(key, end))
    assert session.run(key).lifecycle is Lifecycle.CREATED
    words = "it is tried again in 60 s, after: exit code 3"
    assert why(session, key, launcher()) == words
    assert why(session, key) == "no launcher works"


@pytest.mark.parametrize(
    ("edits", "words"),
    [
        ([], ""),
        ([SetReason("ta.1", NOW, "it is held (PENDING JobHeldUser)", "c")],
         "it is held (PENDING JobHeldUser)"),
        ([Cancel(NOW, "motoko cancel")], "cancelled by motoko cancel"),
    ],
)  # fmt: skip
def test_what_was_claimed_says_who_should_see_to_it(
    session: Session, edits: list[RunEdit], words: str
) -> None:
    key = claim(session, add(session))
    for edit in edits:
        session.add(EditRun(key, edit))
    assert why(session, key, launcher()) == words
    alone = "no launcher works that sees to it"
    assert why(session, key) == (f"{words}; {alone}" if words else alone)


def test_a_bad_end_says_why(session: Session) -> None:
    key = claim(session, add(session))
    session.add(
        EditRun(key, EndAttempt(f"t{key}", Lifecycle.LOST, NOW, "launcher", None, "it is gone"))
    )
    assert why(session, key) == "it is gone"


def test_a_launcher_of_an_older_motoko_reports_nothing(session: Session) -> None:
    old, _ = launcher()
    session.tables.write_lease(old.key, old.token, asdict(old))
    session.tables.renew_lease(old.key, NOW)
    report = launcher_report(session.tables, old)
    assert report == LauncherReport()
    for _ in range(9):
        claim(session, add(session))
    assert why(session, add(session), (old, report)) == ""
