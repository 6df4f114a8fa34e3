"""Why runs wait: who could take them, and what keeps them from it; and why they ended badly."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from motoko.config import load_workflow
from motoko.core.run_options import SLURM, RunOptions
from motoko.core.states import ACTIVE, Lifecycle
from motoko.errors import ConfigError, NoDatabaseError
from motoko.launcher.claiming import fits
from motoko.storage.leases import launcher_report, live_launchers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from motoko.config import WorkflowSettings
    from motoko.core.records import RunRecord
    from motoko.storage.leases import LauncherRegistration, LauncherReport
    from motoko.storage.store import WorkflowStore
    from motoko.storage.tables import Tables

LOCALHOST = "localhost"


@dataclass(frozen=True, slots=True)
class LauncherCoverage:
    """Who executes runs now: the living launchers, with what each says of itself.

    ``defaults``: the run options of each study. ``now`` is in seconds since the epoch.
    """

    launchers: Sequence[tuple[LauncherRegistration, LauncherReport]]
    defaults: Mapping[str, Mapping[str, Any]]
    now: float

    @classmethod
    def of(cls, tables: Tables, config: WorkflowSettings, now: float) -> LauncherCoverage:
        """Return who serves the studies of a workflow."""
        found = [
            (launcher, launcher_report(tables, launcher))
            for launcher in live_launchers(tables, now)
        ]
        defaults = {name: config.options(name).given() for name in config.task_managers}
        return cls(found, defaults, now)

    def terms(self, record: RunRecord) -> RunOptions:
        """Return how a run is to be executed."""
        return RunOptions.resolve(self.defaults.get(record.study, {}), record.options)

    def serving(
        self, study: str, machine: str
    ) -> list[tuple[LauncherRegistration, LauncherReport]]:
        """Return the launchers that take runs of a study for a machine."""
        return [
            (launcher, report)
            for launcher, report in self.launchers
            if study in launcher.studies and machine in launcher.machines
        ]

    def nobody(self, study: str, machine: str) -> str | None:
        """Return why no launcher takes runs of a study for a machine, None if one does."""
        if self.serving(study, machine):
            return None
        if not self.launchers:
            return "no launcher works"
        if not any(study in launcher.studies for launcher, _ in self.launchers):
            return f"no launcher for study {study!r}"
        return f"no launcher for machine {machine!r}"

    def machine(self, study: str, asked: str | None) -> str:
        """Return the machine that a run is for which asks for ``asked``."""
        return asked or self.defaults.get(study, {}).get("machine_name") or LOCALHOST

    def attended(self, record: RunRecord) -> bool:
        """Return whether a launcher sees to a run that was claimed, or will do so soon."""
        if any(launcher.name == record.launcher for launcher, _ in self.launchers):
            return True
        machine = self.machine(record.study, record.options.get("machine_name"))
        return self.nobody(record.study, machine) is None

    def known(self, tables: Tables) -> list[str]:
        """Return the studies that are configured and have a table."""
        return [name for name in tables.study_names() if name in self.defaults]

    def unserved(
        self, tables: Tables, studies: Iterable[str], run_name: str | None
    ) -> dict[str, int]:
        """Return how many CREATED runs of a run name (None: of all) nobody takes, by reason."""
        found: Counter[str] = Counter()
        for study in studies:
            found.update(self._unserved(tables, study, run_name))
        return dict(found)

    def _unserved(self, tables: Tables, study: str, run_name: str | None) -> dict[str, int]:
        machines: set[str] = set()

        def left(_: str, asked: str) -> bool:
            machine = self.machine(study, asked)
            if self.nobody(study, machine) is None:
                return False
            machines.add(machine)
            return True

        table = tables.study(study)
        ids = set(table.waiting(left))
        if ids and run_name is not None:
            ids &= set(table.ids(run_name, lifecycles=[Lifecycle.CREATED.value]))
        if not ids:
            return {}
        reasons = {self.nobody(study, machine) or "" for machine in machines}
        if len(reasons) == 1:
            return {reasons.pop(): len(ids)}
        why = Counter(
            self.nobody(study, self.machine(study, record.options.get("machine_name"))) or ""
            for record in table.records(sorted(ids))
        )
        return dict(why)


def unserved_runs(store: WorkflowStore, run_names: Iterable[str]) -> dict[str, dict[str, int]]:
    """Return how many CREATED runs no launcher takes, by reason, of each of these run names.

    None where that cannot be told: without a database, or with a wrong configuration.
    """
    names = list(run_names)
    found: dict[str, dict[str, int]] = {name: {} for name in names}
    if not names:
        return found
    with suppress(NoDatabaseError, ConfigError), store.autocommit_scope.read() as session:
        tables = session.tables
        serving = LauncherCoverage.of(tables, load_workflow(store.workflow_file), store.steady())
        for name in names:
            found[name] = serving.unserved(tables, serving.known(tables), name)
    return found


class ReasonFinder:
    """Says of each run why it is where it is; ``tables`` are asked once who takes up what."""

    def __init__(self, tables: Tables, serving: LauncherCoverage) -> None:
        self._serving = serving
        self._taken: Counter[tuple[str, str]] = Counter()  # slots by launcher and generator
        self._studies: Counter[tuple[str, str, str]] = Counter()  # and runs by study, too
        for name in tables.study_names():
            table = tables.study(name)
            for record in table.records(table.ids(None, lifecycles=ACTIVE)):
                self._count(record)

    def _count(self, record: RunRecord) -> None:
        terms, launcher = self._serving.terms(record), record.launcher or ""
        self._taken[launcher, terms.generator] += terms.slots
        self._studies[launcher, terms.generator, record.study] += 1

    def why(self, record: RunRecord) -> str:
        """Return why a run waits or failed, or a remark; empty where there is nothing to say."""
        if record.lifecycle.is_terminal:
            return record.reason or ""
        terms = self._serving.terms(record)
        machine = terms.machine_name or LOCALHOST
        nobody = self._serving.nobody(record.study, machine)
        if record.lifecycle in ACTIVE:
            nobody = None if self._serving.attended(record) else nobody
            parts = [record.reason, nobody and f"{nobody} that sees to it"]
            return "; ".join(filter(None, parts))
        return nobody or self._created(record, terms, machine)

    def _created(self, record: RunRecord, terms: RunOptions, machine: str) -> str:
        after = f", after: {record.reason}" if record.reason else ""
        left = record.not_before - self._serving.now
        if left > 0:
            return f"it is tried again in {left:.0f} s{after}"
        found = self._serving.serving(record.study, machine)
        kept = [self._kept(launcher, report, record, terms) for launcher, report in found]
        if all(kept):
            return kept[0]
        return f"it is tried again{after}" if after else ""

    def _kept(
        self,
        launcher: LauncherRegistration,
        report: LauncherReport,
        record: RunRecord,
        terms: RunOptions,
    ) -> str:
        """Return why a launcher that serves a run does not take it, empty if it will."""
        if report.held_all:
            return "its launcher takes no runs, and is about to stop"
        if record.run_name in report.held:
            return "its run name was stopped; `motoko run` or `motoko orchestrator start` goes on"
        generator = terms.generator
        limit = report.per_study.get(record.study)
        if limit is not None and self._studies[launcher.name, generator, record.study] >= limit:
            return f"{limit} runs of {record.study} are under way (max_concurrent)"
        slots, taken = report.slots.get(generator), self._taken[launcher.name, generator]
        if slots is None or fits(terms.slots, taken, slots):
            return ""
        if generator == SLURM:
            return f"{taken} runs are in the queue (max_queued)"
        return f"{taken} of {slots} places are taken (max_concurrent)"
