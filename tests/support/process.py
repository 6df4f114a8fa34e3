"""Motoko's processes for tests: with short leases, or without one safety mechanism.

``python -m tests.support.process orchestrator ARGUMENTS`` or ``... launcher DIRECTORY``.
``MOTOKO_TEST_LEASE``: the orchestrator's lease in seconds. ``MOTOKO_TEST_MUTANT``: a disabled
mechanism, to show that tests detect it. ``MOTOKO_TEST_HURRY``: how long the launcher waits for late
answers and files of a batch scheduler, in seconds. ``MOTOKO_TEST_SMALL``: blocks of few runs, which
are compacted as soon as they have ended.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import motoko.launcher.daemon
from motoko.cli import main as command_line
from motoko.core.changes import RecordFiring
from motoko.core.run_sets import RunSet
from motoko.launcher import compactor, composition, directory_keeper, launcher
from motoko.launcher.executors.batch import executor
from motoko.orchestrator import event_dispatcher
from motoko.orchestrator.firing_executor import FiringExecutor, FiringHistory
from motoko.runtime import pack_joining
from motoko.storage import compaction, leases, orchestrator_leases, run_store
from motoko.storage.session import Session
from motoko.storage.threads import run_in_committer

if TYPE_CHECKING:
    from collections.abc import Callable


def no_fence() -> None:
    """Commit although another process holds the lease."""
    Session._check_guard = lambda self: None  # type: ignore[method-assign]
    orchestrator_leases.Lease._renew = lambda self, tables: None  # type: ignore[method-assign]


def no_once() -> None:
    """Ignore recorded ``once`` firings."""
    load = vars(event_dispatcher)["load_history"]

    def forgetful(*args: Any) -> FiringHistory:
        history = load(*args)
        return FiringHistory(history.event, history.open_firings, RunSet(), False)

    vars(event_dispatcher)["load_history"] = forgetful


def record_first() -> None:
    """Record a firing as done before its action starts."""
    call = FiringExecutor._call

    async def recording(self: Any, state: Any) -> None:
        store = self._context.store
        database = store.database
        session = Session(database)
        session.add(RecordFiring(state.id, "done", "", state.runs, store.now(), once=True))
        try:
            await run_in_committer(database, session.commit)
        finally:
            session.close()
        await call(self, state)

    FiringExecutor._call = recording  # type: ignore[method-assign]
    FiringExecutor._record = lambda *_args, **_kwargs: None  # type: ignore[method-assign]


MUTANTS: dict[str, Callable[[], None]] = {
    "no_fence": no_fence,
    "no_once": no_once,
    "record_first": record_first,
}


def hurry(seconds: float) -> None:
    """Shorten the launcher's waits for unconfirmed submissions and late files."""
    executor.UNCONFIRMED_SECONDS = seconds  # type: ignore[misc]
    vars(composition)["LauncherOptions"] = partial(launcher.LauncherOptions, files_lag=seconds)


def use_small_blocks() -> None:
    """Store runs in blocks of few runs, compact often, and make many small packs."""
    vars(run_store).update(BLOCK=20, LEAST=5)
    vars(compaction)["EDITED"] = 0.0
    vars(compactor)["ENOUGH"] = 10
    vars(directory_keeper).update(NEWEST=10, BACKLOG=20, BATCH=5)
    vars(pack_joining).update(SMALL=10 * 8 * pack_joining.PATH_BYTES, MAX_RUNS=100)


def main(arguments: list[str]) -> int:
    """Run one of Motoko's processes."""
    seconds = float(os.environ.get("MOTOKO_TEST_LEASE", orchestrator_leases.LEASE_SECONDS))
    orchestrator_leases.LEASE_SECONDS = seconds  # type: ignore[misc]
    leases.RENEW_SECONDS = seconds / 3  # type: ignore[misc]
    mutant = os.environ.get("MOTOKO_TEST_MUTANT")
    if mutant:
        MUTANTS[mutant]()
    if "MOTOKO_TEST_HURRY" in os.environ:
        hurry(float(os.environ["MOTOKO_TEST_HURRY"]))
    if "MOTOKO_TEST_SMALL" in os.environ:
        use_small_blocks()
    if arguments[0] == "launcher":
        return motoko.launcher.daemon.main(arguments[1:])
    return command_line(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
