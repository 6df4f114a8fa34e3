"""Are the holders of leases alive, and do the launchers run this code in this environment?"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from shlex import quote
from typing import TYPE_CHECKING, Final

from motoko.config import load_workflow
from motoko.errors import ConfigError, DatabaseVersionError, StorageError
from motoko.launcher.control import running_launchers
from motoko.operations.doctor.findings import Finding, ok, warning
from motoko.operations.doctor.processes import ProcessFacts, code_findings, describe, newest
from motoko.operations.explain import HELD, LauncherCoverage
from motoko.orchestrator.run_ends import executions
from motoko.printable import join_names
from motoko.runtime.environment import environment_differences
from motoko.runtime.processes import Liveness, liveness, predates_boot
from motoko.storage.database import Database
from motoko.storage.launcher_leases import launcher_report, registered_launchers
from motoko.storage.orchestrator_leases import (
    LEASE_SECONDS,
    ORCHESTRATOR,
    LeaseHolder,
    orchestrator_report,
    run_names,
)
from motoko.storage.store import WorkflowStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from motoko.operations.doctor.patient import Patient
    from motoko.storage.launcher_leases import LauncherReport
    from motoko.storage.tables import Tables

RESTART: Final = "motoko kill && motoko launcher"
RELEASE: Final = "`motoko why` names the command that releases them."


@dataclass(frozen=True, slots=True)
class LeaseFacts:
    """A lease and its holder. ``renewed``: seconds since the last renewal.

    ``name``: a run name or the name of a launcher; ``seconds``: the duration of the lease.
    ``rebooted``: its machine was rebooted since. ``code_changed``: when the code that it executes
    changed last. ``waits``: what a stalled orchestrator waits for. ``differs``: the differences
    of its environment. ``report`` is None for an orchestrator.
    """

    name: str
    process: ProcessFacts
    renewed: float
    seconds: float = LEASE_SECONDS
    rebooted: bool = False
    code_changed: float | None = None
    waits: tuple[str, ...] = ()
    differs: tuple[str, ...] = ()
    report: LauncherReport | None = None


@dataclass(frozen=True, slots=True)
class LeasesFacts:
    """All leases, and the numbers of CREATED runs that no launcher serves, by reason."""

    orchestrators: Sequence[LeaseFacts] = ()
    launchers: Sequence[LeaseFacts] = ()
    unserved: Mapping[str, int] = field(default_factory=dict)


def examine_leases(patient: Patient) -> list[Finding]:
    """Examine orchestrators and launchers, in the database file and on this machine."""
    if not patient.has_database:
        return judge(LeasesFacts())
    try:
        return judge(read(patient))
    except DatabaseVersionError:  # the check of the database reports it
        return [ok("leases", "leases", "unknown, as the database has another format")]
    except StorageError:  # this too
        return [ok("leases", "leases", "unknown, as the database cannot be read")]


def read(patient: Patient) -> LeasesFacts:
    """Read all leases; StorageError without a readable database."""
    state = patient.state
    database = Database.read_file(state.database, runtime=patient.runtime)
    store = WorkflowStore(state, {}, database=database, runtime=patient.runtime)
    with contextlib.closing(store), store.autocommit_scope.read() as session:
        tables, now = session.tables, store.steady()
        return LeasesFacts(
            tuple(_orchestrators(tables, now, patient)),
            tuple(_launchers(tables, now, patient)),
            _unserved(tables, store, patient),
        )


def _orchestrators(tables: Tables, now: float, patient: Patient) -> Iterator[LeaseFacts]:
    written = patient.diagnosis.written
    module = "" if written is None else written.orchestrator.partition(".")[0]
    changed = newest([patient.directory / f"{module}.py"])
    recorded = executions(patient.state)
    for name in run_names(tables):
        key = ORCHESTRATOR + name
        lease = tables.lease(key)
        if lease["token"] is None or not tables.lease_belongs_here(key):
            continue
        process = LeaseHolder(**lease["holder"]).process
        if liveness(process) is Liveness.DEAD and name in recorded:
            continue  # the check of ends reports it
        stall = orchestrator_report(tables, name).stall
        yield LeaseFacts(
            name,
            describe(process, liveness(process), patient.runtime.clock),
            now - tables.renewed_at(key),
            rebooted=predates_boot(process),
            code_changed=changed,
            waits=() if stall is None else stall.waits,
        )


def _launchers(tables: Tables, now: float, patient: Patient) -> Iterator[LeaseFacts]:
    files = {found.process.label: found.pid_file for found in running_launchers(patient.state)}
    for found in registered_launchers(tables):
        if not tables.lease_belongs_here(found.key):
            continue
        file = files.get(found.identity.label)
        record = None if file is None else file.read()
        seen = liveness(found.identity)
        if seen is Liveness.UNKNOWN and record is not None:  # in another container
            seen = Liveness.ALIVE
        version = "" if record is None else str(record.info.get("version", ""))
        yield LeaseFacts(
            found.name,
            describe(found.identity, seen, patient.runtime.clock, version),
            now - tables.renewed_at(found.key),
            found.lease,
            predates_boot(found.identity),
            differs=environment_differences(found.identity),
            report=launcher_report(tables, found),
        )


def _unserved(tables: Tables, store: WorkflowStore, patient: Patient) -> dict[str, int]:
    try:
        config = load_workflow(patient.file, tolerant=True)
    except ConfigError:  # the check of the configuration reports it
        return {}
    coverage = LauncherCoverage.read(tables, config, store)
    return coverage.unserved_counts(tables, coverage.configured_studies(tables), None)


# -- judging ---------------------------------------------------------------------------------


def judge(facts: LeasesFacts) -> list[Finding]:
    """Return the findings about orchestrators and launchers."""
    findings: list[Finding] = []
    for lease in facts.orchestrators:
        findings += _judge_orchestrator(lease)
    for lease in facts.launchers:
        findings += _judge_launcher(lease)
    suspended = any(lease.process.suspended for lease in facts.launchers)
    start = "Start a launcher: `motoko launcher`."
    if suspended:
        start = "Continue the suspended launcher, or start another: `motoko launcher`."
    for reason, number in facts.unserved.items():
        runs = "1 run waits" if number == 1 else f"{number:,} runs wait"
        step = RELEASE if reason == HELD else start
        findings.append(warning("runs-unserved", "launchers", f"{runs}: {reason}", step))
    if not facts.orchestrators:
        findings.append(ok("orchestrators", "orchestrators", "none is running"))
    if not facts.launchers and not facts.unserved:
        findings.append(ok("launchers", "launchers", "none is running, and no run waits"))
    return findings


def _judge_orchestrator(lease: LeaseFacts) -> list[Finding]:
    subject = f"orchestrator {lease.name}"
    restart = f"motoko orchestrator stop --run_name {quote(lease.name)}"
    resume = f"`motoko run --run_name {quote(lease.name)}` resumes it."
    findings = _judge_holder("orchestrator", subject, lease, resume)
    if not findings:
        findings += code_findings(subject, lease.process, restart)
    if not findings:
        findings += code_findings(subject, lease.process, restart, lease.code_changed)
    if lease.waits and lease.process.liveness is not Liveness.DEAD:
        message = f"is stalled: {'; '.join(lease.waits)}"
        step = "`motoko why` explains it; no run can change its state."
        findings.append(warning("orchestrator-stalled", subject, message, step))
    return findings or [ok("orchestrator", subject, _about(lease))]


def _judge_launcher(lease: LeaseFacts) -> list[Finding]:
    subject = f"launcher {lease.name}"
    replace = "The next launcher replaces it: `motoko launcher`."
    findings = _judge_holder("launcher", subject, lease, replace)
    if not findings:
        findings += code_findings(subject, lease.process, RESTART)
    if lease.differs:
        message = f"its environment differs from this one: {join_names(lease.differs)}"
        step = f"Its runs get its environment. To apply this one: `{RESTART}`."
        findings.append(warning("launcher-environment", subject, message, step))
    report = lease.report
    if report is not None and report.problem:
        message = f"keeps the previous configuration, as the new one is invalid: {report.problem}"
        findings.append(warning("launcher-configuration", subject, message, "Correct the file."))
    if report is not None and report.suspended:
        message = f"does not claim the runs of {join_names(report.suspended)}"
        step = "`motoko run --run_name N` resumes them."
        findings.append(warning("launcher-claims", subject, message, step))
    return findings or [ok("launcher", subject, _about(lease))]


def _judge_holder(kind: str, subject: str, lease: LeaseFacts, step: str) -> list[Finding]:
    """Return the problems of a holder, "dead" and "silent" among them."""
    process, late = lease.process, lease.renewed > lease.seconds
    label = f"process {process.pid} on {process.host}"
    silent = f"{label} has not renewed its lease for {lease.renewed:,.0f} s"
    if process.liveness is Liveness.DEAD:
        when = " before the last restart of its machine" if lease.rebooted else ""
        message = f"{label} exited{when} without releasing its lease"
        return [warning(f"{kind}-died", subject, message, step)]
    if process.suspended:
        step = f"Continue it: `kill -CONT {process.pid}`."
        return [warning(f"{kind}-suspended", subject, f"{label} is suspended (SIGSTOP)", step)]
    if process.liveness is Liveness.UNKNOWN and late:
        step = f"Look for it on {process.host}. {step}"
        return [warning(f"{kind}-silent", subject, silent, step)]
    if late:
        step = "The database may be slow or disconnected; see the other findings."
        return [warning(f"{kind}-late", subject, silent, step)]
    return []


def _about(lease: LeaseFacts) -> str:
    process = lease.process
    return f"process {process.pid} on {process.host}, lease renewed {lease.renewed:,.0f} s ago"
