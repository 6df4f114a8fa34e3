"""Read the standard output and error of runs, attempt by attempt, while they grow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from motoko.core.states import Lifecycle
from motoko.errors import ServerError, UnknownRunError
from motoko.launcher.attempt_paths import (
    AttemptPaths,
    attempt_directory,
    packed_attempts,
    read_marker,
)
from motoko.runtime.file_tail import SHOWN_BYTES, Addition, read_addition, tail_position
from motoko.server.lifecycle import is_responding
from motoko.storage.query import existing_records

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from motoko.core.records import RunKey, RunRecord
    from motoko.runtime.ports import Clock
    from motoko.storage.store import WorkflowStore

STREAMS: Final = ("stdout", "stderr")
POLL_INTERVAL: Final = 0.2  # seconds
MAX_TRIES: Final = 5  # of a read while a launcher moves the directory


@dataclass(frozen=True, slots=True)
class OutputPart:
    """A part of the output with its name, or a note about it (``data`` is None)."""

    name: str
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class OutputRequest:
    """What to read of each run.

    ``attempt``: the attempt, by default always the latest that has started. ``lines``: the number
    of lines at its end, by default as many as are in a megabyte. ``follow``: until all runs, or
    these attempts, have ended.
    """

    streams: Sequence[str] = STREAMS
    attempt: int | None = None
    lines: int | None = None
    follow: bool = False


def read_outputs(
    store: WorkflowStore, records: Sequence[RunRecord], request: OutputRequest, clock: Clock
) -> Iterator[Iterator[OutputPart]]:
    """Yield what the outputs of runs gain, round by round; one round unless they are followed.

    Raise UnknownRunError if a run lacks the requested attempt.
    """
    for record in records:
        check_attempt(record, request.attempt)
    outputs = {record.key: _outputs(store, record, request) for record in records}
    current, source = {record.key: record for record in records}, CurrentRecords(store, records)
    while True:
        # The records are read first, so that the last lines of a run that has ended are read.
        yield (p for key, record in current.items() for o in outputs[key] for p in o.read(record))
        if not request.follow or all(_has_ended(r, request.attempt) for r in current.values()):
            return
        clock.sleep(POLL_INTERVAL)
        known, current = current, source.read()
        if gone := known.keys() - current.keys():
            yield (OutputPart(f"{key} has been deleted") for key in sorted(gone))


def _outputs(store: WorkflowStore, record: RunRecord, request: OutputRequest) -> list[RunOutput]:
    root, faults = store.runs_root(record.study), set[str]()
    return [RunOutput(root, stream, request, faults) for stream in request.streams]


def _has_ended(record: RunRecord, attempt: int | None) -> bool:
    earlier = attempt is not None and attempt < record.attempt
    return earlier or record.lifecycle.is_terminal


class RunOutput:
    """One stream of one run: ``stdout`` or ``stderr``.

    ``faults``: the faults of the run that are noted; its streams share them.
    """

    def __init__(
        self, root: Path, stream: str, request: OutputRequest, faults: set[str] | None = None
    ) -> None:
        self._root = root
        self._stream = stream
        self._fixed = request.attempt
        self._lines = request.lines
        self._follow = request.follow  # a missing file may still appear
        self._number: int | None = None
        self._position = 0
        self._faults = set[str]() if faults is None else faults

    def read(self, record: RunRecord) -> Iterator[OutputPart]:
        """Yield what the stream has gained since the last call, to its present end."""
        number = self._fixed or current_attempt(self._root, record)
        if number is None:
            yield from self._note(_missing_directory(self._root, record))
            return
        if self._number is not None and number != self._number:
            yield from self._rest(record)  # of the earlier attempt
            yield OutputPart(f"{record.key}: attempt {number} has started")
            self._lines, self._position = None, 0
            self._number = number
        elif self._number is None:
            self._number = number
            yield from self._skip(record)
        yield from self._rest(record)

    def _skip(self, record: RunRecord) -> Iterator[OutputPart]:
        directory = attempt_directory(self._root, record, self._number or 0)
        if directory is not None:
            path = directory / self._stream
            self._position = tail_position(path, self._lines)
            if self._position and self._lines is None:
                yield OutputPart(f"... (the last {SHOWN_BYTES:,} bytes of {path})")

    def _rest(self, record: RunRecord) -> Iterator[OutputPart]:
        name = f"{record.key} {self._stream}"
        if record.attempt > 1:
            name += f", attempt {self._number}"
        end = None
        while end is None or self._position < end:
            found = self._read_part(record)
            end = found.size if end is None else end
            fault = found.fault
            if found.missing and not self._follow:
                fault = f"{name}: the file does not exist"
            yield from self._note(fault)
            if found.truncated:
                yield OutputPart(f"... ({name} was truncated)")
            if not found.data:
                return
            self._position = found.position
            yield OutputPart(name, found.data)

    def _note(self, fault: str | None) -> Iterator[OutputPart]:
        """Yield a fault unless it was noted before."""
        if fault is not None and fault not in self._faults:
            self._faults.add(fault)
            yield OutputPart(fault)

    def _read_part(self, record: RunRecord) -> Addition:
        """Read from the attempt's directory, even if a launcher moves it meanwhile."""
        number = self._number or 0
        for _ in range(MAX_TRIES):
            directory = attempt_directory(self._root, record, number)
            if directory is None:
                break
            found = read_addition(directory / self._stream, self._position)
            if attempt_directory(self._root, record, number) == directory:
                return found
        fault = f"{record.key}: the directory of attempt {number} does not exist"
        return Addition(b"", self._position, fault=fault)


def current_attempt(root: Path, record: RunRecord) -> int | None:
    """Return the attempt that has the run's directory, None before the first."""
    paths = AttemptPaths.for_record(root, record)
    marker = read_marker(paths.run_directory)
    if marker is not None:
        return marker[0] if marker[1] == paths.stamp else None
    if Path(paths.run_directory).is_dir():
        return record.attempt or None
    return max(packed_attempts(root, record), default=None)


def _missing_directory(root: Path, record: RunRecord) -> str | None:
    """Return the fault of a run that has started and has no directory, None before its start."""
    started = any(one.state == Lifecycle.START for one in record.history)
    if not started and not (record.attempt and record.lifecycle.is_terminal):
        return None
    path = root / f"run-{record.id}"
    problem = "belongs to another run" if path.exists() else "does not exist"
    return f"{record.key} has no directory: {path} {problem}"


class CurrentRecords:
    """Reads runs again and again, from the server or from the database file without one."""

    def __init__(self, store: WorkflowStore, records: Iterable[RunRecord]) -> None:
        self._store = store
        self._last = {record.key: record for record in records}
        self._keys = list(self._last)
        self._served = is_responding(store.state)

    def read(self) -> dict[RunKey, RunRecord]:
        """Return the runs that exist; the last known ones while the server does not respond."""
        store = self._store
        if not self._served and is_responding(store.state):
            store.close()  # the file was read; the server knows later commits
            self._served = True
        try:
            store.database.catch_up()
            with store.autocommit_scope.read() as session:
                self._last = {r.key: r for r in existing_records(session, self._keys)}
        except ServerError:
            pass
        return self._last


def check_attempt(record: RunRecord, attempt: int | None) -> None:
    """Raise UnknownRunError unless the run has this attempt."""
    if attempt is not None and not 1 <= attempt <= record.attempt:
        numbers = {0: "It has not started.", 1: "It has one attempt."}
        hint = numbers.get(record.attempt, f"Its attempts are 1 to {record.attempt}.")
        raise UnknownRunError(f"{record.key} has no attempt {attempt}", hint=hint)
