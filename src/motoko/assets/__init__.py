"""Idempotent tasks with observable assets: ``@task``, ``@tasks``, ``@external``.

A task function yields its name, its assets and its requirements. The root call builds everything
that is not ready, requirements first, and returns a node for the helper functions. Needs the
standard library only.
"""

from __future__ import annotations

from motoko.assets.build_context import TaskLogger, build, external, task, tasks
from motoko.assets.helpers import assets, graph, logcfg, ready, refs, requirements, tasknames
from motoko.assets.nodes import Asset, Node, NodeExternal, NodeTask, NodeTasks, asset
from motoko.errors import GraphError as IotaaError

log = TaskLogger()


def main() -> None:
    """Run the command line of :mod:`motoko.assets`; SystemExit on errors."""
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
