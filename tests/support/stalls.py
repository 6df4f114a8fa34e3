"""Find false and missed stalls while only firings keep a workflow active.

``python -m tests.support.stalls --firings 100000`` (``scripts/stall``). Each campaign fires some
actions and then none. A stall that is found before is false; one that is not found after is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from motoko.errors import WorkflowStalled
from motoko.orchestrator import stall
from motoko.storage.database import Database
from motoko.storage.schema import create_tables
from motoko.storage.session import run_transaction
from motoko.testing.fake_launcher import FakeLauncher
from motoko.workflow import Workflow, event

if TYPE_CHECKING:
    from collections.abc import Callable

SHORT = 250  # firings of a campaign: a run's history grows with each label
LENGTH = 10  # events of a ring, runs of a chain, leaves of a fan-out
PROGRESS = 20  # campaigns between two lines of progress
PATIENCE = 600.0  # seconds without a firing, after which a stall counts as missed


@dataclass
class Campaign:
    """One workload: its number of firings and its results."""

    kind: str
    wanted: int
    fired: int = 0
    last: float = field(default_factory=time.monotonic)
    found_after: float | None = None

    def more(self) -> bool:
        """Count a firing; return whether another one follows."""
        self.fired += 1
        self.last = time.monotonic()
        return self.fired < self.wanted

    @property
    def problem(self) -> str | None:
        """Return what is wrong, None if nothing is."""
        if self.found_after is None:
            return f"{self.kind}: not found stalled after {self.fired} firings"
        if self.fired < self.wanted:
            return f"{self.kind}: found stalled after {self.fired} of {self.wanted} firings"
        return None


@dataclass
class Total:
    """The results of all campaigns of one kind."""

    campaigns: int = 0
    fired: int = 0
    slowest: float = 0.0

    def add(self, campaign: Campaign) -> None:
        """Count a campaign."""
        self.campaigns += 1
        self.fired += campaign.fired
        self.slowest = max(self.slowest, campaign.found_after or 0.0)

    def __str__(self) -> str:
        return (
            f"{self.fired} firings in {self.campaigns} campaigns; stalled at the latest "
            f"{self.slowest:.2f} s after the last"
        )


def ring(workflow: Any, campaign: Campaign) -> None:
    """Pass the label of one run from event to event."""

    def handing(to: str) -> Any:
        @event
        async def hand(workflow: Any, runs: Any) -> None:
            for run, _ in runs:
                run.state = to if campaign.more() else "END"

        return hand

    for n in range(LENGTH):
        to = f"R{(n + 1) % LENGTH}"
        workflow.add_action(f"ring-{n}", "s", f"state = R{n}", f=handing(to))
    workflow.s.select("x = 0").runs[0].state = "R0"


def filter_ring(workflow: Any, campaign: Campaign) -> None:
    """Do the same with conditions ``f(run, job)`` and an await in each action."""

    def handing(n: int) -> tuple[Any, Any]:
        def condition(run: Any, job: Any) -> bool:
            return bool(run.state == f"R{n}")

        @event
        async def hand(workflow: Any, runs: Any) -> None:
            to = f"R{(n + 1) % LENGTH}" if campaign.more() else "END"
            runs[0][0].handed = to
            await workflow.s.create_task(x=1)  # ended long ago
            runs[0][0].state = to

        return condition, hand

    for n in range(LENGTH):
        condition, hand = handing(n)
        workflow.add_action(f"filter-{n}", "s", condition, f=hand)
    workflow.s.select("x = 0").runs[0].state = "R0"


def chain(workflow: Any, campaign: Campaign) -> None:
    """Pass the turn from run to run of one event."""

    @event
    async def hand(workflow: Any, runs: Any) -> None:
        for run, job in runs:
            run.state = "WAITING"
            if campaign.more():
                workflow.s.select(f"x = {(job.x + 1) % LENGTH}").runs[0].state = "TURN"

    workflow.add_action("chain", "s", "state = TURN", f=hand)
    workflow.s.select("x = 0").runs[0].state = "TURN"


def fan_out(workflow: Any, campaign: Campaign) -> None:
    """Label many runs from one, fire for each separately, and gather them again."""

    @event
    async def spread(workflow: Any, runs: Any) -> None:
        for run, _ in runs:
            run.state = "SPREAD"
        if campaign.more():
            for run, _ in workflow.s.select("x > 0"):
                run.state = "OUT"

    def returning() -> Any:
        @event
        async def back(workflow: Any, runs: Any) -> None:
            for run, _ in runs:
                run.state = "BACK"
            campaign.more()

        return back

    @event
    async def gather(workflow: Any, runs: Any) -> None:  # not counted: conflicts repeat it
        for run, _ in runs:
            run.state = "HOME"
        hub = workflow.s.select("x = 0").runs[0]
        hub.home += len(runs)
        if hub.home == LENGTH - 1 and campaign.fired < campaign.wanted:
            hub.home = 0
            hub.state = "HUB"

    workflow.add_action("spread", "s", "state = HUB", f=spread)
    workflow.add_action("gather", "s", "state = BACK", f=gather)
    for n in range(1, LENGTH):
        workflow.add_action(f"back-{n}", "s", f"state = OUT and x = {n}", f=returning())
    hub = workflow.s.select("x = 0").runs[0]
    hub.home = 0
    hub.state = "HUB"


KINDS: dict[str, Callable[[Any, Campaign], None]] = {
    "ring": ring, "filters": filter_ring, "chain": chain, "fan-out": fan_out,
}  # fmt: skip


def run(directory: Path, campaign: Campaign) -> None:
    """Execute a campaign in a new database in memory."""
    directory.mkdir()
    (directory / "motoko.yaml").write_text("task_managers: {s: }\norchestrator: steps.main\n")
    (directory / "s").mkdir()
    (directory / "s" / "bd.yaml").write_text("job: {x: int}\n")
    (directory / "s" / "launch.sh").write_text("true\n")
    database = Database.in_memory()
    run_transaction(database, lambda root: create_tables(root, ["s"]), initialising=True)
    workflow = Workflow(directory, database=database)
    workflow.run_name = "a"
    workflow.end_when_stalled = True

    async def create(workflow: Any) -> None:
        await workflow.s.create_task(x=list(range(LENGTH)))

    async def main(workflow: Any) -> None:
        KINDS[campaign.kind](workflow, campaign)
        if campaign.wanted % 2:
            await workflow.s.select("state = NEVER")

    with FakeLauncher(workflow.store, {"s": lambda job: {}}):
        workflow.orchestrator_function = create
        workflow.execute()
    workflow.orchestrator_function = main
    try:
        asyncio.run(_limited(workflow, campaign))
    except WorkflowStalled:
        campaign.found_after = time.monotonic() - campaign.last
    finally:
        workflow.close()
        database.close()


async def _limited(workflow: Workflow, campaign: Campaign) -> None:
    campaign.last = time.monotonic()
    executing = asyncio.ensure_future(workflow.execute_async())
    while not executing.done():
        await asyncio.wait([executing], timeout=1.0)
        if time.monotonic() > campaign.last + PATIENCE:
            executing.cancel()
    if not executing.cancelled():
        executing.result()


def count_checks() -> Counter[str]:
    """Count the checks of a workflow, and the evaluations of everything."""
    counts: Counter[str] = Counter()
    detector: Any = stall.StallDetector
    is_quiet, is_confirmed = detector._is_quiet, detector._is_confirmed

    def counted_quiet(self: Any) -> bool:
        counts["checked"] += 1
        return bool(is_quiet(self))

    async def counted_confirmed(self: Any) -> bool:
        counts["evaluated"] += 1
        return bool(await is_confirmed(self))

    detector._is_quiet, detector._is_confirmed = counted_quiet, counted_confirmed
    return counts


def main(arguments: list[str]) -> int:
    """Run campaigns of each kind in turn, and report."""
    parser = argparse.ArgumentParser(prog="scripts/stall", description=__doc__)
    parser.add_argument("--firings", type=int, default=2000, help="in all campaigns together")
    parser.add_argument(
        "--quiet", type=float, help="seconds from an event to the check for a stall"
    )
    options = parser.parse_args(arguments)
    if options.quiet is not None:
        stall.QUIET = options.quiet  # type: ignore[misc]
    counts = count_checks()
    totals = {kind: Total() for kind in KINDS}
    problems: list[str] = []
    with tempfile.TemporaryDirectory() as place:
        for number in itertools.count():
            kind = list(KINDS)[number % len(KINDS)]
            fired = sum(total.fired for total in totals.values())
            if fired >= options.firings:
                break
            campaign = Campaign(kind, SHORT + number // len(KINDS) % 2)
            run(Path(place, str(number)), campaign)
            totals[kind].add(campaign)
            if number % PROGRESS == PROGRESS - 1:
                print(f"{fired + campaign.fired} firings, {len(problems)} wrong", flush=True)
            if campaign.problem is not None:
                problems.append(campaign.problem)
                print(f"WRONG: {campaign.problem}", flush=True)
    for kind, total in totals.items():
        print(f"{kind}: {total}")
    print(f"checked {counts['checked']} times, evaluated everything {counts['evaluated']} times")
    print(f"{len(problems)} wrong" if problems else "no false verdict, none missed")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
