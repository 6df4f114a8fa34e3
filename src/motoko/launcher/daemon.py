"""The launcher's process: ``python -m motoko.launcher.daemon WORKFLOW_DIRECTORY``.

TERM or Ctrl-C ends it; its runs continue, and the next launcher adopts them. A launcher that
``motoko run`` started exits when no process uses the workflow and no run is left.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio

from motoko.errors import MotokoError
from motoko.launcher.composition import build_launcher
from motoko.launcher.control import END, SUSPEND, WAKE, ControlRequest, pending, running_launchers
from motoko.launcher.directory_removal import remove_pending_and_log
from motoko.launcher.launcher import first_error
from motoko.launcher.workflow_users import (
    SERVER,
    detach_services,
    is_unused,
    other_users,
    services_lock,
    temporary_marker,
)
from motoko.runtime.daemons import PidFile, announce_failure, announce_ready
from motoko.runtime.descendants import become_subreaper
from motoko.runtime.logs import log_to_stderr
from motoko.runtime.signals import reset_all
from motoko.server.lifecycle import stop_server
from motoko.server.state_dir_guard import CHECK_SECONDS, StateDirGuard
from motoko.storage.threads import run_in_thread
from motoko.version import __version__

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from anyio.abc import TaskGroup

    from motoko.launcher.launcher import Launcher
    from motoko.server.state_dir import StateDir
    from motoko.storage.store import WorkflowStore

LEASE_SECONDS: Final = 60.0
REQUEST_POLL_SECONDS: Final = 1.0  # for requests of processes that cannot send signals
STORE_GRACE: Final = 1.0  # after this an ending launcher stops waiting for a lost server
IDLE_POLL_SECONDS: Final = 2.0
HEARTBEATS_PER_LEASE: Final = 3

# Not __name__: this module runs as __main__.
YOUNG_OBJECTS: Final = 10_000  # between looks for cycles: a commit makes thousands without any

log = logging.getLogger("motoko.launcher.daemon")


def serve(
    directory: Path,
    *,
    generator: str | None = None,
    studies: Sequence[str] = (),
    machine_name: str | None = None,
    lease: float = LEASE_SECONDS,
    pause_claims: bool = False,
    stop_runs: bool = False,
    ready: Callable[[], object] = lambda: None,
) -> None:
    """Run a launcher of the workflow in ``directory`` until TERM or INT, or until it is moved.

    Call ``ready`` when other processes can find it. With ``stop_runs`` its runs are ended and
    become CREATED, which counts as no attempt; otherwise they continue.
    """
    become_subreaper()
    launcher, store = build_launcher(
        directory, generator=generator, studies=studies, machine_name=machine_name, lease=lease,
        pause_claims=pause_claims,
    )  # fmt: skip
    with ExitStack() as on_exit:
        try:
            serves_all = not studies and machine_name is None
            anyio.run(_Daemon(launcher, store, serves_all, stop_runs, ready, on_exit).run)
        finally:
            store.close()


@dataclass(slots=True)
class _Daemon:
    launcher: Launcher
    store: WorkflowStore
    serves_all: bool
    stop_runs: bool
    ready: Callable[[], object]
    on_exit: ExitStack
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    announced: bool = False
    tasks: TaskGroup = field(init=False)
    file: PidFile = field(init=False)

    def __post_init__(self) -> None:
        served = (self.launcher.me.studies, self.launcher.me.machines)
        digest = blake2b(repr(served).encode(), digest_size=4).hexdigest()
        name = "launcher.json" if self.serves_all else f"launcher-{digest}.json"
        self.file = PidFile(self.store.state.path / name)

    async def run(self) -> None:
        guard = StateDirGuard.of(self.store.state)
        numbers = (signal.SIGTERM, signal.SIGINT, WAKE)
        with anyio.open_signal_receiver(*numbers) as signals:
            async with anyio.create_task_group() as tasks:
                self.tasks = tasks
                tasks.start_soon(self._handle_signals, signals)
                tasks.start_soon(_handle_requests, self.launcher, self.store.state, self.wake)
                tasks.start_soon(self._watch_directory, guard)
                tasks.start_soon(run_in_thread, partial(remove_pending_and_log, self.store))
                tasks.start_soon(_poll_requests, self.store.state)
                tasks.start_soon(self._close_when_unused)
                tasks.start_soon(self._heartbeat, guard)
                try:
                    await self.launcher.serve(self._announce)
                except (MotokoError, OSError):
                    guard.check()  # its error is more precise
                    raise
                finally:
                    self.announced = False
                    self.file.remove()
                guard.check()
                tasks.cancel_scope.cancel()

    def _announce(self) -> None:
        self._write_heartbeat()
        self.announced = True
        announce_ready(" ".join(self.launcher.me.studies))
        self.ready()

    async def _handle_signals(self, signals: AsyncIterator[signal.Signals]) -> None:
        suspend = self.stop_runs
        async for number in signals:
            if number == WAKE:
                self.wake.set()
            else:
                log.info("stopped by %s", signal.Signals(number).name)
                self.tasks.start_soon(self._shut_down, suspend)
                suspend = False  # a second signal does not wait for the runs

    async def _watch_directory(self, guard: StateDirGuard) -> None:
        while await run_in_thread(guard.missing_error) is None:  # noqa: ASYNC110 - no event exists
            await anyio.sleep(CHECK_SECONDS)
        self.tasks.start_soon(self._shut_down, False)

    async def _shut_down(self, suspend: bool) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._drain_store)
            if suspend:
                await self.launcher.handle_request(ControlRequest(SUSPEND))
            self.launcher.close()

    async def _drain_store(self) -> None:
        await anyio.sleep(STORE_GRACE)
        await run_in_thread(self.store.drain)

    async def _close_when_unused(self) -> None:
        """Close a temporary launcher that no process needs; stop the server at exit.

        It holds the services lock until then; a process that waits for the lock starts both again.
        """
        while True:
            await anyio.sleep(IDLE_POLL_SECONDS)
            if await self._is_needed():
                continue
            lock = services_lock(self.store.state, timeout=0)
            with suppress(MotokoError):  # another process holds the lock
                await run_in_thread(lock.acquire)
            if lock.held and not await self._is_needed():
                break
            lock.release()
        self.on_exit.callback(lock.release)
        self.on_exit.callback(_stop_temporary_server, self.store.state)
        log.info("no run is left and no process uses the workflow: the launcher stops")
        self.launcher.close()

    async def _is_needed(self) -> bool:
        unused = await run_in_thread(partial(is_unused, self.store.state))
        return not unused or await self.launcher.is_busy()

    def _write_heartbeat(self) -> None:
        me = self.launcher.me
        self.file.write(
            studies=me.studies, machines=me.machines, everything=self.serves_all, name=me.name,
            lease=me.lease, seen=self.store.clock.uptime(), version=__version__,
        )  # fmt: skip

    async def _heartbeat(self, guard: StateDirGuard) -> None:
        while True:
            await anyio.sleep(self.launcher.me.lease / HEARTBEATS_PER_LEASE)
            if not self.announced or guard.is_replaced():
                continue
            # It is another launcher's after that one has replaced this one. A former launcher,
            # suspended in a heartbeat, replaces this one's when it resumes, and removes it.
            if self.file.is_own() or not self.file.owner_alive():
                with suppress(OSError):
                    self._write_heartbeat()


def _stop_temporary_server(state: StateDir) -> None:
    temporary = temporary_marker(state, SERVER).exists()
    detach_services(state)
    if temporary and not other_users(state) and not running_launchers(state):
        stop_server(state)


async def _poll_requests(state: StateDir) -> None:
    """Wake up for requests of processes that cannot send signals, as from another container."""
    known: set[Path] = set()
    while True:
        await anyio.sleep(REQUEST_POLL_SECONDS)
        found = {path for path, _ in await run_in_thread(partial(pending, state))}
        if found - known:
            signal.raise_signal(WAKE)
        known = found


async def _handle_requests(launcher: Launcher, state: StateDir, wake: asyncio.Event) -> None:
    """Handle pending requests in order, each time that ``wake`` is set."""
    while True:
        await wake.wait()
        wake.clear()
        while requests := await run_in_thread(partial(pending, state)):
            path, request = requests[0]
            if request.action == END:
                signal.raise_signal(signal.SIGTERM)
            else:
                await launcher.handle_request(request)
            path.unlink(missing_ok=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the daemon that the command line describes; return its exit status."""
    options = _parser().parse_args(arguments)
    reset_all()
    log_to_stderr()
    os.umask(0o077)
    try:
        serve(**vars(options))
    except* MotokoError as group:
        error = first_error(group)
        log.error("%s", error)
        announce_failure(str(error))
        return_code = 1
    else:
        return_code = 0
    return return_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="motoko.launcher.daemon")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--generator")
    parser.add_argument("--bd_study", action="append", default=[], dest="studies")
    parser.add_argument("--machine_name")
    parser.add_argument("--lease", type=float, default=LEASE_SECONDS)
    parser.add_argument("--pause-claims", action="store_true")
    parser.add_argument("--stop-runs", action="store_true")
    return parser


if __name__ == "__main__":
    gc.freeze()  # the collector of cycles need not walk the imported modules each time
    gc.set_threshold(YOUNG_OBJECTS)
    with suppress(KeyboardInterrupt):
        sys.exit(main())
