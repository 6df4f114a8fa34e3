"""Databases with a given number of runs: made once, copied for each row that needs one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from motoko.launcher.control import stop_launcher
from motoko.runtime.daemons import PidFile
from motoko.runtime.ports import SYSTEM
from motoko.runtime.processes import signal_process, wait_until_dead
from motoko.server.lifecycle import ensure_server, stop_server
from motoko.server.state_dir import StateDir
from support import make_workflow

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIENT = Path(__file__).with_name("client.py")
PLAIN = "async def main(workflow): pass\n"
BATCH = 10_000
WAITING = 1_000  # runs that stay CREATED when the others have ended
CREATED, ENDED, KILLED = "created", "ended", "killed"  # kinds of databases


class NoStateError(RuntimeError):
    """The database that a row needs could not be made in time."""


class TooSlowError(RuntimeError):
    """A client did not finish within the budget."""


def say(text: str) -> None:
    """Show progress."""
    print(f"  {text}", file=sys.stderr, flush=True)


class Place:
    """The databases for one number of runs, in a directory of their own.

    ``budget``: seconds that one client may take. ``smallest``: rows that do not depend on the
    number of runs are measured here only.
    """

    def __init__(self, directory: Path, runs: int, *, budget: float, smallest: bool) -> None:
        self.directory = directory
        self.runs = runs
        self.budget = budget
        self.smallest = smallest
        self.facts: dict[str, Any] = {}  # what the clients measured that made the databases
        for kind in (CREATED, ENDED):
            with suppress(FileNotFoundError):
                self.facts[kind] = json.loads((directory / f"{kind}.json").read_text())
        self._stack = ExitStack()
        self._served: Path | None = None
        self._faults: dict[str, str] = {}

    def close(self) -> None:
        """Stop the server that the reading rows share, and remove what is not kept."""
        self._stack.close()
        self._served = None

    def fresh(self) -> Path:
        """Make a directory, which is removed at the end."""
        path = Path(tempfile.mkdtemp(dir=self.directory))
        self._stack.callback(shutil.rmtree, path)
        return path

    @property
    def ended(self) -> int:
        """Return the number of runs that have ended in the database of that kind."""
        return self.runs - WAITING

    def client(self, work: str, directory: Path, *arguments: object) -> Any:
        """Run a new process; return what it measured. TooSlowError after the budget."""
        return run_client(sys.executable, work, directory, *arguments, budget=self.budget)

    def served(self) -> Path:
        """Return the workflow that reading rows share: all but WAITING runs have ended."""
        if self._served is None:
            self._served = self._stack.enter_context(self.copy(ENDED))
        return self._served

    @contextmanager
    def copy(self, kind: str, *, orchestrator: str = PLAIN, serve: bool = True) -> Iterator[Path]:
        """Make a workflow with a copy of the database of a kind; remove it at the end."""
        source = self._made(kind)
        target = self.directory / "copy"
        number = 0
        while target.exists():
            number += 1
            target = self.directory / f"copy{number}"
        workflow_files(target, orchestrator)
        state = StateDir.of(target)
        shutil.copytree(source, state.path)
        if serve:
            ensure_server(state)
        try:
            yield target
        finally:
            stop_launcher(state, stop_runs=True)
            stop_server(state)
            shutil.rmtree(target)

    def _made(self, kind: str) -> Path:
        """Return the directory with the files of a kind of database."""
        if kind in self._faults:
            raise NoStateError(self._faults[kind])
        if not (self.directory / kind).exists():
            try:
                (self._create if kind == CREATED else self._end)()
            except (TooSlowError, NoStateError) as error:
                self._faults[kind] = f"the database of {self.runs:,} runs ({kind}): {error}"
                raise NoStateError(self._faults[kind]) from error
        return self.directory / kind

    def _create(self) -> None:
        say(f"creating {self.runs:,} runs")
        directory = self.directory / "new"
        workflow_files(directory, PLAIN)
        state = StateDir.of(directory)
        try:
            self.facts[CREATED] = self.client("create", directory, self.runs, min(self.runs, BATCH))
        finally:
            stop_server(state)
        _keep(state, self.directory / CREATED)
        self._write_facts(CREATED)
        shutil.rmtree(directory)

    def _end(self) -> None:
        with self.copy(CREATED) as directory:
            say(f"ending {self.ended:,} runs")
            state = StateDir.of(directory)
            self.facts[ENDED] = self.client("end", directory, 1, self.ended)
            kill_server(state)
            _keep(state, self.directory / KILLED)
            ensure_server(state)
            stop_server(state)
            _keep(state, self.directory / ENDED)
            self._write_facts(ENDED)

    def _write_facts(self, kind: str) -> None:
        (self.directory / f"{kind}.json").write_text(json.dumps(self.facts[kind]))


def run_client(
    python: str, work: str, directory: Path, *arguments: object, budget: float, path: str = ""
) -> Any:
    """Run ``client.py`` with an interpreter, perhaps with another Motoko; return its figures."""
    command = [python, str(CLIENT), work, str(directory), *map(str, arguments)]
    try:
        done = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True, timeout=budget,
    env={**os.environ, "PYTHONPATH": path} if path else None,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise TooSlowError(f"{work} took more than {budget:.0f} s") from error
    return json.loads(done.stdout)


def workflow_files(directory: Path, orchestrator: str, *lines: str) -> None:
    """Write a workflow whose runs of the study ``mult`` do nothing."""
    make_workflow(directory, ("mult", "add"), orchestrator)
    (directory / "mult" / "doIt.py").write_text("pass\n")
    with (directory / "motoko.yaml").open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


def kill_server(state: StateDir) -> None:
    """Kill the server, which then has no time to write the index of its file."""
    record = PidFile(state.server_record)
    found = record.read()
    if found is not None and signal_process(found.process, signal.SIGKILL):
        wait_until_dead(record.owner_alive, 10.0, SYSTEM.clock)


def _keep(state: StateDir, target: Path) -> None:
    """Copy the database and what belongs to it."""
    target.mkdir(mode=0o700)
    for file in (state.database, *state.database_sidecars):
        if file.exists():
            shutil.copy(file, target)
