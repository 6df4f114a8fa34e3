"""Find, start, stop and control the launchers of a workflow on this machine.

A request is a file in ``.wf/launcher.requests``, followed by a signal. The launcher removes the
file when it has carried out the request.
"""

from __future__ import annotations

import json
import logging
import math
import signal
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

import anyio

from motoko.config import load_workflow
from motoko.errors import LauncherError
from motoko.printable import join_names
from motoko.runtime.daemons import PidFile, module_command, spawn_detached
from motoko.runtime.environment import environment_differences
from motoko.runtime.file_lock import FileLock
from motoko.runtime.files import private_directory, write_atomic
from motoko.runtime.ports import SYSTEM
from motoko.runtime.processes import (
    Liveness,
    current,
    is_visible,
    keeps_lease,
    liveness,
    signal_process,
    suspension,
    terminate,
)
from motoko.storage.launcher_leases import machine_names

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from motoko.runtime.ports import Runtime
    from motoko.runtime.processes import ProcessIdentity
    from motoko.server.state_dir import StateDir

WAKE: Final = signal.SIGUSR1
SUSPEND: Final = "recall"  # in request files, which launchers of older versions read too
RESUME: Final = "resume"
END: Final = "end"
REQUESTS: Final = "launcher.requests"
SUFFIX: Final = ".json"
POLL_SECONDS: Final = 0.01
STOP_GRACE: Final = 10.0
REQUEST_TIMEOUT: Final = 30.0
START_TIMEOUT: Final = 40.0  # longer than a launcher takes to be ready
RESTART_HINT: Final = "`motoko kill && motoko launcher` restarts it with this one"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ControlRequest:
    """A request to a launcher; ``run_name`` None: all run names.

    SUSPEND ends the runs, makes them CREATED and claims no more of them. RESUME claims them again.
    END stops the launcher and leaves its runs running. ``unless_orchestrated``: skip it if an
    orchestrator has the run name again.
    """

    action: str
    run_name: str | None = None
    unless_orchestrated: bool = False


def submit(
    state: StateDir,
    launcher: LauncherProcess,
    request: ControlRequest,
    *,
    timeout: float = REQUEST_TIMEOUT,
    runtime: Runtime = SYSTEM,
) -> None:
    """Submit a request and wait until the launcher has carried it out or exited.

    A launcher in another container cannot be signalled and polls for requests. LauncherError after
    ``timeout`` seconds, which start when all earlier requests are done.
    """
    clock, process = runtime.clock, launcher.process
    directory = private_directory(state.path / REQUESTS)
    # The launcher serves requests in the order of their names.
    order = int(clock.monotonic() * 1e9)
    path = directory / f"{process.label}-{order:020d}-{runtime.rng.token(6)}{SUFFIX}"
    write_atomic(path, json.dumps(asdict(request)).encode())
    deadline, before = math.inf, -1
    try:
        signal_process(process, WAKE)
        while path.exists() and launcher.is_running():
            ahead = sum(other < path for other in directory.glob(f"{process.label}-*{SUFFIX}"))
            if ahead != before:
                deadline, before = clock.monotonic() + timeout, ahead
            if clock.monotonic() > deadline:
                verb = "suspend" if request.action == SUSPEND else request.action
                name = f"the launcher (process {process.pid}{suspension(process)})"
                raise LauncherError(
                    f"{name} did not {verb} within {timeout:g} s",
                    hint=f"Its log is {state.logs / 'launcher.log'}.",
                )
            clock.sleep(POLL_SECONDS)
    finally:
        path.unlink(missing_ok=True)


def pending(state: StateDir) -> list[tuple[Path, ControlRequest]]:
    """Return the pending requests to this process, in order of submission."""
    found: list[tuple[Path, ControlRequest]] = []
    for path in sorted((state.path / REQUESTS).glob(f"{current().label}-*{SUFFIX}")):
        try:
            found.append((path, ControlRequest(**json.loads(path.read_bytes()))))
        except (OSError, ValueError, TypeError):
            path.unlink(missing_ok=True)
    return found


@dataclass(frozen=True, slots=True)
class LauncherProcess:
    """A launcher that runs on this machine.

    ``serves_all``: it serves all studies, later ones included. ``started_here``: this call started
    it. ``unresponsive``: its last heartbeat is older than its lease.
    """

    process: ProcessIdentity
    studies: tuple[str, ...]
    machines: tuple[str, ...]
    started_here: bool = False
    unresponsive: bool = False
    serves_all: bool = False
    pid_file: PidFile | None = None

    def is_running(self) -> bool:
        """Return whether it still runs."""
        found = liveness(self.process)
        if found is Liveness.UNKNOWN:
            return self.pid_file is not None and self.pid_file.owner_alive()
        return found is Liveness.ALIVE

    def environment_warning(self) -> str:
        """Return a warning if its environment differs from this process's, else an empty text."""
        names = environment_differences(self.process)
        if not names:
            return ""
        return (
            f"the launcher (process {self.process.pid}) has another environment than this command: "
            f"{join_names(names)}. Its runs get the launcher's; {RESTART_HINT}"
        )

    def serves(self, study: str, machine_name: str | None) -> bool:
        """Return whether it serves this study's runs for that machine."""
        known = self.serves_all or study in self.studies
        return known and not machine_names(machine_name).isdisjoint(self.machines)


def running_launchers(state: StateDir, *, runtime: Runtime = SYSTEM) -> list[LauncherProcess]:
    """Return the launchers of the workflow on this machine, those in other containers included."""
    found = []
    for path in sorted(state.path.glob("launcher*.json")):
        file = PidFile(path)
        record = file.read()
        if record is not None and file.owner_alive():
            info = record.info
            try:
                renewed = runtime.clock.uptime() - info.get("seen", 0.0) <= info["lease"]
                served = tuple(info["studies"]), tuple(info["machines"])
            except (LookupError, TypeError, AttributeError):
                continue  # the file is damaged; the database knows the launcher
            found.append(
                LauncherProcess(
                    record.process,
                    *served,
                    unresponsive=not keeps_lease(record.process, renewed=renewed),
                    serves_all=info.get("everything", False),
                    pid_file=file,
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
    pause_claims: bool = False,
    stop_runs: bool = False,
) -> LauncherProcess:
    """Start a launcher for those of these studies (None: all) that no launcher serves.

    If all are served, return a launcher that serves them. Another launcher may replace it after
    ``lease`` seconds without a heartbeat. With ``pause_claims`` it claims nothing, with
    ``stop_runs`` it stops its runs before it exits. Blocks until it is ready; LauncherError if it
    does not start.
    """
    private_directory(state.logs)
    with start_lock(state) as lock:
        # The database decides whether an unresponsive one may be replaced.
        running = [found for found in running_launchers(state) if not found.unresponsive]
        if running:
            required_studies = studies or list(load_workflow(state.path.parent).task_managers)
            serving = {s: r for r in running for s in required_studies if r.serves(s, machine_name)}
            if not pause_claims:
                for text in sorted({r.environment_warning() for r in serving.values()} - {""}):
                    log.warning("%s", text)
            if len(serving) == len(required_studies):
                return serving[required_studies[0]]
            if serving:
                studies = [study for study in required_studies if study not in serving]
        arguments = module_command("motoko.launcher.daemon", str(state.path.parent))
        options = {"generator": generator, "machine_name": machine_name, "lease": lease}
        given = [(name, value) for name, value in options.items() if value is not None]
        for option, value in (*given, *(("bd_study", study) for study in studies or ())):
            arguments += [f"--{option}", str(value)]
        flags = {"--pause-claims": pause_claims, "--stop-runs": stop_runs}
        arguments += [flag for flag, on in flags.items() if on]
        daemon = spawn_detached(arguments, log=state.logs / "launcher.log", holding=lock)
    served = tuple(daemon.announced.split()), tuple(sorted(machine_names(machine_name)))
    return LauncherProcess(daemon.process, *served, started_here=True)


def start_lock(state: StateDir) -> FileLock:
    """Return the lock that is held while a launcher starts, by the launcher as well."""
    return FileLock(
        state.path / "launcher.lock", purpose="starting a launcher", timeout=START_TIMEOUT
    )


def stop_launcher(
    state: StateDir,
    *,
    stop_runs: bool = False,
    run_name: str | None = None,
    excluded: Collection[str] = (),
) -> bool:
    """Stop the workflow's launchers on this machine; return whether any were running.

    ``excluded``: labels of processes to leave alone. Runs continue, unless ``stop_runs``: then
    those of ``run_name`` (None: all) are ended and become CREATED, which counts as no attempt.
    """
    found = [r for r in running_launchers(state) if r.process.label not in excluded]
    if stop_runs:
        suspend_runs(state, run_name)
    for running in found:
        if is_visible(running.process):
            anyio.run(terminate, running.process, STOP_GRACE)
        else:
            submit(state, running, ControlRequest(END))
    return bool(found)


def suspend_runs(
    state: StateDir, run_name: str | None = None, *, unless_orchestrated: bool = False
) -> None:
    """End the runs of ``run_name`` (None: all) and make them CREATED.

    Their launcher claims them again after ``resume_runs``; so does a launcher started later.
    ``unless_orchestrated``: skip this if an orchestrator has the run name again.
    """
    for running in running_launchers(state):
        submit(state, running, ControlRequest(SUSPEND, run_name, unless_orchestrated))


def resume_runs(state: StateDir, run_name: str | None = None) -> None:
    """Let the launchers claim suspended runs of ``run_name`` (None: all) again."""
    for running in running_launchers(state):
        submit(state, running, ControlRequest(RESUME, run_name))
