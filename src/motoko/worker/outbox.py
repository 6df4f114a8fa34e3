"""The outbox: what the processes of an attempt say, record by record, in a file.

One JSON object a record: the time ``t`` in seconds since the epoch and ``op``, which is ``set``
(field, value), ``push`` (name, step, value), ``state`` (label), ``start``, ``finish`` or
``fail`` (reason). A record is written by one append as ``newline, object, newline``: whatever a
process that died in the middle of a record left, the next record begins on a line of its own.
Readers skip blank lines, report damaged ones, and leave an incomplete last line for later.
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
INPUTS = "inputs.json"
OUTBOX = "outbox"
HEADER = b'{"t":0,"op":"start"}\n'  # what the launcher begins an outbox with: it knows it again
MAX_RECORD = 8 * 2**20  # bytes of a record: every commit of a run writes all of its fields
TRIES_TO_WRITE = 3


def write_record(outbox: str, record: dict[str, Any]) -> None:
    """Append one record, in encoded form, to the file ``outbox``; OSError if that fails.

    WorkerError if the record is too large for the database.
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
    # Opened for each record: nothing is shared with threads or forked processes.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(outbox, flags, 0o600)  # a FIFO in its place is not waited for
    try:
        for _ in range(TRIES_TO_WRITE):
            written = os.write(descriptor, line)
            if written == len(line) - 1:  # else the next try would be a second whole record
                written += os.write(descriptor, b"\n")
            if written == len(line):
                return
        raise OSError(f"only {written} of {len(line)} bytes could be written")
    finally:
        os.close(descriptor)


def read_outbox(data: bytes) -> tuple[list[dict[str, Any]], int]:
    """Return the records in ``data``, values decoded, and how many bytes they took.

    An incomplete last line is left: give it again, with what follows it. A line that is not a
    valid record is returned as ``{"op": "damaged", "line": its beginning}``.
    """
    end = data.rfind(b"\n") + 1
    return [_record(line) for line in data[:end].split(b"\n") if line.strip()], end


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
    """Anybody's script can write to the outbox, so nothing in it is taken as given."""
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
