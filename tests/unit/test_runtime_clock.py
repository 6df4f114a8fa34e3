"""The clock."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from motoko.runtime.clock import Clock, SystemClock, now, utc

pytestmark = pytest.mark.unit


def test_times_are_seconds_since_the_epoch() -> None:
    clock: Clock = SystemClock()
    before = time.time()
    times = [clock.now(), now()]
    assert all(before <= moment <= time.time() for moment in times)


def test_a_time_in_utc_is_aware() -> None:
    assert utc(1_700_000_000.5) == datetime(2023, 11, 14, 22, 13, 20, 500_000, tzinfo=UTC)
    assert utc(0).utcoffset() is not None
