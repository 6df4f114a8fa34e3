"""Why runs failed, in one line: the last one of their standard error, or a recorded reason."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from motoko.core.states import Lifecycle
from motoko.printable import one_line
from motoko.runtime.packed_files import locate, read_end

if TYPE_CHECKING:
    from collections.abc import Iterable

    from motoko.core.records import RunRecord
    from motoko.storage.store import WorkflowStore

STDERR_BYTES: Final = 4096
LINE: Final = 160  # characters
READ: Final = 100  # outputs read for one table


def last_error_line(store: WorkflowStore, record: RunRecord) -> str:
    """Return the last line of the run's standard error, shortened; empty without one."""
    directory = locate(store.run_directory(record.study, record.id))
    text = read_end(directory / "stderr", STDERR_BYTES).text
    lines = [line for line in text.splitlines() if line.strip()]
    return one_line(lines[-1], limit=LINE) if lines else ""


def cause_line(store: WorkflowStore, record: RunRecord) -> str:
    """Return why a run failed, in one line: its last error line, or the recorded reason."""
    last = last_error_line(store, record)
    reason = record.reason or ""
    if reason == f"exit code {record.exit_code}":
        reason = ""
    own = record.lifecycle is Lifecycle.FAILED  # otherwise the launcher knows the reason
    return one_line((last or reason) if own else (reason or last), limit=LINE)


def with_error_lines(store: WorkflowStore, records: Iterable[RunRecord]) -> list[RunRecord]:
    """Return records whose reason ends with the last error line, for the first READ failed runs.

    Only a run that failed by itself has one: otherwise the launcher knows the reason.
    """
    found, left = [], READ
    for record in records:
        line = ""
        if record.lifecycle is Lifecycle.FAILED and left:
            left -= 1
            line = last_error_line(store, record)
        known = record.reason or ""
        new = ": ".join(filter(None, (known, line)))
        found.append(record if not line or line in known else replace(record, reason=new))
    return found
