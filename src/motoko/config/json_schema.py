"""JSON Schemas (draft 7) of ``motoko.yaml`` and ``bd.yaml``, for editors.

They follow from the models: each validator declares the form of the values that it accepts
(``written_as``). They describe the structure. Values that depend on each other, such as a default
and its type, are not checked.
"""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from motoko.config.study_file import STUDY_FILE, StudyFile
from motoko.config.validation import model_form
from motoko.config.workflow_file import WORKFLOW_FILE, TaskManagerSettings, WorkflowFile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# The draft that yaml-language-server supports.
DRAFT: Final = "http://json-schema.org/draft-07/schema#"
DIRECTORY: Final = ".schema"  # in the directory of a workflow


def workflow_schema() -> dict[str, Any]:
    """Return the schema of ``motoko.yaml``."""
    form = model_form(WorkflowFile)
    manager = {"anyOf": [model_form(TaskManagerSettings), {"type": "null"}]}
    form["properties"]["task_managers"]["additionalProperties"] = manager
    return {"$schema": DRAFT, "title": WORKFLOW_FILE, **form}


def study_schema() -> dict[str, Any]:
    """Return the schema of ``bd.yaml``."""
    return {"$schema": DRAFT, "title": STUDY_FILE, **model_form(StudyFile)}


SCHEMAS: Final[Mapping[str, Callable[[], dict[str, Any]]]] = MappingProxyType(
    {WORKFLOW_FILE: workflow_schema, STUDY_FILE: study_schema}
)


def schema_path(name: str) -> str:
    """Return the path of a file's schema in the directory of a workflow."""
    return f"{DIRECTORY}/{name.removesuffix('.yaml')}.json"


def schema_text(schema: dict[str, Any]) -> str:
    """Return a schema as text, as files hold it."""
    return json.dumps(schema, indent=2) + "\n"
