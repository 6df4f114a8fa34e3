"""The indexes of runs in a study's table: which key each run has in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from BTrees.IIBTree import IITreeSet

from motoko.core.states import Lifecycle

if TYPE_CHECKING:
    from collections.abc import Mapping

    from motoko.core.records import RunRecord

INDEXES: Final = ("states", "lifecycles", "scripts", "queues", "remarks")
# Those of which the numbers of runs are stored; "runs", "queued" and "ended_scripts" list no ids.
COUNTED: Final = ("runs", "states", "lifecycles", "queued", "remarks", "ended_scripts")


def index_keys(record: RunRecord) -> dict[str, tuple[str, str] | None]:
    """Return the key of a run in each of INDEXES, None if it is not in that index."""
    run_name, reason = record.run_name, None
    if record.lifecycle is Lifecycle.FINISHED and record.reason:
        reason = record.reason, run_name
    return {
        "states": (record.state, run_name),
        "lifecycles": (record.lifecycle.value, run_name),
        "scripts": (record.scripts, run_name),
        "queues": _queue(record),
        "remarks": reason,
    }


def count_keys(
    record: RunRecord, keys: Mapping[str, tuple[str, str] | None]
) -> dict[str, tuple[Any, str] | None]:
    """Return the (key, run name) under which a run counts in each of COUNTED, None for none.

    ``keys``: its keys in the indexes.
    """
    run_name, queue = record.run_name, keys["queues"]
    return {
        **keys,
        "runs": ("", ""),
        "queued": None if queue is None else (queue, run_name),
        "ended_scripts": (record.scripts, run_name) if record.lifecycle.is_terminal else None,
    }


def _queue(record: RunRecord) -> tuple[str, str] | None:
    if record.lifecycle is not Lifecycle.CREATED or not record.options:
        return None
    names = (record.options.get("generator"), record.options.get("machine_name"))
    return (str(names[0] or ""), str(names[1] or "")) if any(names) else None


def add_to_index(index: Any, key: tuple[str, str], run_id: int) -> None:
    """Add a run to an index under ``key``."""
    ids = index.get(key)
    if ids is None:
        ids = index[key] = IITreeSet()
    ids.insert(run_id)
