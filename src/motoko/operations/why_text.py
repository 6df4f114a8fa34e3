"""Explanations as lines for a terminal. They contain untrusted text: print them safely."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from motoko.core.reason_groups import urgency
from motoko.core.states import FAILURES
from motoko.operations.reason_text import (
    counts_text,
    duration,
    moment,
    nearest_text,
    reason_text,
    since,
)
from motoko.operations.why import RunNameAnswer, SelectionAnswer, WorkflowAnswer
from motoko.operations.why_event import EventAnswer
from motoko.operations.why_run import RunAnswer
from motoko.printable import join_names, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from motoko.core.event_reasons import StudyDiagnosis
    from motoko.core.orchestrator_status import AwaitStatus
    from motoko.core.reason_groups import ReasonGroup
    from motoko.operations.orchestrator_facts import OrchestratorFacts
    from motoko.operations.why import Answer, AwaitedRun
    from motoko.storage.orchestrator_leases import LeaseHolder

INDENT: Final = 12  # columns of a caption
LINE: Final = 500  # characters of a reason
LINES: Final = 20  # of an overview of the workflow
AWAITED: Final = 3  # runs of an await


def answer_lines(answer: Answer, now: float) -> list[str]:
    """Return an explanation as lines; ``now`` is the time of day, since the epoch."""
    if isinstance(answer, RunAnswer):
        lines = _run(answer, now)
    elif isinstance(answer, EventAnswer):
        lines = _event(answer, now)
    elif isinstance(answer, SelectionAnswer):
        lines = _selection(answer, now)
    else:
        lines = _workflow(answer, now)
    return [line.replace("\n", " ") for line in lines]


def _captioned(caption: str, lines: list[str]) -> Iterator[str]:
    for n, line in enumerate(lines):
        yield f"  {caption if n == 0 else '':<{INDENT - 2}}{line}"


# -- a run -----------------------------------------------------------------------------------


def _run(answer: RunAnswer, now: float) -> Iterator[str]:
    record = answer.record
    attempt = f", attempt {record.attempt}" if record.attempt else ""
    yield f"{record.key} {record.state} (run name {record.run_name}{attempt})"
    yield from _captioned("why", [_line(reason_text(r, now)) for r in answer.because])
    yield from _captioned("next", [_line(reason_text(r, now)) for r in answer.next])
    width = max(len(str(origin.run)) for origin in answer.origins)
    chain = [
        f"{origin.run!s:<{width}} {_line(reason_text(origin.reason, now))}"
        for origin in answer.origins
    ]
    if not answer.complete:
        chain.append("... (the chain continues)")
    yield from _captioned("origin", chain)
    if answer.stderr:
        yield from _captioned("stderr", [f"{answer.directory}/stderr"])
        yield from _captioned("", [f"| {one_line(line, limit=LINE)}" for line in answer.stderr])


def _line(text: str) -> str:
    return one_line(text, limit=LINE)


# -- an event --------------------------------------------------------------------------------


def _event(answer: EventAnswer, now: float) -> Iterator[str]:
    event, facts = answer.event, answer.facts
    yield f"event {event.id} (run name {facts.run_name})"
    yield from _captioned("process", [_process(facts, now)])
    fired = "not fired" if not event.fired else f"fired {event.fired:,} times"
    yield from _captioned("action", [f"{event.action}; {fired} since the start"])
    once = ", once for each run" if event.once else ""
    texts = [f"{study}: {text or 'every run'}{once}" for study, text in event.constraints.items()]
    texts = texts or [f"{event.kind}: {event.condition}{once}"]
    yield from _captioned("condition", texts)
    for diagnosis in answer.diagnoses:
        yield from _diagnosis(diagnosis)
    lines = [_line(reason_text(r, now)) for r in answer.reasons]
    lines += [f"{study}: its constraint is no longer valid: {why}" for study, why in answer.invalid]
    yield from _captioned("why", lines)


def _diagnosis(found: StudyDiagnosis) -> Iterator[str]:
    of_newest = f"  of the newest {found.examined:,}"
    rows = [f"{found.total:,} of {found.study}"]
    for n, row in enumerate(found.clauses):
        clause = f"and {row.clause}" if n else row.clause  # the runs that satisfy all so far
        rows.append(f"{row.survivors:>9,}  {clause}{of_newest if row.examined else ''}")
    yield from _captioned("runs", rows)


def _process(facts: OrchestratorFacts, now: float) -> str:
    status = facts.status
    age = "" if status is None else f"; it last reported {duration(now - status.written)} ago"
    if facts.holder is None:
        return f"no orchestrator is running{age}"
    return _holder(facts.holder, now)


def _holder(holder: LeaseHolder, now: float) -> str:
    return f"process {holder.pid} on {holder.host}{since(holder.since, now)}"


# -- runs ------------------------------------------------------------------------------------


def _selection(answer: SelectionAnswer, now: float) -> Iterator[str]:
    if not answer.groups:
        yield "no run waits, is active or failed"
    yield from (_group(group, now) for group in answer.groups)
    if answer.left_out:
        yield f"{answer.left_out:,} older runs were not examined"


def _group(group: ReasonGroup, now: float) -> str:
    names = ", ".join(map(str, group.runs))
    more = f", ... ({group.number:,} runs)" if group.number > len(group.runs) else ""
    text = _line(reason_text(group.reason, now))
    return f"{group.number:>7,} of {group.study} {group.lifecycle}: {text}: {names}{more}"


# -- the workflow ----------------------------------------------------------------------------


def _workflow(answer: WorkflowAnswer, now: float) -> Iterator[str]:
    if not answer.run_names:
        yield "nothing: no orchestrator is running, and no run waits or is active"
    room = max(4, LINES // max(1, len(answer.run_names)))
    for found in answer.run_names:
        yield from _run_name(found, room, now)
    if answer.quiet:
        yield f"nothing waits: run names {join_names(answer.quiet)}"


def _run_name(answer: RunNameAnswer, room: int, now: float) -> Iterator[str]:
    facts = answer.facts
    yield f"run name {facts.run_name}: {_state(answer, now)}"
    lines = sorted(_waits(answer, now), key=lambda item: item[0])
    for _, line in lines[:room]:
        yield f"  {line}"
    if len(lines) > room:
        yield f"  ... and {len(lines) - room} more (motoko why --run_name {facts.run_name} --json)"


def _state(answer: RunNameAnswer, now: float) -> str:
    facts = answer.facts
    if facts.holder is not None:
        stalled = "" if facts.stall is None else f"; stalled since {moment(facts.stall.since, now)}"
        return f"its orchestrator is {_holder(facts.holder, now)}{stalled}"
    end, status = answer.last_end, facts.status
    text = "no orchestrator is running"
    if end is not None:
        text += f"; last end {moment(end.time, now)}, exit status {end.status}: {end.reason}"
    if facts.is_current and status is not None:
        text += f"; it last reported {duration(now - status.written)} ago"
    return _line(text)


def _waits(answer: RunNameAnswer, now: float) -> Iterator[tuple[int, str]]:
    """Yield what is waited for, with its urgency."""
    for group in answer.runs.groups:
        rank = 1 if group.lifecycle in FAILURES else urgency(group.reason.code)
        yield rank, _group(group, now).strip()
    if answer.runs.left_out:
        yield 9, f"{answer.runs.left_out:,} older runs were not examined"
    waits = "waits" if answer.facts.holder is not None else "waited"
    for status, runs in answer.awaits:
        yield 7, f"{status.owner} {waits} for {_awaited(status, runs, now)}"
    for event in answer.events:
        rank = min((urgency(r.code) for r in event.reasons), default=9)
        yield max(rank, 1), f"event {event.event.id}: {_brief(event, now)}"


def _awaited(status: AwaitStatus, runs: tuple[AwaitedRun, ...], now: float) -> str:
    if not status.number:
        return _line(status.waits_for)
    shown = [
        f"{one.run} {one.state} ({_line(reason_text(one.next[0], now))})" for one in runs[:AWAITED]
    ]
    more = f" and {status.number - len(shown)} more" if status.number > len(shown) else ""
    return f"{status.number} {'run' if status.number == 1 else 'runs'}: {', '.join(shown)}{more}"


def _brief(answer: EventAnswer, now: float) -> str:
    for diagnosis in answer.diagnoses:
        if diagnosis.broken is not None and diagnosis.nearest is not None:
            values = f" ({counts_text(diagnosis.values)})" if diagnosis.values else ""
            return _line(
                f"waits for {diagnosis.broken}{values}; nearest {nearest_text(diagnosis.nearest)}"
            )
    return "; ".join(_line(reason_text(r, now)) for r in answer.reasons) or "nothing selects a run"
