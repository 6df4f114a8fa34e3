"""Workflows reach their expected results although all processes are killed at random."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.chaos import KINDS, chaos

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.fault

KILLS = 40
SEED = 20


def test_random_kills_neither_lose_nor_repeat_work(tmp_path: Path) -> None:
    tally = chaos(KILLS, SEED, tmp_path)

    print(tally.report())
    assert tally.problems == []
    assert tally.lost == 0
    assert tally.kills.total() >= KILLS
    assert set(tally.kills) == KINDS
    assert tally.moments > 0
    assert tally.seen > 0
    assert tally.busy.total() > 0
