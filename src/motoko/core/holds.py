"""Holds: runs that no launcher claims until they are released.

A *rule* holds all runs of a study, of a run name, or of both, those created later included. Single
runs are held by their ids. A run is held if any hold applies to it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from shlex import quote
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from motoko.core.records import RunKey

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

# (study, run name), None for all
Scope: TypeAlias = "tuple[str | None, str | None]"


class Origin(NamedTuple):
    """When a hold was made, in seconds since the epoch, and by what."""

    at: float
    cause: str


class Hold(NamedTuple):
    """One hold: a rule, or the hold of the single run ``id``."""

    at: float
    cause: str
    study: str | None = None
    run_name: str | None = None
    id: int | None = None

    @property
    def arguments(self) -> str:
        """The arguments of ``motoko release`` that remove it."""
        if self.id is not None:
            return f"{self.study}.{self.id}"
        run_name = "" if self.run_name is None else f"--run_name {quote(self.run_name)}"
        return " ".join(filter(None, (self.study, run_name))) or "--all"

    @property
    def subject(self) -> str:
        """What it holds, in words."""
        if self.id is not None:
            return f"run {self.study}.{self.id}"
        study = "" if self.study is None else f"study {self.study!r}"
        run_name = "" if self.run_name is None else f"run name {self.run_name!r}"
        return " with ".join(filter(None, (study, run_name))) or "all runs"


@dataclass(frozen=True, slots=True)
class Holds:
    """All holds of a workflow: rules, and single runs by study."""

    rules: Mapping[Scope, Origin] = field(default_factory=dict)
    runs: Mapping[str, Mapping[int, Origin]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.rules or self.runs)

    def find(self, key: RunKey, run_name: str) -> Hold | None:
        """Return a hold that applies to a run, None if it is not held."""
        for scope in ((None, None), (key.study, None), (None, run_name), (key.study, run_name)):
            if (origin := self.rules.get(scope)) is not None:
                return Hold(*origin, *scope)
        origin = self.runs.get(key.study, {}).get(key.id)
        return None if origin is None else Hold(*origin, key.study, id=key.id)

    def overlapping(self, scope: Scope) -> list[Hold]:
        """Return the rules that can hold runs within a scope."""
        return [
            Hold(*origin, *rule) for rule, origin in self.rules.items() if _overlap(rule, scope)
        ]

    def covers(self, study: str) -> bool:
        """Return whether a rule holds all runs of a study."""
        return (None, None) in self.rules or (study, None) in self.rules

    def run_names(self, study: str) -> set[str]:
        """Return the run names that rules hold in a study."""
        return {name for of, name in self.rules if name is not None and of in (None, study)}

    def ids(self, study: str) -> Collection[int]:
        """Return the single runs of a study that are held."""
        return self.runs.get(study, {}).keys()

    def by_command(self) -> list[tuple[Hold, tuple[int, ...]]]:
        """Return the rules, and the single runs that were held together with their ids.

        The holds of single runs have no id. Oldest first.
        """
        found = {Hold(*origin, *rule): () for rule, origin in self.rules.items()}
        entries: dict[Hold, list[int]] = {}
        for study, runs in self.runs.items():
            for run_id, origin in sorted(runs.items()):
                entries.setdefault(Hold(*origin, study), []).append(run_id)
        pairs = [*found.items(), *((hold, tuple(ids)) for hold, ids in entries.items())]
        return sorted(pairs, key=lambda pair: pair[0].at)

    def stored(self) -> dict[str, Any]:
        """Return the holds as plain data."""
        return {
            "rules": {scope: tuple(origin) for scope, origin in self.rules.items()},
            "runs": {
                study: {run_id: tuple(origin) for run_id, origin in runs.items()}
                for study, runs in self.runs.items()
            },
        }

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Holds:
        """Return stored holds."""
        return cls(
            {scope: Origin(*origin) for scope, origin in stored.get("rules", {}).items()},
            {
                study: {run_id: Origin(*origin) for run_id, origin in runs.items()}
                for study, runs in stored.get("runs", {}).items()
            },
        )


NO_HOLDS: Final = Holds()


@dataclass(frozen=True, slots=True)
class AddHolds:
    """Hold runs by rules and by id. What is held already keeps its hold."""

    at: float
    cause: str
    rules: Sequence[Scope] = ()
    runs: Sequence[RunKey] = ()

    def apply(self, holds: Holds) -> Holds:
        """Return the holds with these."""
        origin = Origin(self.at, self.cause)
        rules = {**dict.fromkeys(self.rules, origin), **holds.rules}
        runs = {study: dict(found) for study, found in holds.runs.items()}
        for study, run_id in self.runs:
            runs.setdefault(study, {}).setdefault(run_id, origin)
        return Holds(rules, runs)


@dataclass(frozen=True, slots=True)
class RemoveHolds:
    """Remove all rules within the scopes, single runs of whole studies there, and ``runs``."""

    scopes: Sequence[Scope] = ()
    runs: Sequence[RunKey] = ()

    def apply(self, holds: Holds) -> Holds:
        """Return the holds without these."""
        rules = {
            rule: origin
            for rule, origin in holds.rules.items()
            if not any(_is_within(rule, scope) for scope in self.scopes)
        }
        removed = set(self.runs)
        runs = {
            study: {run_id: origin for run_id, origin in found.items()
                    if RunKey(study, run_id) not in removed}
            for study, found in holds.runs.items()
            if (None, None) not in self.scopes and (study, None) not in self.scopes
        }  # fmt: skip
        return Holds(rules, {study: left for study, left in runs.items() if left})


HoldEdit: TypeAlias = "AddHolds | RemoveHolds"


def _overlap(one: Scope, other: Scope) -> bool:
    return all(a == b or None in (a, b) for a, b in zip(one, other, strict=True))


def _is_within(rule: Scope, scope: Scope) -> bool:
    return all(outer in (None, inner) for inner, outer in zip(rule, scope, strict=True))
