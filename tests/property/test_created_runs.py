"""Numbers and ids of CREATED runs, by queue and holds, against a list of plain rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motoko.core.changes import CreateRun, EditHolds, EditRun
from motoko.core.edits import Cancel
from motoko.core.holds import AddHolds
from motoko.core.parameter_space import job_identity, run_identity
from motoko.core.records import RunKey, RunRecord
from motoko.storage.session import Session
from motoko.testing import empty_database

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.property

NAMES, GENERATORS, MACHINES = ("a", "b", "c"), ("", "bash", "slurm"), ("", "localhost", "far")
queues = st.tuples(st.sampled_from(GENERATORS), st.sampled_from(MACHINES))
names = st.sampled_from(NAMES)
ids = st.integers(1, 12)
# (run name, queue, cancelled) by id
rows = st.lists(st.tuples(names, queues, st.booleans()), max_size=12)
rules = st.lists(
    st.tuples(st.sampled_from([None, "s"]), st.sampled_from([None, *NAMES])), max_size=1
)


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    """A session whose changes are never committed."""
    database = empty_database(["s"])
    session = Session(database)
    yield session
    session.close()
    database.close()


def fill(session: Session, runs: list[Any], scopes: list[Any], single: set[int]) -> None:
    session.refresh()
    for number, (name, (generator, machine), cancelled) in enumerate(runs, 1):
        named = {"generator": generator, "machine_name": machine}
        job = {"x": number}
        record = RunRecord(
            study="s", id=number, job_id=number, run_name=name, job=job,
            options={key: value for key, value in named.items() if value},
            identity=run_identity("s", name, job, {}, 0),
        )  # fmt: skip
        session.add(CreateRun(record, job_identity(job)))
        if cancelled:
            session.add(EditRun(RunKey("s", number), Cancel(1.0, "test")))
    keys = [RunKey("s", number) for number in sorted(single)]
    session.add(EditHolds(AddHolds(0.0, "test", scopes, keys)))


@given(rows, rules, st.sets(ids), st.frozensets(queues), st.frozensets(names), st.integers(1, 3))
@settings(max_examples=100, deadline=None)
def test_created_runs_agree_with_a_list(
    session: Session,
    runs: list[Any],
    scopes: list[Any],
    single: set[int],
    served: frozenset[tuple[str, str]],
    without: frozenset[str],
    number: int,
) -> None:
    fill(session, runs, scopes, single)
    created = session.tables.created("s")
    waiting = [(i, name, queue) for i, (name, queue, gone) in enumerate(runs, 1) if not gone]
    held = {
        i
        for i, name, _ in waiting
        if i in single or any(rule in (None, name) for _, rule in scopes)
    }
    unheld = [row for row in waiting if row[0] not in held]
    for run_name in (None, *NAMES):
        of_name = [row for row in unheld if run_name in (None, row[1])]
        expected = {queue: 0 for _, _, queue in of_name}
        for _, _, queue in of_name:
            expected[queue] += 1
        assert created.count_unheld(run_name) == expected
        named = [i for i, name, _ in waiting if run_name in (None, name)]
        assert created.count_held(run_name) == len(held.intersection(named))
        found = created.ids(lambda *queue: queue in served, run_name=run_name, without=without)
        assert list(found) == [
            i for i, name, queue in of_name if queue in served and name not in without
        ]
        if run_name is not None:
            every = [i for i, _, _ in of_name]
            sample = every if len(every) <= 2 * number else every[:number] + every[-number:]
            assert created.sample(run_name, number) == sample
