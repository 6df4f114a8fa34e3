"""Products of concurrent sessions in separate processes."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from motoko.products import WorkflowProducts

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

SAVE = """
import sys
from motoko.products import WorkflowProducts
products = WorkflowProducts(products_dir=sys.argv[1])
for number in range(60):
    products.save(f"{sys.argv[2]}{number}", [number], cache_key=sys.argv[2])
    products.save("both", sys.argv[2] * 1000)
    products.remove(f"{sys.argv[2]}{number - 3}")
assert "numpy" not in sys.modules
"""


def test_concurrent_saves_lose_nothing(tmp_path: Path) -> None:
    sessions = [
        subprocess.Popen([sys.executable, "-c", SAVE, str(tmp_path), name]) for name in "ab"
    ]
    assert [session.wait(60) for session in sessions] == [0, 0]
    products = WorkflowProducts(products_dir=tmp_path)
    assert products.list() == sorted(
        ["both", *(f"{name}{number}" for name in "ab" for number in (57, 58, 59))]
    )
    assert all(products.load(f"{name}59") == [59] for name in "ab")
    assert products.load("both") in ("a" * 1000, "b" * 1000)
