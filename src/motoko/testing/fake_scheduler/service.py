"""The fake scheduler as programs in a directory for PATH, answered by a thread."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from motoko.runtime.processes import identify
from motoko.testing.fake_scheduler.cluster import Cluster
from motoko.testing.fake_scheduler.commands import NAMES, FakeCommands

if TYPE_CHECKING:
    from motoko.runtime.ports import CommandResult
    from motoko.testing.fake_scheduler.cluster import FakeTask

PROGRAM: Final = Path(__file__).with_name("program.sh")
TICK: Final = 0.02  # seconds
KILL_SECONDS: Final = 5.0
OWN_VARIABLES: Final = ("MOTOKO_READY_FD", "MOTOKO_FAULT", "MOTOKO_FAULT_LOG")


class LocalJobRunner:
    """Runs tasks as processes of this machine, with Slurm's variables.

    Like Slurm it copies the scripts, into the directory ``spool``.
    """

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        self._processes: dict[FakeTask, subprocess.Popen[bytes]] = {}
        self.started: list[FakeTask] = []

    def start(self, task: FakeTask) -> None:
        """Start a task's script."""
        job = task.job
        environment = {k: v for k, v in os.environ.items() if k not in OWN_VARIABLES}
        environment |= {"SLURM_JOB_ID": task.id, "SLURM_SUBMIT_DIR": job.directory}
        if task.index is not None:
            environment["SLURM_ARRAY_JOB_ID"] = job.id
            environment["SLURM_ARRAY_TASK_ID"] = str(task.index)
        if task.restarts:
            environment["SLURM_RESTART_COUNT"] = str(task.restarts)
        script = self._spool / f"script.{job.id}"
        if not script.exists():
            shutil.copyfile(job.script, script)
            script.chmod(0o700)
        with open(job.output, "ab") as output:
            self._processes[task] = subprocess.Popen(
                [script],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                cwd=job.directory,
                start_new_session=True,
            )
        self.started.append(task)

    def poll(self, task: FakeTask) -> tuple[int, int] | None:
        """Return exit code and signal of a task's script, None while it runs."""
        status = self._processes[task].poll()
        if status is None:
            return None
        return (status, 0) if status >= 0 else (0, -status)

    def stop(self, task: FakeTask) -> None:
        """Terminate a task's processes, and kill them soon after."""
        process = self._processes[task]
        for number, seconds in ((signal.SIGTERM, 0.5), (signal.SIGKILL, KILL_SECONDS)):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
                break

    def close(self) -> None:
        """Kill the remaining processes."""
        for process in self._processes.values():
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


class FakeScheduler:
    """A scheduler for one test. Put ``path`` into PATH, and change ``cluster`` under ``lock``.

    Submitted scripts run as processes of this machine::

        with FakeScheduler() as slurm:
            slurm.commands.plan("sbatch", FailureMode.HANGS)
            ...  # run commands with PATH=slurm.path
            with slurm.lock:
                slurm.cluster.cancel("1")

    ``options`` are the keyword arguments of `Cluster`.
    """

    def __init__(self, **options: Any) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="motoko-slurm-"))
        self.lock = threading.Lock()
        self.processes = LocalJobRunner(self.directory)
        self.cluster = Cluster(self.processes, time.time, **options)
        self.commands = FakeCommands(self.cluster)
        self._thread = threading.Thread(target=self._serve, name="fake-scheduler", daemon=True)
        self._stop = threading.Event()
        self.error: BaseException | None = None
        programs = self.directory / "bin"
        programs.mkdir()
        for name in NAMES:
            shutil.copyfile(PROGRAM, programs / name)
            (programs / name).chmod(0o755)
        os.mkfifo(self.directory / "calls", 0o600)

    @property
    def path(self) -> str:
        """The value of PATH that makes the programs available."""
        return f"{self.directory / 'bin'}:{os.environ.get('PATH', os.defpath)}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()
        self.processes.close()
        shutil.rmtree(self.directory, ignore_errors=True)
        if self.error is not None and exception[1] is None:
            raise self.error

    def _serve(self) -> None:
        # Open for writing too: otherwise the FIFO ends when a program closes it.
        calls = os.open(self.directory / "calls", os.O_RDWR | os.O_CLOEXEC)
        try:
            while not self._stop.is_set():
                ready, _, _ = select.select([calls], [], [], TICK)
                with self.lock:
                    self.cluster.advance()
                    names = os.read(calls, 65536).decode().split() if ready else []
                    answers = [(name, self._answer(name)) for name in names]
                for name, printed in answers:
                    self._reply(name, printed)
        except BaseException as error:  # noqa: BLE001 - __exit__ raises it again
            self.error = error
        finally:
            os.close(calls)

    def _answer(self, name: str) -> CommandResult:
        written = (self.directory / f"call.{name}").read_bytes().split(b"\0")[:-1]
        program, _, length, *arguments = [os.fsdecode(word) for word in written]
        return self.commands.call([program, *arguments], list_length=int(length))

    def _reply(self, name: str, printed: CommandResult) -> None:
        """Send a program its output and status; without a status it keeps waiting."""
        call = self.directory / f"call.{name}"
        for suffix, text in ((".out", printed.stdout), (".err", printed.stderr)):
            if text:
                call.with_suffix(call.suffix + suffix).write_text(text, encoding="utf-8")
        if printed.status is None:
            return
        fifo = call.with_suffix(call.suffix + ".status")
        while identify(int(name)) is not None:
            try:
                descriptor = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError:  # the program does not read yet
                time.sleep(0.001)
                continue
            os.write(descriptor, f"{printed.status}\n".encode())
            os.close(descriptor)
            return
