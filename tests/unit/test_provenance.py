"""The recorded facts of attempts: code, interpreter, host and times."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from motoko.core.edits import (
    Cancel,
    Claim,
    EndAttempt,
    MarkStarted,
    Requeue,
    Retry,
    RunEdit,
    SetLabel,
)
from motoko.core.provenance import AttemptProvenance, Provenance, attempts_of, last_attempt
from motoko.core.records import RunRecord, decode_record, encode_record
from motoko.core.states import Lifecycle
from motoko.launcher.attempts import PendingUpdates
from motoko.launcher.claiming import Capacity, Load, ServedQueue
from motoko.launcher.code_facts import CodeFacts, parse_status
from motoko.launcher.store_sync import StoreSync
from motoko.runtime import processes
from motoko.runtime.ports import CommandResult, Runtime
from motoko.storage.consistency import check_tables
from motoko.storage.launcher_leases import LauncherRegistration
from motoko.storage.session import Session
from motoko.testing.memory import add_run, memory_store, study_config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from motoko.storage.store import WorkflowStore

pytestmark = pytest.mark.unit

FACTS = Provenance("digest", "c" * 40, True, "node1", "/env/bin/python", "3.11.2", "1.0")
OTHER = replace(FACTS, git_commit="d" * 40, git_dirty=False)
KNOWN = {facts.reference: facts for facts in (FACTS, OTHER)}
NEW = RunRecord("s", 1, 1, "name", b"i", {"x": 1})


def edited(*edits: RunEdit, run: RunRecord = NEW) -> RunRecord:
    """Apply edits, and store and read the record after each."""
    for edit in edits:
        run = decode_record(encode_record(edit.apply(run)))
    return run


def attempt(token: str, at: float, facts: Provenance | None, end: RunEdit) -> list[RunEdit]:
    """Return the edits of an attempt that is claimed, starts a second later, and ends."""
    reference = b"" if facts is None else facts.reference
    claim = Claim("launcher", token, at, provenance=reference)
    return [claim, MarkStarted(token, at + 1, "launcher"), end]


def failed(token: str, at: float, **options: Any) -> EndAttempt:
    return EndAttempt(token, Lifecycle.FAILED, at, "launcher", 1, "no luck", **options)


def times(run: RunRecord) -> list[tuple[Any, ...]]:
    return [
        (one.number, one.claimed, one.started, one.ended, one.outcome, one.git_commit)
        for one in attempts_of(run, KNOWN.get)
    ]


def test_a_run_without_attempts_has_none() -> None:
    assert attempts_of(NEW, KNOWN.get) == ()
    assert last_attempt(NEW, KNOWN.get) is None


def test_each_attempt_has_its_own_facts_and_times() -> None:
    run = edited(
        *attempt("a", 10.0, FACTS, failed("a", 13.0, retries=1)),
        *attempt("b", 20.0, OTHER, failed("b", 23.0)),
        Retry(30.0, "user"),
        Cancel(31.0, "user"),
        Retry(40.0, "user"),
        Claim("launcher", "c", 50.0, provenance=FACTS.reference),
        Requeue("c", 51.0, "launcher"),
        *attempt("d", 60.0, OTHER, EndAttempt("d", Lifecycle.FINISHED, 63.0, "launcher", 0)),
        SetLabel("DONE", 70.0, "user"),
    )
    first, second = FACTS.git_commit, OTHER.git_commit
    assert times(run) == [
        (1, 10.0, 11.0, 13.0, "FAILED", first),
        (2, 20.0, 21.0, 23.0, "FAILED", second),
        (3, 50.0, None, 51.0, "CREATED", first),
        (4, 60.0, 61.0, 63.0, "FINISHED", second),
    ]
    assert last_attempt(run, KNOWN.get) == attempts_of(run, KNOWN.get)[-1]
    assert len(run.provenance) == 4


def test_an_active_attempt_has_no_end() -> None:
    run = edited(Claim("launcher", "a", 10.0, provenance=FACTS.reference))
    assert times(run) == [(1, 10.0, None, None, None, FACTS.git_commit)]
    run = edited(MarkStarted("a", 11.0, "launcher"), run=run)
    assert times(run) == [(1, 10.0, 11.0, None, None, FACTS.git_commit)]


@pytest.mark.parametrize("later", [None, FACTS])
def test_attempts_before_the_facts_were_recorded_are_unknown(later: Provenance | None) -> None:
    old = edited(*attempt("a", 10.0, None, failed("a", 13.0, retries=1)))
    assert old.provenance == ()
    run = edited(*attempt("b", 20.0, later, failed("b", 23.0)), run=old)
    commits = [one.git_commit for one in attempts_of(run, KNOWN.get)]
    assert commits == [None, later and later.git_commit]
    run = edited(Retry(30.0, "user"), Claim("launcher", "c", 40.0, provenance=OTHER.reference),
                 run=run)  # fmt: skip
    assert [one.git_commit for one in attempts_of(run, KNOWN.get)] == [*commits, OTHER.git_commit]


def test_the_last_attempt_of_an_old_record_has_its_scripts_and_host() -> None:
    process = (4, 5, "boot", 6, "node7")
    run = edited(
        Claim("launcher", "a", 10.0, "scripts"), MarkStarted("a", 11.0, "launcher", process)
    )
    assert attempts_of(run, KNOWN.get) == (
        AttemptProvenance(
            scripts="scripts", host="node7", number=1, claimed=10.0, started=11.0
        ),
    )  # fmt: skip
    without_host = edited(
        Claim("launcher", "a", 1.0), MarkStarted("a", 2.0, "launcher", (4, 5, "boot"))
    )
    assert attempts_of(without_host, KNOWN.get)[0].host is None


def test_a_start_can_add_the_host() -> None:
    unplaced = replace(FACTS, host=None)
    known = {**KNOWN, unplaced.reference: unplaced}
    run = edited(Claim("launcher", "a", 10.0, provenance=unplaced.reference))
    assert attempts_of(run, known.get)[0].host is None
    run = edited(MarkStarted("a", 11.0, "launcher", provenance=FACTS.reference), run=run)
    assert attempts_of(run, known.get)[0].host == "node1"
    assert len(run.provenance) == 1


def test_a_record_of_an_older_motoko_is_read() -> None:
    stored = encode_record(edited(*attempt("a", 10.0, FACTS, failed("a", 13.0))))
    old = {"record": stored["record"][:-1]}
    assert decode_record(old) == replace(decode_record(stored), provenance=())


def test_facts_of_other_versions_are_read() -> None:
    """An older Motoko stored fewer facts, a newer one may store more."""
    assert Provenance.of(FACTS.stored()) == FACTS
    assert Provenance.of((*FACTS.stored(), "more")) == FACTS
    assert Provenance.of(FACTS.stored()[:3]) == Provenance("digest", "c" * 40, True)
    assert len({FACTS.reference, OTHER.reference, Provenance().reference}) == 3


# -- the claim records the facts ---------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Iterator[WorkflowStore]:
    studies = {name: study_config(name, {"x": "int"}, directory=tmp_path) for name in ("a", "b")}
    for name in studies:
        (tmp_path / name).mkdir()
        (tmp_path / name / "launch.sh").write_text(f"echo {name}")
    made = memory_store(studies, directory=tmp_path)
    session = Session(made.database)
    for name in studies:
        for x in range(3):
            add_run(session, name, {"x": x})
    session.commit()
    session.close()
    yield made
    made.close()


def make_sync(
    store: WorkflowStore, facts: Callable[[], Provenance | None], **options: dict[str, str]
) -> StoreSync:
    me = LauncherRegistration.here(
        0.0, rng=store.runtime.rng, generator="bash", studies=("a", "b"),
        machines=("localhost",), lease=30.0,
    )  # fmt: skip
    served = ServedQueue(frozenset({"bash", "slurm"}), frozenset({"localhost"}))
    capacities = {"bash": Capacity(9), "slurm": Capacity(9)}
    sync = StoreSync(store, me, served, capacities, {"a": {}, "b": {}, **options}, facts)
    sync.open()
    return sync


def test_a_claim_stores_each_combination_of_facts_once(store: WorkflowStore) -> None:
    code = Provenance(git_commit="c" * 40, git_dirty=False, interpreter="/python")
    sync = make_sync(store, lambda: code)
    claimed = sync.sync_once(PendingUpdates(), loads={"bash": Load()}).claimed
    assert len(claimed) == 6
    with store.autocommit_scope.read() as session:
        tables = session.tables
        for name in ("a", "b"):
            expected = replace(
                code, scripts=store.studies[name].scripts_digest(), host=processes.host()
            )
            for record in tables.study(name).records([1, 2, 3]):
                (one,) = attempts_of(record, tables.provenance)
                assert one.started is None
                assert Provenance.of(one.stored()) == expected
        assert len({record.record.provenance for record in claimed}) == 2
    sync.close()
    assert check(store) == []


def test_a_claim_waits_for_outdated_facts(store: WorkflowStore) -> None:
    facts: list[Provenance | None] = [None, Provenance(git_commit="new")]
    sync = make_sync(store, lambda: facts.pop(0))
    first = sync.sync_once(PendingUpdates(), loads={"bash": Load()})
    assert (first.claimed, first.facts_outdated) == ((), True)
    second = sync.sync_once(PendingUpdates(), loads={"bash": Load()})
    assert (len(second.claimed), second.facts_outdated) == (6, False)
    # Without runs to claim the facts are not needed.
    third = sync.sync_once(PendingUpdates(), loads={"bash": Load()})
    assert (third.claimed, third.facts_outdated) == ((), False)
    sync.close()


def test_the_host_of_a_batch_job_is_added_at_its_start(store: WorkflowStore) -> None:
    sync = make_sync(store, lambda: Provenance(git_commit="c"), b={"generator": "slurm"})
    claimed = sync.sync_once(PendingUpdates(), loads={"bash": Load(), "slurm": Load()}).claimed
    first, second, third = batch = [one for one in claimed if one.key.study == "b"]
    assert [attempts_of(one.record, lookup(store))[0].host for one in batch] == [None] * 3
    first.host = second.host = "node9"
    sync.sync_once(PendingUpdates(started=list(claimed)))
    hosts = [attempts_of(one.record, lookup(store))[0].host for one in claimed]
    assert dict(zip([one.key for one in claimed], hosts, strict=True)) == {
        first.key: "node9", second.key: "node9", third.key: None,
        **{one.key: processes.host() for one in claimed if one not in batch},
    }  # fmt: skip
    sync.close()
    assert check(store) == []


def lookup(store: WorkflowStore) -> Callable[[bytes], Provenance | None]:
    def find(reference: bytes) -> Provenance | None:
        with store.autocommit_scope.read() as session:
            return session.tables.provenance(reference)

    return find


def check(store: WorkflowStore) -> list[str]:
    with store.database.snapshot() as connection:
        return check_tables(connection.root())


def test_missing_facts_are_found_by_the_check(store: WorkflowStore) -> None:
    sync = make_sync(store, Provenance)
    (one, *_) = sync.sync_once(PendingUpdates(), loads={"bash": Load()}).claimed
    sync.close()
    with store.database.snapshot() as connection:
        del connection.root()["motoko"]["provenance"][one.record.provenance[0]]
        (error,) = check_tables(connection.root())
        assert one.record.provenance[0].hex() in error


# -- git ---------------------------------------------------------------------------------------


class FakeGit:
    """A command runner that answers by the subcommand; each read costs time."""

    def __init__(self, clock: FakeClock, answers: dict[str, CommandResult], cost: float) -> None:
        self.answers = answers
        self.calls: list[str] = []
        self._clock, self._cost = clock, cost

    async def run(self, argv: Sequence[str], **_: Any) -> CommandResult:
        found = next(name for name in ("config", "status", "ls-files", "rev-parse") if name in argv)
        self.calls.append(found)
        self._clock.time += self._cost
        return self.answers.get(found.replace("-", "_"), CommandResult(1))


class FakeClock:
    time = 100.0

    def monotonic(self) -> float:
        return self.time

    now = uptime = monotonic

    def sleep(self, seconds: float) -> None:
        self.time += seconds


COMMIT = "0123456789abcdef" * 2 + "01234567"
CLEAN = f"# branch.oid {COMMIT}\n# branch.head main\n"
CHANGED = CLEAN + "1 .M N... 100644 100644 100644 aa bb launch.sh\n"


def code_facts(
    tmp_path: Path, answers: dict[str, CommandResult] | None = None, cost: float = 0.0
) -> tuple[CodeFacts, FakeGit, FakeClock]:
    clock = FakeClock()
    runtime = Runtime(clock=clock)
    store = memory_store({}, directory=tmp_path, runtime=runtime)
    git = FakeGit(clock, answers or {}, cost)
    return CodeFacts(store, git), git, clock


def ok(text: str = "") -> CommandResult:
    return CommandResult(0, text)


@pytest.mark.parametrize(
    ("answers", "commit", "dirty"),
    [
        ({"status": ok(CLEAN), "ls_files": ok()}, COMMIT, False),
        ({"status": ok(CHANGED)}, COMMIT, True),
        ({"status": ok(CLEAN), "ls_files": ok("launch.sh\n")}, COMMIT, True),
        ({"status": ok(CLEAN)}, COMMIT, None),
        ({"status": ok("# branch.oid (initial)\n1 A. launch.sh\n")}, None, None),
        ({"status": CommandResult(128, stderr="dubious ownership")}, None, None),
        ({"status": CommandResult(None, CLEAN, problem="did not answer")}, None, None),
        ({"config": ok("local\tfilter.x.clean\n"), "rev_parse": ok(COMMIT)}, COMMIT, None),
        ({"config": ok("worktree\tfilter.x.clean\n")}, None, None),
        ({"config": ok("global\tfilter.lfs.clean\n"), "status": ok(CHANGED)}, COMMIT, True),
        ({"config": CommandResult(None, problem="no git", not_found=True)}, None, None),
    ],
)
async def test_the_commit_is_known_if_git_reports_it(
    tmp_path: Path, answers: dict[str, CommandResult], commit: str | None, dirty: bool | None
) -> None:
    (tmp_path / ".git").mkdir()
    code, git, _ = code_facts(tmp_path, answers)
    assert code.current() is None
    await code.read()
    facts = code.current()
    assert facts is not None
    assert (facts.git_commit, facts.git_dirty) == (commit, dirty)
    if answers.get("config", ok()).stdout.startswith(("local", "worktree")):
        assert "status" not in git.calls  # it would run the repository's own programs


async def test_without_a_repository_git_is_not_called(tmp_path: Path) -> None:
    """A repository that is made later is found."""
    code, git, clock = code_facts(tmp_path)
    facts = code.current()
    assert facts is not None
    assert (facts.git_commit, facts.git_dirty, git.calls) == (None, None, [])
    assert facts.interpreter
    assert facts.motoko_version
    (tmp_path / ".git").mkdir()
    clock.time += 5.1
    assert code.current() is None


@pytest.mark.parametrize("cost", [0.0, 1.0])
async def test_git_is_called_again_after_some_seconds(tmp_path: Path, cost: float) -> None:
    """A slow git is called less often. Facts that were read are used at least once."""
    (tmp_path / ".git").mkdir()
    code, _, clock = code_facts(tmp_path, {"status": ok(CLEAN), "ls_files": ok()}, cost)
    await code.read()
    clock.time += 1000.0
    assert code.current() is not None
    assert code.current() is None
    await code.read()
    valid = 20 * 3 * cost or 5.0
    clock.time += valid - 0.1
    assert code.current() is not None
    assert code.current() is not None
    clock.time += 0.2
    assert code.current() is None


@pytest.mark.parametrize("lines", [[], ["fatal: no"], ["# branch.head main"], ["# branch.oid "]])
def test_other_output_of_git_is_no_commit(lines: list[str]) -> None:
    assert parse_status(lines) == (None, None)
