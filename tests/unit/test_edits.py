"""Edits of run records: transitions, labels, attempts, retries, cancellation and conflicts."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import pytest

from motoko.core.edits import (
    ApplyOutbox,
    Cancel,
    Claim,
    EditSequence,
    EndAttempt,
    MarkStarted,
    Requeue,
    Retry,
    RunEdit,
    SetFields,
    SetLabel,
    TransferAttempt,
)
from motoko.core.records import (
    RunKey,
    RunRecord,
    Transition,
    decode_record,
    encode_record,
    stored_key,
)
from motoko.core.states import (
    ACTIVE,
    FAILURES,
    TERMINAL,
    Lifecycle,
    check_label,
    check_transition,
)
from motoko.core.values import MISSING
from motoko.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Iterable

pytestmark = pytest.mark.unit

L = Lifecycle
NEW = RunRecord("mult", 7, 3, "test", b"identity", {"x": 1.0})


def done(run: RunRecord, *edits: RunEdit) -> RunRecord:
    for edit in edits:
        run = edit.apply(run)
    return run


def claim(token: str = "t1") -> Claim:
    return Claim("l", token, 1.0)


def started(token: str = "t1") -> MarkStarted:
    return MarkStarted(token, 2.0, "launcher l", (1, 2, "boot"))


def end(outcome: Lifecycle, token: str = "t1", **options: Any) -> EndAttempt:
    return EndAttempt(token, outcome, 3.0, "launcher l", **options)


RUNNING = done(NEW, claim(), started())
IN_STATE: dict[Lifecycle, RunRecord] = {
    L.CREATED: NEW,
    L.SUBMITTED: done(NEW, claim()),
    L.START: RUNNING,
    **{outcome: done(RUNNING, end(outcome)) for outcome in TERMINAL},
}
ENDED = [run for lifecycle, run in IN_STATE.items() if lifecycle in TERMINAL]


def records(*lifecycles: Iterable[Lifecycle]) -> list[RunRecord]:
    return [IN_STATE[lifecycle] for group in lifecycles for lifecycle in sorted(group)]


def test_each_sample_record_is_in_its_state() -> None:
    assert {lifecycle: run.lifecycle for lifecycle, run in IN_STATE.items()} == {
        lifecycle: lifecycle for lifecycle in Lifecycle
    }


# -- transitions ---------------------------------------------------------------------------------

LEGAL = {
    (L.CREATED, L.SUBMITTED),
    (L.CREATED, L.CANCELLED),
    (L.SUBMITTED, L.START),
    (L.SUBMITTED, L.CREATED),
    (L.START, L.CREATED),
    *((active, outcome) for active in ACTIVE for outcome in TERMINAL),
    *((outcome, L.CREATED) for outcome in TERMINAL),
}


@pytest.mark.parametrize("old", list(Lifecycle))
@pytest.mark.parametrize("new", list(Lifecycle))
def test_transitions(old: Lifecycle, new: Lifecycle) -> None:
    if (old, new) in LEGAL:
        check_transition("mult.7", old, new)
    else:
        with pytest.raises(StateError, match=f"mult.7 cannot go from {old} to {new}"):
            check_transition("mult.7", old, new)


def test_outcomes() -> None:
    assert {state for state in Lifecycle if state.is_terminal} == {
        L.FINISHED, L.FAILED, L.TIMEOUT, L.CANCELLED, L.LOST,
    }  # fmt: skip
    assert {state for state in Lifecycle if state.is_failure} == TERMINAL - {L.FINISHED}


def test_a_full_lifecycle_and_its_history() -> None:
    run = done(RUNNING, end(L.FINISHED, exit_code=0), SetLabel("SEEN", 4.0, "event e"))
    assert run.history == (
        Transition(1.0, "SUBMITTED", "launcher l", 1),
        Transition(2.0, "START", "launcher l", 1),
        Transition(3.0, "FINISHED", "launcher l", 1),
        Transition(4.0, "SEEN", "event e", 1),
    )
    assert (run.state, run.lifecycle, run.exit_code, run.process) == (
        "SEEN", L.FINISHED, 0, (1, 2, "boot"),
    )  # fmt: skip
    assert run.key == RunKey("mult", 7)
    assert str(run.key) == "mult.7"


@pytest.mark.parametrize("run", records(set(Lifecycle) - {L.CREATED}))
def test_only_created_runs_are_claimed(run: RunRecord) -> None:
    with pytest.raises(StateError):
        claim("t2").apply(run)


def test_a_new_attempt_resets_the_previous_one() -> None:
    failed = done(
        RUNNING,
        ApplyOutbox("t1", 10, 2.5, {"y": 1}, "NOTED"),
        end(L.FAILED, exit_code=3, reason="exit code 3"),
        Retry(4.0, "user"),
    )
    again = claim("t2").apply(failed)
    assert (again.attempt, again.token, again.outbox_offset) == (2, "t2", 0)
    assert (again.label, again.exit_code, again.reason, again.process) == (None, None, None, None)
    assert again.fields == {"y": 1}


# -- labels --------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", ENDED)
def test_terminal_runs_are_labelled_and_their_outcome_removes_the_label(run: RunRecord) -> None:
    labelled = SetLabel("FORWARDED", 5.0, "user").apply(run)
    assert (labelled.state, labelled.lifecycle) == ("FORWARDED", run.lifecycle)
    again = SetLabel("SEEN", 6.0, "user").apply(labelled)
    assert again.state == "SEEN"
    freed = SetLabel(run.lifecycle.value, 7.0, "user").apply(again)
    assert (freed.state, freed.label) == (run.lifecycle.value, None)
    assert [move.state for move in freed.history[-3:]] == ["FORWARDED", "SEEN", run.lifecycle]


@pytest.mark.parametrize("run", ENDED)
def test_the_same_label_again_changes_nothing(run: RunRecord) -> None:
    assert SetLabel(run.lifecycle.value, 5.0, "user").apply(run) == run
    labelled = SetLabel("SEEN", 5.0, "user").apply(run)
    assert SetLabel("SEEN", 6.0, "user").apply(labelled) == labelled


@pytest.mark.parametrize("run", records({L.CREATED}, ACTIVE))
@pytest.mark.parametrize("label", ["FORWARDED", "FINISHED"])
def test_non_terminal_runs_are_not_labelled(run: RunRecord, label: str) -> None:
    with pytest.raises(StateError, match="before it ends") as caught:
        SetLabel(label, 5.0, "user").apply(run)
    assert str(run.key) in caught.value.message


@pytest.mark.parametrize("run", IN_STATE.values())
def test_created_is_refused_as_a_label_with_a_hint(run: RunRecord) -> None:
    with pytest.raises(StateError, match="cannot be set to CREATED") as caught:
        SetLabel("CREATED", 5.0, "user").apply(run)
    assert "retry()" in (caught.value.hint or "")


@pytest.mark.parametrize("run", ENDED)
@pytest.mark.parametrize("label", sorted(set(Lifecycle) - {L.CREATED}))
def test_lifecycle_names_are_refused_as_labels(run: RunRecord, label: Lifecycle) -> None:
    if label is run.lifecycle:
        return
    with pytest.raises(StateError, match=f"is {run.lifecycle} and a label cannot make it {label}"):
        SetLabel(label.value, 5.0, "user").apply(run)


@pytest.mark.parametrize("label", ["", "x" * 101, "a\nb", "\x00", 3, None])
def test_invalid_labels(label: Any) -> None:
    with pytest.raises(StateError, match="cannot be a run's label"):
        check_label(label)
    with pytest.raises(StateError):
        SetLabel(label, 5.0, "user").apply(IN_STATE[L.FINISHED])


@pytest.mark.parametrize("label", ["x", "x" * 100, "with spaces", "é", "finished"])
def test_valid_labels(label: str) -> None:
    assert SetLabel(label, 5.0, "user").apply(IN_STATE[L.FINISHED]).state == label


def test_a_label_set_by_a_script_stays_after_success() -> None:
    noted = ApplyOutbox("t1", 5, 2.5, {}, "NOTED").apply(RUNNING)
    assert (noted.state, noted.lifecycle) == ("NOTED", L.START)
    assert end(L.FINISHED).apply(noted).state == "NOTED"
    assert noted.history[-1] == Transition(2.5, "NOTED", "script", 1)


@pytest.mark.parametrize("outcome", sorted(FAILURES))
def test_a_label_set_by_a_script_does_not_hide_a_failure(outcome: Lifecycle) -> None:
    noted = ApplyOutbox("t1", 5, 2.5, {}, "NOTED").apply(RUNNING)
    assert end(outcome).apply(noted).state == outcome


# -- attempts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", IN_STATE.values())
@pytest.mark.parametrize(
    "edit",
    [
        started("old"),
        ApplyOutbox("old", 99, 5.0, {"y": 1}, "NOTED"),
        end(L.FAILED, "old"),
        Requeue("old", 5.0, "launcher l"),
        TransferAttempt("old", "another"),
    ],
)
def test_evidence_of_another_attempt_is_ignored(run: RunRecord, edit: RunEdit) -> None:
    assert edit.apply(run) is run


@pytest.mark.parametrize(
    "edit",
    [started(), ApplyOutbox("t1", 99, 5.0, {"y": 1}), end(L.FAILED), Requeue("t1", 5.0, "l")],
)
@pytest.mark.parametrize("run", ENDED)
def test_evidence_after_the_end_is_ignored(run: RunRecord, edit: RunEdit) -> None:
    assert edit.apply(run) is run


def test_an_outbox_is_applied_once() -> None:
    first = ApplyOutbox("t1", 10, 2.0, {"y": 1, "z": 1})
    run = first.apply(RUNNING)
    assert (run.fields, run.outbox_offset) == ({"y": 1, "z": 1}, 10)
    assert ApplyOutbox("t1", 10, 2.0, {"y": 2}).apply(run) is run
    assert ApplyOutbox("t1", 9, 2.0, {"y": 2}).apply(run) is run
    assert ApplyOutbox("t1", 11, 2.0, {"y": 3}).apply(run).fields == {"y": 3, "z": 1}


def test_a_start_is_recorded_once() -> None:
    assert started().apply(RUNNING) is RUNNING


def test_an_attempt_may_end_before_its_start_is_recorded() -> None:
    run = end(L.FINISHED, exit_code=0).apply(IN_STATE[L.SUBMITTED])
    assert run.lifecycle is L.FINISHED


@pytest.mark.parametrize("run", IN_STATE.values())
@pytest.mark.parametrize("token", ["t1", "another"])
def test_a_sequence_of_edits_equals_its_edits_in_order(run: RunRecord, token: str) -> None:
    outbox = ApplyOutbox(token, 10, 2.5, {"y": 1}, "SEEN")
    edits = started(token), outbox, end(L.FAILED, token, retries=1, retry_delay=2.0)
    nested = EditSequence((EditSequence(edits[:2]), edits[2]))
    assert nested.apply(run) == EditSequence(edits).apply(run) == done(run, *edits)


def test_a_sequence_conflicts_if_one_of_its_edits_does() -> None:
    edits = EditSequence((Cancel(0.0, "test"), SetFields({"y": 1}), SetFields({"z": 1})))
    for name, expected in (("y", True), ("z", True), ("other", False)):
        assert edits.conflicts_with(NEW, done(NEW, SetFields({name: 5}))) is expected


@pytest.mark.parametrize("run", records(ACTIVE))
def test_another_launcher_adopts_a_running_attempt(run: RunRecord) -> None:
    adopted = TransferAttempt("t1", "another").apply(run)
    assert adopted.launcher == "another"
    assert (adopted.token, adopted.attempt, adopted.history) == (
        run.token, run.attempt, run.history,
    )  # fmt: skip


# -- retries -------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", sorted(FAILURES - {L.CANCELLED}))
def test_a_failure_with_retries_left_requeues_the_run(outcome: Lifecycle) -> None:
    run = end(outcome, retries=1, retry_delay=2.0).apply(RUNNING)
    assert (run.lifecycle, run.token, run.launcher) == (L.CREATED, None, None)
    assert run.not_before == 3.0 + 2.0
    assert [move.state for move in run.history[-2:]] == [outcome, "CREATED"]
    last = done(run, claim("t2"), end(outcome, "t2", retries=1))
    assert (last.lifecycle, last.attempt) == (outcome, 2)


def test_the_delay_doubles_with_each_retry() -> None:
    run, waits = RUNNING, []
    for number in range(2, 5):
        run = end(L.FAILED, f"t{number - 1}", retries=5, retry_delay=1.5, jitter=2.0).apply(run)
        waits.append(run.not_before - 3.0)
        run = claim(f"t{number}").apply(run)
    assert waits == [3.0, 6.0, 12.0]


@pytest.mark.parametrize("outcome", [L.FINISHED, L.CANCELLED])
def test_finished_and_cancelled_runs_are_not_retried(outcome: Lifecycle) -> None:
    assert end(outcome, retries=9).apply(RUNNING).lifecycle is outcome


def test_a_failed_run_with_a_cancel_request_is_not_retried() -> None:
    run = done(RUNNING, Cancel(2.5, "user"), end(L.FAILED, retries=9))
    assert run.lifecycle is L.FAILED


def test_a_requeue_does_not_count_as_a_retry() -> None:
    run = RUNNING
    for number in range(2, 6):
        run = done(run, Requeue(f"t{number - 1}", 4.0, "launcher l"), claim(f"t{number}"))
    assert (run.attempt, run.uncounted) == (5, 4)
    retried = end(L.FAILED, "t5", retries=1).apply(run)
    assert retried.lifecycle is L.CREATED
    assert retried.history[-1].cause == "launcher l, retry 1 of 1"
    assert done(retried, claim("t6"), end(L.FAILED, "t6", retries=1)).lifecycle is L.FAILED


def test_a_requeued_run_has_no_delay_and_no_label() -> None:
    noted = ApplyOutbox("t1", 5, 2.5, {}, "NOTED").apply(RUNNING)
    run = Requeue("t1", 4.0, "launcher l").apply(noted)
    assert (run.lifecycle, run.label, run.token, run.not_before) == (L.CREATED, None, None, 0.0)


def test_a_run_with_a_cancel_request_is_not_requeued() -> None:
    run = done(RUNNING, Cancel(2.5, "user"), Requeue("t1", 4.0, "launcher l"))
    assert run.lifecycle is L.CANCELLED
    assert run.history[-1] == Transition(4.0, "CANCELLED", "launcher l, cancelled by user", 1)


@pytest.mark.parametrize("run", records(FAILURES))
def test_a_requested_retry_restores_all_retries(run: RunRecord) -> None:
    retried = done(run, SetLabel("SEEN", 4.0, "user"), Retry(5.0, "user"))
    assert (retried.lifecycle, retried.state, retried.token) == (L.CREATED, "CREATED", None)
    again = done(retried, claim("t2"), end(L.FAILED, "t2", retries=1))
    assert again.lifecycle is L.CREATED


def test_requeued_attempts_are_not_counted_as_tries() -> None:
    run = done(RUNNING, Requeue("t1", 4.0, "launcher l"))
    assert (run.attempt, run.tries, run.column("attempt")) == (1, 0, 0)
    run = done(run, claim("t2"), started("t2"))
    assert (run.attempt, run.tries, run.column("attempt")) == (2, 1, 1)


def test_a_requested_retry_continues_the_count_of_attempts() -> None:
    run = RUNNING
    for number in range(2, 5):
        run = done(run, end(L.FAILED, f"t{number - 1}"), Retry(5.0, "user"), claim(f"t{number}"))
        assert run.column("attempt") == run.tries == number


def test_retries_and_their_delays_restart_with_a_request() -> None:
    run = done(RUNNING, end(L.FAILED, retries=1, retry_delay=4.0), claim("t2"))
    run = done(run, end(L.FAILED, "t2", retries=1), Retry(5.0, "user"), claim("t3"))
    run = end(L.FAILED, "t3", retries=1, retry_delay=4.0).apply(run)
    assert (run.lifecycle, run.not_before - 3.0) == (L.CREATED, 4.0)
    assert run.history[-1].cause == "launcher l, retry 1 of 1"
    assert done(run, claim("t4"), end(L.FAILED, "t4", retries=1)).lifecycle is L.FAILED


@pytest.mark.parametrize("run", records({L.CREATED, L.FINISHED}, ACTIVE))
def test_only_failures_are_retried(run: RunRecord) -> None:
    with pytest.raises(StateError, match=f"is {run.lifecycle} and cannot be retried"):
        Retry(5.0, "user").apply(run)


def test_a_retry_withdraws_a_cancel_request() -> None:
    run = done(RUNNING, Cancel(2.5, "user"), end(L.CANCELLED), Retry(5.0, "user"), claim("t2"))
    assert not run.cancel_requested


@pytest.mark.parametrize("outcome", sorted(FAILURES))
def test_the_history_keeps_the_reason_of_each_failure(outcome: Lifecycle) -> None:
    def ended(token: str, reason: str) -> EndAttempt:
        return EndAttempt(token, outcome, 3.0, "launcher l", None, reason, retries=1)

    run = done(RUNNING, ended("t1", "it reached its time limit (TIMEOUT TimeLimit)"))
    told = [move.cause for move in run.history if move.state == outcome]
    assert told == ["launcher l, it reached its time limit (TIMEOUT TimeLimit)"]
    assert run.reason == "it reached its time limit (TIMEOUT TimeLimit)"
    if outcome is not L.CANCELLED:
        run = done(run, claim("t2"), ended("t2", "exit code 3"))
        told = [move.cause for move in run.history if move.state == outcome]
        assert told[1:] == ["launcher l, exit code 3"]


def test_a_long_reason_is_shortened_to_one_line_in_the_history() -> None:
    reason = "no convergence\n" + 200 * "residual 7\n"
    run = EndAttempt("t1", L.FAILED, 3.0, "launcher l", 0, reason).apply(RUNNING)
    cause = run.history[-1].cause
    assert cause.startswith("launcher l, no convergence residual 7 residual 7")
    assert len(cause) < 250
    assert cause.isprintable()
    assert run.reason == reason


# -- cancelling ----------------------------------------------------------------------------------


def test_created_runs_are_cancelled_immediately() -> None:
    run = Cancel(5.0, "user").apply(NEW)
    assert (run.lifecycle, run.cancel_requested) == (L.CANCELLED, False)
    assert run.history[-1] == Transition(5.0, "CANCELLED", "user", 0)


@pytest.mark.parametrize("run", records(ACTIVE))
def test_active_runs_are_cancelled_by_their_launcher(run: RunRecord) -> None:
    asked = done(run, Cancel(5.0, "event e"), Cancel(6.0, "user"))
    assert (asked.lifecycle, asked.cancel_requested) == (run.lifecycle, True)
    assert asked.history == run.history
    ended = EndAttempt(run.token or "", L.CANCELLED, 7.0, "launcher l", -15, "stopped").apply(asked)
    assert ended.reason == "cancelled by event e"  # the first request
    move = Transition(7.0, "CANCELLED", "launcher l, cancelled by event e", run.attempt)
    assert ended.history[-1] == move


def test_a_run_with_another_outcome_was_not_cancelled() -> None:
    run = done(RUNNING, Cancel(2.5, "user"), end(L.FINISHED))
    assert (run.lifecycle, run.reason) == (L.FINISHED, None)
    assert "cancelled" not in run.history[-1].cause


@pytest.mark.parametrize("run", ENDED)
def test_terminal_runs_are_not_cancelled(run: RunRecord) -> None:
    assert Cancel(5.0, "user").apply(run) is run


# -- fields --------------------------------------------------------------------------------------


def test_fields_are_set_one_by_one_and_removed() -> None:
    run = done(NEW, SetFields({"y": 1, "z": 2}), SetFields({"y": 3}))
    assert run.fields == {"y": 3, "z": 2}
    assert SetFields({"y": MISSING, "never": MISSING}).apply(run).fields == {"z": 2}
    assert NEW.fields == {}


@pytest.mark.parametrize("name", [f.name for f in fields(RunRecord)])
def test_a_changed_record_differs_in_that_value_only(name: str) -> None:
    new: dict[str, Any] = {name: "new"}
    assert RUNNING.changed() == RUNNING
    assert RUNNING.changed(**new) == replace(RUNNING, **new) != RUNNING


def test_columns_of_a_run() -> None:
    run = done(RUNNING, SetFields({"y": 1}))
    assert [run.column(name) for name in ("id", "state", "y", "attempt", "run_name")] == [
        7, "START", 1, 1, "test",
    ]  # fmt: skip
    for name in ("exit_code", "nproc", "label", "never"):
        assert run.column(name) is MISSING


# -- conflicts -----------------------------------------------------------------------------------

LABELLED = SetLabel("SEEN", 5.0, "user").apply(IN_STATE[L.FAILED])
RETRIED = Retry(5.0, "user").apply(IN_STATE[L.FAILED])


@pytest.mark.parametrize(
    ("edit", "seen", "fresh", "expected"),
    [
        (SetFields({"y": 1}), NEW, SetFields({"y": 2}).apply(NEW), True),
        (SetFields({"y": 1}), NEW, SetFields({"z": 2}).apply(NEW), False),
        (SetFields({"y": 1}), NEW, RUNNING, False),
        (SetFields({"y": MISSING}), SetFields({"y": 2}).apply(NEW), NEW, True),
        (
            SetFields({"y": 1}),
            SetFields({"y": [float("nan")]}).apply(NEW),
            SetFields({"y": [float("nan")]}).apply(NEW),
            False,
        ),
        (SetLabel("A", 6.0, "u"), IN_STATE[L.FAILED], LABELLED, True),
        (SetLabel("A", 6.0, "u"), IN_STATE[L.FAILED], RETRIED, True),
        (
            SetLabel("A", 6.0, "u"),
            IN_STATE[L.FAILED],
            SetFields({"y": 1}).apply(IN_STATE[L.FAILED]),
            False,
        ),
        (claim(), NEW, IN_STATE[L.SUBMITTED], True),
        (claim(), NEW, Cancel(5.0, "user").apply(NEW), True),
        (claim(), NEW, SetFields({"y": 1}).apply(NEW), False),
        (Retry(6.0, "u"), IN_STATE[L.FAILED], RETRIED, True),
        (Retry(6.0, "u"), IN_STATE[L.FAILED], LABELLED, False),
        (Cancel(6.0, "u"), NEW, RUNNING, False),
        (end(L.FAILED), RUNNING, IN_STATE[L.FINISHED], False),
    ],
)
def test_conflicts(edit: RunEdit, seen: RunRecord, fresh: RunRecord, expected: bool) -> None:
    assert edit.conflicts_with(seen, fresh) is expected


@pytest.mark.parametrize("run", [*IN_STATE.values(), LABELLED, RETRIED])
def test_stored_records_are_plain_data_and_decode_unchanged(run: RunRecord) -> None:
    stored = encode_record(run)
    assert decode_record(stored) == run
    assert stored_key(stored) == run.key
    plain = {str, int, float, bool, bytes, dict, list, tuple, type(None)}
    (values,) = stored.values()
    assert {type(value) for value in values} <= plain
    assert {type(move) for value in values if type(value) is tuple for move in value} <= plain


def test_a_finished_run_is_rerun_only_on_request() -> None:
    finished = IN_STATE[L.FINISHED]
    with pytest.raises(StateError, match="cannot be retried"):
        Retry(9.0, "user").apply(finished)
    assert Retry(9.0, "user", again=True).apply(finished).lifecycle is L.CREATED
    with pytest.raises(StateError, match="cannot be retried"):
        Retry(9.0, "user", again=True).apply(RUNNING)
