"""The pipeline example prints the expected results."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

EXAMPLE = Path(__file__).parents[2] / "examples" / "pipeline"


def test_the_pipeline_example_prints_its_results() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "main.py"],
        cwd=EXAMPLE,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # The averages are 5 and, with 11 for Bo, 8.
    assert done.stdout.splitlines() == [
        "Best of 2023",
        "Aki",
        "Cleo",
        "ran [0, 1, 2] skipped [0, 1, 2]",
        "2. TableModel: undecided: step 1 runs first",
        "  1. SelectModel: undecided: step 0 runs first",
        "    0. AverageModel: stale: scores has changed",
        "Best of 2023",
        "Bo",
        "ran [0, 1, 2, 0, 1, 2] skipped [0, 1, 2]",
    ]
    messages = [line.partition(" :: INFO :: ")[2] for line in done.stderr.splitlines()]
    assert messages[:2] == ["Running Step  0. seasons.steps.average.AverageModel...", "done."]
    assert messages[6] == "Skipped Step  0. seasons.steps.average.AverageModel."
