"""Reasons of runs and events: codes, fields and texts."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from motoko.core.edits import Cancel, Claim, EndAttempt, MarkStarted, Requeue, SetLabel
from motoko.core.event_reasons import Firings, StudyDiagnosis, event_reasons
from motoko.core.orchestrator_status import Answer, EventStatus
from motoko.core.reason_groups import failure, group_reasons
from motoko.core.reasons import (
    Code,
    LauncherFacts,
    Reason,
    RunFacts,
    Usage,
    next_reasons,
    origin_reason,
    parent_of,
    state_reasons,
    usage_of,
)
from motoko.core.records import RunKey, RunRecord, Transition
from motoko.core.states import Lifecycle
from motoko.operations import reason_text
from motoko.operations.explain import LauncherCoverage
from motoko.operations.reason_text import duration, moment

if TYPE_CHECKING:
    from motoko.core.edits import RunEdit

pytestmark = pytest.mark.unit

NOW = 1_700_000_000.0
LAUNCHER = LauncherFacts("here-1-ab", "here", frozenset({"s"}), frozenset({"localhost"}))
CREATED = RunRecord(
    "s", 7, 1, "a", b"", {"x": 1}, history=(Transition(NOW - 9, "CREATED", "main", 0),)
)


def facts(*launchers: LauncherFacts, **defaults: Any) -> RunFacts:
    return RunFacts(launchers, {"s": defaults}, NOW, NOW)


def after(*edits: RunEdit) -> RunRecord:
    record = CREATED
    for edit in edits:
        record = edit.apply(record)
    return record


CLAIM = Claim("here-1-ab", "t", NOW - 8)
START = MarkStarted("t", NOW - 7, "launcher here-1-ab")


def end(outcome: Lifecycle, code: int | None = 1, text: str | None = None) -> EndAttempt:
    return EndAttempt("t", outcome, NOW - 6, "launcher", code, text)


@pytest.mark.parametrize(
    ("record", "codes", "following"),
    [
        (CREATED, ["created"], ["claim_due"]),
        (after(CLAIM), ["claimed"], ["start_due"]),
        (after(CLAIM, START), ["started"], ["running"]),
        (after(CLAIM, Requeue("t", NOW, "launcher stopped")), ["requeued"], ["claim_due"]),
        (after(CLAIM, START, end(Lifecycle.FAILED)), ["ended"], ["terminal"]),
        (after(CLAIM, START, end(Lifecycle.FAILED, 1, "exit code 1")), ["ended"], ["terminal"]),
        (after(CLAIM, end(Lifecycle.LOST, None, "gone")), ["ended", "recorded"], ["terminal"]),
        (after(CLAIM, end(Lifecycle.FINISHED, 0), SetLabel("BEST", NOW, "event e")),
         ["ended", "labelled"], ["terminal"]),
        (after(CLAIM, START, Cancel(NOW, "user")), ["started", "recorded"], ["cancelling"]),
        (after(Cancel(NOW, "user")), ["ended", "recorded"], ["terminal"]),
    ],
)  # fmt: skip
def test_state_and_next_of_a_run(record: RunRecord, codes: list[str], following: list[str]) -> None:
    served = facts(LAUNCHER)
    assert [found.code for found in state_reasons(record, served)] == codes
    assert [found.code for found in next_reasons(record, served, Usage())] == following


def test_an_ended_run_names_its_signal() -> None:
    record = after(CLAIM, START, end(Lifecycle.FAILED, -9, "killed by SIGKILL"))
    ended, recorded = state_reasons(record, facts())
    assert ended.fields["signal"] == 9
    assert "killed by SIGKILL" in reason_text.reason_text(ended, NOW)
    assert recorded.code is Code.RECORDED


def test_a_run_without_its_launcher() -> None:
    record = after(CLAIM, START)
    (started,) = state_reasons(record, facts())
    assert started.fields["host"] == "here"
    assert not started.fields["live"]
    unmanaged, running = next_reasons(record, facts(), Usage())
    assert unmanaged.fields["because"] == {"code": "no_launcher"}
    assert "no launcher is running" in reason_text.reason_text(unmanaged, NOW)
    assert running.code is Code.RUNNING


SUSPENDED = replace(LAUNCHER, stopped_pid=77)
REMEDY = "process 77) is suspended (SIGSTOP): `kill -CONT 77` continues it"


@pytest.mark.parametrize(
    "served",
    [facts(SUSPENDED), replace(facts(), lapsed=[SUSPENDED])],
    ids=["with its lease", "without its lease"],
)
def test_a_suspended_launcher(served: RunFacts) -> None:
    (waits,) = next_reasons(CREATED, served, Usage())
    assert waits.code is Code.LAUNCHER_SUSPENDED
    assert REMEDY in reason_text.reason_text(waits, NOW)
    (claimed,) = next_reasons(after(CLAIM), served, Usage())
    assert REMEDY in reason_text.reason_text(claimed, NOW)
    unmanaged, running = next_reasons(after(CLAIM, START), served, Usage())
    assert REMEDY in reason_text.reason_text(unmanaged, NOW)
    assert running.code is Code.RUNNING


def test_a_suspended_launcher_manages_runs_while_it_has_its_lease() -> None:
    """Otherwise a cancel would start another launcher, which the lease prevents."""
    running = after(CLAIM, START)
    orphan = replace(running, launcher="here-9-zz")
    for record in (running, orphan):
        assert LauncherCoverage([], facts(SUSPENDED)).is_managed(record)
        assert not LauncherCoverage([], replace(facts(), lapsed=[SUSPENDED])).is_managed(record)


def test_another_launcher_serves_the_runs_of_a_suspended_one() -> None:
    served = facts(SUSPENDED, replace(LAUNCHER, name="here-2-cd"))
    assert [found.code for found in next_reasons(CREATED, served, Usage())] == ["claim_due"]


def test_a_running_run_has_a_deadline() -> None:
    (running,) = next_reasons(after(CLAIM, START), facts(LAUNCHER, timeout=60.0), Usage())
    assert running.fields["timeout_at"] == NOW + 53


def test_a_run_in_a_queue() -> None:
    slurm = replace(LAUNCHER, slots={"slurm": 1})
    served = facts(slurm, generator="slurm")
    record = after(CLAIM)
    assert [r.code for r in next_reasons(record, served, Usage())] == ["in_queue"]
    usage = usage_of([record], served)
    (limit,) = next_reasons(CREATED, served, usage)
    assert (limit.code, limit.fields) == (Code.QUEUE_LIMIT, {"used": 1, "limit": 1})


# -- who created a run -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cause", "firing", "code", "parent"),
    [
        ("main", None, Code.BY_MAIN, None),
        ("user", None, Code.BY_USER, None),
        ("script of add.3", None, Code.BY_SCRIPT, "add.3"),
        ("event e", None, Code.BY_EVENT, None),
        ("event e", {"runs": [("add", 3), ("add", 4)], "opened": 1.0, "trigger": "add"},
         Code.BY_EVENT, "add.3"),
        ("event e", {"runs": [], "opened": 1.0, "trigger": "add"}, Code.BY_EVENT, None),
    ],
)  # fmt: skip
def test_origin_of_a_run(cause: str, firing: Any, code: Code, parent: str | None) -> None:
    record = replace(CREATED, history=(Transition(NOW, "CREATED", cause, 0),))
    found = origin_reason(record, firing)
    assert (found.code, parent_of(found)) == (code, parent)
    assert reason_text.reason_text(found, NOW)


def test_an_event_with_many_runs_names_a_few() -> None:
    record = replace(CREATED, history=(Transition(NOW, "CREATED", "event e", 0),))
    firing = {"runs": [("add", n) for n in range(1, 501)], "opened": 1.0, "code": "abc"}
    found = origin_reason(record, firing)
    assert len(found.fields["runs"]) < 10
    text = reason_text.reason_text(found, NOW)
    assert "add.1, " in text
    assert f"and {500 - len(found.fields['runs'])} more" in text
    assert "abc" in text


def test_a_run_of_an_older_motoko_says_so() -> None:
    record = replace(CREATED, history=(Transition(NOW, "CREATED", "event e", 0),))
    assert "not recorded" in reason_text.reason_text(origin_reason(record, None), NOW)
    assert origin_reason(replace(CREATED, history=()), None).code is Code.BY_USER


# -- events ------------------------------------------------------------------------------------


def event(**values: Any) -> EventStatus:
    return EventStatus(**{"id": "s.e", "studies": ("s",), "kind": "constraint", "once": False,
                          "action": "f", **values})  # fmt: skip


def diagnosis(*matching: int, total: int = 9) -> StudyDiagnosis:
    keys = tuple(RunKey("s", number) for number in matching)
    broken = None if matching or not total else "y > 1"
    return StudyDiagnosis("s", "y > 1", total, total, True, (), broken, {}, None, keys)


def codes(found: tuple[Reason, ...]) -> list[str]:
    return [one.code.value for one in found]


def test_reasons_of_an_event_with_a_constraint() -> None:
    own = event(constraints={"s": "y > 1"})
    nothing, never = Firings(), lambda _: False
    assert codes(event_reasons(own, [diagnosis()], nothing, never)) == ["clause_fails"]
    assert codes(event_reasons(own, [diagnosis(total=0)], nothing, never)) == ["no_runs"]
    assert codes(event_reasons(own, [diagnosis(3)], nothing, never)) == ["matches"]
    firing = Firings(1, (RunKey("s", 3),), NOW)
    assert codes(event_reasons(own, [diagnosis(3)], firing, never)) == ["firing"]
    assert codes(event_reasons(own, [diagnosis(3, 4)], firing, never)) == ["firing", "matches"]
    once = replace(own, once=True)
    found = event_reasons(once, [diagnosis(3, 4)], nothing, lambda key: key.id == 3)
    assert [(r.code.value, r.fields["runs"]) for r in found] == [
        ("fired_once", ["s.3"]), ("matches", ["s.4"]),
    ]  # fmt: skip
    cooling = replace(own, cooling=2)
    assert codes(event_reasons(cooling, [diagnosis(3)], nothing, never))[-1] == "cooling"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (None, "condition_not_asked"),
        (Answer(NOW, 0.1, holds=False), "condition_false"),
        (Answer(NOW, 0.1, holds=True), "condition_true"),
        (Answer(NOW, 0.1, matching=3, runs=("s.1", "s.2", "s.3")), "condition_selects"),
        (Answer(NOW, 0.1, matching=0, evaluated=7), "condition_false"),
        (Answer(NOW, 0.1, error="ValueError: no"), "condition_raised"),
    ],
)
def test_reasons_of_an_event_with_a_python_condition(answer: Answer | None, code: str) -> None:
    answers = {} if answer is None else {"s": answer}
    own = event(kind="f(run, job)", answers=answers)
    (found,) = event_reasons(own, [], Firings(), lambda _: False)
    assert found.code == code
    assert "s" in reason_text.reason_text(found, NOW)
    alone = event(kind="f()", answers={} if answer is None else {"": answer})
    (found,) = event_reasons(alone, [], Firings(), lambda _: False)
    assert (found.code, found.fields["study"]) == (code, "")


# -- texts and groups --------------------------------------------------------------------------


def test_every_code_has_a_text() -> None:
    assert set(reason_text._TEXTS) == set(Code)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (-3, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3600, "1 h 0 min"),
     (90_061, "1 d 1 h"), (59.9, "60 s")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_times_are_local_and_have_a_date_on_another_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC-5")  # five hours ahead
    time.tzset()
    try:
        assert moment(NOW, NOW) == "03:13:20"
        assert moment(NOW - 86_400, NOW) == "2023-11-14 03:13:20"
        assert moment(NOW - 4 * 3600, NOW) == "2023-11-14 23:13:20"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_text_of_a_new_run_names_the_time_of_its_creation() -> None:
    (created,) = state_reasons(CREATED, facts(LAUNCHER))
    text = f"it was created at {moment(NOW - 9, NOW)} (9 s ago), by main"
    assert reason_text.reason_text(created, NOW) == text


@pytest.mark.parametrize(
    ("events", "text"),
    [
        (0, "no event is registered for its study"),
        (1, "the only event of its study does not select it"),
        (3, "none of the 3 events of its study selects it"),
    ],
)
def test_the_text_of_a_run_that_no_event_selects(events: int, text: str) -> None:
    reason = Reason(Code.NOT_SELECTED, {"events": events})
    assert reason_text.reason_text(reason, NOW) == text


def test_runs_with_one_reason_are_grouped_by_urgency() -> None:
    failed = [replace(after(CLAIM, end(Lifecycle.FAILED, 7, "no luck")), id=n) for n in (3, 1, 2)]
    killed = replace(after(CLAIM, end(Lifecycle.FAILED, -9, "killed by SIGKILL")), id=9)
    delayed = [replace(CREATED, id=n, not_before=NOW + n, reason="oops") for n in (30, 20)]
    served = facts(LAUNCHER)
    pairs = [(r, next_reasons(r, served, Usage())[0]) for r in delayed]
    pairs += [(r, failure(r)) for r in (*failed, killed)]
    first, second, third = group_reasons(pairs)
    assert (first.number, first.runs[0]) == (3, RunKey("s", 1))
    assert reason_text.reason_text(first.reason, NOW) == "exit code 7, no luck"
    assert reason_text.reason_text(second.reason, NOW) == "killed by SIGKILL"
    assert (third.number, third.reason.fields["seconds"]) == (2, 20.0)
