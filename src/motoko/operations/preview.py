"""Preview which runs a command would change."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from motoko.core.states import ACTIVE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from motoko.core.records import RunKey, RunRecord


@dataclass(frozen=True, slots=True)
class DirectoryUsage:
    """The number of directories, and the bytes of the files in them."""

    directories: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class Preview:
    """The runs that a command would change.

    ``unaffected``: the number of selected runs that it would not change, by state. ``usage``: the
    directories that it would remove.
    """

    runs: Sequence[RunRecord]
    unaffected: Mapping[str, int] = field(default_factory=dict)
    usage: DirectoryUsage | None = None

    @property
    def keys(self) -> list[RunKey]:
        """Return the runs."""
        return [record.key for record in self.runs]

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Return the number of runs by study and state."""
        found: dict[str, Counter[str]] = {}
        for record in self.runs:
            found.setdefault(record.study, Counter())[record.state] += 1
        return {study: dict(states) for study, states in found.items()}

    @property
    def active(self) -> list[RunRecord]:
        """Return the runs that are SUBMITTED or START."""
        return [record for record in self.runs if record.lifecycle in ACTIVE]


def preview(selected: Iterable[RunRecord], is_affected: Callable[[RunRecord], bool]) -> Preview:
    """Return the preview of a command that changes those selected runs that are affected."""
    affected: list[RunRecord] = []
    others: Counter[str] = Counter()
    for record in selected:
        if is_affected(record):
            affected.append(record)
        else:
            others[record.state] += 1
    return Preview(affected, dict(others))
