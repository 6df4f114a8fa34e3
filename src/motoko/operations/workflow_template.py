"""Writing a small workflow that runs, to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from motoko.errors import MotokoError

TEMPLATES: Final = Path(__file__).parent.parent / "templates"
SKIPPED: Final = ("__pycache__", ".mypy_cache", ".ruff_cache")


def write_workflow(directory: Path, template: str = "workflow") -> list[Path]:
    """Write the template's files into a directory and return them, relative to it.

    MotokoError names the files that are there already; then nothing is written.
    """
    root = TEMPLATES / template
    sources = sorted(path for path in root.rglob("*") if _belongs(path))
    names = [path.relative_to(root) for path in sources]
    there = [str(directory / name) for name in names if (directory / name).exists()]
    if there:
        raise MotokoError(
            f"{', '.join(there)} {'exists' if len(there) == 1 else 'exist'} already",
            hint="Nothing was written. Name another directory: `motoko init DIR`.",
        )
    try:
        for source, name in zip(sources, names, strict=True):
            target = directory / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    except OSError as error:
        raise MotokoError(f"{error.filename} cannot be written: {error.strerror}") from error
    return names


def _belongs(path: Path) -> bool:
    return path.is_file() and not any(part in SKIPPED for part in path.parts)
