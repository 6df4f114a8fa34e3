"""Finding the workflow that a directory belongs to."""

from __future__ import annotations

import os.path
from typing import TYPE_CHECKING, Final

from motoko.errors import NotAWorkflowError

if TYPE_CHECKING:
    from pathlib import Path

WORKFLOW_FILE: Final = "motoko.yaml"


def find_workflow(start: Path) -> Path:
    """Return the absolute path of the ``motoko.yaml`` in ``start`` or the nearest directory above.

    Raises NotAWorkflowError, naming where it looked.
    """
    first = start.resolve()
    for directory in (first, *first.parents):
        file = directory / WORKFLOW_FILE
        # Not Path.is_file, which raises where a directory above may not be looked into.
        if os.path.isfile(file):
            return file
    misnamed = (misnamed_hint(directory, WORKFLOW_FILE) for directory in (first, *first.parents))
    raise NotAWorkflowError(
        f"no {WORKFLOW_FILE} in {first} or any directory above it",
        hint=next(filter(None, misnamed), None)
        or "Go to a workflow's directory, name one with --workflow DIR, or make one with "
        "`motoko init`.",
    )


def misnamed_hint(directory: Path, name: str) -> str | None:
    """Return what to do about a file that was probably meant to have this ``name``, if any."""
    stem = name.removesuffix(".yaml")
    capital = stem.capitalize()
    spellings = (f"{stem}.yml", f"{name}.txt", f"{capital}.yaml", f"{capital}.yml")
    for spelling in spellings:
        if os.path.isfile(directory / spelling):
            return f"Rename {directory / spelling} to {name}."
    return None
