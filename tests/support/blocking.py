"""A wait of Motoko that blocks a running event loop fails the test.

Found are sleeps, waits for threads (the database is read in one) and waits for sockets. Operations
on files are not: they are short on local disks, and tests call in a loop what the launcher calls in
threads.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from blockbuster import BlockBuster

if TYPE_CHECKING:
    from collections.abc import Iterator

GUARDED: Final = ("time.", "threading.", "socket.", "ssl.", "builtins.input")
# What may block the loop: the end of a path, and functions in that file.
ALLOWED: Final = (
    # By design: the first read of an id, state or selection may block the loop, as do connecting
    # to the server and disconnecting at the end.
    ("motoko/server/client.py", ("_patiently", "_call_server")),
    ("motoko/storage/store.py", ("_connect", "close")),
    ("motoko/storage/run_requests.py", ("resolve",)),
    # In a plain script every call commits before it returns, beside a loop of the script's too.
    ("motoko/storage/scope.py", ("enqueue", "write")),
    # `with workflow.transaction()` commits before it returns; `async with` does not block.
    ("motoko/api/transaction.py", ("__enter__", "__exit__")),
    # The functions have ended: their idle threads are joined.
    ("motoko/graph/async_driver.py", ("run_in_loop",)),
    # A look waits as a read does.
    ("motoko/server/client.py", ("_request",)),
    # Tests set things up in a loop too, and ask the committer thread to do it.
    ("motoko/testing/memory.py", ("empty_database", "commit")),
    # The simulation is one thread on a virtual clock.
    ("tests/support/slurm_simulation.py", ("_committed", "__exit__")),
)


class LoopGuard:
    """Raises BlockingError where code that Motoko called, or Motoko, blocks a running loop."""

    def __init__(self) -> None:
        functions = BlockBuster("motoko").functions
        self._functions = [functions[name] for name in functions if name.startswith(GUARDED)]
        for function in self._functions:
            for file, names in ALLOWED:
                function.can_block_in(file, names)

    def activate(self) -> None:
        """Begin to look for blocking calls."""
        for function in self._functions:
            function.activate()

    def deactivate(self) -> None:
        """Stop looking."""
        for function in self._functions:
            function.deactivate()

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """Let everything block in the ``with`` block."""
        self.deactivate()
        try:
            yield
        finally:
            self.activate()
