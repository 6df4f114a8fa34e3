"""The records of an attempt's wrapper and launchers: who started it, when, and how it ended.

In the outbox they are lines. ``process PID BOOT NAMESPACE HOST TIME STAT``, by the wrapper, is the
first: boot id, inode of the PID namespace, host, seconds since the epoch and the fields of
``/proc/PID/stat`` after the command's name, ``-`` for each that is unknown. A local launcher does
without the fields, because the wrapper's arguments contain the token, or its working directory is
the run directory. ``launcher NAME`` stands
there instead if a launcher reclaimed the attempt. ``exit STATUS`` is the last. In the earlier
layout they are files: ``start``, with a line for each item, and ``exit``.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from motoko.launcher.attempt_paths import EXIT, START, has_directory
from motoko.runtime.ports import SYSTEM, process_age
from motoko.runtime.processes import ProcessIdentity, boot_id, identify, is_visible
from motoko.runtime.untrusted_files import read_end, read_file, stat_file
from motoko.worker import RECLAIM_PREFIX, START_PREFIX
from motoko.worker.earlier_layout import HEADER

if TYPE_CHECKING:
    from motoko.launcher.attempt_paths import AttemptPaths
    from motoko.runtime.ports import Clock
    from motoko.runtime.untrusted_files import FileContent

RECLAIMED: Final = RECLAIM_PREFIX.decode()  # the beginning of a reclaimed attempt's start record
# The length of numbers is bounded: Python refuses to convert thousands of digits.
_START: Final = re.compile(
    r"process ([0-9]{1,9}) (\S{1,200}) ([0-9]{1,20}|-) (\S{1,300}) "
    r"(?:([0-9]{1,12}(?:[.,][0-9]{1,9})?)|-) ([^\n]{1,4096})\n"
)
_STAT: Final = re.compile(r"\S(?: -?[0-9]+){18} ([0-9]{1,19})(?: .*)?")
_EARLIER_START: Final = re.compile(
    r"process ([0-9]{1,9})\n([^\n]{0,200})\n([^\n]{0,4096})\n(?:([0-9]{0,20})\n([^\n]{0,300})\n)?"
)
_HOST: Final = re.compile(r"[A-Za-z0-9._-]{1,253}")
_EXIT: Final = re.compile(r"\nexit ([0-9]{1,3})\n")
_EARLIER_EXIT: Final = re.compile(r"exit ([0-9]{1,3})\n")
_EXIT_LINE: Final = "\nexit"
UNKNOWN: Final = "-"
START_BYTES: Final = 8 * 2**10
EXIT_BYTES: Final = 64 * 2**10  # at the end of an outbox, in which the exit record is


@dataclass(frozen=True, slots=True)
class StartRecord:
    """The process that a start record names, and when it started if the wrapper knew."""

    process: ProcessIdentity
    time: float | None = None


def read_start(attempt: str) -> FileContent:
    """Return the start record of the attempt with this path; the text may continue after it."""
    path = f"{attempt}/{START}" if has_directory(attempt) else attempt
    return read_file(path, limit=START_BYTES)


def parse_start(text: str) -> StartRecord | None:
    """Return the content of a start record in either layout, None if it is incomplete."""
    found = _START.match(text)
    if found is not None:
        pid, boot, namespace, host, time, stat = found.groups()
        boot, host = ("" if word == UNKNOWN else word for word in (boot, host))
        at = None if time is None else float(time.replace(",", "."))
        inode = 0 if namespace == UNKNOWN else int(namespace)
        return _record(int(pid), boot, "" if stat == UNKNOWN else stat, inode, host, at)
    found = _EARLIER_START.match(text)
    if found is None:
        return None
    # The command's name is in parentheses, and may contain parentheses.
    line = found[3] and (found[3].rpartition(") ")[2] if ") " in found[3] else UNKNOWN)
    # An older wrapper wrote neither PID namespace nor host.
    return _record(int(found[1]), found[2], line, int(found[4] or 0), found[5] or "", None)


def _record(
    pid: int, boot: str, stat: str, namespace: int, host: str, time: float | None
) -> StartRecord | None:
    if pid < 1:
        return None
    if not stat:  # arguments or working directory decide whether it is the wrapper
        process = ProcessIdentity(pid, 0, boot, namespace, host)
        living = identify(pid) if is_visible(process) else None
        return StartRecord(living or process, time)
    found = _STAT.fullmatch(stat)
    if found is None:
        return None
    return StartRecord(ProcessIdentity(pid, int(found[1]), boot, namespace, host), time)


def start_host(paths: AttemptPaths) -> str:
    """Return the machine that the start record names, empty if it names none."""
    record = parse_start(read_start(paths.attempt_path).text)
    host = "" if record is None else record.process.host
    return host if _HOST.fullmatch(host) else ""


def start_time(paths: AttemptPaths, clock: Clock = SYSTEM.clock) -> float | None:
    """Return when an attempt started, in seconds since the epoch; None without its start record."""
    content = read_start(paths.attempt_path)
    if paths.is_earlier:
        return content.modified or None
    record = parse_start(content.text)
    if record is None:
        return content.modified or None
    if record.time is not None:
        return record.time
    if record.process.boot == boot_id() and record.process.started:
        return clock.now() - process_age(record.process.started)
    return content.modified or None


def exit_time(paths: AttemptPaths) -> float | None:
    """Return when the exit record was written, in seconds since the epoch."""
    return stat_file(paths.file(EXIT)).modified or None


def exit_record(paths: AttemptPaths) -> tuple[int | None, str | None]:
    """Return the status of the exit record, or None and the fault of the record.

    The last of several complete records counts: a script may write some.
    """
    path = paths.file(EXIT)
    if paths.is_earlier:
        found = read_file(path)
        record = _EARLIER_EXIT.fullmatch(found.text)
        status = None if record is None else int(record[1])
        damaged = bool(found.data)
    else:
        found = read_end(path, EXIT_BYTES)
        status = _last_status(found.text)
        damaged = _EXIT_LINE in found.text
    if status is not None:
        return status, None
    if found.missing and not os.path.isdir(os.path.dirname(path)):
        return None, f"{os.path.dirname(path)} does not exist"
    if damaged:
        return None, f"{path} is damaged"
    return None, found.fault


def _last_status(text: str) -> int | None:
    # Records overlap: the line end of one may be the beginning of the next.
    statuses = _EXIT.findall(text.replace("\n", "\n\n"))
    return int(statuses[-1]) if statuses else None


def whole_outbox(paths: AttemptPaths) -> bytes | None:
    """Return the content of an outbox with an exit record, None if it has none or is large.

    Nothing is added to such an outbox, so one reading suffices.
    """
    if paths.is_earlier:
        return None
    found = read_file(paths.attempt_path, limit=EXIT_BYTES)
    whole = found.data is not None and found.size == len(found.data)
    return found.data if whole and _last_status(found.text) is not None else None


def describe_missing_exit(paths: AttemptPaths) -> str | None:
    """Return the fault of the file that should have the exit record, with its name.

    None: the file is intact, and the attempt ended before its exit record was written.
    """
    path = paths.file(EXIT)
    fault = exit_record(paths)[1]
    if fault is None and not os.path.lexists(path):
        fault = f"{path} does not exist"
    return fault


def outbox_loss(paths: AttemptPaths, read: int, whole: bytes | None = None) -> str | None:
    """Return how an outbox lost its first ``read`` bytes, None if it has them.

    A script can remove or replace it, with results that were not read. ``whole``: its content.
    """
    if whole is not None and whole.startswith(START_PREFIX) and len(whole) >= read:
        return None
    path = paths.outbox
    first = HEADER if paths.is_earlier else START_PREFIX
    found = read_file(path, limit=len(first))
    if found.fault is not None:
        return found.fault
    if found.missing or (found.data or b"").startswith(_EXIT_LINE.encode()):
        return f"{path} was removed"  # and created again by the wrapper
    if not found.data and not read and not paths.is_earlier:
        return None  # another node does not see its content yet
    if found.data != first:
        return f"{path} was replaced"
    return f"{path} was cut" if found.size < read else None
