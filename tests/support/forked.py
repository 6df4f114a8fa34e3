"""Child processes that start with all imports done.

They are forked from a process that did the imports once. Otherwise they equal what ``python -m``
starts: with a pid, a directory, an environment, signals and an exit status. Variables that Python
itself reads at its start (``PYTHONIOENCODING``) have no effect.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from multiprocessing.context import ForkServerContext

# Modules that Motoko imports while it runs; none of them starts threads.
IMPORTS = (
    "anyio._backends._asyncio",
    "motoko.cli.entry_point",
    "motoko.cli.progress",
    "motoko.cli.tables",
    "motoko.launcher.workflow_creation",
    "motoko.launcher.launcher",
    "motoko.operations.backup",
    "motoko.operations.bulk_edit",
    "motoko.operations.history",
    "motoko.operations.clean",
    "motoko.operations.overview",
    "motoko.operations.execute",
    "motoko.operations.launcher_supervisor",
    "motoko.orchestrator.execution",
    "motoko.api.workflow",
    "tests.support.process",
)


class Forked:
    """A process that calls ``main(arguments)``; used as ``subprocess.Popen`` is.

    ``output``: the file that gets what it prints; without one, ``communicate`` returns that.
    ``session``: it leads a session of its own.
    """

    def __init__(
        self,
        main: Callable[[list[str]], int],
        arguments: Sequence[str],
        *,
        directory: Path,
        environment: Mapping[str, str],
        output: Path | None = None,
        session: bool = False,
    ) -> None:
        self.args = list(arguments)
        # Keep no file open: its collection together with this object would warn.
        self._kept = [] if output else [_kept_until_read(self), _kept_until_read(self)]
        outputs = [str(output)] * 2 if output else [str(kept) for kept in self._kept]
        self._process = _context().Process(
            target=_run,
            args=(main, self.args, str(directory), dict(environment), outputs, session),
            daemon=True,  # otherwise pytest would wait for a process that does not end
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        """Return the exit status, None while it runs."""
        return self._process.exitcode

    def errors(self) -> str:
        """Return its standard error so far (without ``output``)."""
        return self._kept[1].read_text(encoding="utf-8", errors="replace")

    def poll(self) -> int | None:
        """Return the exit status, None while it runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, and return the exit status."""
        self._process.join(timeout)
        status = self.returncode
        if status is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return status

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end; return standard output and standard error."""
        self.wait(timeout)
        out, err = (kept.read_text(encoding="utf-8") for kept in self._kept)
        return out, err

    def send_signal(self, number: signal.Signals) -> None:
        """Signal it, if it runs."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


def _kept_until_read(process: Forked) -> Path:
    """Return a file for output that is removed with the process object."""
    descriptor, name = tempfile.mkstemp()
    os.close(descriptor)
    weakref.finalize(process, Path(name).unlink, missing_ok=True)
    return Path(name)


@functools.cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(IMPORTS))
    return context


def _run(
    main: Callable[[list[str]], int],
    arguments: list[str],
    directory: str,
    environment: dict[str, str],
    outputs: list[str],
    session: bool,
) -> None:
    if session:
        os.setsid()
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    for number, path in enumerate([os.devnull, *outputs]):
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.path.insert(0, directory)
    sys.dont_write_bytecode = True  # modules rewritten within a second are reloaded
    sys.exit(main(arguments))
