"""The import contracts of pyproject.toml are kept and detect violations."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
LINT = """
import sys
from importlinter.cli import lint_imports
sys.exit(lint_imports(config_filename=sys.argv[1], no_cache=True))
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Copy the package and its contracts to a directory where tests may break them."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src" / "motoko", tmp_path / "motoko", ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(directory: Path) -> tuple[int, str]:
    """Check the package in ``directory``; return exit status and output in one line."""
    done = subprocess.run(
        [sys.executable, "-c", LINT, str(directory / "pyproject.toml")],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(directory), "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    plain = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)  # some versions always print colours
    return done.returncode, " ".join(plain.split())


def contracts() -> list[dict[str, object]]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        found: list[dict[str, object]] = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    return found


def test_every_contract_is_kept(copy: Path) -> None:
    status, output = lint(copy)

    assert f"Contracts: {len(contracts())} kept, 0 broken." in output, output
    assert status == 0


@pytest.mark.parametrize(
    ("module", "line", "contract", "named"),
    [
        ("core/states.py", "import motoko.storage.session", "layers", "motoko.storage.session"),
        (
            "launcher/claiming.py",
            "import motoko.orchestrator.stall",
            "layers",
            "orchestrator.stall",
        ),
        ("errors.py", "import motoko.core.values", "layers", "motoko.core.values"),
        ("worker/validation.py", "import motoko.errors", "layers", "motoko.errors"),
        ("api/workflow.py", "import motoko.cli", "layers", "motoko.cli"),
        ("orchestrator/stall.py", "import ZODB.DB", "database", "ZODB"),
        ("api/task_manager.py", "from BTrees import OOBTree", "database", "BTrees"),
        ("graph/node.py", "import motoko.assets", "layers", "motoko.assets"),
        ("assets/nodes.py", "import motoko.products", "layers", "motoko.products"),
        ("graph/thread_driver.py", "import anyio", "graph", "anyio"),
        ("assets/helpers.py", "import pydantic", "graph", "pydantic"),
        ("core/firing.py", "import asyncio", "core", "asyncio"),
        (
            "launcher/executors/batch/decide.py",
            "import motoko.launcher.schedulers.slurm.states",
            "schedulers",
            "schedulers.slurm.states",
        ),
        ("worker/json_codec.py", "import pathlib", "worker", "pathlib"),
    ],
)
def test_a_broken_contract_is_detected(
    copy: Path, module: str, line: str, contract: str, named: str
) -> None:
    name = next(str(c["name"]) for c in contracts() if c["id"] == contract)
    with (copy / "motoko" / module).open("a") as file:
        file.write(f"\n{line}\n")

    status, output = lint(copy)

    assert status != 0
    assert f"{name} BROKEN" in output, output
    assert named in output


def test_the_database_contract_names_all_other_modules() -> None:
    modules = {
        path.stem
        for path in (ROOT / "src" / "motoko").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    database = next(c for c in contracts() if c["id"] == "database")
    sources = database["source_modules"]
    assert isinstance(sources, list)

    assert set(sources) == {
        f"motoko.{name}" for name in modules - {"server", "storage", "__init__"}
    }
