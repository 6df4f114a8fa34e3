"""Tasks wait for many runs with a few bytes for each of them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motoko.core.records import RunKey
from motoko.core.run_keys import AwaitedRuns, RunKeys
from motoko.core.states import Lifecycle
from motoko.orchestrator.run_waiter import EndedRun, RunWaiter, WaiterIndex
from motoko.printable import join_names
from motoko.storage import awaited_ends
from motoko.storage.awaited_ends import read_ends
from motoko.storage.query import query_database
from motoko.storage.session import Session
from motoko.testing import add_run, empty_database
from motoko.testing.memory import commit, finish_run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from motoko.core.records import RunRecord
    from motoko.storage.database import Database

pytestmark = pytest.mark.unit

IDS = st.lists(st.integers(1, 400), max_size=30)


def keys(*ids: int) -> list[RunKey]:
    return [RunKey("s", run_id) for run_id in ids]


# -- many keys -----------------------------------------------------------------------------------


@given(IDS, st.slices(30))
def test_keys_behave_as_a_list_of_them(ids: list[int], part: slice) -> None:
    expected, found = keys(*ids), RunKeys("s", ids)
    assert list(found) == expected
    assert found == expected == [*reversed(list(reversed(found)))]
    assert found[part] == expected[part]
    assert len(found) == len(expected)
    assert RunKeys.of("s", expected) == found == RunKeys.of("s", found)
    assert (found == [*expected, RunKey("s", 1)]) is False
    assert (RunKeys("t", ids) == found) is False
    with pytest.raises(IndexError):
        found[len(ids)]


@given(IDS, IDS)
def test_awaited_runs_behave_as_a_set(ids: list[int], ended: list[int]) -> None:
    expected, awaited = set(ids), AwaitedRuns(keys(*ids))
    for run_id in ended:
        assert awaited.take(run_id) is (run_id in expected)
        expected.discard(run_id)
        assert awaited.had(run_id) is (run_id in ids)
        assert list(awaited) == keys(*sorted(expected))
        assert list(awaited.remaining_ids()) == sorted(expected)
        assert len(awaited) == len(expected)


def test_names_of_a_sized_collection_are_counted_without_making_them_all() -> None:
    awaited = AwaitedRuns(RunKeys("s", range(1, 1001)))
    assert join_names(awaited, 2) == "s.1, s.2 and 998 more"
    assert join_names(iter(keys(1, 2, 3)), 2) == "s.1, s.2 and 1 more"
    assert join_names(keys(1, 2), 2) == "s.1, s.2"


# -- the index of waiters ------------------------------------------------------------------------


@given(st.lists(st.lists(st.integers(1, 1000), min_size=1, max_size=5), max_size=6))
def test_the_index_finds_the_waiters_of_each_run(groups: list[list[int]]) -> None:
    index = WaiterIndex()
    waiters = [RunWaiter(keys(*ids)) for ids in groups]
    for waiter in waiters:
        index.add(waiter)
    checked = {1, 128, 1000}.union(*groups)
    for run_id in checked:
        found = index.of_run(RunKey("s", run_id))
        assert {*found} == {w for w, ids in zip(waiters, groups, strict=True) if run_id in ids}
        assert index.of_run(RunKey("other", run_id)) == []
    for waiter in waiters:
        index.remove(waiter)
    assert not index.waiters
    assert all(index.of_run(RunKey("s", run_id)) == [] for run_id in checked)


# -- the ends of runs ----------------------------------------------------------------------------

OUTCOMES = {2: Lifecycle.FINISHED, 3: Lifecycle.FAILED, 5: Lifecycle.FINISHED, 6: Lifecycle.TIMEOUT}
ENDS = [6, 5, 3, 2]  # in the order of their ends


@pytest.fixture
def database() -> Iterator[Database]:
    with contextlib.closing(empty_database(["s"])) as database:
        with contextlib.closing(Session(database)) as session:
            for n in range(8):
                add_run(session, "s", {"x": float(n)})
            for at, run_id in enumerate(ENDS):
                outcome = OUTCOMES[run_id]
                finish_run(session, RunKey("s", run_id), "t", outcome, at=100.0 + at)
            commit(database, session)
        yield database


@pytest.fixture(params=["records", "indexes"])
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "indexes":
        monkeypatch.setattr(awaited_ends, "BULK", 0)


async def receive(waiter: RunWaiter, number: int) -> list[EndedRun | None]:
    async with asyncio.timeout(10):
        return [await waiter.next() for _ in range(number)]


@pytest.mark.usefixtures("_way")
def test_ended_runs_arrive_in_the_order_of_their_ends(database: Database) -> None:
    async def main() -> None:
        waiter = RunWaiter(keys(6, 5, 4, 3, 2))
        wanted = waiter.awaited.remaining_ids()
        waiter.on_ends(query_database(database, lambda s: read_ends(s, "s", wanted)))
        ended = [one for one in await receive(waiter, 4) if one]
        assert [one.key.id for one in ended] == ENDS
        failed = [one.failure.id for one in ended if one.failure]
        assert failed == [6, 3]
        assert list(waiter.awaited) == keys(4)

    asyncio.run(main())


@pytest.mark.usefixtures("_way")
def test_a_waiter_for_failures_gets_no_others_and_ends_with_the_last_run(
    database: Database,
) -> None:
    async def main() -> None:
        waiter = RunWaiter(keys(2, 3, 4, 5, 6), failures_only=True)
        receiving = asyncio.create_task(receive(waiter, 3))
        await asyncio.sleep(0)
        wanted = waiter.awaited.remaining_ids()
        waiter.on_ends(
            query_database(database, lambda s: read_ends(s, "s", wanted, failures_only=True))
        )
        await asyncio.sleep(0)
        assert not receiving.done()
        waiter.on_end(4, None)
        received = await receiving
        assert [one and one.key.id for one in received] == [6, 3, None]

    asyncio.run(main())


def test_a_record_counts_once_and_only_in_a_terminal_state(database: Database) -> None:
    def records(session: Session) -> Sequence[RunRecord]:
        return [session.run(key) for key in keys(1, 2, 2, 7)]

    async def main() -> None:
        waiter = RunWaiter(keys(1, 2))
        for record in query_database(database, records):
            waiter.on_record(record)
        assert waiter.take_ended() == EndedRun(RunKey("s", 2), None)
        assert waiter.take_ended() is None
        assert list(waiter.awaited) == keys(1)

    asyncio.run(main())


def test_nothing_to_await_ends_at_once() -> None:
    assert asyncio.run(receive(RunWaiter([]), 1)) == [None]
