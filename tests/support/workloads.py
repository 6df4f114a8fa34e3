"""Workflows for chaos tests, with logging scripts and results that arithmetic predicts."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from motoko.workflow import Workflow

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
RETRIES = 100_000  # killed attempts are retried without limit
LOG = "executed"
GATE = "gate"
NOTE = """\
note() {{
    echo "$1 ${{MOTOKO_OUTBOX##*/.motoko-}} $MOTOKO_STUDY.$MOTOKO_RUN_ID $MOTOKO_ATTEMPT \
$MOTOKO_RUN_NAME" >>'{log}'
}}
note start
echo "out ${{MOTOKO_OUTBOX##*/.motoko-}}"
"""
WAIT = """\
while [ "$MOTOKO_JOB_X" -gt 1 ] && [ ! -e '{gate}' ]; do sleep 0.02; done
"""
# Writes the outbox directly, because motoko-worker takes ten times as long.
SQUARE = """\
sleep {seconds}
note middle
printf '\\n{{"t":0,"op":"set","field":"y","value":%s}}\\n' \
$((MOTOKO_JOB_X * MOTOKO_JOB_X)) >>"$MOTOKO_OUTBOX"
note end
"""
DOWN = "sleep {seconds}\nnote end\n"
FAN_OUT = """\
task_managers:
  src:
  down:
orchestrator: steps.main
max_concurrent: 4
retries: {retries}
keep: {keep}
"""


@dataclass(frozen=True)
class Workload:
    """A workflow directory, its arguments and its expected results."""

    directory: Path
    run_name: str
    arguments: tuple[str, ...]
    expected: Mapping[str, Any]
    runs: Mapping[str, int]
    once: tuple[str, ...] = ()

    @property
    def log(self) -> Path:
        """Return the scripts' log."""
        return self.directory / LOG

    @property
    def gate(self) -> Path:
        """Return the file for which all runs except the first wait, if there is a gate."""
        return self.directory / GATE


def make_fan_out(
    directory: Path,
    *,
    seconds: float = 0.01,
    gate: bool = False,
    database: bool = True,
    keep: str = "all",
) -> None:
    """Write the fan-out and fan-in; each run sleeps for the given seconds.

    ``gate``: all runs of ``src`` except the first wait until the file ``gate`` exists. Without
    ``database`` there is none yet.
    """
    directory.mkdir(parents=True)
    (directory / "motoko.yaml").write_text(FAN_OUT.format(retries=RETRIES, keep=keep))
    shutil.copy(Path(__file__).with_name("chaos_workflow.py"), directory / "steps.py")
    note = NOTE.format(log=directory / LOG)
    wait = WAIT.format(gate=directory / GATE) if gate else ""
    for study, script in (
        ("src", wait + SQUARE.format(seconds=seconds)),
        ("down", DOWN.format(seconds=seconds)),
    ):
        (directory / study).mkdir()
        (directory / study / "bd.yaml").write_text("job:\n  x: int\n")
        (directory / study / "launch.sh").write_text(note + script)
    if database:
        create(directory)


def fan_out(directory: Path, run_name: str, count: int) -> Workload:
    """Return one execution of the fan-out with the given number of runs."""
    total = sum(n * n for n in range(1, count + 1))
    return Workload(
        directory,
        run_name,
        ("--count", str(count)),
        {"forwarded": count, "total": total, "sum": total},
        {"src": count, "down": count},
        ("forward",),
    )


def make_arithmetic(directory: Path) -> None:
    """Copy the arithmetic example; its scripts log what they do."""
    ignored = shutil.ignore_patterns(".wf", "BD-*", "__pycache__")
    shutil.copytree(ROOT / "examples" / "arithmetic", directory, ignore=ignored)
    with (directory / "motoko.yaml").open("a") as file:
        file.write(f"retries: {RETRIES}\n")
    for study in ("mult", "add", "norm"):
        script = NOTE.format(log=directory / LOG) + "python doIt.py || exit\nnote end\n"
        (directory / study / "launch.sh").write_text(script)
    create(directory)


def arithmetic(directory: Path, run_name: str, first: float, second: float) -> Workload:
    """Return one execution of the arithmetic example."""
    sums = [first * 0.342 + 0.56, first * -2.31 + 0.56, second * 0.342 + 0.56]
    square = sum((a - b) ** 2 for a, b in zip(sums, (3.3, 2.34, 0.148), strict=True))
    return Workload(
        directory,
        run_name,
        ("--inputs", str(first), str(second)),
        {"result": [square, math.sqrt(square)]},
        {"mult": 4, "add": 3, "norm": 1},
    )


def create(directory: Path) -> None:
    """Create the workflow's database; its server keeps running."""
    workflow = Workflow(directory)
    try:
        workflow.create()
    finally:
        workflow.close()
