"""JSON Schemas (draft 7) of the output of every command with ``--json``, and of its errors.

The tests validate real output against them. ``motoko schema NAME`` prints them.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from motoko.cli.schema_parts import (
    ANYTHING,
    BOOLEAN,
    COUNT,
    ID,
    NUMBER,
    TEXT,
    TIME,
    Schema,
    exactly,
    list_of,
    map_of,
    optional,
)
from motoko.cli.why_schema import WHY
from motoko.config.json_schema import DRAFT
from motoko.core.notifications import NotificationState

if TYPE_CHECKING:
    from collections.abc import Mapping

CODE: Final[Schema] = {"type": "string", "pattern": "^[a-z]+(-[a-z]+)*$"}
END: Final = exactly(
    run_name=TEXT,
    at=TIME,
    status=NUMBER,
    kind={"enum": ["finished", "failed", "error", "stalled", "interrupted", "died"]},
    reason=TEXT,
    started=TIME,
    command=list_of(TEXT),
    detached=BOOLEAN,
    log=optional(TEXT),
)
_RUN: Final[Mapping[str, Schema]] = MappingProxyType({
    "id": ID, "job_id": ID, "run_name": TEXT, "state": TEXT, "lifecycle": TEXT, "attempt": COUNT,
    "exit_code": optional(NUMBER), "reason": optional(TEXT), "waits": optional(TEXT),
    "job": map_of(ANYTHING), "fields": map_of(ANYTHING),
})  # fmt: skip
ATTEMPT: Final = exactly(
    number=COUNT,
    claimed=optional(TIME),
    started=optional(TIME),
    ended=optional(TIME),
    duration=optional({"type": "number", "minimum": 0}),
    outcome=optional(TEXT),
    cause=optional(TEXT),
    directory=optional(TEXT),
    host=optional(TEXT),
    interpreter=optional(TEXT),
    python_version=optional(TEXT),
    motoko_version=optional(TEXT),
    git_commit=optional(TEXT),
    git_dirty=optional(BOOLEAN),
    scripts=optional(TEXT),
)
DETAILED_RUN: Final = exactly(
    run=TEXT,
    study=TEXT,
    **_RUN,
    created=optional(TIME),
    created_by=TEXT,
    directory=TEXT,
    options=map_of(ANYTHING),
    replicate=COUNT,
    attempts=list_of(ATTEMPT),
    quantities=list_of(
        exactly(name=TEXT, steps=COUNT, last_step=ANYTHING, last_value=ANYTHING),
    ),
    history=list_of(exactly(time=TIME, state=TEXT, attempt=COUNT, cause=TEXT)),
)
STUDY: Final = exactly(
    {"runs": list_of(exactly(**_RUN))},
    name=TEXT,
    counts=map_of(map_of(COUNT)),
    outdated=map_of(COUNT),
    remarks=map_of(map_of(list_of(ID))),
    changed=map_of(COUNT),
    unserved=map_of(COUNT),
    unmanaged=map_of(COUNT),
)
LAUNCHER: Final = exactly(
    name=TEXT,
    host=TEXT,
    pid=ID,
    since=TIME,
    generator=TEXT,
    studies=list_of(TEXT),
    machines=list_of(TEXT),
    suspended=BOOLEAN,
    differs=list_of(TEXT),
    problem=optional(TEXT),
    directories=optional(TEXT),
)
OVERVIEW: Final = exactly(
    {"runs": list_of(DETAILED_RUN)},
    directory=TEXT,
    database=BOOLEAN,
    server=optional(exactly(pid=COUNT, suspended=BOOLEAN)),
    cut=optional(exactly(at=TIME, bytes=COUNT, last_commit=TIME)),
    removals=COUNT,
    launchers=list_of(LAUNCHER),
    orchestrators=list_of(
        exactly(
            run_name=TEXT,
            host=TEXT,
            pid=ID,
            since=TIME,
            suspended=BOOLEAN,
            stalled=optional(exactly(since=TIME, waits=list_of(TEXT))),
        )
    ),
    ends=list_of(END),
    holds=list_of(
        exactly(
            study=optional(TEXT),
            run_name=optional(TEXT),
            ids=optional(list_of(ID)),
            since=TIME,
            cause=TEXT,
        )
    ),
    unregistered=list_of(exactly(run_name=TEXT, event=TEXT, opened=TIME, runs=list_of(TEXT))),
    failures=list_of(
        exactly(
            run_name=TEXT,
            study=TEXT,
            outcome=TEXT,
            exit_code=optional(NUMBER),
            text=TEXT,
            number=COUNT,
            runs=list_of(TEXT),
        )
    ),
    notifier=optional(exactly(pid=ID)),
    notifications={
        "type": "object",
        "properties": {state.value: COUNT for state in NotificationState},
        "additionalProperties": False,
    },
    studies=list_of(STUDY),
)
FOUND_RUN: Final = {"anyOf": [exactly(run=TEXT, study=TEXT, **_RUN), DETAILED_RUN]}
INFO: Final[Schema] = {"anyOf": [OVERVIEW, exactly(runs=list_of(FOUND_RUN))]}
RESULTS: Final = list_of(map_of(ANYTHING))

LEVEL: Final[Schema] = {"enum": ["ok", "warning", "fault"]}
DOCTOR: Final = exactly(
    level=LEVEL,
    directory=optional(TEXT),
    findings=list_of(
        exactly(code=CODE, level=LEVEL, subject=TEXT, message=TEXT, next_step=optional(TEXT))
    ),
)

NOTIFICATION: Final = exactly(
    at=TIME,
    run_name=optional(TEXT),
    event=TEXT,
    target=TEXT,
    state={"enum": [state.value for state in NotificationState]},
    attempts=ID,
    message=TEXT,
    problem=optional(TEXT),
)
NOTIFY: Final[Schema] = {
    "anyOf": [
        exactly(
            notifier=optional(exactly(pid=ID)),
            watched=COUNT,
            targets=list_of(exactly(target=TEXT, on=list_of(TEXT), timeout={"type": "number"})),
            notifications=list_of(NOTIFICATION),
        ),
        exactly(targets=list_of(exactly(target=TEXT, sent=BOOLEAN, problem=optional(TEXT)))),
    ]
}

ERROR: Final = exactly(
    error=exactly(
        code=CODE,
        message=TEXT,
        place=optional(exactly(file=TEXT, line=optional(ID))),
        fix=optional(TEXT),
    )
)

OUTPUTS: Final[Mapping[str, Schema]] = MappingProxyType(
    {
        name: {"$schema": DRAFT, "title": title, **schema}
        for name, title, schema in (
            ("info", "motoko info --json", INFO),
            ("doctor", "motoko doctor --json", DOCTOR),
            ("notify", "motoko notify --json", NOTIFY),
            ("why", "motoko why --json", WHY),
            ("results", "motoko results --format json", RESULTS),
            ("error", "an error with --json", ERROR),
        )
    }
)
