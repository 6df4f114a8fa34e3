"""Group failed runs by cause: exit code, and the last line of standard error without its details.

Numbers, paths, quoted texts and addresses differ between runs that fail for one cause, so the
pattern of a line has a sign in their place.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from motoko.core.run_targets import RunTarget, id_ranges

if TYPE_CHECKING:
    from collections.abc import Iterable

    from motoko.core.records import RunKey

SHOWN: Final = 10  # runs named in a group
BUCKETS: Final = 24  # of the counts over time
MAX_LINE: Final = 300  # characters of a line that are looked at
_DETAILS: Final = (
    (re.compile(r"0x[0-9a-fA-F]+|\b[0-9a-fA-F]{12,}\b"), "#"),
    (re.compile(r"(?:~|\.{1,2})?/[^\s:,;'\"()]+"), "PATH"),
    (re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"), "N"),
    (re.compile(r"\s+"), " "),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class FailedRun:
    """A failed run. ``at``: its end, ``text``: its cause in one line."""

    key: RunKey
    outcome: str
    exit_code: int | None
    text: str
    at: float


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Failed runs of a study with one cause; ``runs``: the newest of them.

    ``target``: all of them, as commands name them. ``counts``: their numbers in equal spans of
    time from ``first`` to ``last``.
    """

    id: str
    study: str
    outcome: str
    exit_code: int | None
    text: str
    number: int
    runs: tuple[RunKey, ...]
    target: RunTarget
    first: float
    last: float
    counts: tuple[int, ...]

    @property
    def cause(self) -> str:
        """The outcome with the exit code, in words."""
        if self.outcome != "FAILED" or self.exit_code is None:
            return self.outcome
        if self.exit_code < 0:
            return f"signal {-self.exit_code}"
        return f"exit {self.exit_code}"


def pattern(line: str) -> str:
    """Return a line without the details in which runs of one cause differ."""
    text = line[:MAX_LINE]
    for details, sign in _DETAILS:
        text = details.sub(sign, text)
    return text.strip()


def group_failures(failed: Iterable[FailedRun]) -> tuple[FailureGroup, ...]:
    """Return the groups, the largest first, then the newest."""
    groups: dict[tuple[str, str, int | None, str], list[FailedRun]] = {}
    for one in failed:
        found = (one.key.study, one.outcome, one.exit_code, pattern(one.text))
        groups.setdefault(found, []).append(one)
    made = [_group(cause, members) for cause, members in groups.items()]
    return tuple(sorted(made, key=lambda group: (-group.number, -group.last, group.id)))


def _group(cause: tuple[str, str, int | None, str], members: list[FailedRun]) -> FailureGroup:
    study, outcome, exit_code, _ = cause
    members.sort(key=lambda one: (-one.at, one.key))
    first, last = members[-1].at, members[0].at
    return FailureGroup(
        blake2b(repr(cause).encode(errors="replace"), digest_size=6).hexdigest(),
        study,
        outcome,
        exit_code,
        members[0].text,
        len(members),
        tuple(one.key for one in members[:SHOWN]),
        RunTarget(study, tuple(id_ranges(sorted(one.key.id for one in members)))),
        first,
        last,
        _counts(members, first, last),
    )


def _counts(members: list[FailedRun], first: float, last: float) -> tuple[int, ...]:
    counts = [0] * BUCKETS
    width = (last - first) / BUCKETS
    for one in members:
        position = int((one.at - first) / width) if width > 0 else BUCKETS - 1
        counts[min(position, BUCKETS - 1)] += 1
    return tuple(counts)
