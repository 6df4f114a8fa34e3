"""Decisions about notifications, their records, and the states that they pass through."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from motoko.config.notify_targets import NotifyTarget
from motoko.core.notifications import (
    DEFAULT_OCCASIONS,
    FIRST_PAUSE,
    JITTER,
    LONGEST_PAUSE,
    MAX_ATTEMPTS,
    ExecutionFacts,
    Key,
    LauncherFacts,
    Notification,
    NotificationState,
    NotifyEvent,
    Occasion,
    Subscription,
    due,
    pause_after,
)
from motoko.core.records import RunRecord, Transition
from motoko.notifier.deliveries import KILLED, LATE, REMOVED, RESUME_SECONDS, Deliveries
from motoko.notifier.observation import FailedRuns, Renewals, end_of
from motoko.notifier.sending import Message, Outcome
from motoko.notifier.watched import (
    WatchedExecution,
    add_watched,
    remove_watched,
    watched_executions,
)
from motoko.orchestrator.end_recorder import EndRecorder, Origin
from motoko.orchestrator.run_ends import Ending, EndKind, end_file, read_execution
from motoko.runtime.ports import Runtime, SystemClock
from motoko.runtime.processes import current
from motoko.server.state_dir import StateDir
from motoko.storage.commit import run_transaction
from motoko.storage.notifications import StoredNotification, stored_notifications, swap
from motoko.storage.store import WorkflowStore
from motoko.testing.memory import empty_database, eventually

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from motoko.notifier.journal import Change
    from motoko.storage.database import Database

pytestmark = pytest.mark.unit

MAIL = Subscription("mail", DEFAULT_OCCASIONS)
RUNNING = ExecutionFacts("a", "t1", counts={"FINISHED": 3, "FAILED": 0})
LAUNCHER = LauncherFacts("a", "t9", "(process 7 on desk)", lease=60.0, age=10.0, unchanged=10.0)
KEY = Key("a", "t1", "finished", "mail")
ENTRY = StoredNotification(KEY, "it ended", "command mail", NotificationState.SENDING, 5.0)


def keys(facts: ExecutionFacts, *subscriptions: Subscription) -> list[Key]:
    return [one.key for one in due([facts], [], subscriptions or (MAIL,))]


# -- which are due ---------------------------------------------------------------------------------


def test_nothing_is_due_while_a_workflow_is_running() -> None:
    assert keys(RUNNING) == []


@pytest.mark.parametrize("end", [NotifyEvent.FINISHED, NotifyEvent.FAILED, NotifyEvent.STALLED])
def test_an_end_is_due_with_its_reason_and_the_numbers_of_runs(end: NotifyEvent) -> None:
    (found,) = due([replace(RUNNING, end=end, reason="because")], [], [MAIL])
    assert found == (("a", "t1", end.value, "mail"), "run name a ended: because (3 FINISHED)")


def test_an_interruption_is_due_on_request_only() -> None:
    facts = replace(RUNNING, end=NotifyEvent.INTERRUPTED)
    asked = Subscription("x", (Occasion(NotifyEvent.INTERRUPTED),))
    assert keys(facts, MAIL, asked) == [("a", "t1", "interrupted", "x")]


def test_a_stall_has_one_key_whether_the_workflow_ends_or_waits() -> None:
    waits = replace(RUNNING, waits=("main waits for a run", "event x"))
    (found,) = due([waits], [], [MAIL])
    assert found.message == "run name a is stalled: main waits for a run; event x"
    assert (
        keys(waits)
        == keys(replace(RUNNING, end=NotifyEvent.STALLED))
        == [("a", "t1", "stalled", "mail")]
    )


def test_numbers_of_failures_are_due_once_they_are_reached() -> None:
    counting = Subscription("x", tuple(Occasion(NotifyEvent.FAILURES, n) for n in (2, 10)))
    numbers = {
        failures: [key[2:] for key in keys(replace(RUNNING, failures=failures), MAIL, counting)]
        for failures in (0, 1, 2, 9, 10, 99)
    }
    first, two, ten = ("first_failure", "mail"), ("failures: 2", "x"), ("failures: 10", "x")
    assert numbers == {
        0: [], 1: [first], 2: [first, two], 9: [first, two], 10: [first, two, ten],
        99: [first, two, ten],
    }  # fmt: skip


def test_two_entries_of_one_target_cause_one_notification() -> None:
    both = [MAIL, Subscription("mail", (Occasion(NotifyEvent.FINISHED),))]
    (found,) = due([replace(RUNNING, end=NotifyEvent.FINISHED)], [], both)
    assert found.key == ("a", "t1", "finished", "mail")


def test_the_message_about_the_first_failure_describes_it() -> None:
    (found,) = due([replace(RUNNING, failures=4, first_failure="s.7 FAILED: oops")], [], [MAIL])
    assert found.message == "run name a: first failure: s.7 FAILED: oops"


@pytest.mark.parametrize(
    ("age", "unchanged", "silent"),
    [
        (10.0, 10.0, False),
        (59.0, 59.0, False),
        (61.0, 61.0, True),
        (9000.0, 1.0, False),  # the machine slept: the launcher has had one second to renew it
        (9000.0, 21.0, True),
    ],
)
def test_a_launcher_is_silent_when_its_lease_has_expired(
    age: float, unchanged: float, silent: bool
) -> None:
    facts = replace(LAUNCHER, age=age, unchanged=unchanged)
    found = due([], [facts, replace(facts, run_name="b")], [MAIL])
    # One launcher serves all run names: there is one message.
    assert [tuple(one.key) for one in found] == [("", "t9", "launcher_silent", "mail")] * silent


def test_renewals_are_timed_from_when_they_were_seen() -> None:
    clock = ManualClock()
    renewals = Renewals(clock)
    assert renewals.unchanged("t", 100.0) == 0.0
    clock.at = 7.0
    assert renewals.unchanged("t", 100.0) == 7.0
    assert renewals.unchanged("u", 100.0) == 0.0
    assert renewals.unchanged("t", 120.0) == 0.0


def test_pauses_grow_to_a_limit_and_attempts_are_bounded() -> None:
    pauses = [pause_after(attempts, 0.0) or 0.0 for attempts in range(1, MAX_ATTEMPTS)]
    assert pauses[0] == FIRST_PAUSE
    assert pauses == sorted(pauses)
    assert all(0 < pause <= LONGEST_PAUSE for pause in pauses)
    assert pause_after(MAX_ATTEMPTS, 0.0) is None
    low, high = pause_after(2, -1.0), pause_after(2, 1.0)
    assert low is not None
    assert high is not None
    assert high / low == pytest.approx((1 + JITTER) / (1 - JITTER))


# -- records ---------------------------------------------------------------------------------------


@pytest.fixture
def database() -> Any:
    found = empty_database(["s"])
    yield found
    found.close()


def swapped(
    database: Database, former: StoredNotification | None, new: StoredNotification
) -> StoredNotification | None:
    return run_transaction(database, lambda tables: swap(tables, former, new))


def test_an_entry_is_recorded_once_and_then_changed_from_its_state_only(database: Any) -> None:
    sent = replace(ENTRY, state=NotificationState.SENT)
    assert swapped(database, None, ENTRY) == ENTRY
    other = replace(ENTRY, sender=(1, 2, "boot", 3, "host"))
    assert swapped(database, None, other) == ENTRY
    assert swapped(database, ENTRY, sent) == sent
    assert swapped(database, ENTRY, replace(ENTRY, attempts=2)) == sent
    assert swapped(database, replace(ENTRY, key=KEY._replace(target="x")), sent) == sent
    found = run_transaction(database, stored_notifications)
    assert found == {KEY: sent}


def test_an_entry_that_is_missing_is_not_changed(database: Any) -> None:
    assert swapped(database, ENTRY, replace(ENTRY, state=NotificationState.SENT)) is None
    assert run_transaction(database, stored_notifications) == {}


def test_only_one_of_two_senders_records_an_entry(database: Any) -> None:
    entries = [replace(ENTRY, sender=(pid, 0, "", 0, "")) for pid in range(8)]
    start, results = threading.Barrier(len(entries)), []

    def claim(entry: StoredNotification) -> None:
        start.wait()
        results.append((entry, swapped(database, None, entry)))

    threads = [threading.Thread(target=claim, args=(entry,)) for entry in entries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [entry for entry, recorded in results if recorded == entry]
    assert len(winners) == 1
    assert {recorded for _, recorded in results} == set(winners)


# -- from the first record to the last attempt -----------------------------------------------------


class ManualClock(SystemClock):
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.at = 0.0

    def monotonic(self) -> float:
        return self.at


class Sender:
    """Deliveries to one target, whose outcomes a test sets, and which are recorded in a list."""

    def __init__(self, *recorded: StoredNotification, found: Sequence[Notification] = ()) -> None:
        self.clock = ManualClock()
        self.outcome = Outcome(True)
        self.messages: list[Message] = []
        self.log: list[StoredNotification] = []
        self.found = found
        target = NotifyTarget(command=("mail",))
        self.targets = {"mail": target}
        self.deliveries = Deliveries(
            {entry.key: entry for entry in recorded},
            Path("/work"),
            Runtime(clock=self.clock),
            self.deliver,
            lambda: None,
        )

    def deliver(self, target: NotifyTarget, message: Message) -> Outcome:
        self.messages.append(message)
        return self.outcome

    def step(self, *, refuse: bool = False) -> list[Change]:
        """Record all changes, or let another process have done so; wait for what is sent."""
        claims = self.deliveries.claims(self.targets, self.found)
        changes = [*self.deliveries.ends(), *claims]
        if not refuse:
            recorded: list[Any] = [change.new for change in changes]
            self.log += recorded
            self.deliveries.on_recorded(changes, recorded, self.targets)
            eventually(lambda: not self.deliveries.sending)
        return changes

    @property
    def states(self) -> list[tuple[str, int, str]]:
        return [(entry.state.value, entry.attempts, entry.problem) for entry in self.log]


DUE = [Notification(KEY, "it ended")]


def test_a_notification_is_recorded_sent_and_recorded_again() -> None:
    sender = Sender(found=DUE)
    for _ in range(4):
        sender.step()
    assert sender.states == [("sending", 1, ""), ("sent", 1, "")]
    assert [(one.event, one.run_name, one.message) for one in sender.messages] == [
        ("finished", "a", "it ended")
    ]
    assert sender.log[0].sender == current().plain()
    assert sender.deliveries.idle


def test_nothing_is_sent_that_is_not_recorded() -> None:
    sender = Sender(found=DUE)
    for _ in range(3):
        assert [change.new.state for change in sender.step(refuse=True)] == ["sending"]
    assert sender.messages == []


def test_nothing_is_sent_that_another_process_recorded() -> None:
    sender = Sender(found=DUE)
    changes = sender.deliveries.claims(sender.targets, DUE)
    other = replace(changes[0].new, sender=(1, 2, "boot", 3, "host"))
    sender.deliveries.on_recorded(changes, [other], sender.targets)
    assert sender.step() == []
    assert sender.messages == []


def test_a_certain_failure_is_sent_again_after_a_pause_until_it_is_given_up() -> None:
    sender = Sender(found=DUE)
    sender.outcome = Outcome(False, "refused", again=True)
    sender.step()
    for _ in range(MAX_ATTEMPTS - 1):
        sender.step()
        assert not sender.step()  # it waits
        sender.clock.at += LONGEST_PAUSE * 2
        sender.step()
    sender.step()
    assert len(sender.messages) == MAX_ATTEMPTS
    assert sender.states[:3] == [
        ("sending", 1, ""),
        ("waiting", 1, "refused"),
        ("sending", 2, "refused"),
    ]
    assert sender.states[-1] == ("failed", MAX_ATTEMPTS, "refused")
    assert sender.deliveries.idle


def test_an_uncertain_failure_is_not_sent_again() -> None:
    sender = Sender(found=DUE)
    sender.outcome = Outcome(False, "no answer")
    for _ in range(3):
        sender.step()
        sender.clock.at += LONGEST_PAUSE * 2
    assert sender.states == [("sending", 1, ""), ("failed", 1, "no answer")]


def test_a_notification_whose_sender_was_killed_is_not_sent_again() -> None:
    me = current()
    dead = replace(me, started=me.started + 1)
    sender = Sender(replace(ENTRY, sender=dead.plain()), found=DUE)
    sender.step()
    assert sender.states == [("failed", 1, KILLED)]
    assert sender.messages == []


def test_a_notification_with_a_living_sender_is_left_to_it() -> None:
    sender = Sender(replace(ENTRY, sender=current().plain()), found=DUE)
    assert sender.step() == []


def test_a_waiting_notification_of_an_earlier_notifier_is_sent_unless_it_is_old() -> None:
    now = SystemClock().now()
    waiting = replace(ENTRY, state=NotificationState.WAITING, at=now, attempts=3)
    sender = Sender(waiting)
    sender.step()
    sender.step()
    assert sender.states == [("sending", 4, ""), ("sent", 4, "")]

    old = Sender(replace(waiting, at=now - RESUME_SECONDS - 60.0))
    old.step()
    assert old.states == [("failed", 3, LATE)]


def test_a_waiting_notification_whose_target_was_removed_is_given_up() -> None:
    sender = Sender(replace(ENTRY, state=NotificationState.WAITING, at=SystemClock().now()))
    sender.targets = {}
    sender.step()
    assert sender.states == [("failed", 1, REMOVED)]
    assert sender.deliveries.idle


# -- observation -----------------------------------------------------------------------------------


def start_execution(state: StateDir, run_name: str = "a") -> tuple[EndRecorder, WatchedExecution]:
    """Record the start of an execution, and let a notifier watch it."""
    store = WorkflowStore(state, {}, database=empty_database(["s"]))
    recorder = EndRecorder(store, run_name, Origin())
    recorder.start()
    store.close()
    found = read_execution(end_file(state, run_name))
    assert found is not None
    return recorder, WatchedExecution(run_name, found.token, found.started)


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    found = StateDir(tmp_path / "work" / ".wf")
    found.path.mkdir(parents=True, mode=0o700)
    return found


def test_an_end_is_known_when_it_is_recorded_and_after_the_next_start(state: StateDir) -> None:
    recorder, watched = start_execution(state)
    assert end_of(state, watched, 0.0) is None
    recorder.end(Ending(EndKind.FAILED, 3, "it failed"))
    end = end_of(state, watched, 0.0)
    assert end is not None
    assert (end.kind, end.reason) == (EndKind.FAILED, "it failed")

    _, second = start_execution(state)
    assert end_of(state, watched, 0.0) == end
    assert end_of(state, second, 0.0) is None
    start_execution(state)  # the process of the second is alive, so no end of it is known
    with pytest.raises(LookupError):
        end_of(state, second, 0.0)


def test_an_execution_is_unknown_in_a_copy_of_its_workflow(state: StateDir, tmp_path: Path) -> None:
    _, watched = start_execution(state)
    add_watched(state, watched)
    shutil.copytree(tmp_path / "work", tmp_path / "copy")
    copy = StateDir(tmp_path / "copy" / ".wf")
    assert watched_executions(copy) == watched_executions(state) == [watched]
    with pytest.raises(LookupError):
        end_of(copy, watched, 0.0)


def test_invalid_files_of_watched_executions_are_removed(state: StateDir) -> None:
    _, watched = start_execution(state)
    add_watched(state, watched)
    for name, text in (("x", "{}"), ("y", "[" * 5000), ("z", watched.file_in(state).read_text())):
        (state.notify / f"{name}.json").write_text(text)
    assert watched_executions(state) == [watched]
    assert [path.stem for path in state.notify.iterdir()] == [watched.token]
    remove_watched(state, watched)
    assert watched_executions(state) == []


class FakeTables:
    """One study whose failed runs a test sets, with the times of their failures."""

    def __init__(self) -> None:
        self.failed: dict[int, float] = {}

    def study_names(self) -> list[str]:
        return ["s"]

    def study(self, _: str) -> Any:
        return self

    def ids(self, run_name: str, *, lifecycles: Any) -> list[int]:
        assert (run_name, "CANCELLED" in lifecycles, "LOST" in lifecycles) == ("a", False, True)
        return sorted(self.failed)

    def run(self, run_id: int) -> RunRecord:
        end = Transition(self.failed[run_id], "FAILED", "launcher", 1)
        return RunRecord("s", run_id, run_id, "a", b"", {}, history=(end,))

    def records(self, ids: Iterable[int], *, keep: bool) -> Iterator[RunRecord]:
        return map(self.run, ids)


def test_runs_that_fail_since_the_start_are_counted_with_repetitions() -> None:
    tables: Any = FakeTables()
    failed = FailedRuns(WatchedExecution("a", "t", started=100.0))
    numbers = []
    for found in (
        {1: 50.0, 2: 99.0, 5: 100.0},  # at the first look: one failed in this execution
        {1: 50.0, 2: 99.0, 5: 100.0, 3: 120.0, 4: 121.0},
        {1: 50.0, 3: 120.0},  # the others are retried
        {1: 50.0, 2: 140.0, 3: 120.0},
    ):
        tables.failed = found
        failed.look(tables)
        numbers.append(failed.number)
    assert numbers == [1, 3, 3, 4]
    assert failed.first is not None
    assert failed.first.id == 5
