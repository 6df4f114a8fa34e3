"""What happened lately: the runs that firings, main and users created, and their causes."""

from __future__ import annotations

from itertools import groupby, islice
from typing import TYPE_CHECKING, Final

from motoko.core.records import RunKey
from motoko.core.run_targets import id_ranges, range_text
from motoko.printable import join_names
from motoko.storage.newest_runs import newest
from motoko.views.campaign import Happening

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from motoko.core.records import RunRecord
    from motoko.storage.tables import Tables

NEWEST: Final = 60  # runs of a study that are read
MOST: Final = 12  # happenings
TRIGGERS: Final = 3  # runs of a firing that are named


def happenings(tables: Tables, studies: Iterable[str], run_name: str) -> tuple[Happening, ...]:
    """Return the last creations of runs, the newest first."""
    found: list[Happening] = []
    for study in studies:
        table = tables.study(study)
        ids = list(islice(newest(table, run_name), NEWEST))
        records = list(table.records(reversed(ids), keep=False))
        groups = (list(members) for _, members in groupby(records, _creation))
        found += [_happening(tables, members) for members in groups]
    return tuple(sorted(found, key=lambda one: -one.at)[:MOST])


def _creation(record: RunRecord) -> tuple[str, str]:
    return record.firing, record.history[0].cause if record.history else ""


def _happening(tables: Tables, records: Sequence[RunRecord]) -> Happening:
    first = records[0]
    at = first.history[0].time if first.history else 0.0
    made = f"{first.study}.{range_text(id_ranges([record.id for record in records]))}"
    return Happening(at, _cause(tables, first), made)


def _cause(tables: Tables, record: RunRecord) -> str:
    cause = record.history[0].cause if record.history else "created"
    event = cause.partition(" ")[2]
    if not record.firing:
        return f"{cause} created runs"
    triggers = firing_runs(tables.firing((record.run_name, event, record.firing)))
    name = event.rpartition(".")[2]
    return f"{name} fired for {join_names(triggers, TRIGGERS)}" if triggers else f"{name} fired"


def firing_runs(firing: Mapping[str, Any] | None) -> list[RunKey]:
    """Return the runs of a recorded firing."""
    return [] if firing is None else [RunKey(*key) for key in firing["runs"]]
