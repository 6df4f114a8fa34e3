"""Can the scripts of the studies be executed?"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING

from motoko.config import TaskManagerSettings
from motoko.core.run_options import BASH, RunOptions
from motoko.launcher.executors.process_spawner import command, shebang
from motoko.launcher.preparation import script_problem
from motoko.launcher.source_files import ScriptFile, read_sources
from motoko.operations.doctor.findings import Finding, fault, ok, warning

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from motoko.config import StudyConfig
    from motoko.config.workflow_file import WorkflowFile
    from motoko.operations.doctor.patient import Patient


@dataclass(frozen=True, slots=True)
class Script:
    """The script of a study, and the generator of its runs.

    ``file`` is None if it cannot be read, for the reason ``error``.
    """

    study: str
    name: str
    file: ScriptFile | None
    generator: str = BASH
    error: str = ""


def examine_scripts(patient: Patient) -> list[Finding]:
    """Examine the script of each study, in the PATH that its runs get."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    findings: list[Finding] = []
    for name, study in patient.diagnosis.studies.items():
        if (study.directory / study.exec_file).is_file():  # otherwise the diagnosis reports it
            script = _read(name, study, options_of(name, study, patient.diagnosis.written))
            findings += judge_script(script, lambda program: which(program, path=path))
    return findings


def options_of(name: str, study: StudyConfig, written: WorkflowFile | None) -> RunOptions:
    """Return the run options of a study, as far as its files are valid."""
    given = study.given()
    if written is not None:
        manager = written.task_managers.get(name, TaskManagerSettings())
        given = written.merged(manager).merged(study).given()
    return RunOptions.resolve(given, {})


def _read(name: str, study: StudyConfig, options: RunOptions) -> Script:
    try:
        (file,) = read_sources(study.directory, [study.exec_file])
    except OSError as error:
        reason = error.strerror or str(error)
        return Script(name, study.exec_file, None, options.generator, reason)
    return Script(name, study.exec_file, file, options.generator)


def judge_script(script: Script, find: Callable[[str], str | None]) -> list[Finding]:
    """Return the findings about a script; ``find`` returns the path of a program, None without."""
    subject, file = f"{script.study}/{script.name}", script.file
    if file is None:
        message = f"the script cannot be read: {script.error}"
        return [fault("script-unreadable", subject, message, f"`chmod u+r {subject}`")]
    problem = script_problem(file)
    if problem is not None:
        message, _, step = problem.partition(": ")
        code = "script-line-ends" if "Windows" in problem else "script-without-interpreter"
        return [fault(code, subject, message, step[:1].upper() + step[1:] + ".")]
    findings = _judge_interpreter(subject, script, find)
    words = command(file)
    if b"\r\n" in file.content and b"\0" not in file.content:
        message = "some of its lines have Windows line ends"
        findings.append(
            warning("script-line-ends", subject, message, f"Run `dos2unix {script.name}`.")
        )
    if findings:
        return findings
    note = "" if file.executable else "; it need not be executable"
    return [ok("script", subject, f"runs with {' '.join(words[:-1]) or 'the system'}{note}")]


def _judge_interpreter(
    subject: str, script: Script, find: Callable[[str], str | None]
) -> list[Finding]:
    assert script.file is not None
    program = _interpreter(command(script.file)[:-1])
    if not program or find(program) is not None:
        return []
    line = shebang(script.file.content)
    message = f"its interpreter {program} does not exist"
    step = f"Install {program}, or change the `#!` line." if line else f"Install {program}."
    if script.generator == BASH:
        return [fault("interpreter-missing", subject, message, step)]
    message += " on this machine"
    step = f"Check that it exists where {script.generator} executes the runs."
    return [warning("interpreter-missing", subject, message, step)]


def _interpreter(words: Sequence[str]) -> str:
    """Return the program that a command starts; for ``env``, the program that this starts."""
    if not words or Path(words[0]).name != "env":
        return words[0] if words else ""
    for word in " ".join(words[1:]).split():
        if not word.startswith("-") and "=" not in word:
            return word
    return words[0]
