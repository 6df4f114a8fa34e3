"""The index of identities against a dictionary, with one client and with two."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from ZODB.POSException import ConflictError

from motoko.storage.identities import Identities, to_merge
from tests.support.identities import DIGESTS, INDEX, Client, empty_table, open_index, small_parts

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.property

digests = st.sampled_from(DIGESTS)
operations = st.one_of(
    st.tuples(st.sampled_from(["add", "remove"]), digests),
    st.tuples(st.sampled_from(["freeze", "step"]), st.none()),
)


def check(index: Identities, expected: Mapping[bytes, int]) -> None:
    assert index.items() == expected
    assert index.find(DIGESTS) == expected
    assert {digest: n for digest in DIGESTS if (n := index.get(digest))} == expected
    assert list(index.problems()) == []


@settings(deadline=None, max_examples=150)
@given(st.lists(operations, max_size=60))
def test_an_index_is_a_dictionary(done: list[tuple[str, bytes | None]]) -> None:
    index, expected = Identities(empty_table(), INDEX), dict[bytes, int]()
    with small_parts():
        for number, (what, digest) in enumerate(done, 1):
            if digest is None:
                index.freeze(0) if what == "freeze" else index.step(0)
            elif what == "add":
                index.add(digest, number)
                expected[digest] = number
            elif expected.pop(digest, None):
                index.remove(digest)
            check(index, expected)
        while index.step(0):
            check(index, expected)


@given(st.lists(st.one_of(st.none(), st.integers(1, 10**8)), max_size=40))
def test_merges_end_and_leave_few_sources(sizes: list[int | None]) -> None:
    """Each merge covers the newest sources, unless it makes a tree a part."""
    for _ in range(200):
        span = to_merge(sizes)
        if span is None:
            break
        start, stop = span
        assert stop == len(sizes) or sizes[start:stop] == [None]
        sizes[start:stop] = [sum(size or 1 for size in sizes[start:stop])]
    assert to_merge(sizes) is None
    assert len(sizes) <= 9 * len({len(str(size)) for size in sizes}) + 1 or not sizes


class TwoClients(RuleBasedStateMachine):
    """They add and remove in transactions of several changes, and move entries to parts."""

    clients = st.integers(0, 1)

    def __init__(self) -> None:
        super().__init__()
        self.resources = contextlib.ExitStack()
        self.resources.enter_context(small_parts())
        directory = self.resources.enter_context(tempfile.TemporaryDirectory())
        database = self.resources.enter_context(open_index(Path(directory) / "wf.db"))
        self.pair = [Client(database), Client(database)]
        for client in self.pair:
            self.resources.callback(client.close)
        self.committed: dict[bytes, int] = {}
        self.commits = self.number = 0
        self.views: list[dict[bytes, int]] = [{}, {}]
        self.changes: list[list[tuple[bytes, int | None]]] = [[], []]
        self.seen = [0, 0]
        self.moving = [False, False]  # a move of entries is a commit of its own

    @rule(who=clients, digest=digests)
    def create(self, who: int, digest: bytes) -> None:
        """Create a run, unless the client sees one with this identity."""
        assert self.pair[who].index.get(digest) == self.views[who].get(digest)
        if digest not in self.views[who] and not self.moving[who]:
            self.number += 1
            self.pair[who].index.add(digest, self.number)
            self.views[who][digest] = self.number
            self.changes[who].append((digest, self.number))

    @rule(who=clients, digest=digests)
    def delete(self, who: int, digest: bytes) -> None:
        if digest in self.views[who] and not self.moving[who]:
            self.pair[who].index.remove(digest)
            self.pair[who].root["runs"][digest]["changed"] = who  # as each deletion of a run
            del self.views[who][digest]
            self.changes[who].append((digest, None))

    @rule(who=clients, freeze=st.booleans())
    def move(self, who: int, freeze: bool) -> None:
        if not self.changes[who] and not self.moving[who]:
            index = self.pair[who].index
            index.freeze(0) if freeze else index.step(0)
            self.moving[who] = True

    @rule(who=clients)
    def commit(self, who: int) -> None:
        try:
            self.pair[who].commit()
        except ConflictError:
            assert self.seen[who] < self.commits, "a conflict with nobody"
        else:
            self.commits += 1
            for digest, number in self.changes[who]:
                if number is None:
                    del self.committed[digest]
                else:
                    assert digest not in self.committed, "a run was made twice"
                    self.committed[digest] = number
        self.begin(who)

    @rule(who=clients)
    def begin(self, who: int) -> None:
        self.pair[who].begin()
        self.seen[who] = self.commits
        self.views[who] = dict(self.committed)
        self.changes[who] = []
        self.moving[who] = False

    @invariant()
    def views_are_as_modelled(self) -> None:
        for client, view in zip(self.pair, self.views, strict=True):
            check(client.index, view)

    def teardown(self) -> None:
        self.resources.close()


TestTwoClients = TwoClients.TestCase
TestTwoClients.settings = settings(
    max_examples=30, stateful_step_count=30, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)  # fmt: skip
