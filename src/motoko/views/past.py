"""The ends before the first look: they give a throughput and a rate at once."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from motoko.core.progress import EndedRun
from motoko.core.provenance import attempt_times
from motoko.core.states import TERMINAL, Lifecycle
from motoko.storage.newest_runs import newest
from motoko.views.throughput import Throughput

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from motoko.core.progress import ProgressModel
    from motoko.storage.ended_runs import NewEnds
    from motoko.storage.tables import Tables

READ: Final = 500  # runs of a study that one look reads
MOST: Final = 20_000  # of them in all
TRUSTED: Final = 0.8  # of the newest runs: they do not end in the order of their ids
STEPS: Final = 16  # samples of a replay
WINDOW: Final = 1800.0  # seconds before the first look that are replayed


@dataclass(frozen=True, slots=True)
class PastRun:
    """A run with the times of its creation and its end, in seconds since the epoch."""

    created: float
    ended: float
    run: EndedRun


class PastEnds:
    """The throughput of a run name. Each look adds some of the earlier ends, the newest first."""

    def __init__(self, run_name: str) -> None:
        self.throughput = Throughput()
        self._run_name = run_name
        self._first: float | None = None
        self._below: dict[str, int | None] = {}  # ids that are still to be read; None: none
        self._read = 0

    def look(
        self, tables: Tables, studies: Iterable[str], now: float, ends: Mapping[str, NewEnds]
    ) -> list[PastRun]:
        """Add the new ends and some earlier ones; return the earlier ones."""
        self._first = now if self._first is None else self._first
        for new in ends.values():
            self.throughput.add([now] * len(new.ids))
        found: list[PastRun] = []
        for study in studies:
            if self._read < MOST:
                found += self._earlier(tables, study)
        self.throughput.add(past.ended for past in found if past.ended < self._first)
        return found

    def _earlier(self, tables: Tables, study: str) -> list[PastRun]:
        table, below = tables.study(study), self._below.get(study, 0)
        if below is None:
            return []
        most = None if not below else below - 1
        ids = list(islice(newest(table, self._run_name, lifecycles=TERMINAL, id_max=most), READ))
        self._below[study] = ids[-1] if len(ids) == READ else None
        self._read += len(ids)
        found = []
        for record in table.records(reversed(ids), keep=False):
            times = attempt_times(record, record.attempt)
            if times.ended is not None:
                ended = EndedRun(study, record.lifecycle, times.duration)
                found.append(PastRun(record.history[0].time, times.ended, ended))
        return found


def replay(
    model: ProgressModel,
    past: Sequence[PastRun],
    lifecycles: Mapping[str, Mapping[str, int]],
    *,
    monotonic: float,
    now: float,
) -> None:
    """Give a model that has no sample yet those that it would have taken before.

    ``lifecycles``: the runs by study and lifecycle state at time ``now``. Runs that are missing in
    ``past`` count as older.
    """
    recent = sorted(past, key=lambda one: one.ended)
    recent = recent[round(len(recent) * (1 - TRUSTED)) :]
    recent = [one for one in recent if one.ended >= now - WINDOW]
    size = max(1, -(-len(recent) // STEPS))
    for start in range(0, len(recent), size):
        step, later = recent[start : start + size], recent[start + size :]
        at = step[-1].ended
        counts = {study: _before(found, study, later, at) for study, found in lifecycles.items()}
        model.add(monotonic - (now - at), counts, counts, [one.run for one in step])


def _before(
    lifecycles: Mapping[str, int], study: str, later: Sequence[PastRun], at: float
) -> dict[str, int]:
    """Return the runs of a study by lifecycle state before some of them were created or ended."""
    found = dict(lifecycles)
    for one in later:
        if one.run.study == study:
            found[one.run.outcome] = found.get(one.run.outcome, 0) - 1
            if one.created <= at:
                found[Lifecycle.START] = found.get(Lifecycle.START, 0) + 1
    return {state: number for state, number in found.items() if number > 0}
