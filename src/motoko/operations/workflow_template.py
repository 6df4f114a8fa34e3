"""Write the files of a small example workflow."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from motoko.errors import MotokoError

TEMPLATES: Final = Path(__file__).parent.parent / "templates"
SKIPPED_DIRECTORIES: Final = frozenset({"__pycache__", ".mypy_cache", ".ruff_cache"})


def write_workflow(directory: Path, template: str = "workflow") -> list[Path]:
    """Write the files of a template into a directory; return their paths relative to it.

    Raise MotokoError, and write nothing, if one of the files exists.
    """
    root = TEMPLATES / template
    files = (path for path in root.rglob("*") if path.is_file())
    sources = sorted(file for file in files if SKIPPED_DIRECTORIES.isdisjoint(file.parts))
    names = [path.relative_to(root) for path in sources]
    existing = [str(directory / name) for name in names if (directory / name).exists()]
    if existing:
        raise MotokoError(
            f"{', '.join(existing)} already {'exists' if len(existing) == 1 else 'exist'}",
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
