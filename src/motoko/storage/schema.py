"""The version of the stored layout: what can be read, and how an older one is brought up to date.

A change of the layout raises SCHEMA_VERSION and adds a step to STEPS. Steps are never removed: a
database of any former version goes through them one after the other, in one transaction.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from BTrees.IIBTree import IITreeSet
from BTrees.OOBTree import OOBTree

from motoko.errors import DatabaseVersionError, NoDatabaseError
from motoko.storage.study_table import StudyTable, queue
from motoko.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SCHEMA_VERSION: Final = 2


def _add_indexes(tables: Any) -> None:
    """Version 2: indexes of runs by their scripts, and of CREATED ones by where they are to run."""
    for name, table in tables["studies"].items():
        scripts, queues = table["scripts"], table["queues"] = OOBTree(), OOBTree()
        for record in StudyTable(name, table).records(list(table["runs"])):
            _put(scripts, (record.scripts, record.run_name), record.id)
            key = queue(record)
            if key is not None:
                _put(queues, key, record.id)


def _put(index: Any, key: tuple[str, str], run_id: int) -> None:
    if key not in index:
        index[key] = IITreeSet()
    index[key].insert(run_id)


# From which version -> what makes it the next one, given the mapping below the root's "motoko".
STEPS: Final[Mapping[int, Callable[[Any], None]]] = MappingProxyType({1: _add_indexes})


def check_version(root: Any) -> None:
    """Raise NoDatabaseError or DatabaseVersionError unless this code can read the tables."""
    version = check_readable(root)
    if version != SCHEMA_VERSION:
        raise DatabaseVersionError(
            f"the workflow's database has format {version}; this is Motoko {__version__}, which "
            f"reads format {SCHEMA_VERSION}",
            hint="Whatever writes to it brings it up to date: open it without look=True, or "
            "start `motoko launcher`.",
        )


def upgrade(root: Any) -> None:
    """Bring an older layout up to date; raises where check_version would find nothing to do.

    Call it in a transaction.
    """
    version = check_readable(root)
    if version == SCHEMA_VERSION:
        return
    while version < SCHEMA_VERSION:
        STEPS[version](root["motoko"])
        version += 1
    root["motoko"].update({"version": version, "written_by": __version__})


def check_readable(root: Any) -> int:
    """Return the version of a layout that this code can read, if need be after an upgrade.

    Raises NoDatabaseError or DatabaseVersionError where it cannot.
    """
    if "motoko" not in root:
        raise NoDatabaseError("the workflow's database is empty", hint="Run `motoko create`.")
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
