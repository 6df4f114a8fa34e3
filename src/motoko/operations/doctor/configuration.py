"""Are ``motoko.yaml``, every ``bd.yaml`` and the orchestrator's module valid?"""

from __future__ import annotations

import ast
import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from motoko.config.json_schema import SCHEMAS, schema_path
from motoko.errors import nearest
from motoko.operations.doctor.findings import Finding, fault, ok, warning
from motoko.worker.regular_files import open_regular

if TYPE_CHECKING:
    from pathlib import Path

    from motoko.config.diagnosis import Diagnosis
    from motoko.config.workflow_file import WorkflowFile
    from motoko.errors import ConfigError
    from motoko.operations.doctor.patient import Patient

CORRECT: Final = "Correct this line."
UNREADABLE: Final = "Make it a regular file that you can read."
DYNAMIC: Final = frozenset({"globals", "setattr", "exec", "vars", "__getattr__"})  # define names


def examine_configuration(patient: Patient) -> list[Finding]:
    """Examine ``motoko.yaml``, every ``bd.yaml`` and the orchestrator's module."""
    found = patient.diagnosis
    findings = judge_diagnosis(found, patient.directory)
    if found.written is not None:
        findings += judge_orchestrator(patient.directory, found.written)
    return [*findings, *judge_schemas(patient.directory)]


def judge_diagnosis(found: Diagnosis, directory: Path) -> list[Finding]:
    """Return the mistakes in the files, and the unlisted studies."""
    findings = []
    for path, errors in found.faults.items():
        name = os.path.relpath(path, directory)
        for error in errors:
            code = "configuration-invalid" if path.exists() else "study-missing"
            subject, message = _place(error, name, directory)
            step = error.hint or (UNREADABLE if error.line is None else CORRECT)
            findings.append(fault(code, subject, message, step))
        if not errors:
            findings.append(ok("configuration", name, "valid"))
    for path in found.unlisted:
        message = f"motoko.yaml does not name the study directory {path.name}"
        step = f"Add `{path.name}:` to task_managers, or ignore this if you do not use it."
        findings.append(warning("study-unlisted", path.name, message, step))
    return findings


def _place(error: ConfigError, name: str, directory: Path) -> tuple[str, str]:
    """Return place and problem of an error; by default the place is ``name``."""
    if error.file is None:
        return name, error.message
    line = "" if error.line is None else f":{error.line}"
    place = f"{os.path.relpath(error.file, directory)}{line}"
    return place, error.message.removeprefix(f"{error.file}{line}: ")


def judge_orchestrator(directory: Path, written: WorkflowFile) -> list[Finding]:
    """Return the findings about the orchestrator, whose module is parsed and not imported."""
    module, _, function = written.orchestrator.partition(".")
    path = directory / f"{module}.py"
    subject = path.name
    try:
        tree = ast.parse(_read(path), str(path))
    except FileNotFoundError:
        step = "Write it, or name another module with `orchestrator: module.function`."
        return [fault("orchestrator-missing", subject, f"{path} does not exist", step)]
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}"
        return [fault("orchestrator-unreadable", subject, message, UNREADABLE)]
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f":{error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        text = error.msg if isinstance(error, SyntaxError) else str(error)
        message = f"{path}{line}: it is not valid Python: {text}"
        return [fault("orchestrator-syntax", subject, message, CORRECT)]
    names, certain = _names(tree)
    if function in names or not certain:
        return [ok("orchestrator", subject, f"has the function {function}")]
    near = nearest(function, names)
    step = f"Did you mean {near!r}?" if near else f"Define `async def {function}(workflow)`."
    message = f"{path} has no function {function!r}, which motoko.yaml names"
    return [fault("orchestrator-function-missing", subject, message, step)]


def _read(path: Path) -> bytes:
    with open_regular(path) as file:
        return file.read() or b""


def judge_schemas(directory: Path) -> list[Finding]:
    """Return the schemas for editors that another version of Motoko wrote."""
    findings = []
    for name, make in SCHEMAS.items():
        path = schema_path(name)
        with suppress(OSError, ValueError):
            if json.loads((directory / path).read_bytes()) != make():
                message = "is not the schema of this version of Motoko; editors use it"
                step = f"`motoko schema {name} > {path}`"
                findings.append(warning("schema-old", path, message, step))
    return findings


def _names(tree: ast.Module) -> tuple[set[str], bool]:
    """Return the names that a module may define, and whether they are all."""
    names: set[str] = set()
    certain = True
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name):
            names.add(node.id)
            certain = certain and node.id not in DYNAMIC
        elif isinstance(node, ast.alias):
            names.add(node.asname or node.name)
            certain = certain and node.name != "*"
    return names, certain
