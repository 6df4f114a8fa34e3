"""A short version of ``scripts/stall``: no false verdict, and none missed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from motoko.orchestrator import stall
from tests.support.stalls import KINDS, Campaign, run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.fault


@pytest.mark.parametrize("kind", KINDS)
def test_a_workflow_whose_actions_follow_each_other_is_not_stalled_before_the_last(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stall, "QUIET", 0.005)
    campaign = Campaign(kind, 61)
    run(tmp_path / kind, campaign)
    assert campaign.problem is None
