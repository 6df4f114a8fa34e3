"""Results of 10,000 runs: as a data frame, beside signac's, and as CSV."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from motoko.core.changes import EditRun
from motoko.core.edits import ApplyOutbox, Claim, EndAttempt, MarkStarted
from motoko.core.records import RunKey
from motoko.core.states import Lifecycle
from motoko.server.lifecycle import stop_server
from support import Row, best, make_workflow, opened, timed

if TYPE_CHECKING:
    from motoko.workflow import Workflow

RUNS = 10_000
COLUMNS = ["id", "x", "y", "name", "ok", "n", "state", "attempt", "created", "duration"]
PEER = "SIGNAC_PYTHON"  # an interpreter with signac

SIGNAC = """
import contextlib, io, sys, time
import signac
with contextlib.redirect_stderr(io.StringIO()):
    project = signac.init_project(sys.argv[1])
    for i in range(int(sys.argv[2])):
        job = project.open_job({"x": float(i), "n": i, "name": f"n{i}", "ok": True, "mesh": 3})
        job.init()
        job.doc.update({"y": i / 2, "label": f"l{i}", "a": 1, "b": 2.0, "c": True})
    project.update_cache()
    def frame():
        begin = time.perf_counter()
        found = project.to_dataframe()
        assert found.shape == (int(sys.argv[2]), 10), found.shape
        return time.perf_counter() - begin
    times = [frame() for _ in range(6)]
print(times[0], sorted(times[1:])[2])
"""

COLD = """
import sys, time
import pandas
from motoko.workflow import Workflow
begin = time.perf_counter()
workflow = Workflow(sys.argv[1], read_only=True)
frame = workflow.mult.frame(columns=sys.argv[2].split(","))
assert frame.shape == (10_000, 10), frame.shape
print(time.perf_counter() - begin)
"""

COMMAND = """
import sys
from motoko.cli import main
status = main(sys.argv[2:])
sys.stdout.flush()
if sys.argv[1] != "-":
    open(sys.argv[1], "w").write("\\n".join(m for m in sys.modules if m.isidentifier() or "." in m))
sys.exit(status)
"""
IMPORTS = """
import importlib, sys
for name in open(sys.argv[1]).read().split():
    if name != "__main__":
        importlib.import_module(name)
"""


def measure() -> list[Row]:
    """Measure frames and CSV of 10,000 runs, warm, cold, and with or without a server."""
    with tempfile.TemporaryDirectory() as name:
        directory = make_workflow(Path(name) / "w", ("mult",), "async def main(workflow): pass\n")
        (directory / "mult" / "bd.yaml").write_text(
            "study: mult\njob: {x: float, n: int}\nrun: {y: float, name: str, ok: bool}\n"
        )
        with opened(directory) as workflow:
            _fill(workflow)
            workflow.mult.frame(columns=COLUMNS)
            warm = best(lambda: timed(lambda: workflow.mult.frame(columns=COLUMNS)), 7)
            cold = best(lambda: _seconds(COLD, str(directory), ",".join(COLUMNS)))
            served = _csv(directory, Path(name))
            stop_server(workflow.store.state)
            alone = _csv(directory, Path(name))
        peer, note = _signac(Path(name) / "signac")
    return [
        Row(
            f"frame of {RUNS:,} runs, 10 columns, warm",
            f"{warm:.2f} s, in a new process {cold:.2f} s; {note}",
            "<= 0.3 s, <= signac",
            warm <= 0.3 and (peer is None or warm <= peer),
        ),
        Row(
            f"motoko results --format csv of {RUNS:,} runs, beyond imports",
            f"{served:.2f} s, without a server {alone:.2f} s",
            "<= 0.6 s",
            served <= 0.6 and alone <= 0.6,
        ),
    ]


def _fill(workflow: Workflow) -> None:
    """Create and end the runs, a tenth of them FAILED."""
    workflow.mult.create_task(x=[float(i) for i in range(RUNS)], n=3)
    for start in range(1, RUNS + 1, 1000):
        changes = []
        for run_id in range(start, start + 1000):
            key, token = RunKey("mult", run_id), f"t{run_id}"
            fields = {"y": run_id / 2, "name": f"n{run_id}", "ok": True}
            outcome = Lifecycle.FINISHED if run_id % 10 else Lifecycle.FAILED
            changes += [
                EditRun(key, Claim("bench", token, 1.0)),
                EditRun(key, MarkStarted(token, 2.0, "bench", (1, 2, "boot", 3, "host"))),
                EditRun(key, ApplyOutbox(token, 9, 3.0, fields)),
                EditRun(key, EndAttempt(token, outcome, 4.0, "bench", int(run_id % 10 == 0))),
            ]
        workflow.store.autocommit_scope.write(*changes)


def _csv(directory: Path, scratch: Path) -> float:
    """Return the seconds that the command takes beyond its imports."""
    modules = scratch / "modules"
    command = ("results", "mult", "--format", "csv", "--workflow", str(directory))
    _run(COMMAND, str(modules), *command)
    whole = best(lambda: timed(lambda: _run(COMMAND, "-", *command)), 7)
    imports = best(lambda: timed(lambda: _run(IMPORTS, str(modules))), 7)
    return whole - imports


def _signac(directory: Path) -> tuple[float | None, str]:
    """Return the seconds of signac's data frame, None if it is not installed, and a note."""
    python = os.environ.get(PEER, sys.executable)
    directory.mkdir()
    if subprocess.run([python, "-c", "import signac"], check=False, capture_output=True).returncode:
        return None, f"signac is not installed (name an interpreter that has it in ${PEER})"
    done = subprocess.run(
        [python, "-c", SIGNAC, str(directory), str(RUNS)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    first, warm = map(float, done.stdout.split())
    return warm, f"signac {warm:.2f} s, the first time {first:.2f} s"


def _seconds(script: str, *arguments: str) -> float:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], check=True, capture_output=True, text=True
    )
    return float(done.stdout)


def _run(script: str, *arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-c", script, *arguments], check=True, stdout=subprocess.DEVNULL
    )
