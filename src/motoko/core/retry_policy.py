"""Decide whether a failed attempt is retried, and after which delay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from motoko.core.states import Lifecycle

if TYPE_CHECKING:
    from motoko.core.records import RunRecord

MAX_DOUBLINGS: Final = 20


def is_retried(run: RunRecord, outcome: Lifecycle, retries: int) -> bool:
    """Return whether an attempt of ``run`` that ends with ``outcome`` is followed by another."""
    if not outcome.is_failure or outcome is Lifecycle.CANCELLED or run.cancel_requested:
        return False
    return run.tries - run.retry_base <= retries


def delay_before_retry(number: int, first: float, jitter: float) -> float:
    """Return the seconds before retry ``number``: ``first``, doubled for each further one."""
    return first * 2.0 ** min(number - 1, MAX_DOUBLINGS) * jitter
