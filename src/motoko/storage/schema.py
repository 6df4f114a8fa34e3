"""The stored layout: empty tables, its version, and upgrades of older versions.

A change of the layout raises SCHEMA_VERSION and adds a step to STEPS. Steps are never removed: one
transaction takes a database of any earlier version through all of them.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from BTrees.IOBTree import IOBTree
from BTrees.OOBTree import OOBTree, OOTreeSet
from persistent.mapping import PersistentMapping

from motoko.core.states import Lifecycle
from motoko.errors import DatabaseVersionError, NoDatabaseError
from motoko.runtime.files import PRIVATE_FILE
from motoko.runtime.ports import SYSTEM
from motoko.server.create import create_and_serve
from motoko.server.safe_file import SafeFileStorage
from motoko.server.watchdog import ServerWatchdog
from motoko.storage.commit import run_transaction
from motoko.storage.database import Database
from motoko.storage.run_counts import write_counts
from motoko.storage.run_indexes import id_set, index_keys
from motoko.storage.study_table import StudyTable, new_study_table
from motoko.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from motoko.runtime.ports import Runtime
    from motoko.server.state_dir import StateDir

SCHEMA_VERSION: Final = 3
BOOTS_KEPT: Final = 16


def _add_indexes(tables: Any) -> None:
    """Version 2: an index of CREATED runs by generator and machine name, and one of scripts.

    To read the scripts of all runs would take too long, so that one remains empty.
    """
    for name, trees in tables["studies"].items():
        trees["scripts"], trees["queues"] = OOBTree(), OOBTree()
        trees["uncounted"] = trees["ids"]["run"]
        trees["counts"] = OOBTree()  # the next version fills it
        table = StudyTable(name, trees)
        for record in table.records(table.ids(None, lifecycles=[Lifecycle.CREATED])):
            key = index_keys(record)["queues"]
            if key is not None:
                id_set(trees, "queues", key).insert(record.id)


def _add_counts(tables: Any) -> None:
    """Version 3: the numbers of runs, and room for blocks of runs. No record is read.

    The numbers replace the index of scripts. Failures that firings recorded earlier as handled stay
    out of the index of them.
    """
    if tables["firings"]:
        tables["unlisted"] = True
    for trees in tables["studies"].values():
        write_counts(trees)
        trees.pop("scripts", None)
        trees["blocks"] = IOBTree()


# Version -> the step to the next one; its argument is the mapping at the root's "motoko".
STEPS: Final[Mapping[int, Callable[[Any], None]]] = MappingProxyType(
    {1: _add_indexes, 2: _add_counts}
)


def create_tables(root: Any, studies: Iterable[str]) -> None:
    """Write the empty tables, or add those of new studies."""
    if "motoko" not in root:
        root["motoko"] = PersistentMapping(
            {
                "version": SCHEMA_VERSION,
                "written_by": __version__,
                "studies": OOBTree(),
                "variables": OOBTree(),
                "firings": OOBTree(),
                "open": OOTreeSet(),
                "once": OOTreeSet(),
                "leases": OOBTree(),
                "renewals": OOBTree(),
                "provenance": OOBTree(),
            }
        )
    upgrade(root)
    root["motoko"].setdefault("holds", PersistentMapping({"kind": "holds"}))
    for name in studies:
        if name not in root["motoko"]["studies"]:
            root["motoko"]["studies"][name] = new_study_table()


def record_boot_time(root: Any, boot: str, at: float) -> None:
    """Record the time of this machine's boot, unless it is recorded."""
    tables = root["motoko"]
    if boot and boot not in tables.get("boots", ()):
        latest = sorted(tables.get("boots", {}).items(), key=lambda item: item[1])[1 - BOOTS_KEPT :]
        tables["boots"] = {**dict(latest), boot: at}


def check_version(root: Any) -> None:
    """Raise NoDatabaseError or DatabaseVersionError unless this code can read the tables."""
    version = check_readable(root)
    if version != SCHEMA_VERSION:
        raise DatabaseVersionError(
            f"the workflow's database has format {version}; this is Motoko {__version__}, which "
            f"reads format {SCHEMA_VERSION}",
            hint="`motoko run` upgrades it, and so does any other process that writes to it: "
            "`motoko launcher`, or a script that opens it without read_only=True.",
        )


def upgrade(root: Any) -> None:
    """Upgrade an older layout, in the caller's transaction; raise as ``check_readable``.

    In a snapshot, only the caller sees the result: the stored tables do not change.
    """
    version = check_readable(root)
    if version == SCHEMA_VERSION:
        return
    while version < SCHEMA_VERSION:
        STEPS[version](root["motoko"])
        version += 1
    root["motoko"].update({"version": version, "written_by": __version__})


def check_readable(root: Any) -> int:
    """Return the version of a readable or upgradable layout; or raise DatabaseVersionError."""
    if "motoko" not in root:
        raise NoDatabaseError("the workflow's database is empty")
    version = root["motoko"]["version"]
    if isinstance(version, int) and min((SCHEMA_VERSION, *STEPS)) <= version <= SCHEMA_VERSION:
        return version
    writer = root["motoko"].get("written_by")
    by = f", written by Motoko {writer}" if writer else ""
    raise DatabaseVersionError(
        f"the workflow's database has format {version}{by}; this is Motoko {__version__}, which "
        f"reads format {SCHEMA_VERSION}",
        hint="Use the Motoko that wrote it, or a newer one.",
    )


def create_database(
    state: StateDir, studies: Iterable[str], *, replace: bool = False, runtime: Runtime = SYSTEM
) -> None:
    """Create and serve an empty database; DatabaseExistsError if one exists, unless ``replace``."""
    names = list(studies)
    create_and_serve(
        state, lambda path: write_database(path, names), replace=replace, runtime=runtime
    )


def write_database(path: Path, studies: Iterable[str]) -> None:
    """Write a new database file with the empty tables of these studies."""
    _create_tables(Database(SafeFileStorage(path)), studies)
    path.chmod(PRIVATE_FILE)


def add_studies(state: StateDir, studies: Iterable[str], *, runtime: Runtime = SYSTEM) -> None:
    """Add the tables of studies that the database does not have yet."""
    watchdog = ServerWatchdog(state, clock=runtime.clock)
    _create_tables(
        Database.connect(str(state.socket()), watchdog=watchdog, runtime=runtime), studies
    )


def _create_tables(database: Database, studies: Iterable[str]) -> None:
    names = list(studies)
    try:
        database.submit(
            lambda: run_transaction(
                database, lambda root: create_tables(root, names), initialising=True
            )
        ).result()
    finally:
        database.close()
