"""The JSON format of explanations, which the help of ``motoko why`` describes."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from motoko.core.values import to_json
from motoko.operations.reason_text import reason_text
from motoko.operations.why import RunNameAnswer, SelectionAnswer
from motoko.operations.why_event import EventAnswer
from motoko.operations.why_run import RunAnswer
from motoko.runtime.ports import utc

if TYPE_CHECKING:
    from collections.abc import Iterable

    from motoko.core.reasons import Reason
    from motoko.operations.orchestrator_facts import OrchestratorFacts
    from motoko.operations.why import Answer

# Fields of reasons that are times.
TIMES: Final = frozenset({"at", "opened", "done", "asked", "since", "timeout_at"})


def answers_text(answers: Iterable[Answer], now: float) -> str:
    """Return explanations as JSON text; ``now`` is the time of day, since the epoch."""
    content = {"answers": [_answer(answer, now) for answer in answers]}
    return json.dumps(content, indent=2, ensure_ascii=True, allow_nan=False)


def _answer(answer: Answer, now: float) -> dict[str, Any]:
    if isinstance(answer, RunAnswer):
        return _run(answer, now)
    if isinstance(answer, EventAnswer):
        return _event(answer, now)
    if isinstance(answer, SelectionAnswer):
        return {"kind": "runs", **_runs(answer, now)}
    return {
        "kind": "workflow",
        "run_names": [_run_name(one, now) for one in answer.run_names],
        "quiet": list(answer.quiet),
    }


def _reason(found: Reason, now: float) -> dict[str, Any]:
    fields = {k: _time(v) if k in TIMES else to_json(v) for k, v in found.fields.items()}
    return {"code": found.code.value, "text": reason_text(found, now), **fields}


def _time(at: float | None) -> str | None:
    return None if at is None else utc(at).isoformat()


def _run(answer: RunAnswer, now: float) -> dict[str, Any]:
    record = answer.record
    return {
        "kind": "run",
        "run": str(record.key),
        "run_name": record.run_name,
        "state": record.state,
        "lifecycle": record.lifecycle.value,
        "attempt": record.attempt,
        "why": [_reason(found, now) for found in answer.because],
        "next": [_reason(found, now) for found in answer.next],
        "origins": [{"run": str(o.run), **_reason(o.reason, now)} for o in answer.origins],
        "complete": answer.complete,
        "directory": answer.directory,
        "stderr": list(answer.stderr),
    }


def _event(answer: EventAnswer, now: float) -> dict[str, Any]:
    event = answer.event
    return {
        "kind": "event",
        "event": event.id,
        "condition": event.kind,
        "once": event.once,
        "action": event.action,
        "fired": event.fired,
        **_orchestrator(answer.facts),
        "why": [_reason(found, now) for found in answer.reasons],
        "studies": [
            {**to_json(asdict(found)), "matching": [str(key) for key in found.matching]}
            for found in answer.diagnoses
        ],
        "invalid": dict(answer.invalid),
    }


def _orchestrator(facts: OrchestratorFacts) -> dict[str, Any]:
    holder, status = facts.holder, facts.status
    running = None
    if holder is not None:
        running = {"host": holder.host, "pid": holder.pid, "since": _time(holder.since)}
    reported = None if status is None else _time(status.written)
    return {"run_name": facts.run_name, "orchestrator": running, "reported": reported}


def _runs(answer: SelectionAnswer, now: float) -> dict[str, Any]:
    return {
        "groups": [
            {
                "study": group.study,
                "lifecycle": group.lifecycle.value,
                "number": group.number,
                "runs": [str(key) for key in group.runs],
                "reason": _reason(group.reason, now),
            }
            for group in answer.groups
        ],
        "number": answer.number,
        "left_out": answer.left_out,
    }


def _run_name(answer: RunNameAnswer, now: float) -> dict[str, Any]:
    stall, end = answer.facts.stall, answer.last_end
    return {
        **_orchestrator(answer.facts),
        "stalled": None if stall is None else _time(stall.since),
        "last_end": None
        if end is None
        else {"time": _time(end.time), "status": end.status, "reason": end.reason},
        "counts": to_json(answer.counts),
        **_runs(answer.runs, now),
        "events": [_event(event, now) for event in answer.events],
        "awaits": [
            {
                "owner": status.owner,
                "waits_for": status.waits_for,
                "number": status.number,
                "runs": [
                    {
                        "run": str(one.run),
                        "state": one.state,
                        "next": [_reason(found, now) for found in one.next],
                    }
                    for one in runs
                ],
            }
            for status, runs in answer.awaits
        ],
    }
