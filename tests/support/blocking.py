"""Fail a test in which Motoko blocks a running event loop.

Sleeps, waits for threads (one reads the database) and waits for sockets are detected. Operations
on files are not: they are short on local disks, and tests call in a loop what launchers call in
threads.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import ZEO.asyncio.futures  # noqa: F401 - binds time.sleep before the guard replaces it
from blockbuster import BlockBuster

if TYPE_CHECKING:
    from collections.abc import Iterator

GUARDED: Final = ("time.", "threading.", "socket.", "ssl.", "builtins.input")
# Code that may block the loop: the end of a path, and functions in that file.
ALLOWED: Final = (
    # By design: the first read of an id, state or selection may block the loop, as do connecting
    # to the server and disconnecting at the end.
    ("motoko/server/client.py", ("_retry_until_connected", "_call_server", "_answers")),
    ("motoko/storage/store.py", ("_connect", "close")),
    ("motoko/storage/run_requests.py", ("resolve",)),
    # So may a read or write in ``main`` after a request for many runs.
    ("motoko/orchestrator/main_scope.py", ("_commit_many",)),
    # In a plain script every call commits before it returns, even if the script has a loop.
    ("motoko/storage/scope.py", ("enqueue", "write")),
    # `with workflow.transaction()` commits before it returns; `async with` does not block.
    ("motoko/api/transaction.py", ("__enter__", "__exit__")),
    # So does `with Workflow(...)` start and stop services, as in a notebook.
    ("motoko/api/lifecycle.py", ("__enter__", "__exit__", "start_launcher_daemons")),
    # The functions have ended: their idle threads are joined.
    ("motoko/graph/async_driver.py", ("run_in_loop",)),
    # Inspections wait like reads.
    ("motoko/server/client.py", ("_request",)),
    # Tests also prepare data in a loop, through the committer thread.
    ("motoko/testing/memory.py", ("empty_database", "commit")),
    # The simulation is one thread on a virtual clock.
    ("tests/support/slurm_simulation.py", ("_committed", "__exit__")),
)


class LoopGuard:
    """Raises BlockingError if Motoko, or code that it called, blocks a running loop."""

    def __init__(self) -> None:
        functions = BlockBuster("motoko").functions
        self._functions = [functions[name] for name in functions if name.startswith(GUARDED)]
        for function in self._functions:
            for file, names in ALLOWED:
                function.can_block_in(file, names)

    def activate(self) -> None:
        """Start the detection of blocking calls."""
        for function in self._functions:
            function.activate()

    def deactivate(self) -> None:
        """Stop the detection."""
        for function in self._functions:
            function.deactivate()

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """Permit blocking calls in the ``with`` block."""
        self.deactivate()
        try:
            yield
        finally:
            self.activate()
