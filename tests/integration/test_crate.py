"""``motoko export --crate``: RO-Crates that the validator of RO-Crates accepts."""

from __future__ import annotations

import contextlib
import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest

from motoko.core.changes import EditRun
from motoko.core.edits import Claim, EndAttempt, MarkStarted, SetFields
from motoko.core.provenance import Provenance
from motoko.core.records import RunKey
from motoko.core.states import Lifecycle
from motoko.errors import ConfigError, MotokoError, RunNameError, StorageError
from motoko.operations.crate import reading
from motoko.operations.crate.content import Author
from motoko.operations.crate.writing import export_crate
from motoko.storage.session import Session
from motoko.testing import add_run, empty_database
from motoko.testing.memory import commit
from motoko.workflow import Workflow
from tests.support import validate_crate
from tests.support.command_line import Shell, small_workflow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from motoko.core.edits import RunEdit

pytest.importorskip("rocrate")
pytestmark = pytest.mark.integration

FACTS = Provenance("11", "c0ffee", True, "desk", "/opt/python/bin/python", "3.12.1", "0.1.0")
PROFILES = {
    "https://w3id.org/ro/crate/1.1",
    "https://w3id.org/ro/wfrun/process/0.5",
    "https://w3id.org/ro/wfrun/workflow/0.5",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0",
}


def attempt(session: Session, key: RunKey, token: str, outcome: str, **more: Any) -> None:
    edits: list[RunEdit] = [
        Claim("l", token, 10.0, provenance=FACTS.reference),
        MarkStarted(token, 20.0, "l"),
        EndAttempt(token, Lifecycle(outcome), 30.0, "l", 0 if outcome == "FINISHED" else 1, **more),
    ]
    for edit in edits:
        session.add(EditRun(key, edit))


@pytest.fixture
def workflow(tmp_path: Path) -> Iterator[Workflow]:
    directory = tmp_path / "my workflow"
    study = directory / "s"
    study.mkdir(parents=True)
    (directory / "motoko.yaml").write_text(
        f"task_managers: {{'{study.name}': {{}}}}\norchestrator: steps.main\n"
    )
    (directory / "steps.py").write_text("async def main(workflow): pass\n")
    (study / "bd.yaml").write_text(
        "study: s\njob: {x: float, v: list}\nconfig_files: ['in/a %20 ä#.txt']\n"
    )
    (study / "launch.sh").write_text("true\n")
    (study / "launch.sh").chmod(0o755)
    (study / "in").mkdir()
    (study / "in" / "a %20 ä#.txt").write_text("data")
    database = empty_database([study.name])
    opened = Workflow(directory / "motoko.yaml", database=database)
    with contextlib.closing(opened):
        yield opened


def add_runs(workflow: Workflow, number: int = 3) -> None:
    (study,) = workflow.task_managers
    database = workflow.store.database
    with contextlib.closing(Session(database)) as session:
        session.tables.add_provenance(FACTS)
        for x in range(number):
            key = add_run(
                session, study, {"x": float(x), "v": [x, "b"]}, run_name="a/b #1", at=1.0 + x
            )
            if x == 0:
                reason = f"{workflow.directory}/file is missing\x1b"
                attempt(session, key, f"t{x}", "FAILED", reason=reason)
            elif x == 1:
                attempt(session, key, f"t{x}", "FINISHED")
                session.add(EditRun(key, SetFields({"y": 2.5, "text": 'a,\n"b"'})))
        add_run(session, study, {"x": 9.0, "v": []}, run_name="other")
        commit(database, session)


def metadata(directory: Path) -> dict[str, dict[str, Any]]:
    graph = json.loads((directory / "ro-crate-metadata.json").read_text())["@graph"]
    return {entity["@id"]: entity for entity in graph}


def referred(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield value["@id"]
    elif isinstance(value, list):
        for item in value:
            yield from referred(item)


def check(directory: Path) -> dict[str, dict[str, Any]]:
    """Check by hand that terms are known, references resolve, and all files are described."""
    entities = metadata(directory)
    for entity in entities.values():
        types = entity["@type"] if isinstance(entity["@type"], list) else [entity["@type"]]
        assert {*entity, *types} - {"@id", "@type"} <= validate_crate.TERMS.keys()
        for name, value in entity.items():
            for identifier in referred(value) if name[0] != "@" else ():
                assert identifier in entities or identifier in PROFILES, (name, identifier)
    described = {unquote(i) for i, e in entities.items() if "File" in e["@type"]}
    found = {str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file()}
    assert found == {*described, "ro-crate-metadata.json"}
    parts = {unquote(identifier) for identifier in referred(entities["./"]["hasPart"])}
    assert parts == described
    return entities


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def test_a_crate_holds_workflow_results_and_provenance(workflow: Workflow, tmp_path: Path) -> None:
    add_runs(workflow)
    (study,) = workflow.task_managers
    author = Author("Ada Lovelace", "https://orcid.org/0000-0000-0000-0001")
    crate = export_crate(workflow, tmp_path / "c", license_url="https://x.org/l", authors=[author])
    entities = check(crate.directory)
    copied = crate.directory / "workflow" / study
    assert (copied / "in" / "a %20 ä#.txt").read_text() == "data"
    assert (copied / "launch.sh").stat().st_mode & 0o100

    results = rows(crate.directory / "results" / f"{study}.csv")
    assert [(row["x"], row["state"], row["y"], row["text"]) for row in results] == [
        ("0.0", "FAILED", "", ""),
        ("1.0", "FINISHED", "2.5", 'a,\n"b"'),
        ("2.0", "CREATED", "", ""),
        ("9.0", "CREATED", "", ""),
    ]
    (first, second) = rows(crate.directory / "provenance" / f"{study}.csv")
    assert (first["outcome"], first["git_commit"], first["git_dirty"]) == (
        "FAILED",
        "c0ffee",
        "true",
    )
    assert (second["host"], second["python_version"], second["scripts"]) == ("desk", "3.12.1", "11")

    assert entities["./"]["license"] == {"@id": "https://x.org/l"}
    assert entities[author.uri or ""]["name"] == "Ada Lovelace"
    actions = [e for e in entities.values() if e["@type"] == "CreateAction"]
    failed, finished = (a for a in actions if a["name"].startswith("Attempt 1 of run"))
    assert failed["actionStatus"] == "http://schema.org/FailedActionStatus"
    assert failed["error"] == "./file is missing\\x1b"
    assert failed["startTime"] == "1970-01-01T00:00:20+00:00"
    assert entities[failed["instrument"]["@id"]]["identifier"] == "11"
    assert finished["actionStatus"] == "http://schema.org/CompletedActionStatus"
    assert (
        "on the host desk with Python 3.12.1 by Motoko 0.1.0; Git commit c0ffee"
        in (finished["description"])
    )
    values = [entities[identifier]["value"] for identifier in referred(finished["object"])]
    assert values == [1.0, '[1, "b"]']


def test_a_crate_names_no_path_of_the_machine(workflow: Workflow, tmp_path: Path) -> None:
    add_runs(workflow)
    crate = export_crate(workflow, tmp_path / "c")
    for file in crate.directory.rglob("*"):
        if file.is_file():
            text = file.read_text()
            assert str(tmp_path) not in text
            assert "/opt/python" not in text
    assert crate.notes == [
        "the workflow's directory has no LICENSE file; choose a license before you publish"
    ]


def test_paths_that_runs_stored_are_reported(workflow: Workflow, tmp_path: Path) -> None:
    add_runs(workflow)
    (study,) = workflow.task_managers
    with contextlib.closing(Session(workflow.store.database)) as session:
        fields = {"out": f"{workflow.directory}/out.txt"}
        session.add(EditRun(RunKey(study, 1), SetFields(fields), blind=True))
        commit(workflow.store.database, session)
    notes = export_crate(workflow, tmp_path / "c").notes
    assert f"results/{study}.csv contains paths of this machine" in notes


def test_a_license_file_is_part_of_the_crate(workflow: Workflow, tmp_path: Path) -> None:
    (Path(workflow.directory) / "LICENSE.txt").write_text("Do as you like.")
    crate = export_crate(workflow, tmp_path / "c")
    entities = check(crate.directory)
    assert entities[entities["./"]["license"]["@id"]]["url"] == "LICENSE.txt"
    assert crate.notes == []


def test_one_run_name_can_be_exported(workflow: Workflow, tmp_path: Path) -> None:
    add_runs(workflow)
    (study,) = workflow.task_managers
    crate = export_crate(workflow, tmp_path / "c", run_name="other")
    check(crate.directory)
    assert [row["run_name"] for row in rows(crate.directory / "results" / f"{study}.csv")] == [
        "other"
    ]
    with pytest.raises(RunNameError, match="othr"):
        export_crate(workflow, tmp_path / "d", run_name="othr")
    assert not (tmp_path / "d").exists()


def test_very_many_attempts_are_listed_only(
    workflow: Workflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_runs(workflow)
    monkeypatch.setattr(reading, "MOST_ATTEMPTS", 1)
    crate = export_crate(workflow, tmp_path / "c")
    entities = check(crate.directory)
    actions = [e["name"] for e in entities.values() if e["@type"] == "CreateAction"]
    assert not [name for name in actions if name.startswith("Attempt")]
    (study,) = workflow.task_managers
    assert len(rows(crate.directory / "provenance" / f"{study}.csv")) == 2


def test_existing_content_is_never_overwritten(workflow: Workflow, tmp_path: Path) -> None:
    full, empty, link = tmp_path / "full", tmp_path / "empty", tmp_path / "link"
    full.mkdir()
    (full / "kept").touch()
    empty.mkdir()
    link.symlink_to(tmp_path / "nowhere")
    for directory in (full, full / "kept", link):
        with pytest.raises(StorageError, match=f"{directory.name} .*not empty"):
            export_crate(workflow, directory)
    with pytest.raises(StorageError, match=r"such does not exist"):
        export_crate(workflow, tmp_path / "no" / "such" / "parent")
    assert [path.name for path in full.iterdir()] == ["kept"]
    check(export_crate(workflow, empty).directory)
    assert not list(tmp_path.glob(".*"))


def test_missing_files_and_libraries_are_errors(
    workflow: Workflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (Path(workflow.directory) / "steps.py").unlink()
    with pytest.raises(ConfigError, match=r"steps\.py does not exist"):
        export_crate(workflow, tmp_path / "c")
    monkeypatch.setitem(sys.modules, "rocrate.rocrate", None)
    with pytest.raises(MotokoError, match="needs rocrate, which is not installed") as raised:
        export_crate(workflow, tmp_path / "c")
    assert raised.value.hint == "pip install 'motoko[crate]'"


@pytest.mark.parametrize(
    ("text", "author"),
    [
        ("Ada", Author("Ada")),
        (" Ada L. <https://orcid.org/1> ", Author("Ada L.", "https://orcid.org/1")),
        ("Ada <ada@x.org>", Author("Ada <ada@x.org>")),
        ("Ada <javascript:x>", Author("Ada <javascript:x>")),
    ],
)
def test_authors_have_a_name_and_perhaps_an_address(text: str, author: Author) -> None:
    assert Author.parse(text) == author


def test_the_validator_accepts_the_crate(workflow: Workflow, tmp_path: Path) -> None:
    program = shutil.which("rocrate-validator")
    if program is None:
        pytest.skip("roc-validator is not installed; it pins an old rich, so give it its own venv")
    add_runs(workflow)
    crate = export_crate(workflow, tmp_path / "c")
    python = Path(program).resolve().parent / "python"
    words = [validate_crate.__file__, str(crate.directory), "workflow-run-crate-0.5", "REQUIRED"]
    done = subprocess.run([python, *words], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


# -- the command -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ((), 2, "--crate"),
        (("--crate", "c"), 1, "with `motoko run`"),
        (("--crate", "s"), 1, "s is not empty"),
        (("--crate", "no/c"), 1, "no does not exist"),
    ],
)
def test_wrong_arguments_are_errors_with_the_next_step(
    tmp_path: Path, arguments: tuple[str, ...], status: int, message: str
) -> None:
    done = small_workflow(tmp_path / "w").run("export", *arguments)
    assert message in done.stderr
    assert done.returncode == status
    assert not (tmp_path / "w" / "c").exists()


def test_the_command_prints_the_directory_and_the_notes(workflow: Workflow) -> None:
    directory = Path(workflow.directory)
    with contextlib.closing(Workflow(directory / "motoko.yaml")) as served:
        served.create()
        shell = Shell(directory)
        try:
            done = shell.run("export", "--crate", "c", "--author", "Ada")
        finally:
            shell.close()
    assert (done.returncode, done.stdout) == (0, "c\n")
    assert done.stderr.startswith("note: the workflow's directory has no LICENSE file")
    entities = check(directory / "c")
    assert entities["#author-1"]["name"] == "Ada"
