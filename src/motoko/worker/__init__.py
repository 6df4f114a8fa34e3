"""What a run's script imports: ``from motoko.worker import run, job``.

A run needs no database. The launcher leaves the inputs in ``inputs.json`` of the attempt's
directory (``MOTOKO_ATTEMPT_DIR``); they are read at first use. What the script says is appended
to the file ``outbox`` beside them, which the launcher harvests. Outside a run the import works
and the first use raises WorkerError.

Standard library only, little of it, and nothing else of Motoko: a script that does next to
nothing must start at once. The launcher takes the other half of the protocol from here.
"""

from __future__ import annotations

from motoko.worker.attempt_context import AttemptContext, tolerate_narrow_encodings
from motoko.worker.handles import Job, Run
from motoko.worker.json_codec import as_text, decode, encode
from motoko.worker.outbox import (
    HEADER,
    INPUTS,
    MAX_RECORD,
    OUTBOX,
    VERSION,
    read_outbox,
    write_record,
)
from motoko.worker.validation import WorkerError, WorkerNameError, WorkerValueError

__all__ = [
    "HEADER",
    "INPUTS",
    "MAX_RECORD",
    "OUTBOX",
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
_here = AttemptContext()
run = Run(_here)
job = Job(_here)


def command_line() -> int:
    """Do what ``motoko-worker`` was asked for and return its exit status."""
    import sys

    from motoko.worker.command import main

    if sys.stdout is not None:
        # Values come back as they were given, whatever the locale.
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]
    return main(sys.argv[1:])
