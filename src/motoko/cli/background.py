"""Commands that execute a workflow in the background with ``--detach``.

The background process executes the same command. Its parent waits until it has announced that its
orchestrator holds the lease of the run name, or that it cannot start.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from typing import TYPE_CHECKING

from motoko.cli.output import echo

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from motoko.api.workflow import Workflow


def shall_detach(args: argparse.Namespace) -> bool:
    """Return whether this process must start the one in the background."""
    from motoko.runtime.daemons import READY_FD

    return bool(args.detach) and READY_FD not in os.environ


def start_in_background(args: argparse.Namespace, workflow: Workflow) -> None:
    """Start the command in the background; report how to follow, await and stop it."""
    from motoko.operations.orchestrator_process import start_detached

    daemon = start_detached(workflow.store.state, args.run_name, args.motoko_argv)
    name = shlex.quote(args.run_name)
    echo(
        f"orchestrator of {args.run_name!r}: process {daemon.process.pid}, log {daemon.log}\n"
        "  follow it with `motoko info` and "
        f"`motoko logs --orchestrator --follow --run_name {name}`\n"
        f"  wait for its end with `motoko wait --run_name {name}`\n"
        f"  stop it with `motoko orchestrator stop --run_name {name}`"
    )


@contextlib.contextmanager
def announcing_failure() -> Iterator[None]:
    """Announce an error of the block to the parent process, if the start is not announced yet."""
    from motoko.runtime.daemons import announce_failure

    try:
        yield
    except Exception as error:
        announce_failure(str(error))
        raise
