"""The log of a build."""

from __future__ import annotations

import logging
import traceback

from motoko.graph import Status
from motoko.graph.build_state import AVAILABLE

TYPE_CHECKING = False  # type checkers assume True; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from motoko.assets.nodes import Node
    from motoko.graph import StatusChange

MAX_LINES = 10_000
UNFINISHED = (Status.STALE, Status.UNDECIDED, Status.BUILDING)
COMPLETED = {*Status} - {*UNFINISHED, Status.FAILED}


class BuildLogger:
    """Logs the progress of the tasks of one build."""

    def __init__(self, log: logging.Logger, nodes: Mapping[str, Node], threads: int) -> None:
        self._log = log
        self._nodes = nodes
        self._statuses: dict[str, Status] = {}
        self._in_thread = " in thread" if threads else ""

    def __call__(self, event: StatusChange) -> None:
        """Log a change of status."""
        name, status, log = event.name, event.status, self._log
        self._statuses[name] = status
        if status in AVAILABLE:
            log.info("%s: Ready", name)
        elif status is Status.BUILDING:
            log.info("%s: Executing", name)
        elif status is Status.FAILED:
            assert event.error is not None
            self._log_failure(name, event.error)
        elif status not in UNFINISHED:
            if status is Status.WOULD_BUILD and not event.waits_for:
                log.info("%s: SKIPPING (DRY RUN)", name)
            self._log_not_ready(name)
        if self._in_thread and status in COMPLETED:
            log.debug("%s: Task completed in thread", name)

    def interrupted(self) -> None:
        """Log the interruption of the build, and the running tasks."""
        self._log.info("Interrupted")
        if self._in_thread:
            for name, status in self._statuses.items():
                if status is Status.BUILDING:
                    self._log.debug("Cancelling: %s", name)

    def _log_not_ready(self, name: str) -> None:
        node, log = self._nodes[name], self._log
        log.warning("%s: Not ready%s", name, " [external asset]" if node.external else "")
        if node.required:
            log.warning("%s: Requires:", name)
            for requirement in dict.fromkeys(one.taskname for one in node.required):
                ready = self._statuses.get(requirement) in AVAILABLE
                log.warning("%s: %s %s", name, "✔" if ready else "✖", requirement)

    def _log_failure(self, name: str, error: Exception) -> None:
        text = f"{name}: Task failed{self._in_thread}"
        self._log.error("%s: %s", text, error)
        if self._log.isEnabledFor(logging.DEBUG):
            for part in traceback.format_exception(error):
                for line in part.rstrip().split("\n"):
                    self._log.debug("%s: %s", text, line)


def log_header(log: logging.Logger, title: str) -> None:
    """Log a title between two lines."""
    line = "─" * len(title)
    for text in (line, title, line):
        log.debug(text)


def log_tree(log: logging.Logger, root: str, edges: Mapping[str, Sequence[str]]) -> None:
    """Log the visited tasks as a tree; repeat shared tasks unless that takes too many lines."""
    lines: dict[str, int] = {}
    for name, requirements in edges.items():  # requirements come first
        lines[name] = 1 + sum(lines[one] for one in requirements)
    once = lines[root] > MAX_LINES
    shown: set[str] = set()
    stack = [(root, 0)]
    while stack:
        name, depth = stack.pop()
        log.debug("%s%s", "  " * depth, name)
        if not (once and name in shown):
            stack.extend((one, depth + 1) for one in reversed(edges[name]))
        shown.add(name)
