"""Is the database intact, small enough and backed up?"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from motoko.errors import DatabaseVersionError, MotokoError
from motoko.operations.backup import last_backup
from motoko.operations.doctor.findings import Finding, fault, ok, warning
from motoko.printable import join_names
from motoko.runtime.file_system import Space, space
from motoko.runtime.ports import utc_text
from motoko.server.file_integrity import DAMAGE_HINT, check_file, last_torn_tail
from motoko.server.lifecycle import is_served
from motoko.server.packing import PackPolicy
from motoko.server.temp_files import DRAFT_PREFIX, MIN_AGE
from motoko.storage.consistency import check_database_file, check_indexes
from motoko.storage.database import Database
from motoko.storage.schema import SCHEMA_VERSION, check_readable, upgrade
from motoko.storage.tables import Tables

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from motoko.operations.backup import BackupRecord
    from motoko.operations.doctor.patient import Patient
    from motoko.server.file_integrity import TornTail

SUBJECT: Final = "database"
DAY: Final = 86_400.0
BACKUP_DAYS: Final = 7  # results that are older should be in a backup
RECENT_CUT: Final = 7 * DAY
MEGABYTE: Final = 2**20
LITTLE_SPACE: Final = 64 * MEGABYTE
SPARE_SPACE: Final = 256 * MEGABYTE  # beside twice the size of the database
OVERDUE: Final = 1.5  # times the size at which the server packs
SHOWN_ERRORS: Final = 3


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """Facts about a database file. Sizes are in bytes, times in seconds since the epoch.

    ``damage``: the error of reading it, with its hint. ``newer``: the error if a newer Motoko wrote
    it. ``format``: of the tables. ``errors``: disagreements between records and indexes. ``runs``:
    by study. ``torn``: the bytes of an unfinished commit at the end, 0 while a server may be
    writing. ``packed``: size and time of the last packing, None if it was never packed.
    ``leftovers``: names and sizes of files that salvage and creation left. ``first_run``: creation
    time of the oldest run.
    """

    size: int
    modified: float
    now: float
    space: Space
    damage: tuple[str, str] | None = None
    newer: tuple[str, str] | None = None
    format: int = SCHEMA_VERSION
    errors: tuple[str, ...] = ()
    every_record: bool = False
    runs: Mapping[str, int] = field(default_factory=dict)
    configured: frozenset[str] | None = None
    torn: int = 0
    cut: TornTail | None = None
    packed: tuple[int, float] | None = None
    leftovers: tuple[tuple[str, int], ...] = ()
    backup: BackupRecord | None = None
    backup_exists: bool = True
    first_run: float | None = None


def examine_database(patient: Patient) -> list[Finding]:
    """Examine the database file, without its server."""
    path = patient.state.database
    if path.exists() and not patient.has_database:
        message = f"{path} is not a regular file"
        return [fault("database-damaged", SUBJECT, message, "Move it out of the way.")]
    if not patient.has_database:
        message = "there is none yet; `motoko run` creates it"
        return [ok("database-missing", SUBJECT, message)]
    return judge(read(patient))


# -- reading ---------------------------------------------------------------------------------


def read(patient: Patient) -> DatabaseFacts:
    """Read the facts about an existing database file."""
    path, clock = patient.state.database, patient.runtime.clock
    found, backup = path.stat(), last_backup(patient.state)
    facts = DatabaseFacts(
        found.st_size,
        found.st_mtime,
        clock.now(),
        space(path.parent),
        every_record=patient.progress is not None,
        cut=last_torn_tail(path),
        packed=_last_packing(patient.state.packed_size_file),
        leftovers=tuple(_leftovers(path, clock.now())),
        backup=backup,
        backup_exists=backup is not None and Path(backup.path).exists(),
        configured=_configured(patient),
    )
    try:
        check = check_file(path, clock=clock)
        torn = 0 if is_served(patient.state) else check.size - check.committed
        return _with_contents(replace(facts, torn=torn), patient)
    except DatabaseVersionError as error:
        return replace(facts, newer=(error.message, error.hint or "Use a newer Motoko."))
    except MotokoError as error:
        return replace(facts, damage=(error.message, error.hint or DAMAGE_HINT))
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}"
        return replace(facts, damage=(message, "Make it readable for you."))


def _with_contents(facts: DatabaseFacts, patient: Patient) -> DatabaseFacts:
    path = patient.state.database
    errors = []
    if patient.progress is not None:
        errors = check_database_file(path, patient.progress)
    with contextlib.closing(Database.read_file(path, runtime=patient.runtime)) as database:
        if patient.progress is None:
            with database.snapshot() as connection:
                errors = check_indexes(connection.root())
        if errors:
            return replace(facts, errors=tuple(errors))
        with database.snapshot() as connection:
            stored = check_readable(connection.root())
            upgrade(connection.root())
            runs, first = _count(Tables(connection.root()))
    return replace(facts, format=stored, runs=runs, first_run=first)


def _count(tables: Tables) -> tuple[dict[str, int], float | None]:
    """Return the number of runs by study, and the creation time of the first one."""
    studies = [tables.study(name) for name in tables.study_names()]
    oldest = [study.run(study.ids_around(0, 0)[0]) for study in studies if study]
    created = [run.history[0].time for run in oldest if run.history]
    return {study.name: len(study) for study in studies}, min(created, default=None)


def _configured(patient: Patient) -> frozenset[str] | None:
    written = patient.diagnosis.written
    return None if written is None else frozenset(written.task_managers)


def _last_packing(file: Path) -> tuple[int, float] | None:
    try:
        return int(file.read_bytes()), file.stat().st_mtime
    except (OSError, ValueError):
        return None


def _leftovers(database: Path, now: float) -> Iterator[tuple[str, int]]:
    """Yield names and sizes of damaged files that were kept, and of stale drafts."""
    for path in sorted(database.parent.glob(f"{database.name}.damaged-*")):
        yield path.name, path.stat().st_size
    for path in sorted(database.parent.glob(f"{DRAFT_PREFIX}*")):
        if path.stat().st_mtime < now - MIN_AGE:
            yield path.name, sum(one.stat().st_size for one in path.rglob("*") if one.is_file())


# -- judging ---------------------------------------------------------------------------------


def judge(facts: DatabaseFacts) -> list[Finding]:
    """Return the findings about a database."""
    found = [*_judge_contents(facts), *_judge_size(facts), *_judge_tail(facts)]
    found += [*_judge_leftovers(facts), *_judge_backup(facts)]
    if any(one.level for one in found):
        return found
    return [ok("database", SUBJECT, _summary(facts)), *found]


def _summary(facts: DatabaseFacts) -> str:
    runs = sum(facts.runs.values())
    checked = (
        "every record agrees" if facts.every_record else "indexes and a sample of records agree"
    )
    return f"{runs:,} {'run' if runs == 1 else 'runs'}, {_megabytes(facts.size)}; {checked}"


def _judge_contents(facts: DatabaseFacts) -> Iterator[Finding]:
    if facts.damage is not None:
        message, step = facts.damage
        yield fault("database-damaged", SUBJECT, message, step)
    if facts.newer is not None:
        message, step = facts.newer
        yield warning("database-version", SUBJECT, message, step)
    if facts.format < SCHEMA_VERSION:
        message = f"has the earlier format {facts.format}: {_summary(facts)}"
        step = (
            f"`motoko run` upgrades it to format {SCHEMA_VERSION}, and so does any other process "
            "that writes to it. Until then, most commands that only read refuse it."
        )
        yield warning("database-version", SUBJECT, message, step)
    if facts.errors:
        more = len(facts.errors) - SHOWN_ERRORS
        shown = "; ".join(facts.errors[:SHOWN_ERRORS]) + (f"; and {more} more" if more > 0 else "")
        message = f"records and indexes disagree: {shown}"
        step = "Rebuild the indexes: `motoko kill`, then `motoko restore --salvage`."
        yield fault("database-inconsistent", SUBJECT, message, step)
    unknown = [n for n, runs in facts.runs.items() if runs and n not in (facts.configured or {n})]
    for name in unknown:
        message = (
            f"has {facts.runs[name]:,} runs of study {name!r}, which motoko.yaml does not name"
        )
        step = f"Add `{name}:` to task_managers to see them, or ignore this."
        yield warning("study-unknown", SUBJECT, message, step)


def _judge_size(facts: DatabaseFacts) -> Iterator[Finding]:
    free, size = facts.space.free, facts.size
    message = f"{_megabytes(free)} are free for a database of {_megabytes(size)}"
    if free < LITTLE_SPACE:
        step = "Free disk space at once: commits will fail."
        yield fault("database-space", SUBJECT, message, step)
    elif free < 2 * size + SPARE_SPACE:
        step = "Free disk space: packing and backups need as much again."
        yield warning("database-space", SUBJECT, message, step)
    policy = PackPolicy()
    last = 0 if facts.packed is None else facts.packed[0]
    limit = max(policy.minimum, policy.growth * last)
    young = facts.packed is not None and facts.now - facts.packed[1] < 2 * policy.keep
    if size > OVERDUE * limit and not young:
        when = "never" if facts.packed is None else f"last at {utc_text(facts.packed[1])}"
        message = (
            f"{_megabytes(size)} and {when} packed; it is due from {_megabytes(int(limit))} on"
        )
        step = "The next commit packs it; otherwise .wf/logs/server.log has the reason."
        yield warning("database-unpacked", SUBJECT, message, step)


def _judge_tail(facts: DatabaseFacts) -> Iterator[Finding]:
    if facts.torn:
        message = f"ends with {facts.torn:,} bytes of an unfinished commit"
        step = "No finished commit is lost; the next start of the server cuts them off."
        yield warning("database-torn", SUBJECT, message, step)
    if facts.cut is not None and facts.now - facts.cut.at < RECENT_CUT:
        message = f"an unfinished commit was cut off at {utc_text(facts.cut.at)}: {facts.cut}"
        step = "No finished commit is lost. Look for the cause: power, disk or memory."
        yield warning("database-cut", SUBJECT, message, step)


def _judge_leftovers(facts: DatabaseFacts) -> Iterator[Finding]:
    if facts.leftovers:
        names = join_names(f".wf/{name}" for name, _ in facts.leftovers)
        size = _megabytes(sum(size for _, size in facts.leftovers))
        step = "Delete them if the results are complete."
        yield warning("database-leftovers", SUBJECT, f"{names} ({size}) are left", step)


def _judge_backup(facts: DatabaseFacts) -> Iterator[Finding]:
    backup, step = facts.backup, "`motoko backup FILE` copies the database."
    if backup is None and facts.first_run is None:  # no run, or none that can be read
        return
    if backup is None:
        days = (facts.now - (facts.first_run or facts.now)) / DAY
        if days > BACKUP_DAYS:
            message = f"results of {days:.0f} days have no backup"
            yield warning("backup-missing", "backup", message, step)
        else:
            yield ok("backup", "backup", f"none; {step}")
        return
    if not facts.backup_exists:
        message = f"the last backup, {backup.path} of {utc_text(backup.at)}, does not exist here"
        yield warning("backup-missing", "backup", message, step)
    elif facts.modified - backup.at > BACKUP_DAYS * DAY:
        days = (facts.now - backup.at) / DAY
        message = f"the last backup is {days:.0f} days old: {backup.path}"
        yield warning("backup-old", "backup", message, step)
    else:
        yield ok("backup", "backup", f"{backup.path} of {utc_text(backup.at)}")


def _megabytes(size: int) -> str:
    return f"{size / MEGABYTE:,.1f} MB" if size >= MEGABYTE / 10 else f"{size / 1024:,.0f} kB"
