"""Move the directories of ended runs into packs, or remove those of finished runs. All of it
blocks.

The database decides which runs have ended. A helper can do the rest (``packing_process``): in this
process, that would delay other threads by several times its duration.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from motoko.core.states import Lifecycle
from motoko.launcher.attempt_paths import run_stamp
from motoko.launcher.directory_packing import (
    EndedRun,
    find_obstacles,
    pack_directories,
    remove_directories,
)
from motoko.runtime.daemons import module_command
from motoko.runtime.helper_process import HelperProcess
from motoko.runtime.packs import PACKED, check_access, packs_lock
from motoko.runtime.run_listing import run_id_of
from motoko.storage.session import Session

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

    from motoko.core.records import RunRecord
    from motoko.runtime.file_lock import FileLock
    from motoko.storage.store import WorkflowStore

NOT_ENDED: Final = "it has not ended"

log = logging.getLogger(__name__)


@dataclass(slots=True)
class PackResult:
    """The outcome of packing: the runs packed, and for the others why not, by run."""

    packed: list[int] = field(default_factory=list)
    left: dict[int, str] = field(default_factory=dict)

    def add(self, other: PackResult) -> None:
        """Add the outcome for further runs."""
        self.packed += other.packed
        self.left.update(other.left)


def loose_runs(root: Path, ids: Collection[int] | None = None) -> dict[int, list[str]]:
    """Return the names of the directories of runs outside of packs, by run in the order of ids."""
    found: dict[int, list[str]] = defaultdict(list)
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(root):
            run_id = run_id_of(name)
            if run_id is not None and (ids is None or run_id in ids):
                found[run_id].append(name)
    return dict(sorted(found.items()))


class PackingHelper:
    """A process that packs directories. It starts at the first request, and stays until closed."""

    def __init__(self) -> None:
        self._process: HelperProcess | None = None

    @property
    def is_running(self) -> bool:
        """Whether the process was started and not closed."""
        return self._process is not None

    def pack(self, root: str, runs: list[EndedRun], lock: FileLock) -> dict[int, str] | None:
        """Pack these runs; return why others stay, by run, or None if the process was killed.

        The process holds the ``lock`` as well until it has answered. Raise OSError if it cannot
        write packs.
        """
        assert lock.descriptor is not None
        request = json.dumps([root, runs])
        try:
            if self._process is None:
                self._process = HelperProcess(module_command("motoko.launcher.packing_process"))
            answer = json.loads(self._process.ask(request, descriptors=[lock.descriptor]))
        except OSError as error:
            log.info("the helper that packs runs is lost: %s", error)
            self.close()
            return None
        if isinstance(answer, str):
            raise OSError(answer)
        return {int(run_id): reason for run_id, reason in answer.items()}

    def close(self) -> None:
        """End the process, if it is running."""
        process, self._process = self._process, None
        if process is not None:
            process.close()


def pack_runs(
    store: WorkflowStore,
    study: str,
    ids: Collection[int],
    helper: PackingHelper | None = None,
    *,
    dry_run: bool = False,
) -> PackResult:
    """Pack the directories of those of these runs that have ended.

    A ``helper`` does the work; this process completes it if the helper is killed. With ``dry_run``,
    return the expected outcome and write nothing. Raise OSError if this user cannot write packs.
    """
    root, result = store.runs_root(study), PackResult()
    loose = loose_runs(root, ids)
    if not loose:
        return result
    check_access(root, root / PACKED)
    with contextlib.nullcontext() if dry_run else packs_lock(root) as lock:
        ended = _ended(store, study, loose)
        for run_id in loose.keys() - ended.keys():
            result.left[run_id] = NOT_ENDED
        runs = [_described(record, loose) for record in ended.values()]
        if lock is None:
            left: dict[int, str] | None = find_obstacles(str(root), runs, packing=True)
        elif helper is None:
            left = pack_directories(str(root), runs)
        else:
            left = helper.pack(str(root), runs, lock)
    if left is None:
        return pack_runs(store, study, ids)
    result.left |= left
    result.packed = [i for i in loose if i in ended and i not in result.left]
    return result


def remove_finished(
    store: WorkflowStore, study: str, ids: Collection[int], *, dry_run: bool = False
) -> PackResult:
    """Remove the directories of those of these runs that are FINISHED.

    With ``dry_run``, return the expected outcome and write nothing. Raise OSError if this user
    cannot remove directories.
    """
    root, result = store.runs_root(study), PackResult()
    check_access(root)
    loose = loose_runs(root, ids)
    ended = _ended(store, study, loose).values()
    finished = [record for record in ended if record.lifecycle is Lifecycle.FINISHED]
    remove = partial(find_obstacles, packing=False) if dry_run else remove_directories
    result.left = remove(str(root), [_described(one, loose) for one in finished])
    result.packed = [record.id for record in finished if record.id not in result.left]
    return result


def _described(record: RunRecord, loose: dict[int, list[str]]) -> EndedRun:
    exited = record.exit_code is not None
    return EndedRun(record.id, record.attempt, run_stamp(record), sorted(loose[record.id]), exited)


def _ended(store: WorkflowStore, study: str, ids: Iterable[int]) -> dict[int, RunRecord]:
    """Return the records of the runs in a terminal state."""
    with contextlib.closing(Session(store.database)) as session:
        records = session.tables.study(study).records(ids, keep=False)
        return {record.id: record for record in records if record.lifecycle.is_terminal}
