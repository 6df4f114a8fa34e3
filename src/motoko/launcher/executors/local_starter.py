"""Prepare attempts, and start their processes."""

from __future__ import annotations

import logging
import select
from typing import TYPE_CHECKING, Final

from motoko.errors import Fenced, ServerError
from motoko.launcher.executors.prepared_attempts import PreparedAttempt, PreparedAttempts
from motoko.launcher.preparation import RunNotStartable, as_start_error, prepare_attempt
from motoko.launcher.run_directory import withdraw
from motoko.runtime import fault_points

if TYPE_CHECKING:
    from collections.abc import Sequence

    from motoko.launcher.attempts import Attempt, SlotPool
    from motoko.launcher.executors.base import ProcessHandle
    from motoko.launcher.executors.process_spawner import ProcessSpawner
    from motoko.launcher.source_files import SourceFiles
    from motoko.launcher.start_notes import StartNotes
    from motoko.storage.store import WorkflowStore

MAX_AT_ONCE: Final = select.PIPE_BUF - 64  # bytes; with the time, every empty pipe takes them
AHEAD: Final = 4  # short attempts to prepare ahead, besides one for each slot

log = logging.getLogger(__name__)


class LocalStarter:
    """Starts the attempts of a pool; ``handles`` are those of their processes, by token.

    The attempts of ``short_studies`` are expected to be short, as the latest of these studies.
    ``start_all``, ``prepared.prepare_all`` and ``prepared.withdraw`` block; call the others in the
    event loop.
    """

    def __init__(
        self,
        store: WorkflowStore,
        pool: SlotPool,
        starts: StartNotes,
        files: SourceFiles,
        spawner: ProcessSpawner,
    ) -> None:
        self._store = store
        self._pool = pool
        self._starts = starts
        self._files = files
        self._spawner = spawner
        self._clock = store.runtime.clock
        self.handles: dict[str, ProcessHandle] = {}
        self.short_studies: set[str] = set()
        self.prepared = PreparedAttempts(self._prepare, self._withdraw, self._clock)

    def choose(self) -> list[Attempt]:
        """Return the short attempts to prepare now."""
        slots = self._pool.slots
        short = [a for a in self._pool.next_waiting(slots + AHEAD) if self._is_short(a)]
        return self.prepared.choose(short, slots)

    def start_prepared(self, attempt: Attempt) -> bool:
        """Let an idle shell run an attempt that is prepared; return whether one does.

        A thread sends a command that might block the event loop.
        """
        prepared = self.prepared.find(attempt)
        if prepared is None or len(prepared.command or b"") > MAX_AT_ONCE:
            return False
        if not self._start_in_shell(attempt, prepared):
            return False
        self.prepared.remove(attempt)
        return True

    def start_all(self, batch: Sequence[Attempt]) -> list[Exception | None]:
        """Start attempts; return the error of each."""
        return [self._start(attempt) for attempt in batch]

    def _start(self, attempt: Attempt) -> Exception | None:
        prepared = self.prepared.use(attempt)
        if isinstance(prepared, Exception):
            return prepared
        if self._start_in_shell(attempt, prepared):
            return None
        spec = prepared.spec
        self._note_time(attempt)
        try:
            self.handles[attempt.token] = self._spawner.spawn(
                spec.paths.attempt_path, spec.command, spec.variables
            )
        except OSError as error:
            return as_start_error(error)
        except ValueError as error:  # the options contain a null byte
            return RunNotStartable(str(error))
        fault_points.point("launcher.started")
        return None

    def _start_in_shell(self, attempt: Attempt, prepared: PreparedAttempt) -> bool:
        """Let an idle shell run the attempt if it is expected to be short."""
        if prepared.command is None or not self._is_short(attempt):
            return False
        paths = prepared.spec.paths
        handle = self._spawner.shells.run(paths.runs_root, paths.outbox_name, prepared.command)
        if handle is None:
            return False
        self._note_time(attempt)
        self.handles[attempt.token] = handle
        fault_points.point("launcher.started")
        return True

    def _note_time(self, attempt: Attempt) -> None:
        attempt.started_at = self._store.now()
        attempt.started_uptime = self._clock.uptime()

    def _is_short(self, attempt: Attempt) -> bool:
        return attempt.key.study in self.short_studies

    def _prepare(self, attempt: Attempt) -> PreparedAttempt | Exception:
        """Create the run directory and note the start; return the error."""
        spec = prepare_attempt(self._store, attempt, self._starts, self._files)
        if isinstance(spec, Exception):
            return spec
        try:
            self._starts.trim(self._pool.unrecorded_starts)
            self._starts.record(attempt.token)
            fault_points.point("launcher.start_recorded")
        except (Fenced, ServerError, OSError) as error:
            self._withdraw(attempt)  # its directory would prevent another try
            return as_start_error(error) if isinstance(error, OSError) else error
        line = None
        if self._is_short(attempt):
            path = spec.paths.attempt_path
            line = self._spawner.shell_command(path, spec.command, spec.variables)
        return PreparedAttempt(spec, line, self._clock.monotonic())

    def _withdraw(self, attempt: Attempt) -> None:
        """Remove the directory of an attempt that does not start as it was prepared."""
        try:
            self._starts.revoke(attempt.token)
            withdraw(attempt.paths, self._starts.check)
            fault_points.point("launcher.withdrawn")
        except (Fenced, ServerError, OSError) as error:  # a later attempt moves it aside
            log.info("%s stays: %s", attempt.paths.run_directory, error)
