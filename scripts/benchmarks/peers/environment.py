"""An environment of its own for other tools, kept in a cache directory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PACKAGES = ("signac", "dbos", "hyperqueue", "parsl")
INSTALL_SECONDS = 600.0


def interpreter() -> Path:
    """Return the environment's interpreter; make the environment if it does not exist."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    place = cache / "motoko-bench" / "peers"
    python = place / "bin" / "python"
    if not python.exists():
        print(f"creating the environment {place}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    return python


def install(python: Path, package: str) -> str:
    """Install a package unless it is installed; return why it cannot be, or an empty text."""
    if _imports(python, package):
        return ""
    print(f"installing {package}", file=sys.stderr)
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    try:
        done = subprocess.run(
            [*command, package], check=False, capture_output=True, text=True,
            timeout=INSTALL_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"cannot be installed: pip took more than {INSTALL_SECONDS:.0f} s"
    if done.returncode or not _imports(python, package):
        errors = [line for line in done.stderr.splitlines() if "ERROR" in line or "Error" in line]
        return f"cannot be installed: {(errors or ['it cannot be imported'])[-1]}"
    return ""


def version(python: Path, package: str) -> str:
    """Return the installed version."""
    code = f"from importlib.metadata import version; print(version({package!r}))"
    done = subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def _imports(python: Path, package: str) -> bool:
    done = subprocess.run(
        [str(python), "-c", f"import {package}"], check=False, capture_output=True
    )
    return done.returncode == 0
