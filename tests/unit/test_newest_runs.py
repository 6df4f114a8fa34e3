"""The newest runs, read from a part of the indexes."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from motoko.core.changes import DeleteRun, EditRun
from motoko.core.edits import Cancel
from motoko.core.records import RunKey
from motoko.storage.newest_runs import newest
from motoko.storage.session import Session
from motoko.testing import add_run, memory_store, study_config
from motoko.testing.memory import commit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from motoko.storage.study_table import StudyTable

pytestmark = pytest.mark.unit

RUNS = 700


@pytest.fixture(scope="module")
def table() -> Iterator[StudyTable]:
    """A stored table whose trees have several levels, in a fresh session that has read nothing."""
    store = memory_store({"a": study_config("a", {"x": "int"})})
    session = Session(store.database)
    rng = random.Random(1)
    for number in range(RUNS):
        add_run(session, "a", {"x": number}, run_name=rng.choice(["n", "n", "m"]))
    for number in rng.sample(range(1, RUNS + 1), 200):
        session.add(EditRun(RunKey("a", number), Cancel(1.0, "test")))
    for number in (1, 350, RUNS):
        session.add(DeleteRun(RunKey("a", number)))
    commit(store.database, session)
    session.close()
    fresh = Session(store.database)
    yield fresh.tables.study("a")
    fresh.close()
    store.close()


@pytest.mark.parametrize("run_name", [None, "n", "other"])
@pytest.mark.parametrize("states", [None, ["CREATED"], ["CREATED", "CANCELLED"], ["LOST"], []])
@pytest.mark.parametrize("bounds", [(None, None), (40, None), (None, 600), (300, 310), (9, 8)])
def test_newest_yields_the_same_ids_in_reverse(
    table: StudyTable,
    run_name: str | None,
    states: list[str] | None,
    bounds: tuple[int | None, int | None],
) -> None:
    low, high = bounds
    expected = table.ids(run_name, states=states, id_min=low, id_max=high)
    found = newest(table, run_name, states=states, id_min=low, id_max=high)
    assert list(found) == sorted(expected, reverse=True)
    expected = table.ids(run_name, lifecycles=states, id_min=low, id_max=high)
    found = newest(table, run_name, lifecycles=states, id_min=low, id_max=high)
    assert list(found) == sorted(expected, reverse=True)
