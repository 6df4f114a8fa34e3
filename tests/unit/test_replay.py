"""The journal of a firing: what a rerun gets back, and what it is told it did differently."""

from __future__ import annotations

import pytest

from motoko.core.records import RunKey
from motoko.core.replay import AWAIT, CREATE, ROOT, Entries, Journal
from motoko.errors import ReplayError

pytestmark = pytest.mark.unit

ONE, TWO = RunKey("add", 1), RunKey("add", 2)


def first_segment() -> tuple[Journal, Entries]:
    """An action that assigned twice, created a run and began to wait for it."""
    journal = Journal("the action")
    root = journal.lane(ROOT)
    assert not journal.assigned(root)
    journal.returns(journal.call(root, CREATE, "add"), lambda: [ONE])
    assert not journal.assigned(root)
    journal.call(root, AWAIT, "add")
    return journal, journal.entries()


def rerun(entries: Entries) -> Journal:
    return Journal("the action", entries.calls, entries.written)


def test_a_committed_segment_is_replayed_and_what_follows_is_not() -> None:
    journal = rerun(first_segment()[1])
    root = journal.lane(ROOT)
    assert journal.assigned(root)
    assert journal.call(root, CREATE, "add").runs == (ONE,)
    assert journal.assigned(root)
    assert journal.call(root, AWAIT, "add").runs is None  # it had not returned
    assert not journal.assigned(root)
    assert journal.call(root, CREATE, "other").runs is None


def test_what_an_await_returned_is_recorded_with_the_next_commit() -> None:
    journal, entries = first_segment()
    journal.recorded(entries)
    assert journal.entries() == Entries((), {})
    journal.returned(entries.calls[1], [ONE], failed=True)
    (call,) = journal.entries().calls
    again = rerun(Entries((entries.calls[0], call), {}))
    root = again.lane(ROOT)
    again.call(root, CREATE, "add")
    replayed = again.call(root, AWAIT, "add")
    assert (replayed.runs, replayed.failed) == ((ONE,), True)


def test_assignments_since_the_last_call_are_counted() -> None:
    """Another task of the action may commit in the middle of a segment of this one."""
    journal, _ = first_segment()
    root = journal.lane(ROOT)
    journal.assigned(root)
    journal.assigned(root)
    later = journal.entries()
    again = rerun(later)
    root = again.lane(ROOT)
    again.call(root, CREATE, "add")
    again.call(root, AWAIT, "add")
    assert [again.assigned(root) for _ in range(3)] == [True, True, False]
    assert again.entries().written == {ROOT: (2, 3)}


def test_tasks_of_an_action_have_calls_of_their_own() -> None:
    journal = Journal("the action")
    root = journal.lane(ROOT)
    one, two = (journal.lane(root.child_name()) for _ in range(2))
    journal.returns(journal.call(one, CREATE, "add"), lambda: [ONE])
    journal.returns(journal.call(two, CREATE, "add"), lambda: [TWO])
    again = rerun(journal.entries())
    root = again.lane(ROOT)
    lanes = [again.lane(root.child_name()) for _ in range(3)]
    assert [again.call(lane, CREATE, "add").runs for lane in lanes] == [(ONE,), (TWO,), None]


def test_a_creation_that_came_to_nothing_is_made_again() -> None:
    journal = Journal("the action")
    journal.returns(journal.call(journal.lane(ROOT), CREATE, "add"), lambda: None)
    again = rerun(journal.entries())
    call = again.call(again.lane(ROOT), CREATE, "add")
    assert call.runs is None
    again.returns(call, lambda: [TWO])
    assert again.entries().calls[0].runs == (TWO,)


@pytest.mark.parametrize(
    ("kind", "study", "message"),
    [
        (CREATE, "mult", "call 1 is create_task of study 'mult'; on record is create_task of"),
        (AWAIT, "add", "call 1 is an await on runs of study 'add'; on record is create_task of"),
    ],
)
def test_another_call_than_the_recorded_one_is_an_error(
    kind: str, study: str, message: str
) -> None:
    journal = rerun(first_segment()[1])
    with pytest.raises(ReplayError, match=f"the action was rerun, and its {message}"):
        journal.call(journal.lane(ROOT), kind, study)


def test_calls_that_are_missing_are_an_error() -> None:
    journal = rerun(first_segment()[1])
    root = journal.lane(ROOT)
    journal.call(root, CREATE, "add")
    with pytest.raises(ReplayError, match=r"call 2 is missing.* on record is an await on runs"):
        journal.check_done()
    journal.call(root, AWAIT, "add")
    journal.check_done()
