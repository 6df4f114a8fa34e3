"""Pipelines: lists of steps that read and write the named values of a state.

A step consists of a model and the names of its inputs and outputs in the state. A workflow runs
its steps in order and skips those whose input has not changed since their last run.
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
