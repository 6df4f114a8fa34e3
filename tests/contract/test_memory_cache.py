"""A client's cache in memory answers like ZEO's own, which is a file."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ZEO.cache import ClientCache

from motoko.server.memory_cache import MemoryCache

pytestmark = pytest.mark.contract

SIZE = 4096  # so that objects are evicted


def number(value: int) -> bytes:
    return value.to_bytes(8, "big")


oids = st.integers(1, 12).map(number)
sizes = st.integers(0, 900)
steps = st.one_of(
    st.tuples(st.just("store"), oids, sizes),
    st.tuples(st.just("invalidate"), oids),
    st.tuples(st.just("load"), oids),
    st.tuples(st.just("before"), oids, st.integers(0, 40)),
    st.tuples(st.just("last")),
    st.tuples(st.just("clear")),
)


def apply(cache: Any, step: tuple[Any, ...], tid: int) -> Any:
    """Make one call, at most one with each ``tid``; return its answer."""
    kind, *rest = step
    if kind == "store":
        oid, size = rest
        cache.invalidate(oid, number(tid))
        return cache.store(oid, number(tid), None, bytes([tid % 256]) * size)
    if kind == "invalidate":
        return cache.invalidate(rest[0], number(tid))
    if kind == "load":
        return cache.load(rest[0])
    if kind == "before":
        return cache.loadBefore(rest[0], number(rest[1]))
    if kind == "last":
        cache.setLastTid(number(tid))
        return cache.getLastTid()
    return cache.clear()


@settings(max_examples=200)
@given(st.lists(steps, max_size=60))
def test_it_answers_like_a_file(calls: list[tuple[Any, ...]]) -> None:
    ours, theirs = MemoryCache(SIZE), ClientCache(None, SIZE)
    try:
        for tid, step in enumerate(calls, 1):
            assert apply(ours, step, tid) == apply(theirs, step, tid), step
            assert len(ours) == len(theirs)
            assert sorted(ours.contents()) == sorted(theirs.contents())
    finally:
        ours.close()
        theirs.close()


def test_it_has_no_file() -> None:
    before = os.listdir("/proc/self/fd")
    cache = MemoryCache(SIZE)
    cache.store(number(1), number(1), None, b"data")
    assert set(os.listdir("/proc/self/fd")) <= set(before)
    cache.close()
    with pytest.raises((AttributeError, ValueError)):
        cache.load(number(1))
