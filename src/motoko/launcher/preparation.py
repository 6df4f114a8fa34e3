"""Prepare an attempt: check its script, create its run directory, collect its inputs."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from motoko.errors import Fenced, LauncherError, ServerError, UnknownRunError
from motoko.launcher.attempt_processes import find_process_in
from motoko.launcher.executors.process_spawner import command
from motoko.launcher.run_directory import (
    AttemptSuperseded,
    SourceError,
    create_run_directory,
)
from motoko.runtime import fault_points
from motoko.runtime.untrusted_files import write_error
from motoko.storage.session import Session
from motoko.worker import VERSION, as_text, encode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from motoko.core.records import RunRecord
    from motoko.core.run_options import RunOptions
    from motoko.launcher.attempt_paths import AttemptPaths
    from motoko.launcher.attempts import Attempt
    from motoko.launcher.source_files import ScriptFile, SourceFiles
    from motoko.launcher.start_notes import StartNotes
    from motoko.storage.store import WorkflowStore

# The reason to requeue a run if its directory holds another attempt, though this launcher owns the
# run: a restored backup does not know that attempt. A later attempt gets a higher number.
DIRECTORY_IN_USE: Final = "its directory holds another attempt"
REQUEUE_SECONDS: Final = 0.1
SHORTAGE_SECONDS: Final = 1.0  # delay of a run that could not start for lack of resources
TOO_LONG_ERRORS: Final = (errno.E2BIG, errno.ENAMETOOLONG)
# Of open files, processes or memory.
SHORTAGE_ERRORS: Final = (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM)
# Interpreters of scripts that bash would run if they have no ``#!`` line.
INTERPRETERS: Final = {
    ".py": "python3", ".pl": "perl", ".rb": "ruby", ".R": "Rscript", ".r": "Rscript",
    ".jl": "julia", ".m": "octave", ".js": "node", ".lua": "lua",
}  # fmt: skip


class RunNotStartable(LauncherError):
    """This run cannot be started, whatever the state of the machine."""


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """An attempt that is ready to start. ``variables`` go into its environment.

    ``record``: the run as it was when it was prepared.
    """

    record: RunRecord
    paths: AttemptPaths
    script: ScriptFile
    options: RunOptions
    variables: Mapping[str, str]

    @property
    def command(self) -> list[str]:
        """The command of a run on this machine."""
        return command(self.script, self.options.bash_options)


def prepare_attempt(
    store: WorkflowStore, attempt: Attempt, notes: StartNotes, files: SourceFiles
) -> LaunchSpec | Exception:
    """Create the attempt's run directory; return how to start it, or the error. Blocks."""
    try:
        try:
            return _prepare(store, attempt, notes, files)
        except RunNotStartable:
            notes.check()  # its files are missing if the workflow was moved
            raise
    except (RunNotStartable, AttemptSuperseded, Fenced, ServerError, OSError) as error:
        return error


def _prepare(
    store: WorkflowStore, attempt: Attempt, notes: StartNotes, files: SourceFiles
) -> LaunchSpec:
    record, study = attempt.record, store.studies[attempt.key.study]
    attempt.paths = paths = attempt.paths.in_present_layout()
    workflow = str(store.workflow_file)
    try:
        sources = files.read(study.directory, {study.exec_file, *study.config_files})
        inputs = inputs_file(record, paths, workflow, study.run)
        variables = environment(record, paths, attempt.options, workflow)
    except (OSError, TypeError, ValueError) as error:
        if is_resource_shortage(error):
            raise
        raise RunNotStartable(str(error)) from error
    script = next(source for source in sources if source.name == study.exec_file)
    problem = script_problem(script)
    if problem is not None:
        raise RunNotStartable(problem)
    _check_directory_free(store, attempt)
    try:
        fault_points.point("launcher.claimed")
        create_run_directory(paths, inputs, sources, notes.check)
        fault_points.point("launcher.prepared")
    except SourceError as error:
        raise RunNotStartable(str(error)) from error
    except OSError as error:
        only_here = error.errno in TOO_LONG_ERRORS or write_error(paths.runs_root) is None
        if is_resource_shortage(error) or not only_here:
            raise
        raise RunNotStartable(str(error)) from error
    return LaunchSpec(record, paths, script, attempt.options, variables)


def script_problem(script: ScriptFile) -> str | None:
    """Return why the script would not run as its author expects, None if it would."""
    if has_windows_line_ends(script.content):
        return f"{script.name} has Windows line ends: run `dos2unix {script.name}`"
    interpreter = INTERPRETERS.get(os.path.splitext(script.name)[1])
    if interpreter is not None and command(script)[0] == "bash":
        line = f"#!/usr/bin/env {interpreter}"
        return f"bash would run {script.name}, which has no `#!` line: begin it with `{line}`"
    return None


def has_windows_line_ends(script: bytes) -> bool:
    """Return whether the first line of a script ends with a carriage return."""
    first, ended, _ = script.partition(b"\n")
    return bool(ended) and first.endswith(b"\r") and b"\0" not in first


def _check_directory_free(store: WorkflowStore, attempt: Attempt) -> None:
    """Raise RunNotStartable if a process of an earlier attempt still runs in the directory.

    This happens after the restore of a backup that does not know that attempt.
    """
    directory = attempt.paths.run_directory
    process = find_process_in(directory) if os.path.lexists(directory) else None
    if process is not None and _is_owned(store, attempt):
        raise RunNotStartable(
            f"process {process.pid} is still running in {directory}, "
            "for an attempt that the database does not know"
        )


def _is_owned(store: WorkflowStore, attempt: Attempt) -> bool:
    store.database.catch_up()
    with contextlib.closing(Session(store.database)) as session:
        try:
            return session.run(attempt.key).token == attempt.token
        except UnknownRunError:
            return False


def is_resource_shortage(error: BaseException) -> bool:
    """Return whether the error comes from a temporary shortage, and not from the run."""
    return isinstance(error, OSError) and error.errno in SHORTAGE_ERRORS


def as_start_error(error: OSError) -> Exception:
    """Return the error, or RunNotStartable if only this run is the cause."""
    return RunNotStartable(str(error)) if error.errno in TOO_LONG_ERRORS else error


def inputs_file(
    record: RunRecord, paths: AttemptPaths, workflow: str, types: Mapping[str, str]
) -> bytes:
    """Return the content of the inputs file of ``motoko.worker``.

    ``types``: the declared types of run fields.
    """
    inputs = {
        "v": VERSION,
        "study": record.study,
        "id": record.id,
        "job_id": record.job_id,
        "run_name": record.run_name,
        "replicate": record.replicate,
        "attempt": record.tries,
        "token": paths.token,
        "workflow": workflow,
        "job": encode(dict(record.job)),
        "fields": encode(dict(record.fields)),
        "resources": encode(dict(record.options)),
        "types": dict(types),
    }
    return json.dumps(inputs).encode() + b"\n"


def environment(
    record: RunRecord, paths: AttemptPaths, options: RunOptions, workflow: str
) -> dict[str, str]:
    """Return the environment variables of an attempt.

    ``MOTOKO_JOB_X`` is the job parameter ``x``, ``MOTOKO_RUN_Y`` the run field ``y``. Only the
    inputs file contains names that a shell cannot use.
    """
    return {
        **_upper("MOTOKO_JOB_", record.job),
        **_upper("MOTOKO_RUN_", record.fields),
        "MOTOKO_ATTEMPT": str(record.tries),
        "MOTOKO_JOB_ID": str(record.job_id),
        "MOTOKO_NPROC": str(options.nproc),
        "MOTOKO_OUTBOX": paths.attempt_path,
        "MOTOKO_RUN_DIR": paths.run_directory,
        "MOTOKO_RUN_ID": str(record.id),
        "MOTOKO_RUN_NAME": record.run_name,
        "MOTOKO_STUDY": record.study,
        "MOTOKO_WORKFLOW": workflow,
    }


def _upper(prefix: str, values: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    # Of two names that differ in case only, the one in capitals wins.
    for name in sorted(values, key=str.isupper):
        if isinstance(name, str) and name.isascii():
            found[prefix + name.upper()] = as_text(values[name])
    return found
