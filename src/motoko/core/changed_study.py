"""How jobs differ from what ``bd.yaml`` declares by now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from motoko.core.parameter_space import job_identity
from motoko.core.values import coerce
from motoko.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Mapping


def how_changed(types: Mapping[str, str], job: Mapping[str, Any]) -> str | None:
    """Return how a job's parameters differ from those declared, None if they are found again."""
    if job.keys() == types.keys() and all(
        type(value).__name__ == types[name] for name, value in job.items()
    ):
        return None
    missing = [name for name in types if name not in job]
    extra = [name for name in job if name not in types]
    if missing or extra:
        words = [f"without {name!r} (declared now)" for name in missing]
        words += [f"with {name!r} (no longer declared)" for name in extra]
        return " and ".join(words)
    others = [
        f"with {name!r} of type {type(value).__name__} (declared as {types[name]} now)"
        for name, value in job.items()
        if type(value).__name__ != types[name] and not _same_point(value, types[name])
    ]
    return " and ".join(others) or None


def changed_text(changed: Mapping[str, int]) -> str:
    """Return how many runs differ how, for people."""
    return "; ".join(f"{n} run{'s' * (n != 1)} {how}" for how, n in changed.items())


def _same_point(value: Any, type_name: str) -> bool:
    try:
        converted = coerce(value, type_name, "value")
    except ParameterError:
        return False
    return job_identity({"": value}) == job_identity({"": converted})
