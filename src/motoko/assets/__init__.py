"""Idempotent tasks with observable assets: ``@task``, ``@tasks``, ``@external``.

A task function yields its name, its assets and what it requires; the outermost call of one builds
what is not ready, requirements first, and returns a value for the helper functions. Standard
library only.
"""

from __future__ import annotations

from motoko.assets.build_context import TaskLogger, build, external, task, tasks
from motoko.assets.helpers import assets, graph, logcfg, ready, refs, requirements, tasknames
from motoko.assets.nodes import Asset, Node, NodeExternal, NodeTask, NodeTasks, asset
from motoko.errors import GraphError as IotaaError

log = TaskLogger()


def main() -> None:
    """Be the command line of :mod:`motoko.assets`; SystemExit if something went wrong."""
    from motoko.assets.command import main as command

    command()


__all__ = [
    "Asset",
    "IotaaError",
    "Node",
    "NodeExternal",
    "NodeTask",
    "NodeTasks",
    "asset",
    "assets",
    "build",
    "external",
    "graph",
    "log",
    "logcfg",
    "main",
    "ready",
    "refs",
    "requirements",
    "task",
    "tasknames",
    "tasks",
]
