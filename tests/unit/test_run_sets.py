"""Sets of runs as bits behave like sets of keys."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motoko.core.records import RunKey
from motoko.core.run_sets import CHUNK, Holders, RunSet

pytestmark = pytest.mark.unit

STUDIES = ("mult", "add")
IDS = (1, CHUNK - 1, CHUNK, CHUNK + 1, 10 * CHUNK, 2**31 - 1)

keys = st.builds(RunKey, st.sampled_from(STUDIES), st.sampled_from(IDS))
edits = st.lists(st.tuples(st.sampled_from(["add", "discard"]), keys))


@given(edits=edits, more=st.lists(keys), fewer=st.lists(keys))
def test_a_run_set_has_the_runs_of_a_set(
    edits: list[tuple[str, RunKey]], more: list[RunKey], fewer: list[RunKey]
) -> None:
    found, expected = RunSet(), set[RunKey]()
    for method, key in edits:
        for one in (found, expected):
            getattr(one, method)(key)
    for given_keys in (more, RunSet(more)):
        found.update(given_keys)
    expected.update(more)
    found.difference_update(fewer)
    expected.difference_update(fewer)

    assert list(found) == sorted(expected)
    assert len(found) == len(expected)
    assert [RunKey(study, i) in found for study in STUDIES for i in IDS] == [
        RunKey(study, i) in expected for study in STUDIES for i in IDS
    ]


@given(
    edits=st.lists(st.tuples(st.sampled_from("ab"), st.booleans(), st.lists(keys), st.booleans()))
)
def test_holders_are_the_events_that_hold_a_run(
    edits: list[tuple[str, bool, list[RunKey], bool]],
) -> None:
    found, expected = Holders(), set[tuple[str, RunKey]]()
    for name, holds, some, together in edits:
        if holds:
            found.add(name, RunSet(some) if together else some)
            expected.update((name, key) for key in some)
        else:
            for key in some:
                found.discard(name, key)
                expected.discard((name, key))

    for key in (RunKey(study, run_id) for study in STUDIES for run_id in IDS):
        assert sorted(found.names(key)) == [name for name in "ab" if (name, key) in expected]


def test_neighbouring_runs_take_a_few_bytes_each() -> None:
    number = 10_000
    found = RunSet(RunKey("mult", run_id) for run_id in range(1, number + 1))

    chunks = dict(found.chunks())
    items = sum(sys.getsizeof(place) + sys.getsizeof(bits) for place, bits in chunks.items())
    assert sys.getsizeof(chunks) + items < 4 * number
