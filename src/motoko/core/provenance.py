"""Provenance of attempts: the code, interpreter and host that each ran with.

Attempts share their facts, so a database stores each combination once, under a short digest. A run
stores one digest for each attempt; times and outcomes come from its history.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from motoko.core.states import TERMINAL, Lifecycle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from motoko.core.records import RunRecord

UNKNOWN: Final = b""  # the reference of an attempt without recorded facts
REFERENCE_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Provenance:
    """Facts that attempts share. None or an empty text stands for an unknown one.

    ``scripts``: digest of the study's scripts. ``git_commit``: commit of the workflow directory;
    ``git_dirty``: whether its tracked files or the studies' files differ from that commit.
    ``interpreter``: path of the Python that comes first on the run's PATH.
    """

    scripts: str = ""
    git_commit: str | None = None
    git_dirty: bool | None = None
    host: str | None = None
    interpreter: str | None = None
    python_version: str | None = None
    motoko_version: str | None = None

    def stored(self) -> tuple[Any, ...]:
        """Return the facts as plain data; new facts are only ever appended."""
        return tuple(getattr(self, field.name) for field in fields(Provenance))

    @classmethod
    def of(cls, stored: Iterable[Any]) -> Provenance:
        """Return stored facts; those that an older Motoko did not store are unknown."""
        names = (field.name for field in fields(cls))
        return cls(**dict(zip(names, stored, strict=False)))

    @property
    def reference(self) -> bytes:
        """The digest under which a database stores these facts."""
        return blake2b(repr(self.stored()).encode(), digest_size=REFERENCE_BYTES).digest()


NO_FACTS: Final = Provenance()


@dataclass(frozen=True, slots=True)
class AttemptProvenance(Provenance):
    """One attempt: its facts, and its times in seconds since the epoch (None: unknown).

    ``number`` counts every attempt, as the history does. ``outcome``: a terminal state, CREATED if
    the run was requeued, None while the attempt is active.
    """

    number: int = 0
    claimed: float | None = None
    started: float | None = None
    ended: float | None = None
    outcome: str | None = None


class AttemptTimes(NamedTuple):
    """The times of an attempt, in seconds since the epoch, and its outcome; None if not reached."""

    claimed: float | None
    started: float | None
    ended: float | None
    outcome: str | None

    @property
    def duration(self) -> float | None:
        """The seconds from start to end; a jump of the clock never makes them negative."""
        if self.started is None or self.ended is None:
            return None
        return max(0.0, self.ended - self.started)


def attempt_times(run: RunRecord, number: int) -> AttemptTimes:
    """Return the times of an attempt; the end of attempt 0 is that of a run that never started.

    CREATED as outcome: the run was requeued.
    """
    return times_in(run.history, number)


def times_in(history: Iterable[Any], number: int) -> AttemptTimes:
    """Return the times of an attempt in a history, stored or not; see ``attempt_times``."""
    claimed = started = ended = outcome = None
    for time, state, _, attempt in history:
        if attempt != number:
            continue
        if state == Lifecycle.SUBMITTED:
            claimed = time if claimed is None else claimed
        elif state == Lifecycle.START:
            started = time if started is None else started
        elif ended is None and (state in TERMINAL or (number and state == Lifecycle.CREATED)):
            ended, outcome = time, state
    return AttemptTimes(claimed, started, ended, outcome)


def add_reference(run: RunRecord, number: int, reference: bytes) -> tuple[bytes, ...]:
    """Return the run's references with that of attempt ``number``, the last one."""
    known = run.provenance[: number - 1]
    if not reference:
        return known
    return (*known, *[UNKNOWN] * (number - 1 - len(known)), reference)


def last_reference(run: RunRecord) -> bytes:
    """Return the reference of the last attempt, UNKNOWN without one."""
    return reference_of(run.provenance, run.attempt)


def reference_of(references: Sequence[bytes], attempt: int) -> bytes:
    """Return the reference of an attempt if it is the last one, else UNKNOWN."""
    return references[-1] if len(references) == attempt > 0 else UNKNOWN


def attempts_of(
    run: RunRecord, lookup: Callable[[bytes], Provenance | None]
) -> tuple[AttemptProvenance, ...]:
    """Return all attempts of a run, oldest first; ``lookup`` returns the facts of a reference."""
    return tuple(_attempt(run, number, lookup) for number in range(1, run.attempt + 1))


def last_attempt(
    run: RunRecord, lookup: Callable[[bytes], Provenance | None]
) -> AttemptProvenance | None:
    """Return the last attempt of a run, None before the first."""
    return _attempt(run, run.attempt, lookup) if run.attempt else None


def _attempt(
    run: RunRecord, number: int, lookup: Callable[[bytes], Provenance | None]
) -> AttemptProvenance:
    references = run.provenance[number - 1 : number]
    facts = (lookup(references[0]) if references else None) or NO_FACTS
    found: dict[str, Any] = {field.name: getattr(facts, field.name) for field in fields(facts)}
    if number == run.attempt:
        found["scripts"] = facts.scripts or run.scripts
        found["host"] = facts.host or process_host(run.process)
    claimed, started, ended, outcome = attempt_times(run, number)
    return AttemptProvenance(
        **found, number=number, claimed=claimed, started=started, ended=ended, outcome=outcome
    )


def process_host(process: Sequence[Any] | None) -> str | None:
    """Return the host of a recorded process, None if it is unknown."""
    return (process[4] or None) if process is not None and len(process) > 3 else None
