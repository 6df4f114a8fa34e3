"""How did the last execution of each run name end?"""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING, Final

from motoko.operations.doctor.findings import Finding, ok, warning
from motoko.orchestrator.run_ends import EndKind, executions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from motoko.operations.doctor.patient import Patient
    from motoko.orchestrator.run_ends import RunEnd

CODES: Final = {
    EndKind.FAILED: "end-failed",
    EndKind.ERROR: "end-error",
    EndKind.STALLED: "end-stalled",
    EndKind.DIED: "orchestrator-died",
}


def examine_ends(patient: Patient) -> list[Finding]:
    """Examine the last end of each run name that is not executed now."""
    now = patient.runtime.clock.now()
    found = (execution.end(now) for execution in executions(patient.state).values())
    return judge([end for end in found if end is not None])


def judge(ends: Iterable[RunEnd]) -> list[Finding]:
    """Return the findings about ends; a finished or interrupted execution is no problem."""
    findings = []
    for end in ends:
        subject, message = f"run name {end.run_name}", f"ended {end}"
        resume = f"`motoko run --run_name {quote(end.run_name)}"
        steps = {
            EndKind.FAILED: f"`motoko info --verbose` has the reasons; {resume} --retry-failed` "
            "repeats the failed runs.",
            EndKind.STALLED: "`motoko why` explains the waits.",
        }
        step = steps.get(end.kind, f"{resume}` resumes it.")
        if end.kind not in CODES:
            findings.append(ok("end", subject, message))
            continue
        log = "" if end.log is None else f" Its log is {end.log}."
        findings.append(warning(CODES[end.kind], subject, message, step + log))
    return findings
