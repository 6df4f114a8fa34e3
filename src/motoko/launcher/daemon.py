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
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio

from motoko.config import load_workflow
from motoko.errors import MotokoError, ServerError
from motoko.launcher.control import END, RECALL, RESUME, WAKE, ControlRequest, pending, submit
from motoko.launcher.removal import sweep_quietly
from motoko.launcher.users import SERVER, is_deserted, keep, mark_file, others, services_lock
from motoko.runtime.clock import uptime
from motoko.runtime.daemons import (
    PidFile,
    announce_failure,
    announce_ready,
    module_command,
    spawn_detached,
)
from motoko.runtime.descendants import become_subreaper
from motoko.runtime.environment import differences
from motoko.runtime.file_lock import FileLock
from motoko.runtime.files import private_directory
from motoko.runtime.logs import log_to_stderr
from motoko.runtime.processes import Standing, is_visible, keeps_lease, standing, terminate
from motoko.runtime.signals import reset_all
from motoko.server.lifecycle import stop_server
from motoko.server.state_dir_guard import LOOK_SECONDS, StateDirGuard
from motoko.storage.launcher_leases import machines
from motoko.storage.threads import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from motoko.launcher.launcher import Launcher
    from motoko.runtime.processes import ProcessIdentity
    from motoko.server.state_dir import StateDir
    from motoko.storage.launcher_leases import LauncherRegistration
    from motoko.storage.store import WorkflowStore

STOP_GRACE: Final = 10.0
RESTART: Final = "`motoko kill && motoko launcher` restarts it with this one"
NAMED: Final = 8  # differences that are named
RECALL_SECONDS: Final = 30.0
LEASE_SECONDS: Final = 60.0
STARTING_SECONDS: Final = 40.0  # longer than a launcher may take to be ready
REQUEST_SECONDS: Final = 1.0  # between two looks for requests of those that cannot send signals
HEED_SECONDS: Final = 1.0  # after which an ending launcher waits for no server any more
IDLE_SECONDS: Final = 2.0  # between two looks whether a temporary launcher is needed
SIGNS_OF_LIFE: Final = 3  # within the time of a lease

# Not __name__: this module runs as __main__.
log = logging.getLogger("motoko.launcher.daemon")


@dataclass(frozen=True, slots=True)
class LauncherProcess:
    """A launcher that runs on this machine.

    ``everything``: it serves all studies, those that are added to the workflow later, too.
    ``here``: this call started it. ``asleep``: it gave no sign of life for longer than its lease.
    """

    process: ProcessIdentity
    studies: tuple[str, ...]
    machines: tuple[str, ...]
    here: bool = False
    asleep: bool = False
    everything: bool = False
    file: PidFile | None = None

    def lives(self) -> bool:
        """Return whether it still runs."""
        found = standing(self.process)
        if found is Standing.UNSEEN:
            return self.file is not None and self.file.owner_alive()
        return found is Standing.ALIVE

    def environment_remark(self) -> str:
        """Return what is to be said if its environment is not this process's, else nothing."""
        names = differences(self.process)
        return (
            f"the launcher (process {self.process.pid}) has another environment than this command: "
            f"{differing(names)}. Its runs get the launcher's; {RESTART}"
            if names
            else ""
        )

    def serves(self, study: str, machine_name: str | None) -> bool:
        """Return whether it has this study for that machine."""
        known = self.everything or study in self.studies
        return known and not machines(machine_name).isdisjoint(self.machines)


def running_launchers(state: StateDir) -> list[LauncherProcess]:
    """Return the launchers of the workflow that run on this machine, in whatever container."""
    found = []
    for path in sorted(state.path.glob("launcher*.json")):
        file = PidFile(path)
        record = file.read()
        if record is not None and file.owner_alive():
            info = record.info
            try:
                renewed = uptime() - info.get("seen", 0.0) <= info["lease"]
                served = tuple(info["studies"]), tuple(info["machines"])
            except (LookupError, TypeError, AttributeError):
                continue  # the file is damaged; the database knows the launcher
            found.append(
                LauncherProcess(
                    record.process,
                    *served,
                    asleep=not keeps_lease(record.process, renewed=renewed),
                    everything=info.get("everything", False),
                    file=file,
                )
            )
    return found


def start_launcher(
    state: StateDir,
    *,
    generator: str | None = None,
    studies: Sequence[str] | None = None,
    machine_name: str | None = None,
    lease: float | None = None,
    hold: bool = False,
    stop_runs: bool = False,
) -> LauncherProcess:
    """Start a launcher for those of these studies (None: all) that none serves yet.

    Where there are none such, return one that serves them. ``lease``: without a sign of life for
    so many seconds it may be replaced. With ``hold`` it claims nothing, with ``stop_runs`` it stops
    its runs before it ends. LauncherError says why it does not start. Blocks until it is ready.
    """
    private_directory(state.logs)
    with starting(state) as lock:
        # One that sleeps too long is replaced; the database decides whether it may be.
        awake = [running for running in running_launchers(state) if not running.asleep]
        if awake:
            wanted = studies or list(load_workflow(state.path.parent).task_managers)
            serving = {s: r for r in awake for s in wanted if r.serves(s, machine_name)}
            if not hold:
                for remark in sorted({r.environment_remark() for r in serving.values()} - {""}):
                    log.warning("%s", remark)
            if len(serving) == len(wanted):
                return serving[wanted[0]]
            if serving:
                studies = [study for study in wanted if study not in serving]
        arguments = module_command("motoko.launcher.daemon", str(state.path.parent))
        for option, value in (("--generator", generator), ("--machine_name", machine_name)):
            arguments += [option, value] if value is not None else []
        for study in studies or ():
            arguments += ["--bd_study", study]
        arguments += ["--lease", str(lease)] if lease is not None else []
        arguments += ["--hold"] if hold else []
        arguments += ["--stop-runs"] if stop_runs else []
        daemon = spawn_detached(arguments, log=state.logs / "launcher.log", holding=lock)
    served = tuple(daemon.announced.split()), tuple(sorted(machines(machine_name)))
    return LauncherProcess(daemon.process, *served, here=True)


def differing(names: Sequence[str]) -> str:
    """Return the names of what differs between two environments, not all if they are many."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def starting(state: StateDir) -> FileLock:
    """Return the lock that whoever starts a launcher holds until it can be found.

    The launcher holds it too: whoever starts it may be killed before.
    """
    return FileLock(
        state.path / "launcher.lock", purpose="starting a launcher", timeout=STARTING_SECONDS
    )


def stop_launcher(
    state: StateDir,
    *,
    stop_runs: bool = False,
    run_name: str | None = None,
    spared: Collection[str] = (),
) -> bool:
    """Stop the workflow's launchers on this machine; returns whether there were any.

    ``spared``: except those with these process labels.
    Their runs go on, unless ``stop_runs``: then those of ``run_name`` (None: all) are ended and
    become CREATED again, which counts as no attempt. Blocks until all that is done.
    """
    found = [r for r in running_launchers(state) if r.process.label not in spared]
    if stop_runs:
        recall_runs(state, run_name)
    for running in found:
        if is_visible(running.process):
            anyio.run(terminate, running.process, STOP_GRACE)
        else:
            _post(state, running, ControlRequest(END))
    return bool(found)


def recall_runs(
    state: StateDir, run_name: str | None = None, *, unless_orchestrated: bool = False
) -> None:
    """Have the runs of ``run_name`` (None: all) ended and made CREATED again.

    Their launcher then leaves them alone until ``resume_runs``, or until another one is started.
    ``unless_orchestrated``: except where an orchestrator has taken the run name meanwhile.
    """
    for running in running_launchers(state):
        _post(state, running, ControlRequest(RECALL, run_name, unless_orchestrated))


def resume_runs(state: StateDir, run_name: str | None = None) -> None:
    """Have the runs of ``run_name`` (None: all) claimed again, if they were recalled."""
    for running in running_launchers(state):
        _post(state, running, ControlRequest(RESUME, run_name))


def _post(state: StateDir, running: LauncherProcess, request: ControlRequest) -> None:
    submit(state, running.process, request, timeout=RECALL_SECONDS, lives=running.lives)


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
        _show_life(file, launcher.me, everything)
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
                        tasks.start_soon(_end, launcher, store, recall)
                        recall = False  # who asks again has waited long enough

            async def stay_home() -> None:
                await _lost(home)
                tasks.start_soon(_end, launcher, store, False)

            tasks.start_soon(listen)
            tasks.start_soon(_obey, launcher, state, asked)
            tasks.start_soon(stay_home)
            tasks.start_soon(run_in_thread, partial(sweep_quietly, store))
            tasks.start_soon(_look_for_requests, state)
            tasks.start_soon(_retire, launcher, state, retirement)
            tasks.start_soon(_keep_showing_life, file, launcher, everything)
            try:
                await launcher.serve(found)
            except ServerError:
                home.check()  # which says more
                raise
            finally:
                file.remove()
            home.check()
            tasks.cancel_scope.cancel()


async def _retire(launcher: Launcher, state: StateDir, retirement: ExitStack) -> None:
    """Close a temporary launcher when nobody needs it; ``retirement`` stops the server then.

    The lock is held until that is done, so that whoever comes meanwhile starts both anew.
    """

    async def is_needed() -> bool:
        return not await run_in_thread(partial(is_deserted, state)) or await launcher.is_busy()

    while True:
        await anyio.sleep(IDLE_SECONDS)
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
    temporary = mark_file(state, SERVER).exists()
    keep(state)
    if temporary and not others(state) and not running_launchers(state):
        stop_server(state)


async def _end(launcher: Launcher, store: WorkflowStore, recall: bool) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_wind_up, store)
        if recall:
            await launcher.obey(ControlRequest(RECALL))
        launcher.close()


async def _wind_up(store: WorkflowStore) -> None:
    await anyio.sleep(HEED_SECONDS)
    await run_in_thread(store.wind_up)


async def _lost(home: StateDirGuard) -> None:
    """Wait until the state directory is moved or removed."""
    while await run_in_thread(home.lost) is None:  # noqa: ASYNC110 - nobody tells of it
        await anyio.sleep(LOOK_SECONDS)


def _show_life(file: PidFile, me: LauncherRegistration, everything: bool) -> None:
    file.write(
        studies=me.studies,
        machines=me.machines,
        everything=everything,
        name=me.name,
        lease=me.lease,
        seen=uptime(),
    )


async def _keep_showing_life(file: PidFile, launcher: Launcher, everything: bool) -> None:
    while True:
        await anyio.sleep(launcher.me.lease / SIGNS_OF_LIFE)
        # It does not exist where the directory was moved, and is another launcher's where that
        # one has replaced this one while it slept.
        if file.is_own():
            with suppress(OSError):
                _show_life(file, launcher.me, everything)


async def _look_for_requests(state: StateDir) -> None:
    """Wake up for requests of those that cannot send signals here, as from another container."""
    known: set[Path] = set()
    while True:
        await anyio.sleep(REQUEST_SECONDS)
        found = {path for path, _ in await run_in_thread(partial(pending, state))}
        if found - known:
            signal.raise_signal(WAKE)
        known = found


async def _obey(launcher: Launcher, state: StateDir, asked: asyncio.Event) -> None:
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
        error = _first(group)
        log.error("%s", error)
        announce_failure(str(error))
        return_code = 1
    else:
        return_code = 0
    return return_code


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


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
