"""The launcher's process: ``python -m motoko.launcher.daemon WORKFLOW_DIRECTORY``.

TERM or Ctrl-C end it and leave its runs going; the next launcher goes on with them. One that a
``motoko run`` started ends by itself when nobody works with the workflow and no run is left. Other
processes start it, stop it and have runs recalled through the functions here.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from contextlib import ExitStack, suppress
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio

from motoko.errors import MotokoError, ServerError
from motoko.launcher.control import END, SUSPEND, WAKE, ControlRequest, pending, running_launchers
from motoko.launcher.directory_removal import remove_pending_and_log
from motoko.launcher.workflow_users import (
    SERVER,
    detach_services,
    is_unused,
    other_users,
    services_lock,
    temporary_marker,
)
from motoko.runtime.clock import uptime
from motoko.runtime.daemons import (
    PidFile,
    announce_failure,
    announce_ready,
)
from motoko.runtime.descendants import become_subreaper
from motoko.runtime.logs import log_to_stderr
from motoko.runtime.signals import reset_all
from motoko.server.lifecycle import stop_server
from motoko.server.state_dir_guard import CHECK_SECONDS, StateDirGuard
from motoko.storage.threads import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from motoko.launcher.launcher import Launcher
    from motoko.server.state_dir import StateDir
    from motoko.storage.leases import LauncherRegistration
    from motoko.storage.store import WorkflowStore

LEASE_SECONDS: Final = 60.0
REQUEST_POLL_SECONDS: Final = (
    1.0  # between two looks for requests of those that cannot send signals
)
STORE_GRACE: Final = 1.0  # after which an ending launcher waits for no server any more
IDLE_POLL_SECONDS: Final = 2.0  # between two looks whether a temporary launcher is needed
HEARTBEATS_PER_LEASE: Final = 3  # within the time of a lease

# Not __name__: this module runs as __main__.
log = logging.getLogger("motoko.launcher.daemon")


def serve(
    directory: Path,
    *,
    generator: str | None = None,
    studies: Sequence[str] = (),
    machine_name: str | None = None,
    lease: float = LEASE_SECONDS,
    hold: bool = False,
    stop_runs: bool = False,
    ready: Callable[[], object] = lambda: None,
) -> None:
    """Be the launcher of the workflow in ``directory``, until TERM or INT, or until it is moved.

    ``ready`` is called when it can be found. With ``stop_runs`` its runs become CREATED again at
    the end, which counts as no attempt; otherwise they go on.
    """
    from motoko.launcher.composition import build_launcher

    become_subreaper()
    launcher, store = build_launcher(
        directory, generator=generator, studies=studies, machine_name=machine_name, lease=lease,
        hold=hold,
    )  # fmt: skip
    with ExitStack() as retirement:
        try:
            everything = not studies and machine_name is None
            anyio.run(_serve, launcher, store, everything, stop_runs, ready, retirement)
        finally:
            store.close()


async def _serve(
    launcher: Launcher,
    store: WorkflowStore,
    everything: bool,
    stop_runs: bool,
    ready: Callable[[], object],
    retirement: ExitStack,
) -> None:
    me, state = launcher.me, store.state
    home = StateDirGuard.of(state)
    digest = blake2b(repr((me.studies, me.machines)).encode(), digest_size=4).hexdigest()
    file = PidFile(state.path / ("launcher.json" if everything else f"launcher-{digest}.json"))

    def found() -> None:
        _write_heartbeat(file, launcher.me, everything)
        announce_ready(" ".join(launcher.me.studies))
        ready()

    asked = asyncio.Event()
    numbers = (signal.SIGTERM, signal.SIGINT, WAKE)
    with anyio.open_signal_receiver(*numbers) as signals:
        async with anyio.create_task_group() as tasks:

            async def listen() -> None:
                recall = stop_runs
                async for number in signals:
                    if number == WAKE:
                        asked.set()
                    else:
                        log.info("asked to end by %s", signal.Signals(number).name)
                        tasks.start_soon(_shut_down, launcher, store, recall)
                        recall = False  # who asks again has waited long enough

            async def stay_home() -> None:
                await _wait_for_directory_loss(home)
                tasks.start_soon(_shut_down, launcher, store, False)

            tasks.start_soon(listen)
            tasks.start_soon(_handle_requests, launcher, state, asked)
            tasks.start_soon(stay_home)
            tasks.start_soon(run_in_thread, partial(remove_pending_and_log, store))
            tasks.start_soon(_poll_requests, state)
            tasks.start_soon(_close_when_unused, launcher, state, retirement)
            tasks.start_soon(_heartbeat, file, launcher, everything)
            try:
                await launcher.serve(found)
            except ServerError:
                home.check()  # which says more
                raise
            finally:
                file.remove()
            home.check()
            tasks.cancel_scope.cancel()


async def _close_when_unused(launcher: Launcher, state: StateDir, retirement: ExitStack) -> None:
    """Close a temporary launcher when nobody needs it; ``retirement`` stops the server then.

    The lock is held until that is done, so that whoever comes meanwhile starts both anew.
    """

    async def is_needed() -> bool:
        return not await run_in_thread(partial(is_unused, state)) or await launcher.is_busy()

    while True:
        await anyio.sleep(IDLE_POLL_SECONDS)
        if await is_needed():
            continue
        lock = services_lock(state, timeout=0)
        with suppress(MotokoError):  # somebody starts or stops something at this moment
            await run_in_thread(lock.acquire)
        if lock.held and not await is_needed():
            break
        lock.release()
    retirement.callback(lock.release)
    retirement.callback(_stop_temporary_server, state)
    log.info("no run is left and nobody works with the workflow: the launcher ends")
    launcher.close()


def _stop_temporary_server(state: StateDir) -> None:
    temporary = temporary_marker(state, SERVER).exists()
    detach_services(state)
    if temporary and not other_users(state) and not running_launchers(state):
        stop_server(state)


async def _shut_down(launcher: Launcher, store: WorkflowStore, recall: bool) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_shut_down_store, store)
        if recall:
            await launcher.obey(ControlRequest(SUSPEND))
        launcher.close()


async def _shut_down_store(store: WorkflowStore) -> None:
    await anyio.sleep(STORE_GRACE)
    await run_in_thread(store.drain)


async def _wait_for_directory_loss(home: StateDirGuard) -> None:
    """Wait until the state directory is moved or removed."""
    while await run_in_thread(home.lost) is None:  # noqa: ASYNC110 - nobody tells of it
        await anyio.sleep(CHECK_SECONDS)


def _write_heartbeat(file: PidFile, me: LauncherRegistration, everything: bool) -> None:
    file.write(
        studies=me.studies,
        machines=me.machines,
        everything=everything,
        name=me.name,
        lease=me.lease,
        seen=uptime(),
    )


async def _heartbeat(file: PidFile, launcher: Launcher, everything: bool) -> None:
    while True:
        await anyio.sleep(launcher.me.lease / HEARTBEATS_PER_LEASE)
        # It does not exist where the directory was moved, and is another launcher's where that
        # one has replaced this one while it slept.
        if file.is_own():
            with suppress(OSError):
                _write_heartbeat(file, launcher.me, everything)


async def _poll_requests(state: StateDir) -> None:
    """Wake up for requests of those that cannot send signals here, as from another container."""
    known: set[Path] = set()
    while True:
        await anyio.sleep(REQUEST_POLL_SECONDS)
        found = {path for path, _ in await run_in_thread(partial(pending, state))}
        if found - known:
            signal.raise_signal(WAKE)
        known = found


async def _handle_requests(launcher: Launcher, state: StateDir, asked: asyncio.Event) -> None:
    """Serve one request after the other, in the order asked."""
    while True:
        await asked.wait()
        asked.clear()
        while requests := await run_in_thread(partial(pending, state)):
            path, request = requests[0]
            if request.action == END:
                signal.raise_signal(signal.SIGTERM)
            else:
                await launcher.obey(request)
            path.unlink(missing_ok=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the daemon that the command line describes; return its exit status."""
    options = _parser().parse_args(arguments)
    reset_all()
    log_to_stderr()
    os.umask(0o077)
    try:
        serve(
            Path(options.workflow),
            generator=options.generator,
            studies=options.bd_study or (),
            machine_name=options.machine_name,
            lease=options.lease,
            hold=options.hold,
            stop_runs=options.stop_runs,
        )
    except* MotokoError as group:
        error = _first_error(group)
        log.error("%s", error)
        announce_failure(str(error))
        return_code = 1
    else:
        return_code = 0
    return return_code


def _first_error(group: BaseExceptionGroup[Any]) -> BaseException:
    first = group.exceptions[0]
    return _first_error(first) if isinstance(first, BaseExceptionGroup) else first


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="motoko.launcher.daemon")
    parser.add_argument("workflow")
    parser.add_argument("--generator")
    parser.add_argument("--bd_study", action="append")
    parser.add_argument("--machine_name")
    parser.add_argument("--lease", type=float, default=LEASE_SECONDS)
    parser.add_argument("--hold", action="store_true")
    parser.add_argument("--stop-runs", action="store_true")
    return parser


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main())
