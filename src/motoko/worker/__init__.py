"""The API of a run's script: ``from motoko.worker import run, job``.

A run needs no database. Fields, quantities and labels are appended to the attempt's outbox
(``MOTOKO_OUTBOX``), which the launcher harvests. The first use reads the launcher's inputs from the
file beside it. Outside a run the first use raises WorkerError.

The package imports little of the standard library and nothing else of Motoko, for a fast start.
The launcher imports the protocol from here.
"""

from __future__ import annotations

from motoko.worker.attempt_context import AttemptContext, tolerate_narrow_encodings
from motoko.worker.handles import Job, Run
from motoko.worker.json_codec import as_text, decode, encode
from motoko.worker.outbox import (
    EXIT_PREFIX,
    INPUTS,
    MAX_RECORD,
    RECLAIM_PREFIX,
    START_PREFIX,
    VERSION,
    read_outbox,
    write_record,
)
from motoko.worker.validation import WorkerError, WorkerNameError, WorkerValueError

__all__ = [
    "EXIT_PREFIX",
    "INPUTS",
    "MAX_RECORD",
    "RECLAIM_PREFIX",
    "START_PREFIX",
    "VERSION",
    "AttemptContext",
    "Job",
    "Run",
    "WorkerError",
    "WorkerNameError",
    "WorkerValueError",
    "as_text",
    "command_line",
    "decode",
    "encode",
    "job",
    "read_outbox",
    "run",
    "write_record",
]

tolerate_narrow_encodings()
_context = AttemptContext()
run = Run(_context)
job = Job(_context)


def command_line() -> int:
    """Execute ``motoko-worker`` and return its exit status."""
    import sys

    from motoko.worker.command import main

    if sys.stdout is not None:
        # Values are unchanged under any locale.
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]
    return main(sys.argv[1:])
