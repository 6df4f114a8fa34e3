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
    raise NotAWorkflowError(
        f"no {WORKFLOW_FILE} in {first} or any directory above it",
        hint="Go to a workflow's directory, name one with --workflow DIR, or make one with "
        "`motoko init`.",
    )
