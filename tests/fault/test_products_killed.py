"""A session that is killed while saving leaves no partial product."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from motoko.errors import DamagedProductError
from motoko.products import WorkflowProducts

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.fault

SAVE = """
import sys, numpy
from motoko.products import WorkflowProducts
WorkflowProducts(products_dir=sys.argv[1]).save("x", numpy.full(50_000, 2.0), cache_key="new")
"""


@pytest.mark.parametrize("former", [True, False], ids=["replaced", "first"])
@pytest.mark.parametrize("fault", ["replacing", "manifest"])
def test_a_session_killed_while_saving(tmp_path: Path, fault: str, *, former: bool) -> None:
    products = WorkflowProducts(products_dir=tmp_path)
    if former:
        products.save("x", np.full(50_000, 1.0), cache_key="old")
    script = SAVE
    env = dict(os.environ)
    if fault == "replacing":
        env["MOTOKO_FAULT"] = "files.before_rename:kill"
    else:
        die = "lambda *_: os.kill(os.getpid(), 9)"
        script = f"import os\nfrom motoko.products.manifest import Manifest\nManifest.put = {die}\n"
        script += SAVE
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], env=env, check=False, timeout=60
    )
    assert done.returncode == -signal.SIGKILL

    there = WorkflowProducts(products_dir=tmp_path)
    if former and fault == "replacing":
        assert there.load("x")[0] == 1.0
        assert there.cache_key_for("x") == "old"
    elif former:
        # The file is new and complete, but the manifest has another digest.
        with pytest.raises(DamagedProductError, match="is not the file that was saved"):
            there.load("x")
    else:
        assert there.list() == []

    there.save("x", np.full(3, 3.0), cache_key="newest")
    assert there.load("x").tolist() == [3.0] * 3
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "manifest.yaml", "x.npz"]
