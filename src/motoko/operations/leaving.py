"""Asking an orchestrator on this machine to end and leave its runs going.

A signal alone may be somebody's Ctrl-C, after which ``motoko run`` stops its runs. Who wants them
to go on puts a note for the process into ``.wf`` before it sends the signal.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from motoko.runtime.files import exclusive_create
from motoko.runtime.processes import current, is_alive

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from motoko.runtime.processes import ProcessId
    from motoko.storage.address import StateDirectory

log = logging.getLogger(__name__)


@contextlib.contextmanager
def asked_to_leave(state: StateDirectory, process: ProcessId) -> Iterator[None]:
    """Have a note for the process there in the block, in which it is signalled."""
    note = _note(state, process)
    try:
        exclusive_create(note)
    except OSError as error:  # its runs become CREATED again, and nothing is lost
        log.warning("process %d cannot be told to leave its runs: %s", process.pid, error)
    try:
        yield
    finally:
        if not is_alive(process):  # one that takes long reads it later
            note.unlink(missing_ok=True)


def is_to_leave(state: StateDirectory) -> bool:
    """Return whether somebody asked this process to leave its runs; the note is taken away."""
    note = _note(state, current())
    asked = note.exists()
    note.unlink(missing_ok=True)
    return asked


def _note(state: StateDirectory, process: ProcessId) -> Path:
    return state.path / f"leave-{process.label}"
