"""Explain why runs wait, and why they failed."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from motoko.config import load_workflow
from motoko.core.holds import NO_HOLDS, Holds
from motoko.core.reasons import (
    Code,
    LauncherFacts,
    Reason,
    RunFacts,
    Usage,
    next_reasons,
    usage_of,
)
from motoko.core.states import ACTIVE, Lifecycle
from motoko.errors import ConfigError, NoDatabaseError
from motoko.operations.reason_text import reason_text
from motoko.runtime.processes import is_stopped
from motoko.storage.launcher_leases import (
    LauncherReport,
    launcher_report,
    live_launchers,
    suspended_launchers,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from motoko.config import WorkflowSettings
    from motoko.core.records import RunRecord
    from motoko.storage.launcher_leases import LauncherRegistration
    from motoko.storage.store import WorkflowStore
    from motoko.storage.tables import Tables

# Codes of runs that nothing keeps from being claimed.
READY = frozenset({Code.CLAIM_DUE})
HELD = "held by `motoko hold`"


@dataclass(frozen=True, slots=True)
class LauncherCoverage:
    """The live launchers with their reports, and the facts that follow for runs."""

    launchers: Sequence[tuple[LauncherRegistration, LauncherReport]]
    facts: RunFacts

    @classmethod
    def read(
        cls, tables: Tables, config: WorkflowSettings, store: WorkflowStore
    ) -> LauncherCoverage:
        """Read the live launchers of a workflow."""
        live = live_launchers(tables, store.steady())
        found = [(launcher, launcher_report(tables, launcher)) for launcher in live]
        defaults = {name: config.options(name).given() for name in config.task_managers}
        steady = store.steady()
        coverage = cls.of(found, defaults, steady=steady, now=store.now(), holds=tables.holds)
        lapsed = [_facts(one, LauncherReport()) for one in suspended_launchers(tables, steady)]
        return replace(coverage, facts=replace(coverage.facts, lapsed=lapsed))

    @classmethod
    def of(
        cls,
        launchers: Sequence[tuple[LauncherRegistration, LauncherReport]],
        defaults: Mapping[str, Mapping[str, Any]],
        *,
        steady: float,
        now: float,
        holds: Holds = NO_HOLDS,
    ) -> LauncherCoverage:
        """Return the coverage by these launchers; ``defaults``: the run options by study.

        ``steady`` is the time on the store's steady clock, ``now`` the time of day.
        """
        facts = [_facts(launcher, report) for launcher, report in launchers]
        return cls(launchers, RunFacts(facts, defaults, steady, now, holds))

    @property
    def defaults(self) -> Mapping[str, Mapping[str, Any]]:
        """The run options of each configured study."""
        return self.facts.defaults

    def machine_of(self, study: str, requested: str | None) -> str:
        """Return the machine of a run that requests ``requested``."""
        return self.facts.machine_of(study, requested)

    def is_managed(self, record: RunRecord) -> bool:
        """Return whether a launcher owns a claimed run or will adopt it, once it is continued."""
        machine = self.machine_of(record.study, record.options.get("machine_name"))
        serving = self.facts.launchers_for(record.study, machine)
        return bool(serving) or self.facts.owner(record) is not None

    def configured_studies(self, tables: Tables) -> list[str]:
        """Return the configured studies that have a table."""
        return [name for name in tables.study_names() if name in self.defaults]

    def unserved_counts(
        self, tables: Tables, studies: Iterable[str], run_name: str | None
    ) -> dict[str, int]:
        """Return the number of CREATED runs that are held or that no launcher serves, by reason.

        ``run_name`` None stands for every run name.
        """
        found: Counter[str] = Counter()
        for study in studies:
            created = tables.created(study)
            for (_, requested), number in created.count_unheld(run_name).items():
                unserved = self.facts.unserved(study, self.machine_of(study, requested))
                if unserved is not None:
                    found[reason_text(unserved, self.facts.now)] += number
            if held := created.count_held(run_name):
                found[HELD] += held
        return dict(found)

    def unmanaged_counts(self, tables: Tables, study: str, run_name: str | None) -> dict[str, int]:
        """Return the number of active runs of a study that no launcher owns, by reason."""
        table = tables.study(study)
        if not self.launchers:  # the usual case, without reading records
            number = table.count(run_name, lifecycles=ACTIVE)
            return {"no launcher is running": number} if number else {}
        active = table.records(table.ids(run_name, lifecycles=ACTIVE))
        reasons = filter(None, map(self.facts.unmanaged, active))
        return dict(Counter(reason_text(found, self.facts.now) for found in reasons))


def unserved_runs(store: WorkflowStore, run_names: Iterable[str]) -> dict[str, dict[str, int]]:
    """Return by run name the number of CREATED runs that nothing will claim, by reason.

    Return no counts without a database, or with an invalid configuration.
    """
    found: dict[str, dict[str, int]] = {name: {} for name in run_names}
    if not found:
        return found
    with suppress(NoDatabaseError, ConfigError), store.autocommit_scope.read() as session:
        tables = session.tables
        coverage = LauncherCoverage.read(tables, load_workflow(store.workflow_file), store)
        studies = coverage.configured_studies(tables)
        for name in found:
            found[name] = coverage.unserved_counts(tables, studies, name)
    return found


class ReasonFinder:
    """Explains the state of each run; counts the active runs once, when that is needed."""

    def __init__(self, tables: Tables, coverage: LauncherCoverage) -> None:
        self._tables = tables
        self._coverage = coverage

    @property
    def facts(self) -> RunFacts:
        """The facts that decide."""
        return self._coverage.facts

    @cached_property
    def usage(self) -> Usage:
        """The slots in use."""
        return usage_of(self._active(), self._coverage.facts)

    def _active(self) -> Iterator[RunRecord]:
        for name in self._tables.study_names():
            table = self._tables.study(name)
            yield from table.records(table.ids(None, lifecycles=ACTIVE))

    def next(self, record: RunRecord) -> tuple[Reason, ...]:
        """Return what happens next to a run, or what it waits for."""
        usage = self.usage if record.lifecycle is Lifecycle.CREATED else Usage()
        return next_reasons(record, self._coverage.facts, usage)

    def reason(self, record: RunRecord) -> str:
        """Return why a run waits or failed, or its recorded reason; empty if there is none."""
        if record.lifecycle.is_terminal:
            return record.reason or ""
        shown = self.next(record)
        if record.lifecycle in ACTIVE:
            shown = tuple(found for found in shown if found.code is Code.NOT_MANAGED)
        texts = [reason_text(r, self._coverage.facts.now) for r in shown if r.code not in READY]
        recorded = record.reason if record.lifecycle in ACTIVE else None
        return "; ".join(filter(None, [recorded, *texts]))


def _facts(launcher: LauncherRegistration, report: LauncherReport) -> LauncherFacts:
    return LauncherFacts(
        launcher.name,
        launcher.host,
        frozenset(launcher.studies),
        frozenset(launcher.machines),
        report.slots,
        report.per_study,
        frozenset(report.suspended),
        report.claims_paused,
        launcher.identity.pid if is_stopped(launcher.identity) else None,
    )
