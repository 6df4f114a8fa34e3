"""Attempts that are prepared before they get slots are used only as they would be prepared then."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from motoko.core.records import RunRecord
from motoko.core.run_options import RunOptions
from motoko.core.states import Lifecycle
from motoko.launcher.attempt_paths import AttemptPaths
from motoko.launcher.attempts import Attempt, SlotPool
from motoko.launcher.executors.prepared_attempts import (
    MAX_AGE,
    SLOW,
    PreparedAttempt,
    PreparedAttempts,
)
from motoko.launcher.preparation import LaunchSpec
from motoko.launcher.source_files import ScriptFile
from motoko.runtime.ports import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.unit

SCRIPT = ScriptFile("launch.sh", b"true\n", executable=False)


class ManualClock(SystemClock):
    """A clock that the test advances."""

    seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


def make_attempt(number: int, *, slots: int = 1) -> Attempt:
    record = RunRecord("a", number, 1, "n", b"", {}, lifecycle=Lifecycle.SUBMITTED)
    paths = AttemptPaths("/root", number, 1, f"token{number}", "1.0")
    return Attempt(record, RunOptions(nproc=slots), paths)


class Preparations:
    """Prepares attempts on paper, and notes what is called."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.prepared: list[Attempt] = []
        self.withdrawn: list[Attempt] = []
        self.error: Exception | None = None
        self.meanwhile: Callable[[], object] = lambda: None
        self.attempts = PreparedAttempts(self._prepare, self.withdrawn.append, self.clock)

    def _prepare(self, attempt: Attempt) -> PreparedAttempt | Exception:
        self.prepared.append(attempt)
        self.meanwhile()
        spec = LaunchSpec(attempt.record, attempt.paths, SCRIPT, attempt.options, {})
        return self.error or PreparedAttempt(spec, b"", self.clock.monotonic())

    def prepare(self, *attempts: Attempt) -> None:
        self.attempts.prepare_all(self.attempts.choose(attempts, len(attempts)))


@pytest.fixture
def preparations() -> Preparations:
    return Preparations()


def test_attempts_are_chosen_once_and_several_at_a_time(preparations: Preparations) -> None:
    first, second, third = attempts = [make_attempt(number) for number in range(3)]
    chosen = preparations.attempts.choose(attempts[:2], 1)
    assert chosen == [first, second]
    assert preparations.attempts.choose(attempts, 1) == []  # two are enough
    assert preparations.attempts.choose(attempts, 2) == [third]
    preparations.attempts.prepare_all(chosen)
    assert preparations.attempts.choose(attempts, 3) == []
    assert preparations.prepared == [first, second]


def test_a_prepared_attempt_is_used_as_it_is(preparations: Preparations) -> None:
    attempt = make_attempt(1)
    preparations.prepare(attempt)
    found = preparations.attempts.find(attempt)
    assert found is not None
    assert preparations.attempts.use(attempt) is found
    assert preparations.prepared == [attempt]
    assert attempt not in preparations.attempts


@pytest.mark.parametrize("what", ["age", "record"])
def test_an_outdated_one_is_prepared_again(preparations: Preparations, what: str) -> None:
    attempt = make_attempt(1)
    preparations.prepare(attempt)
    if what == "age":
        preparations.clock.seconds += MAX_AGE
    else:
        attempt.record = attempt.record.changed(fields={"y": 2})
    assert preparations.attempts.find(attempt) is None
    found = preparations.attempts.use(attempt)
    assert isinstance(found, PreparedAttempt)
    assert found.spec.record == attempt.record
    assert found.at == preparations.clock.monotonic()
    assert preparations.prepared == [attempt, attempt]
    assert preparations.withdrawn == [attempt]


def test_an_attempt_with_an_error_is_tried_again_at_its_start(preparations: Preparations) -> None:
    attempt = make_attempt(1)
    preparations.error = OSError("full")
    preparations.prepare(attempt)
    assert preparations.attempts.find(attempt) is None
    assert preparations.attempts.use(attempt) is preparations.error
    preparations.error = None
    assert isinstance(preparations.attempts.use(attempt), PreparedAttempt)
    assert preparations.withdrawn == []


def test_nothing_is_prepared_ahead_while_that_is_slow(preparations: Preparations) -> None:
    slow, next_one, later = (make_attempt(number) for number in range(3))

    def take_long() -> None:
        preparations.clock.seconds += 2 * SLOW

    preparations.meanwhile = take_long
    preparations.prepare(slow)
    assert preparations.attempts.choose([next_one], 1) == []
    preparations.meanwhile = lambda: None
    assert isinstance(preparations.attempts.use(next_one), PreparedAttempt)
    assert preparations.attempts.choose([later], 1) == [later]


def test_what_was_prepared_for_nothing_is_removed(preparations: Preparations) -> None:
    ready, chosen, other = (make_attempt(number) for number in range(3))
    preparations.prepare(ready)
    batch = preparations.attempts.choose([chosen, other], 0)
    assert batch == [chosen, other]
    for attempt in (ready, chosen):
        assert attempt in preparations.attempts
        preparations.attempts.withdraw(attempt)
        assert attempt not in preparations.attempts
    preparations.attempts.prepare_all(batch)
    assert preparations.prepared == [ready, other]
    assert preparations.withdrawn == [ready]
    preparations.attempts.withdraw_all()
    assert preparations.withdrawn == [ready, other]


def test_another_launchers_attempt_stays(preparations: Preparations) -> None:
    attempt = make_attempt(1)
    preparations.meanwhile = lambda: preparations.attempts.remove(attempt)
    preparations.prepare(attempt)
    assert attempt not in preparations.attempts
    preparations.attempts.withdraw_all()
    assert preparations.withdrawn == []


@pytest.mark.parametrize(("slots", "expected"), [(0, 0), (1, 1), (2, 1), (3, 2), (5, 3), (9, 3)])
def test_the_attempts_that_would_start_first(slots: int, expected: int) -> None:
    pool = SlotPool(1)
    waiting = [make_attempt(1), make_attempt(2, slots=2), make_attempt(3)]
    for attempt in waiting:
        pool.add(attempt)
    assert pool.next_waiting(slots) == waiting[:expected]
