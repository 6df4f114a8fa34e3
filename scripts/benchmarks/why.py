"""The time of ``motoko why`` in a workflow with 100,000 runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from motoko.core.changes import EditRun
from motoko.core.edits import Claim, EndAttempt, SetFields
from motoko.core.records import RunKey
from motoko.core.states import Lifecycle
from motoko.orchestrator.status_file import read_status
from motoko.server.lifecycle import stop_server
from support import Row, best, make_workflow, opened, timed

if TYPE_CHECKING:
    from motoko.workflow import Workflow

RUNS, BATCH, REPEATS = 100_000, 5_000, 7
NAME = "bench"
ORCHESTRATOR = """
async def act(workflow, runs):
    pass

async def main(workflow):
    workflow.add_action("far", "mult", "state = FINISHED and y > 5", f=act)
    workflow.add_action("mixed", "mult", "y > 5, state = FINISHED, x > 3", f=act)
    await workflow.mult.select("state = NEVER")
"""
MODULES = """
import contextlib, io, json, sys
from motoko.cli.entry_point import run
with contextlib.redirect_stdout(io.StringIO()):
    run(sys.argv[1:])
print(json.dumps([name for name in sys.modules if name != "__main__"]))
"""
IMPORTS = """
import contextlib, importlib, sys
for name in sys.argv[1].split():
    with contextlib.suppress(ImportError):  # an attribute of another module
        importlib.import_module(name)
"""


def measure() -> list[Row]:
    """Measure the explanation of a run and of events, with a running server and without one."""
    with tempfile.TemporaryDirectory() as name:
        directory = make_workflow(Path(name), ("mult",), ORCHESTRATOR)
        with opened(directory, NAME) as workflow:
            _fill(workflow)
            _publish_events(workflow, directory)
            rows = _rows(directory, "with a server")
            workflow.close()
            stop_server(workflow.store.state)
            return rows + _rows(directory, "without a server")


def _fill(workflow: Workflow) -> None:
    """Create the runs, and end nine of ten of them, with a field ``y`` below 1."""
    for start in range(0, RUNS, BATCH):
        workflow.mult.create_task(x=[float(n) for n in range(start, start + BATCH)])
    for start in range(0, RUNS, BATCH):
        changes = []
        for number in range(start + 1, start + BATCH + 1):
            if number % 10:
                key, token = RunKey("mult", number), f"t{number}"
                outcome = Lifecycle.FAILED if number % 100 == 3 else Lifecycle.FINISHED
                edits = (
                    Claim("host-1-abcd", token, 1.0),
                    SetFields({"y": number % 1000 / 1000}),
                    EndAttempt(token, outcome, 2.0, "launcher", 0),
                )
                changes += [EditRun(key, edit) for edit in edits]
        workflow.store.autocommit_scope.write(*changes)


def _publish_events(workflow: Workflow, directory: Path) -> None:
    """Run the orchestrator until it has published its events; kill it."""
    command = [sys.executable, "-m", "motoko", "orchestrator", "start", "--run_name", NAME]
    process = subprocess.Popen(command, cwd=directory, stderr=subprocess.DEVNULL)
    while (status := read_status(workflow.store.state, NAME)) is None or len(status.events) < 2:
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()


def _rows(directory: Path, condition: str) -> list[Row]:
    rows = []
    for word in ("mult.7", "far", "mixed"):
        command = ["why", word, "--run_name", NAME] if "." not in word else ["why", word]
        imports = _imports(directory, command)
        whole = best(lambda c=command: _timed(directory, ["-m", "motoko", *c]), REPEATS)
        seconds = whole - imports
        rows.append(
            Row(
                f"motoko why {word}, {RUNS:,} runs, {condition}",
                f"{seconds * 1000:.0f} ms beyond imports ({imports * 1000:.0f} ms)",
                "<= 150 ms",
                seconds <= 0.15,
            )
        )
    return rows


def _imports(directory: Path, command: list[str]) -> float:
    """Return the seconds to import the modules that a command imports."""
    printed = subprocess.run(
        [sys.executable, "-c", MODULES, *command],
        cwd=directory, check=True, capture_output=True, text=True,
    )  # fmt: skip
    names = " ".join(json.loads(printed.stdout))
    return best(lambda: _timed(directory, ["-c", IMPORTS, names]), REPEATS)


def _timed(directory: Path, arguments: list[str]) -> float:
    command = [sys.executable, *arguments]
    with open(os.devnull, "w") as null:
        return timed(lambda: subprocess.run(command, cwd=directory, check=True, stdout=null))
