"""Products of workflow steps: built once, stored, and built again when their inputs change.

A step is a function that names the products it makes and requires. The runner calls the necessary
steps, depth-first in parameter order. Each stored product has a key that identifies its inputs.
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
