"""Held runs are not claimed until they are released."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motoko.core.changes import DeleteRun, EditHolds, EditRun
from motoko.core.edits import Cancel, Claim, EndAttempt, Retry
from motoko.core.holds import NO_HOLDS, AddHolds, Hold, Holds, RemoveHolds
from motoko.core.provenance import Provenance
from motoko.core.records import RunKey
from motoko.core.states import Lifecycle
from motoko.errors import ConflictError
from motoko.launcher.attempts import PendingUpdates
from motoko.launcher.claiming import Capacity, Load, ServedQueue
from motoko.launcher.store_sync import StoreSync
from motoko.operations import holds as operations
from motoko.operations.bulk_edit import RunSelection
from motoko.operations.explain import LauncherCoverage, ReasonFinder
from motoko.orchestrator import unserved_runs
from motoko.storage.launcher_leases import LauncherRegistration, LauncherReport
from motoko.storage.session import Session
from motoko.testing.fake_launcher import FakeLauncher
from motoko.testing.memory import add_run, eventually, memory_store, study_config
from tests.support import orchestrating
from tests.support.orchestrating import memory_workflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from motoko.core.changes import Change
    from motoko.core.holds import HoldEdit, Scope
    from motoko.storage.store import WorkflowStore
    from motoko.storage.tables import Tables
    from motoko.workflow import Workflow

pytestmark = pytest.mark.unit

STUDIES, NAMES, IDS = ("a", "b"), ("n", "m"), (1, 2, 3)
RUNS = [(RunKey(study, run_id), NAMES[run_id % 2]) for study in STUDIES for run_id in IDS]
EVERYTHING = (None, None)
CREATED = (Lifecycle.CREATED,)

scopes: st.SearchStrategy[Scope] = st.tuples(
    st.sampled_from([None, *STUDIES]), st.sampled_from([None, *NAMES])
)
keys = st.builds(RunKey, st.sampled_from(STUDIES), st.sampled_from(IDS))
edits: st.SearchStrategy[HoldEdit] = st.one_of(
    st.builds(AddHolds, st.floats(0, 9), st.just("test"), st.lists(scopes), st.lists(keys)),
    st.builds(RemoveHolds, st.lists(scopes), st.lists(keys)),
)


def held(tables: Tables, study: str, run_name: str | None = None) -> set[int]:
    """Return the held runs, and check their number."""
    created, waiting = tables.created(study), tables.study(study).ids(run_name, lifecycles=CREATED)
    found = set(waiting) - set(created.ids(run_name=run_name))
    assert created.count_held(run_name) == len(found)
    assert sum(created.count_unheld(run_name).values()) == len(waiting) - len(found)
    return found


def model(all_edits: list[HoldEdit]) -> set[RunKey]:
    """Return the held runs, by sets of rules and runs that are edited one by one."""
    rules: set[Scope] = set()
    single: set[RunKey] = set()
    for edit in all_edits:
        if isinstance(edit, AddHolds):
            rules |= set(edit.rules)
            single |= set(edit.runs)
            continue
        for study, name in edit.scopes:
            rules -= {
                rule for rule in rules if study in (None, rule[0]) and name in (None, rule[1])
            }
            single -= {key for key in single if name is None and study in (None, key.study)}
        single -= set(edit.runs)
    return {
        key
        for key, name in RUNS
        if key in single
        or any(study in (None, key.study) and other in (None, name) for study, other in rules)
    }


@given(st.lists(edits, max_size=6))
def test_edits_of_holds_agree_with_a_model(all_edits: list[HoldEdit]) -> None:
    """So do the stored form, and the queries by study that claims use."""
    holds = NO_HOLDS
    for edit in all_edits:
        holds = Holds.of(edit.apply(holds).stored())
    held = {key for key, name in RUNS if holds.find(key, name) is not None}
    assert held == model(all_edits)
    queried = {
        key
        for key, name in RUNS
        if holds.covers(key.study)
        or name in holds.run_names(key.study)
        or key.id in holds.ids(key.study)
    }
    assert queried == held
    assert bool(holds) == bool(holds.rules or holds.runs)
    listed = {RunKey(str(hold.study), run_id) for hold, ids in holds.by_command() for run_id in ids}
    assert listed == {key for key, _ in RUNS if key.id in holds.ids(key.study)}


@given(st.lists(edits, max_size=6))
def test_releasing_what_a_hold_names_removes_it(all_edits: list[HoldEdit]) -> None:
    holds = NO_HOLDS
    for edit in all_edits:
        holds = edit.apply(holds)
    for key, name in RUNS:
        while (found := holds.find(key, name)) is not None:
            if found.id is None:
                holds = RemoveHolds([(found.study, found.run_name)]).apply(holds)
            else:
                holds = RemoveHolds(runs=[RunKey(str(found.study), found.id)]).apply(holds)
    assert all(holds.find(key, name) is None for key, name in RUNS)


def test_an_earlier_hold_keeps_its_time() -> None:
    first = AddHolds(1.0, "first", [("a", None)], [RunKey("b", 1)])
    again = AddHolds(2.0, "again", [("a", None)], [RunKey("b", 1), RunKey("b", 2)])
    holds = again.apply(first.apply(NO_HOLDS))
    assert holds.find(RunKey("a", 1), "n") == Hold(1.0, "first", "a")
    assert holds.find(RunKey("b", 1), "n") == Hold(1.0, "first", "b", id=1)
    assert holds.find(RunKey("b", 2), "n") == Hold(2.0, "again", "b", id=2)


@pytest.mark.parametrize(
    ("hold", "arguments"),
    [
        (Hold(0, "", "a", id=3), "a.3"),
        (Hold(0, "", "a"), "a"),
        (Hold(0, "", None, "x y"), "--run_name 'x y'"),
        (Hold(0, "", "a", "x"), "a --run_name x"),
        (Hold(0, ""), "--all"),
    ],
)
def test_a_hold_names_the_command_that_removes_it(hold: Hold, arguments: str) -> None:
    assert hold.arguments == arguments


# -- claims ------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Iterator[WorkflowStore]:
    """A store with six runs: a.1, a.3, b.1 and b.3 of run name m, the others of n."""
    made = memory_store({name: study_config(name, {"x": "int"}) for name in STUDIES},
                        directory=tmp_path)  # fmt: skip
    session = Session(made.database)
    for key, name in RUNS:
        assert add_run(session, key.study, {"x": key.id}, run_name=name) == key
    session.commit()
    session.close()
    yield made
    made.close()


def edit_holds(store: WorkflowStore, edit: HoldEdit) -> None:
    store.autocommit_scope.write(EditHolds(edit))


def hold(*rules: Scope, runs: tuple[RunKey, ...] = ()) -> AddHolds:
    return AddHolds(1.0, "test", rules, runs)


def make_sync(
    store: WorkflowStore, facts: Callable[[], Provenance | None] = Provenance
) -> StoreSync:
    me = LauncherRegistration.here(
        0.0, rng=store.runtime.rng, generator="bash", studies=STUDIES, machines=("localhost",),
        lease=30.0,
    )  # fmt: skip
    served = ServedQueue(frozenset({"bash"}), frozenset({"localhost"}))
    defaults: dict[str, dict[str, Any]] = {name: {} for name in STUDIES}
    sync = StoreSync(store, me, served, {"bash": Capacity(9)}, defaults, facts)
    sync.open()
    return sync


def claim(sync: StoreSync) -> set[RunKey]:
    result = sync.sync_once(PendingUpdates(), loads={"bash": Load()})
    return {attempt.key for attempt in result.claimed}


@given(st.lists(edits, max_size=4))
def test_a_launcher_claims_exactly_the_runs_that_are_not_held(all_edits: list[HoldEdit]) -> None:
    studies = {name: study_config(name, {"x": "int"}) for name in STUDIES}
    store = memory_store(studies)
    session = Session(store.database)
    for key, name in RUNS:
        add_run(session, key.study, {"x": key.id}, run_name=name)
    session.commit()
    session.close()
    for edit in all_edits:
        edit_holds(store, edit)
    sync = make_sync(store)
    held = model(all_edits)
    assert claim(sync) == {key for key, _ in RUNS} - held
    edit_holds(store, RemoveHolds([EVERYTHING]))
    assert claim(sync) == held
    sync.close()
    store.close()


@pytest.mark.parametrize(
    ("edit", "held"),
    [
        (hold(("a", None)), {"a.1", "a.2", "a.3"}),
        (hold((None, "n")), {"a.2", "b.2"}),
        (hold(runs=(RunKey("b", 3),)), {"b.3"}),
        (hold(EVERYTHING), {str(key) for key, _ in RUNS}),
    ],
)
def test_a_hold_that_is_committed_before_the_claim_wins(
    store: WorkflowStore, edit: AddHolds, held: set[str]
) -> None:
    """It is committed after the launcher has chosen its runs, and before its commit."""
    pending = [edit]

    def facts() -> Provenance:
        if pending:
            edit_holds(store, pending.pop())
        return Provenance()

    sync = make_sync(store, facts)
    assert {str(key) for key in claim(sync)} == {str(key) for key, _ in RUNS} - held
    with store.autocommit_scope.read() as session:
        attempts = {str(key) for key, _ in RUNS if session.run(key).attempt}
    assert attempts == {str(key) for key, _ in RUNS} - held
    sync.close()


def test_a_commit_without_claims_ignores_holds(store: WorkflowStore) -> None:
    first = Session(store.database)
    first.add(EditRun(RunKey("a", 1), Cancel(1.0, "test")))
    edit_holds(store, hold(("a", None)))
    first.commit()
    first.rely_on_holds()
    first.add(EditRun(RunKey("a", 2), Cancel(1.0, "test")))
    edit_holds(store, hold(("b", None)))
    with pytest.raises(ConflictError, match="held or released"):
        first.commit()
    first.close()


def test_concurrent_holds_are_both_kept(store: WorkflowStore) -> None:
    first = Session(store.database)
    first.add(EditHolds(hold(("a", None))))
    edit_holds(store, hold(("b", None)))
    first.commit()
    assert set(first.tables.holds.rules) == {("a", None), ("b", None)}
    first.close()


# -- held runs ---------------------------------------------------------------------------------


def write(store: WorkflowStore, *changes: Change) -> None:
    store.autocommit_scope.write(*changes)


def test_a_held_run_can_be_cancelled_and_stays_held_when_retried(store: WorkflowStore) -> None:
    key = RunKey("a", 1)
    edit_holds(store, hold(runs=(key,)))
    write(store, EditRun(key, Cancel(1.0, "test")))
    with store.autocommit_scope.read() as session:
        assert session.run(key).lifecycle is Lifecycle.CANCELLED
    write(store, EditRun(key, Retry(2.0, "test")))
    sync = make_sync(store)
    assert key not in claim(sync)
    edit_holds(store, RemoveHolds(runs=[key]))
    assert claim(sync) == {key}
    sync.close()


def test_the_hold_of_a_deleted_run_is_removed(store: WorkflowStore) -> None:
    edit_holds(store, hold(runs=(RunKey("a", 1), RunKey("b", 1))))
    write(store, DeleteRun(RunKey("a", 1)))
    with store.autocommit_scope.read() as session:
        assert session.tables.holds.runs == {"b": {1: (1.0, "test")}}


def test_the_reason_names_the_hold(store: WorkflowStore) -> None:
    launcher = LauncherRegistration(
        "l", "t", "here", (1, 2, "boot", 3, "here"), 0.0, "", STUDIES, ("localhost",), 30.0
    )
    for rules, expected in (
        ((("a", None),), "study 'a' is held since "),
        (((None, "m"),), "run name 'm' is held since "),
        ((("a", "m"),), "study 'a' with run name 'm' is held since "),
        ((EVERYTHING,), "all runs are held since "),
        ((), "it is held since "),
    ):
        edit_holds(store, RemoveHolds([EVERYTHING]))
        edit_holds(store, AddHolds(1.0, "motoko hold", rules, () if rules else [RunKey("a", 1)]))
        with store.autocommit_scope.read() as session:
            coverage = LauncherCoverage.of(
                [(launcher, LauncherReport())], {"a": {}, "b": {}}, steady=9.0, now=61.0,
                holds=session.tables.holds,
            )  # fmt: skip
            finder = ReasonFinder(session.tables, coverage)
            reason = finder.reason(session.run(RunKey("a", 1)))
            number = len(held(session.tables, "a")) + len(held(session.tables, "b"))
            counts = coverage.unserved_counts(session.tables, STUDIES, None)
        assert reason.startswith(expected)
        assert "(1 min 0 s), by motoko hold; `motoko release " in reason
        assert counts == {"held by `motoko hold`": number}


def test_a_run_without_launcher_is_counted_once(store: WorkflowStore) -> None:
    edit_holds(store, hold((None, "m")))
    with store.autocommit_scope.read() as session:
        coverage = LauncherCoverage.of(
            [], {"a": {}, "b": {}}, steady=0.0, now=0.0, holds=session.tables.holds
        )
        counts = coverage.unserved_counts(session.tables, STUDIES, None)
        of_one = coverage.unserved_counts(session.tables, STUDIES, "n")
    assert counts == {"held by `motoko hold`": 4, "no launcher is running": 2}
    assert of_one == {"no launcher is running": 2}


# -- selections --------------------------------------------------------------------------------


@pytest.fixture
def workflow(tmp_path: Path) -> Iterator[Workflow]:
    with memory_workflow(tmp_path, list(STUDIES)) as made:
        yield made


def fill(workflow: Workflow) -> None:
    """Create the runs x = 1 to 4 of both studies and run names; end some of them."""
    for name in NAMES:
        workflow.run_name = name
        for study in STUDIES:
            workflow.task_manager(study).create_task(x=[1, 2, 3, 4])
    write(
        workflow.store,
        EditRun(RunKey("a", 1), Claim("l", "t", 0.0)),
        EditRun(RunKey("a", 2), Claim("l", "u", 0.0)),
        EditRun(RunKey("a", 2), EndAttempt("u", Lifecycle.FINISHED, 1.0, "l", 0)),
    )


@pytest.mark.parametrize(
    ("runs", "where", "run_name", "counts", "later"),
    [
        (["a"], [], None, (6, 1, 0), ["a"]),
        (["a"], [], "n", (2, 1, 0), ["a"]),
        (["a", "b"], [], None, (14, 1, 0), ["a", "b"]),
        (["a", "a.1-3"], [], None, (6, 1, 0), ["a"]),
        (["a.1-3"], [], None, (1, 1, 1), []),
        (["a.1-3", "b.2,4"], [], None, (3, 1, 1), []),
        (["a.1-8"], [], "m", (4, 0, 0), []),
        (["a"], ["x > 2"], None, (4, 0, 0), []),
        ([], ["x > 2"], "n", (4, 0, 0), []),
        ([], [], "m", (8, 0, 0), ["a", "b"]),
        ([], [], None, (14, 1, 0), ["a", "b"]),
    ],
)
def test_a_selection_is_held_and_released(
    workflow: Workflow,
    runs: list[str],
    where: list[str],
    run_name: str | None,
    counts: tuple[int, int, int],
    later: list[str],
) -> None:
    """Studies and run names hold later runs, too. Its release removes the same hold."""
    fill(workflow)
    selection = RunSelection.parse_texts(runs, where, run_name)
    found = operations.hold(workflow, selection, "test")
    assert (found.waiting, found.running, found.ended) == counts
    workflow.run_name = run_name or "other"
    for study in STUDIES:
        workflow.task_manager(study).create_task(x=[5])
    with workflow.store.autocommit_scope.read() as session:
        tables = session.tables
        number = sum(len(held(tables, study)) for study in STUDIES)
        newest = {study: tables.study(study).ids(None)[-1] for study in STUDIES}
        assert [s for s in STUDIES if newest[s] in held(tables, s)] == later
    assert number == counts[0] + len(later)
    released = operations.release(workflow, selection)
    assert (released.released, released.changed, released.remaining) == (number, True, [])
    again = operations.release(workflow, selection)
    assert (again.released, again.changed, again.remaining) == (0, False, [])


def test_a_wider_hold_outlasts_a_narrow_release(workflow: Workflow) -> None:
    fill(workflow)
    operations.hold(workflow, RunSelection.parse_texts(["a"]), "test")
    operations.hold(workflow, RunSelection.parse_texts(["b.1"]), "test")
    for text, name in ((["a.3"], None), ([], "n"), (["a"], "m")):
        found = operations.release(workflow, RunSelection.parse_texts(text, run_name=name))
        assert [one.arguments for one in found.remaining] == ["a"]
    assert operations.release(workflow, RunSelection.parse_texts(["b"])).released == 0
    found = operations.release(workflow, RunSelection())
    assert (found.released, found.remaining) == (6, [])


def test_selections_and_task_managers_hold_and_release(workflow: Workflow) -> None:
    fill(workflow)
    workflow.run_name = "n"
    workflow.a.select("x > 2").hold()
    workflow.b.hold()
    with workflow.store.autocommit_scope.read() as session:
        assert sorted(held(session.tables, "a")) == [3, 4]
        assert len(held(session.tables, "b")) == len(held(session.tables, "b", "n")) == 4
    workflow.a.select("x = 3").release()
    workflow.b.select().release()  # the hold of the study remains
    with workflow.store.autocommit_scope.read() as session:
        assert sorted(held(session.tables, "a")) == [4]
        assert len(held(session.tables, "b")) == 4
    workflow.a.release()
    workflow.b.release()
    with workflow.store.autocommit_scope.read() as session:
        assert not session.tables.holds


# -- orchestrators -----------------------------------------------------------------------------


WAITS = "the workflow waits for 2 held runs: `motoko release --all` releases them"


@pytest.mark.parametrize("before", [True, False])
def test_an_orchestrator_waits_for_held_runs_and_says_so(
    workflow: Workflow,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    *,
    before: bool,
) -> None:
    """It is not stalled, and continues when they are released. The fake launcher obeys holds."""
    monkeypatch.setattr("motoko.orchestrator.stall.QUIET", 0.01)
    caplog.set_level(logging.WARNING)
    workflow.end_when_stalled = True
    workflow.run_name = "n"
    seen: list[int] = []
    edit_holds(workflow.store, hold(("a", None) if before else ("b", None)))

    def release() -> None:
        eventually(lambda: said(caplog, WAITS))
        with workflow.store.autocommit_scope.read() as session:
            seen.extend(held(session.tables, "a"))
        edit_holds(workflow.store, RemoveHolds([("a", None)]))

    async def main(workflow: Workflow) -> None:
        tasks = workflow.a.create_task(x=[1, 2])
        if not before:
            workflow.a.hold()  # in the commit that creates them
        assert len(await tasks) == 2

    releasing = threading.Thread(target=release, daemon=True)
    releasing.start()
    orchestrating.execute(workflow, main, {"a": lambda job: {}})
    releasing.join()
    assert sorted(seen) == [1, 2]
    assert said(caplog, WAITS) == 1


def said(caplog: pytest.LogCaptureFixture, text: str) -> int:
    return [one.getMessage() for one in caplog.records].count(text)


@pytest.mark.blocks_loop
async def test_a_script_that_waits_for_held_runs_is_warned(
    workflow: Workflow, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(unserved_runs, "POLL_SECONDS", 0.02)
    held = "runs of a are awaited, and all of them are held"
    warning = f"{held}: release them with `motoko release --all`"
    workflow.a.hold()
    waiting = asyncio.ensure_future(workflow.a.create_task(x=[1, 2]))
    await asyncio.to_thread(eventually, lambda: said(caplog, warning))
    with FakeLauncher(workflow.store, {"a": lambda job: {}}):
        workflow.a.release()
        await waiting
    assert said(caplog, warning) == 1
