"""Invariants of a workflow that has ended, after any number of killed processes.

Scripts may log their execution for ``check``. Each appends lines to one file opened with O_APPEND,
at its start, at its end and in between::

    WHAT TOKEN STUDY.ID ATTEMPT RUN_NAME

WHAT is ``start``, ``end`` or another word; TOKEN is at the end of ``$MOTOKO_OUTBOX``.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from motoko.core.values import MISSING
from motoko.launcher.attempt_paths import attempt_directory
from motoko.runtime.packed_files import read_file
from motoko.storage.consistency import check_study

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from motoko.api.workflow import Workflow
    from motoko.core.records import RunRecord
    from motoko.storage.tables import Tables

START: Final = "start"
END: Final = "end"
TOLERANCE: Final = 1e-12  # relative, of numbers


@dataclass(frozen=True, slots=True)
class LogLine:
    """One numbered line of the scripts' log."""

    number: int
    what: str
    token: str
    run: str
    attempt: int
    run_name: str


def check(
    workflow: Workflow,
    run_name: str,
    *,
    once: Collection[str] = (),
    expected: Mapping[str, Any] | None = None,
    log: Path | None = None,
    killed: Collection[str] = (),
) -> list[str]:
    """Return the violated invariants of an ended workflow's whole database.

    ``once``: names of events with ``once=True``. ``expected``: values of the run name's variables.
    ``log``: the scripts' log. ``killed``: tokens of attempts that the test killed; only these may
    be repeated after their end.
    """
    with workflow.store.autocommit_scope.read() as session:
        tables = session.tables
        records = [
            record
            for study in tables.study_names()
            for record in tables.study(study).records(tables.study(study).ids(run_name))
        ]
        wrong = [*_active(records), *_identities(records), *_firings(tables, run_name, once)]
        for study in tables.study_names():
            wrong += check_study(tables.study(study))
        wrong += _variables(tables, run_name, expected or {})
    if log is not None:
        wrong += _executions(records, read_log(log, run_name), frozenset(killed))
    return wrong


def lost_output(workflow: Workflow, run_name: str, killed: Collection[str] = ()) -> Iterator[str]:
    """Yield the FINISHED runs whose ``stdout``, packed or not, is not as their scripts wrote it.

    Their scripts write ``out TOKEN``. Those of ``killed`` may have lost their directories.
    """
    with workflow.store.autocommit_scope.read() as session:
        for study in session.tables.study_names():
            table = session.tables.study(study)
            root = workflow.store.runs_root(study)
            for record in list(table.records(table.ids(run_name))):
                if record.lifecycle != "FINISHED" or record.token in killed:
                    continue
                for _ in range(2):  # a launcher may pack it meanwhile
                    directory = attempt_directory(root, record, record.attempt)
                    text = "" if directory is None else read_file(directory / "stdout").text
                    if f"out {record.token}\n" in text:
                        break
                else:
                    yield f"{record.key}: its output in {directory} is lost: {text[:100]!r}"


# -- runs ------------------------------------------------------------------------------------


def _active(records: list[RunRecord]) -> list[str]:
    return [
        f"{r.key} is not in a terminal state: {r.lifecycle}"
        for r in records
        if not r.lifecycle.is_terminal
    ]


def _identities(records: list[RunRecord]) -> list[str]:
    seen: dict[tuple[str, bytes], RunRecord] = {}
    wrong = []
    for record in records:
        first = seen.setdefault((record.study, record.identity), record)
        if first is not record:
            wrong.append(f"{first.key} and {record.key} have one identity")
    return wrong


# -- firings ---------------------------------------------------------------------------------


def _firings(tables: Tables, run_name: str, once: Collection[str]) -> list[str]:
    wrong = [f"firing {firing_id} is open" for firing_id in tables.open_firings(run_name)]
    done: Counter[tuple[str, str]] = Counter()
    for (_, event, _), firing in tables.firings(run_name):
        if firing["status"] == "done":
            runs = [f"{study}.{number}" for study, number in firing["runs"]]
            done.update((event, run) for run in runs or [""])
    for (event, run), times in done.items():
        if times > 1 and (_has_name(event, once) or any(tables.once_records(run_name, event))):
            wrong.append(f"event {event}, once for each run, was done {times} times for {run!r}")
    return wrong


def _has_name(event: str, names: Collection[str]) -> bool:
    """Return whether an event's id, such as ``mult/forward``, has one of these names."""
    return any(event == name or event.endswith(("/" + name, "." + name)) for name in names)


# -- variables -------------------------------------------------------------------------------


def _variables(tables: Tables, run_name: str, expected: Mapping[str, Any]) -> list[str]:
    wrong = []
    for name, value in expected.items():
        found = tables.variable(run_name, name)
        if found is MISSING:
            wrong.append(f"run_vars.{name} is missing, should be {value}")
        elif not _same(found, value):
            wrong.append(f"run_vars.{name} is {found}, should be {value}")
    return wrong


def _same(found: Any, value: Any) -> bool:
    if isinstance(value, list | tuple):
        return len(found) == len(value) and all(map(_same, found, value))
    if isinstance(value, float):
        return math.isclose(found, value, rel_tol=TOLERANCE)
    return bool(found == value)


# -- executions ------------------------------------------------------------------------------


def read_log(log: Path, run_name: str) -> list[LogLine]:
    """Return the lines of one run name in the scripts' log, in their order."""
    lines = []
    text = log.read_text(encoding="utf-8") if log.exists() else ""
    for number, line in enumerate(text.splitlines()):
        what, token, run, attempt, name = line.split(" ", 4)
        if name == run_name:
            lines.append(LogLine(number, what, token, run, int(attempt), name))
    return lines


def _executions(
    records: list[RunRecord], lines: list[LogLine], killed: frozenset[str]
) -> list[str]:
    by_run: dict[str, list[LogLine]] = {}
    for line in lines:
        by_run.setdefault(line.run, []).append(line)
    wrong = [f"{run} was executed, but does not exist" for run in by_run.keys() - _names(records)]
    for record in records:
        wrong += _one_run(record, by_run.get(str(record.key), []), killed)
    return wrong


def _names(records: Iterable[RunRecord]) -> set[str]:
    return {str(record.key) for record in records}


def _one_run(record: RunRecord, lines: list[LogLine], killed: frozenset[str]) -> list[str]:
    wrong = []
    counts = Counter((line.what, line.token) for line in lines)
    for (what, token), times in counts.items():
        if what in (START, END) and times > 1:
            wrong.append(f"{record.key}: attempt {token} has {times} lines {what!r}")
    current = ""
    started: list[str] = []
    for line in lines:
        if line.what == START:
            current = line.token
            started.append(current)
        elif line.token != current:
            wrong.append(
                f"{record.key}: attempt {line.token} continued after attempt {current} had started"
            )
    finished = [token for token in started if counts[END, token]]
    extra = [token for token in finished if token not in killed and token != record.token]
    if extra:
        wrong.append(f"{record.key}: attempts {extra} were executed to their end and repeated")
    if record.lifecycle == "FINISHED" and (record.token or "") not in finished:
        wrong.append(f"{record.key} is FINISHED, but was not executed to its end")
    return wrong
