"""Start coroutines of the screens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from textual.dom import DOMNode

Work: TypeAlias = Callable[[], Awaitable[None]]


def start(node: DOMNode, work: Work) -> None:
    """Run a coroutine function until it returns or the node is removed.

    A coroutine itself would be left without an await if the node were removed before its start.
    """
    run: Any = node.run_worker  # its type accepts no coroutine function
    run(work)
