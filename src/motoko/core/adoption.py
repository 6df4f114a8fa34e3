"""Give runs of an earlier ``bd.yaml`` the job parameters that it declares now."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from motoko.core.parameter_space import describe_change, job_identity, run_identity
from motoko.core.records import RunKey
from motoko.core.values import coerce
from motoko.errors import ParameterError, suggestion
from motoko.printable import one_line
from motoko.worker.values import SHOWN, PlainValueError, read_text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from motoko.core.records import RunRecord

MAX_FIELDS: Final = 12  # all subsets of so many run fields are tried


@dataclass(frozen=True, slots=True)
class ParameterChange:
    """Values for job parameters that runs lack, and parameters to remove from them."""

    given: Mapping[str, Any]
    dropped: frozenset[str] = frozenset()

    @classmethod
    def parse(
        cls, study: str, types: Mapping[str, str], given: Iterable[str], dropped: Iterable[str]
    ) -> ParameterChange:
        """Return the change that ``NAME=VALUE`` texts and names describe.

        Raise ParameterError unless the given parameters are declared in ``types`` and the dropped
        ones are not, or if a value does not fit its type.
        """
        values: dict[str, Any] = {}
        for text in given:
            name, equals, value = text.partition("=")
            if not equals or not name:
                raise ParameterError(f"{text!r} is not NAME=VALUE", hint="As in --set gamma=0.1.")
            if name not in types:
                raise ParameterError(
                    f"bd.yaml of study {study!r} declares no job parameter {name!r}",
                    hint=suggestion(name, list(types)),
                )
            if name in values:
                raise ParameterError(f"--set gives {name!r} twice", hint="Keep one of the two.")
            values[name] = _read(value, types[name], f"study {study!r}: job parameter {name!r}")
        names = frozenset(dropped)
        for name in sorted(names & types.keys()):
            raise ParameterError(
                f"bd.yaml of study {study!r} declares the job parameter {name!r}",
                hint="Remove it there first: --drop is for parameters that are no longer declared.",
            )
        return cls(values, names)

    def __str__(self) -> str:
        given = [
            f"{name}={one_line(str(value), limit=SHOWN)}" for name, value in self.given.items()
        ]
        return " ".join([*given, *(f"--drop {name}" for name in sorted(self.dropped))])

    def apply(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Return the job without dropped parameters, and with the values that it lacked."""
        kept = {name: value for name, value in job.items() if name not in self.dropped}
        return {**self.given, **kept}


def _read(text: str, type_name: str, what: str) -> Any:
    try:
        return coerce(read_text(text, type_name, what), type_name, what)
    except PlainValueError as error:
        raise ParameterError(error.message, hint=error.hint) from None


@dataclass(frozen=True, slots=True)
class Adoption:
    """A run, with the job and the identity that it gets."""

    run: RunRecord
    job: Mapping[str, Any]
    identity: bytes
    literal: bytes

    @property
    def job_identity(self) -> bytes:
        """Return the digest of the new job."""
        return job_identity(self.job)


def is_outdated(run: RunRecord, types: Mapping[str, str]) -> bool:
    """Return whether a run has other job parameters than those declared in ``types``."""
    return run.job.keys() != types.keys()


def plan(
    runs: Iterable[RunRecord],
    types: Mapping[str, str],
    fields: Collection[str],
    change: ParameterChange,
) -> list[Adoption]:
    """Return the adoptions of these runs, for the parameters ``types`` and declared ``fields``.

    Raise ParameterError for a run that would still have other parameters, or whose identity cannot
    be traced to its values.
    """
    guesses: dict[tuple[str, ...], None] = {}
    return [_adoption(run, types, fields, change, guesses) for run in runs]


def _adoption(
    run: RunRecord,
    types: Mapping[str, str],
    fields: Collection[str],
    change: ParameterChange,
    guesses: dict[tuple[str, ...], None],
) -> Adoption:
    changed = change.apply(run.job)
    if changed.keys() != types.keys():
        raise _incomplete(run, types, changed)
    what = f"run {run.key}: job parameter"
    job = {name: coerce(changed[name], kind, f"{what} {name!r}") for name, kind in types.items()}
    names = creation_fields(run, fields, guesses)
    guesses.setdefault(names)
    declared = {name: run.fields[name] for name in names if name in fields}
    values = (run.study, run.run_name, job, declared, run.replicate)
    return Adoption(run, job, run_identity(*values), run_identity(*values, literal=True))


def _incomplete(run: RunRecord, types: Mapping[str, str], job: Mapping[str, Any]) -> ParameterError:
    options = [f"--set {name}=VALUE" for name in types if name not in job]
    options += [f"--drop {name}" for name in job if name not in types]
    return ParameterError(
        f"run {run.key} would still be {describe_change(types, job)}",
        hint=f"Add {' '.join(options)}.",
    )


def creation_fields(
    run: RunRecord, declared: Collection[str], guesses: Iterable[tuple[str, ...]] = ()
) -> tuple[str, ...]:
    """Return the names of the run fields that are part of a run's identity.

    The record does not name them, but its identity proves them. Raise ParameterError if none do,
    because a script has overwritten one of them since.
    """
    for names in itertools.chain(guesses, _subsets(run, declared)):
        if all(name in run.fields for name in names):
            given = {name: run.fields[name] for name in names}
            values = (run.study, run.run_name, run.job, given, run.replicate)
            if run.identity in (run_identity(*values), run_identity(*values, literal=True)):
                return names
    raise ParameterError(
        f"run {run.key} was created with run fields that have changed since, so its identity "
        "cannot be computed",
        hint="Leave it out with --where.",
    )


def _subsets(run: RunRecord, declared: Collection[str]) -> Iterator[tuple[str, ...]]:
    first = [name for name in run.fields if name in declared]
    others = [name for name in run.fields if name not in declared]
    names = [*first, *others][:MAX_FIELDS]
    yield ()
    yield tuple(first)
    for size in range(1, len(names) + 1):
        yield from itertools.combinations(names, size)


def collisions(
    adoptions: Sequence[Adoption], find: Callable[[bytes, bytes], int | None]
) -> list[tuple[RunKey, RunKey]]:
    """Return pairs of runs that would have one identity: an adopted run, and another one.

    ``find`` returns the id of the existing run with the first of two identities that exists.
    """
    found: list[tuple[RunKey, RunKey]] = []
    first: dict[bytes, RunKey] = {}
    for adoption in adoptions:
        key = adoption.run.key
        other = first.setdefault(adoption.identity, key)
        existing = find(adoption.literal, adoption.identity)
        if other == key and existing is not None:
            other = RunKey(key.study, existing)
        if other != key:
            found.append((key, other))
    return found
