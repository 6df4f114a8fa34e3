"""Pipelines: steps in a list that read and write named values, and are skipped if they can be.

A step is a model and the names in a state that it reads and writes. A workflow runs its steps in
order; one whose input is the same as in its last run is skipped.
"""

from __future__ import annotations

from motoko.pipeline.base import BaseModel
from motoko.pipeline.extracts import Extracts
from motoko.pipeline.glue_db import StateWithGlueDb
from motoko.pipeline.runner import Runner
from motoko.pipeline.state import Interface, State
from motoko.pipeline.step import Step
from motoko.pipeline.workflow import Workflow

__all__ = [
    "BaseModel",
    "Extracts",
    "Interface",
    "Runner",
    "State",
    "StateWithGlueDb",
    "Step",
    "Workflow",
]
