"""Can the directories of ended runs be packed or removed, as ``keep`` says?"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final

from motoko.config import KEEP_ALL, KEEP_PACKED
from motoko.core.records import RunKey
from motoko.errors import StorageError
from motoko.launcher.packing import NOT_ENDED, loose_runs, pack_runs, remove_finished
from motoko.operations.doctor.findings import Finding, ok, warning
from motoko.printable import join_names
from motoko.runtime.packs import long_lock_holder
from motoko.storage.database import Database
from motoko.storage.store import WorkflowStore

if TYPE_CHECKING:
    from collections.abc import Mapping

    from motoko.operations.doctor.patient import Patient

MOST: Final = 1000  # runs examined in each study


@dataclass(frozen=True, slots=True)
class DirectoryFacts:
    """The directories of a study that ``keep`` wants to be packed or removed.

    ``due``: the number of runs for which that is possible. ``left``: why those of others stay, by
    run. ``problem``: why all stay, "" if they need not. ``others``: the number of further runs with
    directories.
    """

    study: str
    keep: str = KEEP_PACKED
    due: int = 0
    left: Mapping[int, str] = field(default_factory=dict)
    problem: str = ""
    others: int = 0


def examine_directories(patient: Patient) -> list[Finding]:
    """Examine the directories of ended runs, unless ``keep`` is ``all``."""
    written = patient.diagnosis.written
    if written is None or written.keep == KEEP_ALL or not patient.has_database:
        return []
    try:
        database = Database.read_file(patient.state.database, runtime=patient.runtime)
        studies = patient.diagnosis.studies
        store = WorkflowStore(patient.state, studies, database=database, runtime=patient.runtime)
        with contextlib.closing(store):
            with store.autocommit_scope.read() as session:
                known = session.tables.study_names()
            facts = [read(store, study, written.keep) for study in studies if study in known]
    except StorageError:  # the check of the database reports it
        return []
    return [finding for one in facts for finding in judge(one)]


def read(store: WorkflowStore, study: str, keep: str) -> DirectoryFacts:
    """Examine the directories of the first MOST runs of a study that have any."""
    root = store.runs_root(study)
    apply = pack_runs if keep == KEEP_PACKED else remove_finished
    loose = loose_runs(root)
    try:
        found = apply(store, study, set(islice(loose, MOST)), dry_run=True)
    except OSError as error:
        return DirectoryFacts(study, keep, problem=f"{error.filename}: {error.strerror}")
    left = {run_id: reason for run_id, reason in found.left.items() if reason != NOT_ENDED}
    holder = long_lock_holder(root) if keep == KEEP_PACKED and found.packed else None
    problem = "" if holder is None else f"wait for the holder of the packs, {holder}"
    others = max(0, len(loose) - MOST)
    return DirectoryFacts(study, keep, len(found.packed), left, problem, others)


def judge(facts: DirectoryFacts) -> list[Finding]:
    """Return the findings about the directories of a study."""
    subject, packs = f"directories of {facts.study}", facts.keep == KEEP_PACKED
    do, done = ("packs", "packed") if packs else ("removes", "removed")
    step = f"Correct this. Then the next launcher {do} them"
    step += ", or `motoko clean --pack`." if packs else "."
    findings = []
    if facts.problem:
        message = f"they cannot be {done}: {facts.problem}"
        findings.append(warning("directories-stay", subject, message, step))
    if facts.left:
        names = [f"{RunKey(facts.study, i)} ({reason})" for i, reason in facts.left.items()]
        runs = "1 run" if len(names) == 1 else f"{len(names)} runs"
        message = f"those of {runs} cannot be {done}: {join_names(names)}"
        findings.append(warning("directories-stay", subject, message, step))
    others = f", and {facts.others} others, not examined" if facts.others else ""
    return findings or [
        ok("directories", subject, f"runs with directories to be {done}: {facts.due}{others}")
    ]
