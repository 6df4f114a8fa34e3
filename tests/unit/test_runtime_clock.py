"""Clock times and their conversion to UTC."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from motoko.runtime.ports import Clock, SystemClock, utc

pytestmark = pytest.mark.unit


def test_times_are_seconds_since_the_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    clock: Clock = SystemClock()
    monkeypatch.setattr(time, "time", lambda: 5.0)
    assert clock.now() == 5.0


def test_a_time_in_utc_is_aware() -> None:
    assert utc(1_700_000_000.5) == datetime(2023, 11, 14, 22, 13, 20, 500_000, tzinfo=UTC)
    assert utc(0).utcoffset() is not None
