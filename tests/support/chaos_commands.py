"""Commands that are killed while a workflow runs, on runs that it does not need."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from motoko.workflow import Workflow
from tests.support import workflow_processes

if TYPE_CHECKING:
    import random
    from pathlib import Path

# Asks the server to pack all that is older than this many seconds.
PACK = """\
import sys
from pathlib import Path
from motoko.server.state_dir import StateDir
from motoko.storage.store import WorkflowStore
WorkflowStore(StateDir.of(Path(sys.argv[1])), {}).database.pack(keep=float(sys.argv[2]))
"""
KEEP = 5.0
SPARE = "spare"
RUNS = 12
FAR = 1_000_000  # their jobs differ from those of the workload
LONGEST = 1.5  # seconds until a command is killed; most end earlier
LONGEST_PACK = 0.3  # the same for the process that packs
TICK = 0.01
PATIENCE = 180.0
FREE = ("-n", SPARE, "--constraints", "id > 0")
COMMANDS = (
    ("create",),
    ("info", "--json"),
    ("info", "-n", SPARE),
    ("history", "-n", SPARE),
    ("retry", "--yes", *FREE),
    ("cancel", "--yes", *FREE),
    ("clean", "--delete", "--yes", *FREE),
    ("backup", "{backup}", "--validated"),
)


class Commands:
    """Starts commands on one workflow; ``study`` gets the spare runs."""

    def __init__(self, directory: Path, study: str, scratch: Path, rng: random.Random) -> None:
        self._directory = directory
        self._study = study
        self._rng = rng
        self._backup = scratch / f"{directory.name}.backup"
        self._output = scratch / "commands.log"

    def add_runs(self) -> None:
        """Create the runs that the commands may change."""
        workflow = Workflow(self._directory)
        workflow.run_name = SPARE
        try:
            first = FAR + self._rng.randrange(FAR)
            workflow.task_manager(self._study).create_task(x=list(range(first, first + RUNS)))
        finally:
            workflow.close()

    def kill_one(self) -> bool:
        """Start a command and kill it; return whether it was still running."""
        process = self._start(self._rng.choice(COMMANDS))
        time.sleep(self._rng.uniform(0, LONGEST))
        running = process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        return running

    def kill_packer(self) -> bool:
        """Request a pack and kill the process that packs; return whether it was running."""
        request = self._popen(["-c", PACK, str(self._directory), str(KEEP)])
        packer = None
        while packer is None and request.poll() is None:
            time.sleep(TICK)
            packer = workflow_processes.packer(self._directory)
        time.sleep(self._rng.uniform(0, LONGEST_PACK))
        running = packer is not None and workflow_processes.packer(self._directory) == packer
        killed = packer is not None and running and workflow_processes.send(packer, signal.SIGKILL)
        request.send_signal(signal.SIGKILL)
        request.wait()
        return killed

    def finish(self) -> list[str]:
        """Run the clean-up commands to their ends; return the remaining problems."""
        wrong = []
        for command in (("clean", "--delete", "--yes", *FREE), COMMANDS[-1], ("info", "--json")):
            status = self._start(command).wait(PATIENCE)
            if status != 0:
                text = self._output.read_text(errors="replace")[-1500:]
                wrong.append(f"motoko {' '.join(command)} ended with status {status}:\n{text}")
        workflow = Workflow(self._directory)
        workflow.run_name = SPARE
        try:
            left = workflow.task_manager(self._study).select().runs
        finally:
            workflow.close()
        wrong += [f"{run} is left" for run in left]
        return wrong

    def _start(self, command: tuple[str, ...]) -> subprocess.Popen[bytes]:
        arguments = [word.format(backup=self._backup) for word in command]
        return self._popen(["-m", "motoko", *arguments])

    def _popen(self, arguments: list[str]) -> subprocess.Popen[bytes]:
        with self._output.open("ab") as file:
            return subprocess.Popen(
                [sys.executable, *arguments],
                cwd=self._directory,
                env=os.environ,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
