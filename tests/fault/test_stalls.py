"""A short version of ``scripts/stall``: no false and no missed stall."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from motoko.orchestrator import stall
from tests.support.stalls import KINDS, Campaign, run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.fault


@pytest.mark.parametrize("kind", KINDS)
def test_a_workflow_is_not_stalled_before_its_last_action(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stall, "QUIET", 0.005)
    campaign = Campaign(kind, 61)
    run(tmp_path / kind, campaign)
    assert campaign.problem is None
