"""The JSON Schema of explanations."""

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
from motoko.core.reasons import Code

if TYPE_CHECKING:
    from collections.abc import Mapping

_CODE: Final[Schema] = {"enum": [code.value for code in Code]}
# Each code has further fields.
REASON: Final[Schema] = {
    "type": "object",
    "properties": {"code": _CODE, "text": TEXT},
    "required": ["code", "text"],
}
ORIGIN: Final[Schema] = {
    "type": "object",
    "properties": {"run": TEXT, "code": _CODE, "text": TEXT},
    "required": ["run", "code", "text"],
}
_RUNS: Final[Mapping[str, Schema]] = MappingProxyType(
    {
        "groups": list_of(
            exactly(study=TEXT, lifecycle=TEXT, number=COUNT, runs=list_of(TEXT), reason=REASON)
        ),
        "number": COUNT,
        "left_out": COUNT,
    }
)
_ORCHESTRATOR: Final[Mapping[str, Schema]] = MappingProxyType(
    {
        "run_name": TEXT,
        "orchestrator": optional(exactly(host=TEXT, pid=ID, since=TIME)),
        "reported": optional(TIME),
    }
)
MISS: Final = exactly(
    column=TEXT,
    value=ANYTHING,
    missing=BOOLEAN,
    ended=BOOLEAN,
    needs=TEXT,
    distance={"type": ["number", "null"]},
)
DIAGNOSIS: Final = exactly(
    study=TEXT,
    constraint=TEXT,
    total=COUNT,
    examined=COUNT,
    complete=BOOLEAN,
    clauses=list_of(exactly(clause=TEXT, survivors=COUNT, examined=BOOLEAN)),
    broken=optional(TEXT),
    values=map_of(COUNT),
    nearest=optional(exactly(run=TEXT, lifecycle=TEXT, failed=list_of(TEXT), misses=list_of(MISS))),
    matching=list_of(TEXT),
)
EVENT: Final = exactly(
    kind={"const": "event"},
    event=TEXT,
    condition=TEXT,
    once=BOOLEAN,
    action=TEXT,
    fired=COUNT,
    **_ORCHESTRATOR,
    why=list_of(REASON),
    studies=list_of(DIAGNOSIS),
    invalid=map_of(TEXT),
)
RUN: Final = exactly(
    kind={"const": "run"},
    run=TEXT,
    run_name=TEXT,
    state=TEXT,
    lifecycle=TEXT,
    attempt=COUNT,
    why=list_of(REASON),
    next=list_of(REASON),
    origins=list_of(ORIGIN),
    complete=BOOLEAN,
    directory=TEXT,
    stderr=list_of(TEXT),
)
RUN_NAME: Final = exactly(
    **_ORCHESTRATOR,
    stalled=optional(TIME),
    last_end=optional(exactly(time=TIME, status=NUMBER, reason=TEXT)),
    counts=map_of(map_of(COUNT)),
    **_RUNS,
    events=list_of(EVENT),
    awaits=list_of(
        exactly(
            owner=TEXT,
            waits_for=TEXT,
            number=COUNT,
            runs=list_of(exactly(run=TEXT, state=TEXT, next=list_of(REASON))),
        )
    ),
)
WORKFLOW: Final = exactly(
    kind={"const": "workflow"}, run_names=list_of(RUN_NAME), quiet=list_of(TEXT)
)
SELECTION: Final = exactly(kind={"const": "runs"}, **_RUNS)
WHY: Final = exactly(answers=list_of({"anyOf": [RUN, EVENT, SELECTION, WORKFLOW]}))
