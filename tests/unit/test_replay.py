"""The journal of a firing: replayed results and detected deviations."""

from __future__ import annotations

import pytest

from motoko.core.records import RunKey
from motoko.core.replay import AWAIT, CREATE, ROOT, Entries, Journal
from motoko.errors import ReplayError

pytestmark = pytest.mark.unit

ONE, TWO = RunKey("add", 1), RunKey("add", 2)


def first_segment() -> tuple[Journal, Entries]:
    """Return the journal of an action that assigned twice, created a run and awaits it."""
    journal = Journal("the action")
    root = journal.lane(ROOT)
    assert not journal.record_assignment(root)
    journal.set_result_source(journal.record_call(root, CREATE, "add"), lambda: [ONE])
    assert not journal.record_assignment(root)
    journal.record_call(root, AWAIT, "add")
    return journal, journal.new_entries()


def rerun(entries: Entries) -> Journal:
    return Journal("the action", entries.calls, entries.written)


def test_only_committed_segments_are_replayed() -> None:
    journal = rerun(first_segment()[1])
    root = journal.lane(ROOT)
    assert journal.record_assignment(root)
    assert journal.record_call(root, CREATE, "add").runs == (ONE,)
    assert journal.record_assignment(root)
    assert journal.record_call(root, AWAIT, "add").runs is None  # not yet returned
    assert not journal.record_assignment(root)
    assert journal.record_call(root, CREATE, "other").runs is None


def test_the_result_of_an_await_is_recorded_with_the_next_commit() -> None:
    journal, entries = first_segment()
    journal.mark_committed(entries)
    assert journal.new_entries() == Entries((), {})
    journal.record_result(entries.calls[1], [ONE], failed=True)
    (call,) = journal.new_entries().calls
    again = rerun(Entries((entries.calls[0], call), {}))
    root = again.lane(ROOT)
    again.record_call(root, CREATE, "add")
    replayed = again.record_call(root, AWAIT, "add")
    assert (replayed.runs, replayed.failed) == ((ONE,), True)


def test_assignments_since_the_last_call_are_counted() -> None:
    """Another task of the action may commit within a segment of this one."""
    journal, _ = first_segment()
    root = journal.lane(ROOT)
    journal.record_assignment(root)
    journal.record_assignment(root)
    later = journal.new_entries()
    again = rerun(later)
    root = again.lane(ROOT)
    again.record_call(root, CREATE, "add")
    again.record_call(root, AWAIT, "add")
    assert [again.record_assignment(root) for _ in range(3)] == [True, True, False]
    assert again.new_entries().written == {ROOT: (2, 3)}


def test_each_task_of_an_action_has_its_own_lane() -> None:
    journal = Journal("the action")
    root = journal.lane(ROOT)
    one, two = (journal.lane(root.child_name()) for _ in range(2))
    journal.set_result_source(journal.record_call(one, CREATE, "add"), lambda: [ONE])
    journal.set_result_source(journal.record_call(two, CREATE, "add"), lambda: [TWO])
    again = rerun(journal.new_entries())
    root = again.lane(ROOT)
    lanes = [again.lane(root.child_name()) for _ in range(3)]
    assert [again.record_call(lane, CREATE, "add").runs for lane in lanes] == [(ONE,), (TWO,), None]


def test_a_dropped_creation_is_repeated() -> None:
    journal = Journal("the action")
    journal.set_result_source(journal.record_call(journal.lane(ROOT), CREATE, "add"), lambda: None)
    again = rerun(journal.new_entries())
    call = again.record_call(again.lane(ROOT), CREATE, "add")
    assert call.runs is None
    again.set_result_source(call, lambda: [TWO])
    assert again.new_entries().calls[0].runs == (TWO,)


@pytest.mark.parametrize(
    ("kind", "study", "message"),
    [
        (CREATE, "mult", "call 1 is create_task of study 'mult'; on record is create_task of"),
        (AWAIT, "add", "call 1 is an await on runs of study 'add'; on record is create_task of"),
    ],
)
def test_a_call_that_differs_from_the_record_is_an_error(
    kind: str, study: str, message: str
) -> None:
    journal = rerun(first_segment()[1])
    with pytest.raises(ReplayError, match=f"the action was rerun, and its {message}"):
        journal.record_call(journal.lane(ROOT), kind, study)


def test_missing_calls_are_an_error() -> None:
    journal = rerun(first_segment()[1])
    root = journal.lane(ROOT)
    journal.record_call(root, CREATE, "add")
    with pytest.raises(ReplayError, match=r"call 2 is missing.* on record is an await on runs"):
        journal.check_complete()
    journal.record_call(root, AWAIT, "add")
    journal.check_complete()
