"""Record the start and the end of an execution in ``.wf/ends``."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
import signal
import sys
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from motoko.errors import ExitStatus, MotokoError, RunFailed, WorkflowStalled
from motoko.orchestrator.error_summary import single_exception, status_of, summary
from motoko.orchestrator.run_ends import (
    Ending,
    EndKind,
    encode_end,
    end_file,
    read_execution,
)
from motoko.runtime.file_lock import lock_for_process_lifetime
from motoko.runtime.files import file_identity, private_directory, write_atomic
from motoko.runtime.processes import current

if TYPE_CHECKING:
    from collections.abc import Callable

    from motoko.storage.store import WorkflowStore

VERSION: Final = 1
RESERVED: Final = 8192  # bytes in the record for the end, which a full disk thus does not prevent
COMMAND: Final = 1000  # characters of a command line
FULL: Final = (errno.ENOSPC, errno.EDQUOT)

logger = logging.getLogger("motoko.orchestrator")


@dataclass(frozen=True, slots=True)
class Origin:
    """The command that executes a workflow; by default a Python program.

    ``alone``: its process exits with the execution. ``log``: the name of its log in ``.wf/logs``.
    """

    command: tuple[str, ...] = field(default_factory=lambda: tuple(sys.orig_argv))
    alone: bool = False
    detached: bool = False
    log: str | None = None


def ending_of(error: BaseException | None, failed: int = 0) -> Ending:
    """Return the end for the exception that ended an execution, None if it finished.

    ``failed`` is the number of failed runs, which are all handled if the execution finished.
    """
    if error is None:
        runs = "1 failed run was" if failed == 1 else f"{failed} failed runs were"
        return Ending(EndKind.FINISHED, 0, f"finished; {runs} handled" if failed else "finished")
    if isinstance(error, KeyboardInterrupt):
        return interrupted_by(signal.SIGINT)
    if isinstance(error, asyncio.CancelledError):
        return Ending(EndKind.INTERRUPTED, ExitStatus.ERROR, "cancelled by the program")
    single = single_exception(error)
    if isinstance(single, WorkflowStalled):
        kind = EndKind.STALLED
    else:
        kind = EndKind.FAILED if isinstance(single, RunFailed) else EndKind.ERROR
    return Ending(kind, status_of(single), summary(single))


def interrupted_by(number: int) -> Ending:
    """Return the end of an execution that a signal stopped."""
    return Ending(EndKind.INTERRUPTED, 128 + number, f"stopped by {signal.Signals(number).name}")


class EndRecorder:
    """Records one execution. It raises no error, because a more important one may follow.

    ``on_alive`` is called when the start is recorded, and now and then while the process is alive.
    """

    def __init__(
        self,
        store: WorkflowStore,
        run_name: str,
        origin: Origin,
        *,
        on_alive: Callable[[], object] = lambda: None,
    ) -> None:
        self._store = store
        self._state = store.state
        self._run_name = run_name
        self._origin = origin
        self._on_alive = on_alive
        self._file = end_file(store.state, run_name)
        self._token = store.runtime.rng.token(8)
        self._home: int | None = None  # the state directory at the start
        self._content: dict[str, Any] | None = None
        self._ending: Ending | None = None
        self._written = False
        self._locked: int | None = None

    def start(self) -> None:
        """Record the start. Call it while the lease of the run name is held."""
        if not self._state.path.is_dir():
            return  # a database in memory
        self._home = file_identity(self._state.path)
        with self._reporting("start"):
            former = read_execution(self._file)
            now = self._store.now()
            previous = None if former is None else former.end(now) or former.previous
            self._content = {
                "version": VERSION,
                "run_name": self._run_name,
                "token": self._token,
                "process": asdict(current()),
                "home": file_identity(private_directory(self._state.ends)),
                "started": now,
                "command": _shortened(self._origin.command),
                "detached": self._origin.detached,
                "alone": self._origin.alone,
                "log": self._origin.log,
                "end": None,
                "previous": encode_end(previous),
            }
            write_atomic(self._file, self._data(), durable=True, prepare=self._keep_locked)
            self._written = True
        if self._written:
            self._on_alive()

    def renew(self) -> None:
        """Record that the process is alive."""
        if self._written:
            with contextlib.suppress(OSError):
                os.utime(self._file)
            self._on_alive()

    def end(self, ending: Ending) -> None:
        """Record the end, or correct it, unless another execution has recorded its start."""
        if self._content is None or ending == self._ending or not self._is_own():
            return
        self._ending = ending
        self._content["end"] = {**asdict(ending), "time": self._store.now()}
        with self._reporting("end"):
            try:
                write_atomic(self._file, self._data(), durable=True)
            except OSError as error:
                if error.errno not in FULL or not self._written:
                    raise
                self._overwrite()
        self._unlock()

    @contextlib.contextmanager
    def _reporting(self, what: str) -> Any:
        try:
            yield
        except (MotokoError, OSError) as error:
            logger.warning("cannot record the %s of run name %r: %s", what, self._run_name, error)

    def _is_own(self) -> bool:
        try:
            if file_identity(self._state.path) != self._home:
                return False  # moved or removed, and perhaps created again
        except OSError:
            return False
        found = read_execution(self._file)
        return not self._written or (found is not None and found.token == self._token)

    def _data(self) -> bytes:
        return json.dumps(self._content).encode() + b" " * RESERVED

    def _overwrite(self) -> None:
        """Write the end into the blocks that the file has already."""
        descriptor = os.open(self._file, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            room = os.fstat(descriptor).st_size
            os.pwrite(descriptor, self._data()[:room], 0)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _keep_locked(self, descriptor: int) -> None:
        self._locked = lock_for_process_lifetime(descriptor)

    def _unlock(self) -> None:
        descriptor, self._locked = self._locked, None
        if descriptor is not None:
            os.close(descriptor)


def _shortened(command: tuple[str, ...]) -> list[str]:
    """Return a command line of limited length."""
    kept: list[str] = []
    left = COMMAND
    for word in command:
        if left <= 0:
            return [*kept, "..."]
        kept.append(word[:left])
        left -= len(word) + 1
    return kept
