"""Execute the code blocks of README and docs, in order, in an empty directory.

The first line of a fenced block determines its treatment:

- ```` ```bash ```` and ```` ```python ````: executed; ``cd`` applies to the following blocks
- ```` ```python notebook ````: executed in a running event loop, where it may await
- ``title=FILE``: written to that file (in the current directory)
- ``fragment``: only checked for syntax
- anything else (``text``, ``console``, ``yaml``, ...): ignored

A ``text`` block after an executed one shows the output of that one.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from motoko.cli.parser import COMMANDS as COMMANDS_OF_MOTOKO
from motoko.config.study_file import StudyFile
from motoko.config.workflow_file import TaskManagerSettings, WorkflowFile
from motoko.core.constraints import Columns, parse
from motoko.core.records import RUN_COLUMNS
from motoko.core.run_options import STORED_OPTIONS
from motoko.workflow import Workflow
from tests.support.command_line import Shell

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.docs

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMANDS = {
    "motoko": "-m motoko",
    "orchestrator": "-m motoko orchestrator",
    "motoko-worker": '-c "import sys, motoko.worker as w; sys.exit(w.command_line())"',
}

NOTEBOOK = """
import ast, asyncio, inspect, sys
cell = compile(sys.argv[1], "cell", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
async def execute():
    value = eval(cell, {})
    if inspect.iscoroutine(value):
        await value
asyncio.run(execute())
"""


@dataclass(frozen=True)
class Block:
    """A fenced block of a document."""

    line: int
    language: str
    words: tuple[str, ...]
    text: str

    @property
    def title(self) -> str | None:
        return next((w.removeprefix("title=") for w in self.words if w.startswith("title=")), None)

    @property
    def executed(self) -> bool:
        return self.language in ("bash", "python") and self.words in ((), ("notebook",))


def blocks(document: Path) -> list[Block]:
    """Return the fenced blocks of a document."""
    text = document.read_text(encoding="utf-8")
    return [
        Block(text.count("\n", 0, m.start()) + 1, m[1], tuple(m[2].split()), m[3])
        for m in FENCE.finditer(text)
    ]


class Reader:
    """A reader that executes the blocks of a document."""

    def __init__(self, place: Path, commands: Path) -> None:
        self.here = place
        self.env = {**os.environ, "COLUMNS": "160"}
        self.env["PATH"] = os.pathsep.join(
            [str(Path(sys.executable).parent), self.env.get("PATH", ""), str(commands)]
        )

    def do(self, block: Block) -> str:
        """Execute a block; return its output."""
        if block.words == ("notebook",):
            return self.run([sys.executable, "-c", NOTEBOOK, block.text])
        if block.language == "python":
            return self.run([sys.executable, "-c", block.text])
        printed = self.run(["bash", "-euo", "pipefail", "-c", f"{block.text}\npwd"])
        *lines, here = printed.splitlines()
        self.here = Path(here)
        return "\n".join(lines)

    def write(self, block: Block) -> None:
        """Write a block with a title."""
        assert block.title is not None
        file = self.here / block.title
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.text, encoding="utf-8")

    def kill(self) -> None:
        """Stop processes that a document left running."""
        for file in self.here.rglob("motoko.yaml"):
            Shell(file.parent).ok("kill")

    def run(self, command: list[str]) -> str:
        """Run a command that must succeed; return its output."""
        done = subprocess.run(
            command,
            cwd=self.here,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{command[-1]}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """Return a reader in an empty directory, with Motoko's commands on PATH."""
    commands, place = tmp_path / "commands", tmp_path / "place"
    commands.mkdir()
    place.mkdir()
    for name, how in COMMANDS.items():
        (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {how} "$@"\n')
        (commands / name).chmod(0o755)
    reader = Reader(place, commands)
    yield reader
    reader.here = place
    reader.kill()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_blocks_of_a_document_run_in_order(document: Path, reader: Reader) -> None:
    printed = ""
    for block in blocks(document):
        place = f"{document.name}:{block.line}"
        if block.title is not None:
            reader.write(block)
        elif block.executed:
            printed = reader.do(block)
        elif block.language == "text" and printed:
            for line in block.text.splitlines():
                assert line.strip() in printed, f"{place}: {line!r} was not printed:\n{printed}"
            printed = ""


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_python_blocks_are_valid_syntax(document: Path) -> None:
    for block in blocks(document):
        if block.language == "python":
            compile(
                "\n" * block.line + block.text,
                document.name,
                "exec",
                flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST,
            )


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_of_a_document_resolve(document: Path) -> None:
    text = FENCE.sub("", document.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)]+)\)", text):
        path, _, anchor = target.partition("#")
        if path.startswith(("http:", "https:")):
            continue
        file = (document.parent / path) if path else document
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}
            assert anchor in slugs, target


def test_constraints_in_the_reference_are_valid() -> None:
    columns = Columns(
        "study",
        {"x": "float", "n": "int", "mesh": "str"},
        {"y": "str"},
    )
    (listed,) = [b for b in blocks(ROOT / "docs" / "reference.md") if b.language == "constraints"]

    for line in listed.text.splitlines():
        assert not parse(line, columns).warnings, line


def test_the_reference_names_every_key_and_command() -> None:
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    example = (ROOT / "motoko.yaml.example").read_text(encoding="utf-8")
    keys = {*WorkflowFile.model_fields, *TaskManagerSettings.model_fields}

    for key in {*keys, *StudyFile.model_fields}:
        assert f"`{key}`" in text, key
    for key in keys:
        assert f"{key}:" in example, key
    for command in COMMANDS_OF_MOTOKO:
        assert f"`motoko {command}" in text, command
    for variable in RUN_COLUMNS.keys() - STORED_OPTIONS.keys() - {"run_name"}:
        assert f"`{variable}`" in text, variable


def test_the_typed_orchestrator_is_the_one_that_mypy_checks() -> None:
    (shown,) = [b.text for b in blocks(ROOT / "docs" / "how-to.md") if "runs: Runs" in b.text]
    assert (Path(__file__).parent / "typed_orchestrator.py").read_text().endswith(shown)


def test_how_to_orchestrator_resumes_after_a_kill(reader: Reader) -> None:
    document = blocks(ROOT / "docs" / "how-to.md")
    for block in document:
        if block.title is not None:
            reader.write(block)
    # At the kill, an action is waiting.
    script, go = reader.here / "solve" / "launch.sh", reader.here / "go"
    held = f"[ $MOTOKO_JOB_N -lt 10 ] || until [ -e '{go}' ]; do sleep .05; done\n"
    script.write_text(script.read_text() + held)
    motoko = [sys.executable, "-m", "motoko"]
    directory = reader.here

    reader.run([*motoko, "create"])
    orchestrator = subprocess.Popen(
        [*motoko, "run", "--run_name", "killed"],
        cwd=directory,
        env=reader.env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    workflow = Workflow(directory / "motoko.yaml")
    workflow.run_name = "killed"
    try:
        while not workflow.solve.select("n >= 10"):
            assert orchestrator.poll() is None
            time.sleep(0.05)
        orchestrator.kill()
        orchestrator.wait()
        assert workflow.run_vars.get("refined", 0) < 3
    finally:
        orchestrator.kill()
        orchestrator.wait()
        workflow.close()
        go.touch()
    reader.run([*motoko, "run", "--run_name", "killed"])

    workflow = Workflow(directory / "motoko.yaml", read_only=True)
    try:
        workflow.run_name = "killed"
        cells = {job.n: run.cells for run, job in workflow.solve.select()}
        labels = {job.n: run.state for run, job in workflow.solve.select("n < 10")}
        assert cells == {n: n * n for n in (1, 2, 3, 10, 20, 30)}
        assert labels == dict.fromkeys((1, 2, 3), "COUNTED")
        assert workflow.run_vars.refined == 3
    finally:
        workflow.close()
