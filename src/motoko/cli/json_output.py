"""The JSON format of an overview, which the help of ``motoko info`` describes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from motoko.runtime.ports import utc

if TYPE_CHECKING:
    from motoko.core.records import RunRecord
    from motoko.operations.overview import Overview, StudyOverview
    from motoko.server.file_integrity import TornTail
    from motoko.storage.leases import StallReport


def overview_text(overview: Overview, *, runs: bool) -> str:
    """Return an overview as JSON text."""
    content = {
        "directory": overview.directory,
        "database": overview.database,
        "server": None if overview.server is None else {"pid": overview.server},
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
                "differs": list(overview.environments.get(launcher.name, ())),
                "problem": overview.problems.get(launcher.name) or None,
            }
            for launcher in overview.launchers
        ],
        "orchestrators": [
            {
                "run_name": name,
                "host": holder.host,
                "pid": holder.pid,
                "since": _time(holder.since),
                "stalled": _stall(overview.stalls.get(name)),
            }
            for name, holder in overview.orchestrators.items()
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
        "studies": [_study(study, runs=runs) for study in overview.studies],
    }
    return json.dumps(content, indent=2, ensure_ascii=True, allow_nan=False)


def _time(at: float) -> str:
    return utc(at).isoformat()


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
        "remarks": {name: to_json(ids) for name, ids in study.finished_reasons.items() if ids},
        "changed": to_json(study.changed),
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


def to_json(value: Any) -> Any:
    """Return a stored value as a value that JSON has."""
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((to_json(item) for item in value), key=str)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return value
