"""The metadata of a crate: RO-Crate 1.1 with the profiles Workflow Run Crate and Workflow RO-Crate.

An execution of the workflow is a CreateAction of the orchestrator's module; an attempt of a run is
one of its study's script.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import quote

from motoko.core.states import Lifecycle
from motoko.printable import printable
from motoko.runtime.ports import utc_text
from motoko.version import __version__

if TYPE_CHECKING:
    from motoko.operations.crate.content import (
        AttemptContent,
        CrateContent,
        CrateFile,
        Execution,
        StudyContent,
    )

Entity: TypeAlias = dict[str, Any]

RO_CRATE: Final = "1.1"
WORKFLOW_CRATE: Final = "https://w3id.org/workflowhub/workflow-ro-crate/1.0"
PROFILES: Final = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    WORKFLOW_CRATE: ("Workflow RO-Crate", "1.0"),
}
MEDIA_TYPES: Final = {
    ".csv": "text/csv", ".md": "text/markdown", ".py": "text/x-python", ".sh": "text/x-shellscript",
    ".yaml": "application/yaml", ".yml": "application/yaml", ".json": "application/json",
}  # fmt: skip
COMPLETED: Final = "http://schema.org/CompletedActionStatus"
FAILED: Final = "http://schema.org/FailedActionStatus"
MOTOKO: Final = "#motoko"
README: Final = "README.md"
NO_LICENSE: Final = "#no-license"


def reference(identifier: str) -> Entity:
    """Return a reference to an entity."""
    return {"@id": identifier}


def references(identifiers: Iterable[str]) -> Any:
    """Return references to entities; a single one stands for itself."""
    found = [reference(identifier) for identifier in identifiers]
    return found[0] if len(found) == 1 else found


def file_id(path: str) -> str:
    """Return the identifier of a file in the crate."""
    return quote(path)


def root_properties(content: CrateContent) -> Entity:
    """Return the properties of the root data entity."""
    studies = ", ".join(study.name for study in content.studies)
    actions = [*map(execution_id, content.executions), *map(attempt_id, content.attempts)]
    properties: Entity = {
        "name": printable(f"Results of the workflow {content.name}"),
        "description": f"The files, results and provenance of a Motoko workflow with the studies "
        f"{studies}, at transaction {content.transaction} ({content.committed}).",
        "datePublished": content.exported,
        "version": content.transaction,
        "license": reference(_license_id(content)),
        "conformsTo": references(PROFILES),
        "mainEntity": reference(file_id(content.workflow[0].path)),
        "mentions": references(actions),
    }
    if content.authors:
        properties["author"] = references(_author_ids(content))
    return properties


def file_properties(content: CrateContent, file: CrateFile) -> Entity:
    """Return the properties of a file."""
    properties: Entity = {"name": printable(file.name)}
    media_type = MEDIA_TYPES.get(PurePosixPath(file.path).suffix)
    if media_type is not None:
        properties["encodingFormat"] = media_type
    if file is content.workflow[0]:
        properties |= {
            "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow"],
            "programmingLanguage": reference(MOTOKO),
            "version": content.version,
            "hasPart": references(file_id(s.files[0].path) for s in content.studies),
        }
    if file.path == README:
        properties["about"] = reference("./")
    for study in content.studies:
        if file is study.files[0]:
            properties |= {
                "@type": ["File", "SoftwareSourceCode"],
                "identifier": study.digest,
                "version": study.digest,
            }
    return properties


def readme(content: CrateContent) -> str:
    """Return the text of the crate's README."""
    names = ", ".join(execution.run_name for execution in content.executions)
    source = f"transaction {content.transaction} ({content.committed})"
    lines = [
        f"# {root_properties(content)['name']}",
        "",
        f"Motoko {__version__} wrote this RO-Crate at {content.exported} from the workflow's",
        f"database at {source}.",
        "",
        "- `workflow/`: the settings, the orchestrator, and the scripts of each study",
        "- `results/STUDY.csv`: a row for each run, with parameters, results and state",
        "- `provenance/STUDY.csv`: a row for each attempt of a run, with times, host and code",
        "- `ro-crate-metadata.json`: a description of all of these for programs",
        "",
        f"Run names: {names or 'none'}. To run the workflow again, install Motoko and call",
        "`motoko run --run_name again` in a copy of `workflow/`.",
        "",
    ]
    return printable("\n".join(lines))


def contextual_entities(content: CrateContent) -> list[Entity]:
    """Return all entities but the root and the files."""
    return [
        *_profiles(),
        {
            "@id": MOTOKO,
            "@type": "ComputerLanguage",
            "name": "Motoko",
            "version": __version__,
            "description": "Orchestrators of Motoko are asynchronous Python functions.",
        },
        *_people(content),
        *_licenses(content),
        *_old_scripts(content),
        *(_execution(content, execution) for execution in content.executions),
        *_jobs(content),
        *(_attempt(content, attempt) for attempt in content.attempts),
    ]


def _profiles() -> list[Entity]:
    return [
        {"@id": identifier, "@type": "CreativeWork", "name": name, "version": version}
        for identifier, (name, version) in PROFILES.items()
    ]


def _author_ids(content: CrateContent) -> list[str]:
    return [author.uri or f"#author-{number}" for number, author in enumerate(content.authors, 1)]


def _people(content: CrateContent) -> list[Entity]:
    return [
        {"@id": identifier, "@type": "Person", "name": printable(author.name)}
        for identifier, author in zip(_author_ids(content), content.authors, strict=True)
    ]


def _license_id(content: CrateContent) -> str:
    if content.license_url is not None:
        return content.license_url
    return NO_LICENSE if content.license_file is None else "#license"


def _licenses(content: CrateContent) -> list[Entity]:
    identifier = _license_id(content)
    entity: Entity = {"@id": identifier, "@type": "CreativeWork", "name": identifier}
    if content.license_url is not None:
        entity["description"] = "The license that the exporter of this crate gave."
    elif content.license_file is not None:
        entity["name"] = f"The license in {content.license_file}"
        entity["description"] = "The license file of the workflow's directory."
        entity["url"] = file_id(content.license_file)
    else:
        entity["name"] = "No license"
        entity["description"] = (
            "The workflow's directory has no license file. Ask the authors before you use the data."
        )
    return [entity]


# -- actions -----------------------------------------------------------------------------------


def execution_id(execution: Execution) -> str:
    """Return the identifier of an execution of the workflow."""
    return f"#run-name-{quote(execution.run_name, safe='')}"


def attempt_id(attempt: AttemptContent) -> str:
    """Return the identifier of an attempt."""
    run = f"{quote(attempt.study, safe='')}.{attempt.run_id}"
    return f"#run-{run}-attempt-{attempt.provenance.number}"


def _execution(content: CrateContent, execution: Execution) -> Entity:
    counts = ", ".join(f"{number} {state}" for state, number in execution.counts.items())
    action: Entity = {
        "@id": execution_id(execution),
        "@type": "CreateAction",
        "name": printable(f"Execution of the workflow with the run name {execution.run_name}"),
        "description": printable(f"Its runs by state: {counts}."),
        "instrument": reference(file_id(content.workflow[0].path)),
        "object": references(file_id(file.path) for file in content.workflow[1:]),
        "result": references(file_id(study.results.path) for study in content.studies),
    }
    action |= _times(execution.started, execution.ended)
    if execution.ended is not None and execution.succeeded is not None:
        action |= _status(execution.succeeded, execution.reason)
    return action | _agents(content)


def _attempt(content: CrateContent, attempt: AttemptContent) -> Entity:
    facts = attempt.provenance
    study = _study(content, attempt.study)
    started, ended = facts.started or facts.claimed, facts.ended
    action: Entity = {
        "@id": attempt_id(attempt),
        "@type": "CreateAction",
        "name": f"Attempt {facts.number} of run {attempt.study}.{attempt.run_id}",
        "description": printable(f"A run of the run name {attempt.run_name}{_facts(attempt)}."),
        "instrument": reference(_script_id(study, attempt)),
        "object": references(_value_id(attempt, name) for name in attempt.job),
        "result": reference(file_id(study.results.path)),
    }
    action |= _times(*(None if at is None else utc_text(at) for at in (started, ended)))
    if facts.outcome is not None:
        action |= _status(facts.outcome == Lifecycle.FINISHED, attempt.reason or facts.outcome)
    return action | _agents(content)


def _facts(attempt: AttemptContent) -> str:
    facts = attempt.provenance
    dirty = ", with changes that were not committed" if facts.git_dirty else ""
    known = (
        facts.host and f" on the host {facts.host}",
        facts.python_version and f" with Python {facts.python_version}",
        facts.motoko_version and f" by Motoko {facts.motoko_version}",
        facts.git_commit and f"; Git commit {facts.git_commit}{dirty}",
    )
    return "".join(filter(None, known))


def _times(started: str | None, ended: str | None) -> Entity:
    times = {"startTime": started, "endTime": ended}
    return {name: time for name, time in times.items() if time}


def _status(succeeded: bool, reason: str) -> Entity:
    if succeeded:
        return {"actionStatus": COMPLETED}
    status: Entity = {"actionStatus": FAILED}
    return status | ({"error": printable(reason)} if reason else {})


def _agents(content: CrateContent) -> Entity:
    authors = _author_ids(content)
    return {"agent": references(authors)} if authors else {}


def _study(content: CrateContent, name: str) -> StudyContent:
    return next(study for study in content.studies if study.name == name)


def _script_id(study: StudyContent, attempt: AttemptContent) -> str:
    digest = attempt.provenance.scripts
    if digest in ("", study.digest):
        return file_id(study.files[0].path)
    return f"#scripts-{quote(study.name, safe='')}-{digest}"


def _old_scripts(content: CrateContent) -> list[Entity]:
    """Return the scripts of attempts that have changed since; the crate has only the newest."""
    found: dict[str, Entity] = {}
    for attempt in content.attempts:
        study = _study(content, attempt.study)
        identifier = _script_id(study, attempt)
        if identifier.startswith("#"):
            found[identifier] = {
                "@id": identifier,
                "@type": "SoftwareSourceCode",
                "name": f"Earlier scripts of the study {study.name}",
                "description": "They changed after the attempt; this crate does not hold them.",
                "identifier": attempt.provenance.scripts,
                "version": attempt.provenance.git_commit or attempt.provenance.scripts,
            }
    return list(found.values())


def _value_id(attempt: AttemptContent, name: str) -> str:
    return f"#job-{quote(attempt.study, safe='')}.{attempt.job_id}-{quote(name, safe='')}"


def _jobs(content: CrateContent) -> list[Entity]:
    found: dict[str, Entity] = {}
    for attempt in content.attempts:
        for name, value in attempt.job.items():
            identifier = _value_id(attempt, name)
            found[identifier] = {
                "@id": identifier,
                "@type": "PropertyValue",
                "name": name,
                "value": _json_value(value),
            }
    return list(found.values())


def _json_value(value: Any) -> Any:
    """Return a job value as JSON-LD allows it: a number, a truth value or text."""
    if isinstance(value, bool | int) or (isinstance(value, float) and abs(value) < float("inf")):
        return value
    if isinstance(value, Mapping | Sequence | set) and not isinstance(value, str | bytes):
        plain = sorted(value, key=str) if isinstance(value, set) else value
        return printable(json.dumps(plain, default=str))
    return printable(str(value))
