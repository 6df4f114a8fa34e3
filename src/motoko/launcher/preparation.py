"""What every attempt needs before it is submitted: its directory, its inputs, its script."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from motoko.errors import Fenced, LauncherError, UnknownRunError
from motoko.launcher.attempt_files import find_process_in
from motoko.launcher.executors.local_process import command
from motoko.launcher.executors.process_handle import LaunchSpec
from motoko.launcher.run_directory import AttemptSuperseded, SourceError, create, read_sources
from motoko.runtime import fault_points
from motoko.runtime.untrusted_files import write_error
from motoko.storage.session import Session
from motoko.worker import INPUTS, VERSION, as_text, encode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from motoko.core.records import RunRecord
    from motoko.core.run_options import RunOptions
    from motoko.launcher.attempts import Attempt
    from motoko.launcher.run_directory import AttemptPaths, ScriptFile
    from motoko.launcher.start_notes import StartNotes
    from motoko.storage.store import WorkflowStore

# What becomes of a run whose directory holds what its attempt must not touch. If the run is still
# this launcher's, that is of another history: of the time after the backup that was restored. A
# later attempt's number is higher than that.
DIRECTORY_IN_USE: Final = "its directory holds another attempt"
REQUEUE_SECONDS: Final = 0.1  # seconds until it is tried again
TOO_LONG_ERRORS: Final = (errno.E2BIG, errno.ENAMETOOLONG)
# What a launcher or its machine has too few of just now: open files, processes, memory.
SHORTAGE_ERRORS: Final = (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM)
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
SHORTAGE_SECONDS: Final = 1.0  # seconds until a run is tried again for which there was too little


class RunNotStartable(LauncherError):
    """This run cannot be started, whatever the state of the machine."""


@dataclass(frozen=True, slots=True)
class PrepareFailure:
    """Why an attempt could not be prepared or submitted."""

    problem: Exception


def prepare_attempt(
    store: WorkflowStore, active: Attempt, starts: StartNotes
) -> LaunchSpec | PrepareFailure:
    """Make the attempt's clean run directory; return how it is to be run. Blocks."""
    record, study = active.record, store.studies[active.key.study]
    workflow = str(store.workflow_file)
    try:
        sources = read_sources(study.directory, {study.exec_file, *study.config_files})
        inputs = inputs_file(record, active.place, workflow, study.run)
        given = environment(record, active.place, active.terms, workflow)
    except (OSError, TypeError, ValueError) as error:
        return PrepareFailure(error if is_resource_shortage(error) else RunNotStartable(str(error)))
    script = next(source for source in sources if source.name == study.exec_file)
    problem = script_problem(script)
    if problem is not None:
        return PrepareFailure(RunNotStartable(problem))
    in_the_way = _check_directory_free(store, active)
    if in_the_way is not None:
        return PrepareFailure(in_the_way)
    try:
        fault_points.point("launcher.claimed")
        create(active.place, inputs, sources, starts.check)
        fault_points.point("launcher.prepared")
    except OSError as error:
        return PrepareFailure(_classify_error(error, active.place.root))
    except SourceError as error:
        return PrepareFailure(RunNotStartable(str(error)))
    except (AttemptSuperseded, Fenced) as error:
        return PrepareFailure(error)
    return LaunchSpec(active.place, script, active.terms, given)


def script_problem(script: ScriptFile) -> str | None:
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


def _check_directory_free(store: WorkflowStore, active: Attempt) -> Exception | None:
    """Return what is wrong if a process of an earlier attempt still works in the directory.

    That is so after a backup was restored that knows nothing of it. Two attempts of one run must
    not overlap.
    """
    process = find_process_in(active.place.run)
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
    return isinstance(error, OSError) and error.errno in SHORTAGE_ERRORS


def _classify_error(error: OSError, root: str) -> Exception:
    """Return the error, or an Unfit where it concerns this run's directory only."""
    if is_resource_shortage(error):
        return error
    return as_start_error(error) if write_error(root) is not None else RunNotStartable(str(error))


def as_start_error(error: OSError) -> Exception:
    """Return the error, or an Unfit where only this run is to blame."""
    return RunNotStartable(str(error)) if error.errno in TOO_LONG_ERRORS else error


def inputs_file(
    record: RunRecord, place: AttemptPaths, workflow: str, types: Mapping[str, str]
) -> tuple[str, bytes]:
    """Return name and content of the file that ``motoko.worker`` reads.

    ``types`` are those that ``bd.yaml`` declares for run fields.
    """
    inputs = {
        "v": VERSION,
        "study": record.study,
        "id": record.id,
        "job_id": record.job_id,
        "run_name": record.run_name,
        "replicate": record.replicate,
        "attempt": record.tries,
        "token": place.token,
        "workflow": workflow,
        "job": dict(record.job),
        "fields": dict(record.fields),
        "resources": dict(record.options),
        "types": dict(types),
    }
    return INPUTS, json.dumps(encode(inputs)).encode()


def environment(
    record: RunRecord, place: AttemptPaths, terms: RunOptions, workflow: str
) -> dict[str, str]:
    """Return the environment variables of an attempt.

    ``MOTOKO_JOB_X`` is the job parameter ``x``, ``MOTOKO_RUN_Y`` the run field ``y``. Names that a
    shell cannot use are left out; scripts find everything in the inputs file.
    """
    return {
        **_upper("MOTOKO_JOB_", record.job),
        **_upper("MOTOKO_RUN_", record.fields),
        "MOTOKO_ATTEMPT_DIR": place.private,
        "MOTOKO_ATTEMPT": str(record.tries),
        "MOTOKO_JOB_ID": str(record.job_id),
        "MOTOKO_NPROC": str(terms.nproc),
        "MOTOKO_RUN_DIR": place.run,
        "MOTOKO_RUN_ID": str(record.id),
        "MOTOKO_RUN_NAME": record.run_name,
        "MOTOKO_STUDY": record.study,
        "MOTOKO_WORKFLOW": workflow,
    }


def _upper(prefix: str, values: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    # Where two names differ in case only, the one in capitals has the variable.
    for name in sorted(values, key=str.isupper):
        if isinstance(name, str) and name.isascii():
            found[prefix + name.upper()] = as_text(values[name])
    return found
