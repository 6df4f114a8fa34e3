"""Write the files of a small example workflow, and the JSON Schemas of its YAML files."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from motoko.config.json_schema import SCHEMAS, schema_path, schema_text
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
    schemas = {Path(schema_path(name)): make for name, make in SCHEMAS.items()}
    existing = [str(directory / name) for name in [*names, *schemas] if (directory / name).exists()]
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
        for name, make in schemas.items():
            (directory / name).parent.mkdir(exist_ok=True)
            (directory / name).write_text(schema_text(make()), encoding="utf-8")
    except OSError as error:
        raise MotokoError(f"{error.filename} cannot be written: {error.strerror}") from error
    return [*names, *schemas]
