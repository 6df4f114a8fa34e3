"""Keys that say what a product was made from, and what they are expected to be."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from motoko.products.canonical_json import as_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from motoko.products.steps import StepSet, StepSpec

KEY_LENGTH: Final = 16


def key_of(value: object) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of ``value`` as sorted JSON.

    ParameterError if a part of ``value`` cannot be told from others of its kind.
    """
    return hashlib.sha256(as_json(value, sort_keys=True).encode()).hexdigest()[:KEY_LENGTH]


def expected_keys(order: Iterable[str], steps: StepSet, config: object) -> dict[str, str | None]:
    """Return the key that each product of ``order`` should have; None where it is not tracked.

    ``order`` has every product after what it requires. A product is not tracked if no step
    produces it, if ``config`` gives no key, or if something it requires is not tracked.
    """
    cache_key = getattr(config, "cache_key", None)
    keys: dict[str, str | None] = {}
    by_step: dict[int, str | None] = {}
    for name in order:
        step = steps.producers.get(name)
        if step is None or cache_key is None:
            keys[name] = None
            continue
        if id(step) not in by_step:
            upstream = {required: keys[required] for required in step.requires}
            known = None not in upstream.values()
            by_step[id(step)] = _expected_key(step, upstream, cache_key) if known else None
        keys[name] = by_step[id(step)]
    return keys


def _expected_key(step: StepSpec, upstream: dict[str, str | None], cache_key: Any) -> str | None:
    if step.node is None:
        key: str | None = cache_key(requires=upstream)
        return key
    made_of = None if step.node.made_of is None else step.node.made_of()
    return key_of({"node": step.node.name, "made_of": made_of, "requires": upstream})


def identity_of(config: object) -> dict[str, Any]:
    """Return the identity fields of ``config`` with their values, for people to compare."""
    fields = getattr(config, "_identity_fields", None)
    return {} if fields is None else {field: getattr(config, field) for field in fields}
