"""Run the notifier of a workflow until nothing is left to do."""

from __future__ import annotations

import logging
import signal
import threading
from functools import partial
from typing import TYPE_CHECKING, Final

from motoko.config import load_workflow
from motoko.errors import ConfigError, MotokoError
from motoko.notifier.notifier import Notifier
from motoko.notifier.sending import send
from motoko.notifier.watched import watched_executions
from motoko.runtime.daemons import PidFile
from motoko.runtime.file_lock import FileLock
from motoko.runtime.ports import SYSTEM
from motoko.server.state_dir import StateDir
from motoko.server.state_dir_guard import StateDirGuard
from motoko.storage.store import WorkflowStore
from motoko.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from motoko.config.notify_targets import NotifyTarget
    from motoko.runtime.ports import Runtime

LOCK_SECONDS: Final = 1.0  # longer than another process tests the lock
FINISH_SECONDS: Final = 3.0  # for notifications that are being sent at the end

log = logging.getLogger(__name__)


class TargetFile:
    """The targets in ``motoko.yaml``, read again when it changes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._targets: tuple[NotifyTarget, ...] = ()
        self._version: tuple[int, int, int] | None = None

    def read(self) -> tuple[NotifyTarget, ...]:
        """Return the targets; those before while the file is invalid."""
        try:
            found = (self._directory / "motoko.yaml").stat()
            version = (found.st_mtime_ns, found.st_ino, found.st_size)
            if version != self._version:
                self._version = version
                self._targets = load_workflow(self._directory, studies=False).notify
        except (ConfigError, OSError) as error:
            log.warning("the former targets of notifications still apply: %s", error)
        return self._targets


def serve(directory: Path, runtime: Runtime = SYSTEM) -> None:
    """Run the notifier of the workflow in ``directory``; do nothing if another one runs."""
    state = StateDir.of(directory)
    guard = StateDirGuard.of(state)
    studies = load_workflow(directory, tolerant=True).studies
    store = WorkflowStore(state, studies, read_only=True, runtime=runtime)
    ending = threading.Event()
    deliver = partial(send, stopped=ending.is_set)
    notifier = Notifier(store, TargetFile(directory).read, deliver)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: notifier.stop())
    lock = FileLock(state.notifier_lock, timeout=LOCK_SECONDS, purpose="sending notifications")
    record = PidFile(state.notifier_record)
    while watched_executions(state) and not notifier.stopped:
        try:
            lock.acquire()
        except MotokoError:
            return
        record.write(version=__version__)
        try:
            notifier.serve(guard.check)
            if notifier.stopped:
                notifier.finish(FINISH_SECONDS)
                ending.set()  # nothing that it started outlives it
                notifier.finish(FINISH_SECONDS)
        finally:
            store.close()
            record.remove()
            lock.release()  # then look once more: an orchestrator that saw the lock started none
