"""Statistics of a chaos test: actions, observations and recovery times."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Starts = dict[str, list[tuple[int, float]]]  # pids and times of all starts, by kind
Hits = list[tuple[float, str]]  # when, and "kill KIND" or "stop KIND"

RECOVERED = 30.0  # seconds: a later passage belongs to another process with the same pid
COMMITS = ("orchestrator.after_commit", "launcher.after_commit", "main.after_commit")


@dataclass
class Tally:
    """Actions and observations in all rounds."""

    kills: Counter[str] = field(default_factory=Counter)
    stops: Counter[str] = field(default_factory=Counter)
    busy: Counter[str] = field(default_factory=Counter)
    starts: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    recovery: dict[str, list[float]] = field(default_factory=dict)
    runs: int = 0
    lost: int = 0
    duplicates: int = 0
    bad_attempts: int = 0
    rounds: int = 0
    moments: int = 0
    removed: int = 0
    jumps: int = 0
    seen: int = 0
    problems: list[str] = field(default_factory=list)

    def report(self) -> str:
        """Return a readable report."""
        kills, busy = sum(self.kills.values()), sum(self.busy.values())
        share = f"{busy / max(kills, 1):.0%}"
        lines = [
            f"{kills} kills ({_shown(self.kills)}), {busy} ({share}) of a busy process",
            f"{sum(self.stops.values())} stops ({_shown(self.stops)})",
            f"{self.rounds} workflows, {self.runs} runs, {self.bad_attempts} attempts killed",
            (
                f"everything at once {self.moments} times; {self.removed} run directories removed; "
                f"the clock set {self.jumps} times"
            ),
            f"{self.seen} attempts seen in /proc",
            f"{self.lost} lost, {self.duplicates} duplicates",
            f"starts: {_shown(self.starts)}; refused or fenced: {_shown(self.refused) or 'none'}",
        ]
        for what, seconds in sorted(self.recovery.items()):
            middle, most = statistics.median(seconds), max(seconds)
            times = f"median {middle:.2f} s, max {most:.2f} s ({len(seconds)} times)"
            lines.append(f"undisturbed {what}: {times}")
        return "\n".join([*lines, *(f"WRONG: {line}" for line in self.problems)])


def _shown(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def time_recoveries(points: Path, started: Starts, hits: Hits, tally: Tally) -> None:
    """Compute from the log of fault points the times from starts to first effects.

    Count only starts without another hit meanwhile.
    """
    passages = list(_passages(points))
    for point, what in (
        ("orchestrator.lease_acquired", "orchestrator start to its first commit"),
        ("orchestrator.after_commit", "orchestrator start to its first firing's commit"),
        ("daemons.before_ready", "launcher start to re-attached"),
    ):
        for pid, since in started.get(what.split()[0], ()):
            times = [t for name, p, t in passages if (name, p) == (point, pid) and t > since]
            _note(tally, what, since, times, hits)
    ready = [(p, t) for name, p, t in passages if name == "daemons.before_ready"]
    services = {pid for starts in started.values() for pid, _ in starts}
    for killed, hit in hits:
        if hit == "kill server":
            back = min((t for p, t in ready if t > killed and p not in services), default=None)
            commits = [t for name, _, t in passages if name in COMMITS and back and t > back]
            _note(tally, "server kill to first commit", killed, commits, hits)


def _note(tally: Tally, what: str, since: float, times: list[float], hits: Hits) -> None:
    first = min(times, default=since + RECOVERED)
    disturbed = any(since < at < first for at, _ in hits)
    if first - since < RECOVERED and not disturbed:
        tally.recovery.setdefault(what, []).append(first - since)


def _passages(log: Path) -> Iterator[tuple[str, int, float]]:
    for line in log.read_text().splitlines() if log.exists() else ():
        name, _, pid, seconds = line.split()
        yield name, int(pid), float(seconds)
