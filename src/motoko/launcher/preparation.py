"""What every attempt needs before it is submitted: its directory, its inputs, its script."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from motoko.errors import Fenced, LauncherError, UnknownRunError
from motoko.launcher.attempt_files import processes_working_in
from motoko.launcher.executors.local_process import command
from motoko.launcher.executors.process_handle import LaunchSpec
from motoko.launcher.inputs import inputs_file, variables
from motoko.launcher.run_directory import AttemptSuperseded, SourceError, create, read_sources
from motoko.runtime import fault_points
from motoko.runtime.untrusted_files import trouble_writing
from motoko.storage.session import Session

if TYPE_CHECKING:
    from motoko.launcher.attempts import Attempt
    from motoko.launcher.run_directory import ScriptFile
    from motoko.launcher.starts import Starts
    from motoko.storage.store import WorkflowStore

# What becomes of a run whose directory holds what its attempt must not touch. If the run is still
# this launcher's, that is of another history: of the time after the backup that was restored. A
# later attempt's number is higher than that.
IN_THE_WAY: Final = "its directory holds another attempt"
SOON: Final = 0.1  # seconds until it is tried again
TOO_LONG: Final = (errno.E2BIG, errno.ENAMETOOLONG)
# What a launcher or its machine has too few of just now: open files, processes, memory.
SHORTAGE: Final = (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM)
# What runs scripts of these names; without a ``#!`` line that would be bash.
INTERPRETERS: Final = {
    ".py": "python3",
    ".pl": "perl",
    ".rb": "ruby",
    ".R": "Rscript",
    ".r": "Rscript",
    ".jl": "julia",
    ".m": "octave",
    ".js": "node",
    ".lua": "lua",
}
LATER: Final = 1.0  # seconds until a run is tried again for which there was too little


class RunNotStartable(LauncherError):
    """This run cannot be started, whatever the state of the machine."""


@dataclass(frozen=True, slots=True)
class PrepareFailure:
    """Why an attempt could not be prepared or submitted."""

    problem: Exception


def prepare_attempt(
    store: WorkflowStore, active: Attempt, starts: Starts
) -> LaunchSpec | PrepareFailure:
    """Make the attempt's clean run directory; return how it is to be run. Blocks."""
    record, study = active.record, store.studies[active.key.study]
    workflow = str(store.workflow_file)
    try:
        sources = read_sources(study.directory, {study.exec_file, *study.config_files})
        inputs = inputs_file(record, active.place, workflow, study.run)
        given = variables(record, active.place, active.terms, workflow)
    except (OSError, TypeError, ValueError) as error:
        return PrepareFailure(error if is_resource_shortage(error) else RunNotStartable(str(error)))
    script = next(source for source in sources if source.name == study.exec_file)
    problem = unfit_script(script)
    if problem is not None:
        return PrepareFailure(RunNotStartable(problem))
    in_the_way = _in_the_way(store, active)
    if in_the_way is not None:
        return PrepareFailure(in_the_way)
    try:
        fault_points.point("launcher.claimed")
        create(active.place, inputs, sources, starts.check)
        fault_points.point("launcher.prepared")
    except OSError as error:
        return PrepareFailure(_blamed(error, active.place.root))
    except SourceError as error:
        return PrepareFailure(RunNotStartable(str(error)))
    except (AttemptSuperseded, Fenced) as error:
        return PrepareFailure(error)
    return LaunchSpec(active.place, script, active.terms, given)


def unfit_script(script: ScriptFile) -> str | None:
    """Return why a script would not be run as its author expects, None if it would."""
    if has_windows_line_ends(script.content):
        return f"{script.name} has Windows line ends: run `dos2unix {script.name}`"
    interpreter = INTERPRETERS.get(os.path.splitext(script.name)[1])
    if interpreter is not None and command(script)[0] == "bash":
        line = f"#!/usr/bin/env {interpreter}"
        return f"bash would run {script.name}, which has no `#!` line: begin it with `{line}`"
    return None


def has_windows_line_ends(script: bytes) -> bool:
    """Return whether no shell or ``#!`` line can run a script because of its line ends."""
    first, ended, _ = script.partition(b"\n")
    return bool(ended) and first.endswith(b"\r") and b"\0" not in first


def _in_the_way(store: WorkflowStore, active: Attempt) -> Exception | None:
    """Return what is wrong if a process of an earlier attempt still works in the directory.

    That is so after a backup was restored that knows nothing of it. Two attempts of one run must
    not overlap.
    """
    process = processes_working_in(active.place.run)
    if process is None or not _is_ours(store, active):
        return None
    return RunNotStartable(
        f"process {process.pid} still works in {active.place.run}, "
        "for an attempt that the database does not know"
    )


def _is_ours(store: WorkflowStore, active: Attempt) -> bool:
    store.database.catch_up()
    session = Session(store.database)
    try:
        return session.run(active.key).token == active.token
    except UnknownRunError:
        return False
    finally:
        session.close()


def is_resource_shortage(error: BaseException) -> bool:
    """Return whether this passes, and says nothing about the run."""
    return isinstance(error, OSError) and error.errno in SHORTAGE


def _blamed(error: OSError, root: str) -> Exception:
    """Return the error, or an Unfit where it concerns this run's directory only."""
    if is_resource_shortage(error):
        return error
    return unfit(error) if trouble_writing(root) is not None else RunNotStartable(str(error))


def unfit(error: OSError) -> Exception:
    """Return the error, or an Unfit where only this run is to blame."""
    return RunNotStartable(str(error)) if error.errno in TOO_LONG else error
