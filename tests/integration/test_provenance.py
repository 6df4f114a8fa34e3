"""The provenance of attempts with a real git and a real launcher."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from motoko.core.provenance import attempts_of
from motoko.launcher.code_facts import CodeFacts
from motoko.runtime import processes
from motoko.storage.consistency import check_database_file
from motoko.testing.memory import memory_store, study_config
from motoko.version import __version__
from tests.support.launching import WorkflowHarness

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("git") is None, reason="needs git"),
]


def git(directory: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=directory, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def commit_all(directory: Path) -> str:
    git(directory, "add", ".")
    git(directory, "commit", "-q", "-m", "x")
    return git(directory, "rev-parse", "HEAD")


async def read(directory: Path) -> tuple[str | None, bool | None]:
    """Return commit and dirty flag of a workflow with the study ``s``."""
    study = study_config("s", {"x": "int"}, directory=directory)
    store = memory_store({"s": study}, directory=directory)
    code = CodeFacts(store)
    if code.current() is None:
        await code.read()
    facts = code.current()
    store.close()
    assert facts is not None
    return facts.git_commit, facts.git_dirty


def ran_in(directory: Path) -> list[Path]:
    return list(directory.rglob("ran"))


def write_workflow(directory: Path) -> None:
    (directory / "s").mkdir(parents=True)
    (directory / "motoko.yaml").write_text("task_managers:\n  s:\n")
    (directory / "s" / "bd.yaml").write_text("job: {x: int}\n")
    (directory / "s" / "launch.sh").write_text("true\n")


async def test_the_commit_and_changes_of_a_workflow(tmp_path: Path) -> None:
    """It may be anywhere in a repository. Results in it are no changes; new scripts are."""
    root, workflow = tmp_path, tmp_path / "flows" / "one"
    write_workflow(workflow)
    assert await read(workflow) == (None, None)
    git(root, "init", "-q")
    assert await read(workflow) == (None, None)
    commit = commit_all(root)
    assert await read(workflow) == (commit, False)
    (workflow / "s" / "BD-s-runs").mkdir()
    (workflow / "s" / "BD-s-runs" / "stdout").write_text("1")
    (workflow / ".wf").mkdir()
    (workflow / ".wf" / "wf.db").write_text("1")
    (root / "elsewhere").write_text("1")
    assert await read(workflow) == (commit, False)
    (workflow / "s" / "launch.sh").write_text("false\n")
    assert await read(workflow) == (commit, True)
    git(root, "checkout", "-q", "--detach")
    second = commit_all(workflow)  # with the results
    assert await read(workflow) == (second, False)
    (workflow / "s" / "BD-s-runs" / "stdout").write_text("2")
    (workflow / ".wf" / "wf.db").write_text("2")
    assert await read(workflow) == (second, False)
    git(workflow, "rm", "-q", "--cached", "s/launch.sh")
    git(workflow, "commit", "-q", "-m", "without the script")
    assert (await read(workflow))[1] is True


async def test_the_configuration_of_a_repository_runs_no_program(tmp_path: Path) -> None:
    write_workflow(tmp_path)
    git(tmp_path, "init", "-q")
    (tmp_path / ".gitattributes").write_text("*.sh filter=evil diff=evil\n")
    commit = commit_all(tmp_path)
    program = tmp_path.parent / "program"
    program.write_text("#!/bin/sh\ntouch ran\ncat\n")
    program.chmod(0o755)
    for name in ("post-index-change", "reference-transaction"):
        shutil.copy(program, tmp_path / ".git" / "hooks" / name)
    for key in (
        "core.fsmonitor", "core.pager", "core.sshCommand", "diff.external", "diff.evil.textconv",
        "filter.evil.clean", "filter.evil.process", "gpg.program", "core.editor",
    ):  # fmt: skip
        git(tmp_path, "config", key, str(program))
    script = tmp_path / "s" / "launch.sh"
    script.write_text(script.read_text())  # git must compare the contents again
    assert await read(tmp_path) == (commit, None)
    git(tmp_path, "config", "--remove-section", "filter.evil")
    assert await read(tmp_path) == (commit, False)
    assert not ran_in(tmp_path)


async def test_git_variables_of_the_launcher_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_workflow(tmp_path / "one")
    write_workflow(tmp_path / "two")
    for name in ("one", "two"):
        git(tmp_path / name, "init", "-q")
    commit = commit_all(tmp_path / "one")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "two" / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "two"))
    assert await read(tmp_path / "one") == (commit, False)


def test_a_launcher_records_the_provenance(tmp_path: Path) -> None:
    harness = WorkflowHarness.make(tmp_path / "wf", {"s": "true"}, options={"retries": 1})
    try:
        git(harness.directory, "init", "-q")
        commit = commit_all(harness.directory)
        key = harness.run()
        harness.start()
        harness.wait_for(key, "FINISHED")
        record = harness.record(key)
        with harness.store.autocommit_scope.read() as session:
            (one,) = attempts_of(record, session.tables.provenance)
        study = harness.store.studies["s"]
        assert (one.git_commit, one.git_dirty, one.host) == (commit, False, processes.host())
        assert (one.scripts, one.motoko_version) == (study.scripts_digest(), __version__)
        assert (one.interpreter, one.python_version) == (sys.executable, platform.python_version())
        assert None not in (one.claimed, one.started, one.ended)
        assert [one.claimed, one.started, one.ended] == [m.time for m in record.history[1:]]
        assert one.outcome == "FINISHED"
    finally:
        harness.close()
    assert check_database_file(harness.state.database) == []
