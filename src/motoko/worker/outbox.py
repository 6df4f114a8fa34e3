"""The outbox: a file of records about an attempt, ``<run directory>/.motoko-<token>``.

The wrapper creates it with its start record, ``process PID ...``, and appends ``exit STATUS`` at
the end. A launcher that reclaims the attempt creates it instead, with ``launcher NAME``. In between
are the records from processes of the script.

Such a record is one JSON object: the time ``t`` in seconds since the epoch and ``op``, which is
``set`` (field, value), ``push`` (name, step, value), ``state`` (label), ``start``, ``finish`` or
``fail`` (reason). One append writes ``newline, object, newline``, so a partial record damages no
other.
Readers skip blank lines, report damaged ones, and leave an incomplete last line.
"""

from __future__ import annotations

import os
import time

from motoko.worker.json_codec import decode
from motoko.worker.validation import (
    WorkerError,
    field_name,
    label_text,
    quantity_name,
    quantity_value,
    whole_step,
)

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from typing import Any

VERSION = 1
INPUTS = ".motoko"  # beside the outbox: a line that names the attempt, and one with its inputs
START_PREFIX = b"process "
RECLAIM_PREFIX = b"launcher "
EXIT_PREFIX = b"exit "
OWN_LINES = (START_PREFIX, RECLAIM_PREFIX, EXIT_PREFIX)
MAX_RECORD = 8 * 2**20  # bytes of a record: every commit of a run writes all its fields
TRIES_TO_WRITE = 3


def write_record(outbox: str, record: dict[str, Any], *, create: bool = False) -> None:
    """Append one encoded record to ``outbox``; WorkerError if it is too large, else OSError.

    A missing outbox is an error, unless ``create``.
    """
    import json

    content = json.dumps({"t": time.time(), **record}, separators=(",", ":"))
    line = b"\n" + content.encode() + b"\n"
    if len(line) > MAX_RECORD:
        raise WorkerError(
            f"a value of {len(line) / 2**20:.1f} MiB is too large: at most "
            f"{MAX_RECORD // 2**20} MiB are kept",
            hint="Write it to a file in the run's directory, and set a field to the file's name.",
        )
    # Opened for each record, so threads and forked processes share nothing.
    flags = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC
    flags |= os.O_CREAT if create else 0
    descriptor = os.open(outbox, flags, 0o600)  # does not block on a FIFO
    try:
        for _ in range(TRIES_TO_WRITE):
            written = os.write(descriptor, line)
            if written == len(line) - 1:  # another try would write a second record
                written += os.write(descriptor, b"\n")
            if written == len(line):
                return
        raise OSError(f"only {written} of {len(line)} bytes could be written")
    finally:
        os.close(descriptor)


def read_outbox(data: bytes) -> tuple[list[dict[str, Any]], int]:
    """Return the decoded records in ``data`` and their length in bytes.

    An incomplete last line does not count, nor do lines of the wrapper and of launchers. An invalid
    record is returned as ``{"op": "damaged", "line": its beginning}``.
    """
    end = data.rfind(b"\n") + 1
    lines = (line for line in data[:end].split(b"\n") if not line.startswith(OWN_LINES))
    return [_record(line) for line in lines if line.strip()], end


def _record(line: bytes) -> dict[str, Any]:
    import json

    try:
        return _checked(json.loads(line.decode()))
    except (
        ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError,
        WorkerError,
    ):  # fmt: skip
        return {"op": "damaged", "line": line[:200].decode(errors="replace")}


def _checked(record: dict[str, Any]) -> dict[str, Any]:
    """Return a validated record: any script can write to the outbox."""
    op = record["op"]
    result: dict[str, Any] = {"t": float(record["t"]), "op": op}
    if op == "set":
        return {**result, "field": field_name(record["field"]), "value": decode(record["value"])}
    if op == "push":
        name = quantity_name(record["name"])
        step, value = whole_step(record["step"], name), quantity_value(record["value"], name)
        return {**result, "name": name, "step": step, "value": value}
    if op == "state":
        return {**result, "label": label_text(record["label"])}
    if op == "fail":
        return {**result, "reason": str(record["reason"])}
    if op in ("start", "finish"):
        return result
    raise ValueError(f"unknown op {op!r}")
