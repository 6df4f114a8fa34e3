"""The JSON format of overviews and runs, which the help of ``motoko info`` describes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from motoko.core.values import to_json
from motoko.runtime.ports import utc
from motoko.runtime.processes import is_stopped

if TYPE_CHECKING:
    from collections.abc import Mapping

    from motoko.core.records import RunRecord
    from motoko.operations.overview import Overview, StudyOverview
    from motoko.operations.run_details import AttemptDetails, RunDetails
    from motoko.orchestrator.run_ends import RunEnd
    from motoko.server.file_integrity import TornTail
    from motoko.storage.orchestrator_leases import StallReport


def text_of(content: Mapping[str, Any]) -> str:
    """Return JSON text."""
    return json.dumps(content, indent=2, ensure_ascii=True, allow_nan=False)


def overview_to_json(overview: Overview, *, runs: bool) -> dict[str, Any]:
    """Return an overview as a JSON object."""
    return {
        "directory": overview.directory,
        "database": overview.database,
        "server": _server(overview),
        "cut": _cut(overview.cut),
        "removals": overview.removals,
        "launchers": [
            {
                "name": launcher.name,
                "host": launcher.host,
                "pid": launcher.process[0],
                "since": _time(launcher.since),
                "generator": launcher.generator,
                "studies": list(launcher.studies),
                "machines": list(launcher.machines),
                "suspended": is_stopped(launcher.identity),
                "differs": list(overview.environments.get(launcher.name, ())),
                "problem": overview.problems.get(launcher.name) or None,
                "directories": overview.directories.get(launcher.name) or None,
            }
            for launcher in overview.launchers
        ],
        "orchestrators": [
            {
                "run_name": name,
                "host": holder.host,
                "pid": holder.pid,
                "since": _time(holder.since),
                "suspended": is_stopped(holder.process),
                "stalled": _stall(overview.stalls.get(name)),
            }
            for name, holder in overview.orchestrators.items()
        ],
        "ends": [end_to_json(end) for end in overview.ends.values()],
        "holds": [
            {
                "study": hold.study,
                "run_name": hold.run_name,
                "ids": list(ids) or None,
                "since": _time(hold.at),
                "cause": hold.cause,
            }
            for hold, ids in overview.holds.by_command()
        ],
        "unregistered": [
            {
                "run_name": firing.run_name,
                "event": firing.event,
                "opened": _time(firing.opened),
                "runs": [str(key) for key in firing.runs],
            }
            for firing in overview.unregistered
        ],
        "notifier": _notifier(overview.notifications.notifier),
        "notifications": dict(overview.notifications.counts),
        "studies": [_study(study, runs=runs) for study in overview.studies],
    }


def end_to_json(end: RunEnd) -> dict[str, Any]:
    """Return the last end of a run name as a JSON object."""
    return {
        "run_name": end.run_name,
        "at": _time(end.time),
        "status": end.status,
        "kind": end.kind.value,
        "reason": end.reason,
        "started": _time(end.started),
        "command": list(end.command),
        "detached": end.detached,
        "log": None if end.log is None else str(end.log),
    }


def _time(at: float) -> str:
    return utc(at).isoformat()


def _known_time(at: float | None) -> str | None:
    return None if at is None else _time(at)


def _server(overview: Overview) -> dict[str, Any] | None:
    if overview.server is None:
        return None
    return {"pid": overview.server, "suspended": bool(overview.server_suspension)}


def _notifier(pid: int | None) -> dict[str, Any] | None:
    return None if pid is None else {"pid": pid}


def _cut(cut: TornTail | None) -> dict[str, Any] | None:
    if cut is None:
        return None
    return {"at": _time(cut.at), "bytes": cut.size, "last_commit": _time(cut.last)}


def _stall(stall: StallReport | None) -> dict[str, Any] | None:
    return None if stall is None else {"since": _time(stall.since), "waits": list(stall.waits)}


def _study(study: StudyOverview, *, runs: bool) -> dict[str, Any]:
    content: dict[str, Any] = {
        "name": study.name,
        "counts": to_json(study.counts),
        "outdated": to_json(study.outdated),
        "remarks": {
            name: {reason: ids.first for reason, ids in reasons.items()}
            for name, reasons in study.finished_reasons.items()
            if reasons
        },
        "changed": to_json(study.changed),
        "unserved": to_json(study.unserved),
        "unmanaged": to_json(study.unmanaged),
    }
    if runs:
        content["runs"] = [_run(record, study.reasons.get(record.id)) for record in study.runs]
    return content


def _run(record: RunRecord, why: str | None) -> dict[str, Any]:
    return {
        "id": record.id,
        "job_id": record.job_id,
        "run_name": record.run_name,
        "state": record.state,
        "lifecycle": record.lifecycle.value,
        "attempt": record.tries,
        "exit_code": record.exit_code,
        "reason": record.reason,
        "waits": None if record.lifecycle.is_terminal else why,
        "job": to_json(record.job),
        "fields": to_json(record.fields),
    }


def run_to_json(record: RunRecord) -> dict[str, Any]:
    """Return a run as a JSON object."""
    return {"run": str(record.key), "study": record.study, **_run(record, None)}


def details_to_json(found: RunDetails) -> dict[str, Any]:
    """Return a run with its attempts and quantities as a JSON object."""
    record = found.record
    history = [
        {"time": _time(t), "state": state, "attempt": attempt, "cause": cause}
        for t, state, cause, attempt in record.history
    ]
    return {
        "run": str(record.key),
        "study": record.study,
        **_run(record, found.waits or None),
        "created": _known_time(record.history[0].time if record.history else None),
        "created_by": found.creator,
        "directory": str(found.directory),
        "options": to_json(record.options),
        "replicate": record.replicate,
        "attempts": [_attempt(attempt) for attempt in found.attempts],
        "quantities": [
            {
                "name": series.name,
                "steps": series.steps,
                "last_step": to_json(series.last_step),
                "last_value": to_json(series.last_value),
            }
            for series in found.quantities
        ],
        "history": history,
    }


def _attempt(found: AttemptDetails) -> dict[str, Any]:
    facts = found.provenance
    return {
        "number": facts.number,
        "claimed": _known_time(facts.claimed),
        "started": _known_time(facts.started),
        "ended": _known_time(facts.ended),
        "duration": found.duration,
        "outcome": facts.outcome,
        "cause": found.cause or None,
        "directory": None if found.directory is None else str(found.directory),
        "host": facts.host,
        "interpreter": facts.interpreter,
        "python_version": facts.python_version,
        "motoko_version": facts.motoko_version,
        "git_commit": facts.git_commit,
        "git_dirty": facts.git_dirty,
        "scripts": facts.scripts or None,
    }
