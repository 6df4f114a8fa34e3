"""Products of workflow steps: kept, found again, and built when what they depend on has changed.

A step is a function that says what it produces and requires; the runner calls those that are
needed, depth-first in parameter order. Stored products carry a key of what they were made from.
"""

from __future__ import annotations

from motoko.errors import ProductWarning
from motoko.products.config import WorkflowConfig
from motoko.products.diagram import diagram, render
from motoko.products.runner import WorkflowRunner
from motoko.products.serialisers import Serialiser
from motoko.products.steps import workflow_step
from motoko.products.store import WorkflowProducts

__all__ = [
    "ProductWarning",
    "Serialiser",
    "WorkflowConfig",
    "WorkflowProducts",
    "WorkflowRunner",
    "diagram",
    "render",
    "workflow_step",
]
